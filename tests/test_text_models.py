"""Text classifiers and their tokens: the library's own logits, padding that does not matter, and clear refusals."""

import json

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForPreTraining, BertForSequenceClassification, BertTokenizer

from advtransfer.attacks import pgd
from advtransfer.models.text import TextClassifier, build, logits, with_new_head
from advtransfer.models.tokens import case, load_tokenizer, tiny_tokenizer, tokenise, untokenise
from advtransfer.spectral import jacobian
from advtransfer.text.word_attacks import word_attack
from cases import assert_no_trace, normal, refuses, seeded, trace
from text_cases import CONFIG, TOKENIZER, reviews, tiny

TOKENS, _ = reviews(5)


def test_it_is_the_librarys_classifier():
    ours = tiny(3)
    theirs = BertForSequenceClassification(CONFIG).double().eval()
    theirs.num_labels, theirs.classifier = 3, nn.Linear(16, 3).double()
    theirs.bert.load_state_dict(ours.encoder.state_dict())
    theirs.classifier.load_state_dict(ours.head.state_dict())
    with torch.no_grad():
        expected = theirs(input_ids=TOKENS.ids, attention_mask=TOKENS.mask.long()).logits
    torch.testing.assert_close(ours(ours.embed(TOKENS.ids), TOKENS.mask), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(logits(ours, TOKENS, batch_size=2), expected, rtol=1e-10, atol=1e-10)


def test_of_shares_all_parts_with_their_modes_and_draws_nothing():
    whole = tiny().whole().train()
    whole.bert.eval()
    whole.dropout.p = 0.7
    state = torch.get_rng_state()
    ours = TextClassifier.of(whole)
    assert torch.get_rng_state().equal(state)
    assert (ours.dropout, ours.head, ours.encoder) == (whole.dropout, whole.classifier, whole.bert)
    assert (ours.training, ours.encoder.training) == (True, False)
    assert (ours.whole().training, ours.encoder.training) == (True, False)


def test_no_texts_have_no_logits():
    tokens, labels = reviews(4)
    assert logits(tiny(), tokens.take(labels > 5)).shape == (0, 2)


def test_padding_does_not_matter_and_is_not_moved():
    on, x = tiny().displaced(TOKENS), torch.zeros_like(tiny().embed(TOKENS.ids))
    padding = ~TOKENS.mask
    assert padding.any()
    noise = normal(*x.shape) * padding[:, :, None]
    assert on(x + noise).equal(on(x))
    delta = pgd(on, x, eps=1.0, norm="l2", bounds=None, random_start=False)
    assert delta[TOKENS.mask].abs().amax(1).gt(0).all()
    assert delta[padding].eq(0).all()


def test_attacks_and_jacobians_take_it_and_leave_no_trace():
    model = tiny().train()
    before, x = trace(model), torch.zeros_like(model.embed(TOKENS.ids))
    on = model.displaced(TOKENS)
    jac = jacobian(on, x)
    pgd(on, x, eps=0.1, norm="l2", bounds=None, random_start=False)
    logits(model, TOKENS)
    assert_no_trace(model, before)
    on.eval()
    step = 1e-6 * normal(*x.shape, seed=1)
    change = (on(x + step) - on(x - step)).detach() / 2
    torch.testing.assert_close((jac @ step.flatten(1)[:, :, None]).squeeze(2), change, rtol=1e-5, atol=1e-11)


def test_a_model_is_its_seed_and_a_new_head_changes_nothing_else():
    state = torch.get_rng_state()
    a, b, c = tiny(seed=1), tiny(seed=1), tiny(seed=2)
    assert all(u.equal(v) for u, v in zip(a.parameters(), b.parameters(), strict=True))
    assert not a.head.weight.equal(c.head.weight)
    tuned = with_new_head(a, 4, seeded(3))
    assert torch.get_rng_state().equal(state)
    assert tuned.head.weight.shape == (4, 16)
    assert tuned.head.weight.dtype == torch.float64
    assert all(u.equal(v) for u, v in zip(a.encoder.parameters(), tuned.encoder.parameters(), strict=True))
    tuned.word_embeddings.data.zero_()
    assert a.word_embeddings.any()


@pytest.fixture
def folder(tmp_path):
    model = tiny(dtype=torch.float32)
    model.encoder.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(TOKENIZER.convert_ids_to_tokens(range(len(TOKENIZER)))))
    return tmp_path


def test_a_folder_gives_its_weights_back_as_safetensors_or_as_plain_tensors(folder):
    expected = tiny(dtype=torch.float32).encoder.state_dict()
    read = build(folder, 2)
    assert read.training
    assert read.encoder.state_dict().keys() == expected.keys()
    assert all(weight.equal(expected[name]) for name, weight in read.encoder.state_dict().items())
    (folder / "model.safetensors").unlink()
    torch.save(expected, folder / "pytorch_model.bin")
    assert build(folder, 2).word_embeddings.equal(read.word_embeddings)
    assert tokenise(load_tokenizer(folder), ["The unable café."], 9).ids.equal(
        tokenise(TOKENIZER, ["The unable café."], 9).ids
    )


@pytest.mark.parametrize("told", ["by a config", "by the whole tokenizer", "by its words"])
def test_capital_letters_are_read_where_the_model_reads_them(told, tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "The", "Film", "film", "good", "."]
    cased = BertTokenizer(vocab={word: k for k, word in enumerate(words)}, do_lower_case=False)
    cased.save_pretrained(tmp_path)
    if told != "by a config":
        (tmp_path / "tokenizer_config.json").unlink()
    if told == "by its words":
        (tmp_path / "tokenizer.json").unlink()
        (tmp_path / "vocab.txt").write_text("\n".join(words))
    assert load_tokenizer(tmp_path).tokenize("The Film film") == ["The", "Film", "film"]


def test_the_case_of_another_kind_of_tokenizer_is_its_own(tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps({"normalizer": None, "model": {"vocab": [["<s>", 0.0]]}}))
    assert case(tmp_path) == {}
    (tmp_path / "tokenizer.json").rename(tmp_path / "spiece.model")
    assert case(tmp_path) == {}


def test_a_fine_tuned_classifier_keeps_its_head(folder):
    theirs = BertForSequenceClassification(BertConfig.from_pretrained(folder, num_labels=3)).eval()
    theirs.save_pretrained(folder)
    tokens = tokenise(TOKENIZER, ["The unable café.", "A café"], 9)
    expected = theirs(tokens.ids, attention_mask=tokens.mask).logits
    for model in (build(folder, 3), TextClassifier.of(theirs)):
        torch.testing.assert_close(logits(model, tokens), expected)
    refuses("holds a classifier of 3 classes; expected num_classes = 3", lambda: build(folder, 2))
    refuses("expected a models.text.TextClassifier: wrap it", lambda: logits(theirs, tokens), TypeError)
    refuses("TextClassifier.of(model)", lambda: word_attack(theirs, tokens, TOKENIZER), TypeError)
    assert word_attack(TextClassifier.of(theirs), tokens, TOKENIZER, steps=2).ids.shape == tokens.ids.shape


def test_a_folder_that_does_not_say_whether_it_is_a_classifier_is_read_as_what_it_is(folder):
    BertForSequenceClassification(BertConfig.from_pretrained(folder, num_labels=3)).save_pretrained(folder)
    head = build(folder, 3).head.weight
    described = json.loads((folder / "config.json").read_text())
    for named in (None, ["OwnForSequenceClassification"]):
        (folder / "config.json").write_text(json.dumps({**described, "architectures": named}))
        assert build(str(folder), 3).head.weight.equal(head)
    assert build(folder, 2, new_head=True).head.out_features == 2
    tiny(dtype=torch.float32).encoder.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({**described, "architectures": None}))
    assert build(folder, 2).head.out_features == 2
    pretraining = BertForPreTraining(BertConfig.from_pretrained(folder))  # some published ones name no class
    old = {
        **pretraining.state_dict(),
        "bert.embeddings.position_ids": torch.arange(CONFIG.max_position_embeddings)[None],
    }
    pretraining.save_pretrained(folder, state_dict=old)
    (folder / "config.json").write_text(json.dumps({**described, "architectures": None}))
    assert build(folder, 2).word_embeddings.equal(pretraining.bert.embeddings.word_embeddings.weight)
    theirs = BertForSequenceClassification(BertConfig.from_pretrained(folder, num_labels=3))
    theirs.save_pretrained(folder, state_dict={**theirs.state_dict(), **{n: old[n] for n in old if "_ids" in n}})
    assert build(folder, 3).head.weight.equal(theirs.classifier.weight)


def test_layers_of_another_classifier_are_not_dropped(folder):
    theirs = BertForSequenceClassification(BertConfig.from_pretrained(folder, num_labels=3))
    theirs.save_pretrained(folder, state_dict={**theirs.state_dict(), "extra.weight": torch.zeros(2)})
    refuses("layers that a BertForSequenceClassification lacks: extra.weight", lambda: build(folder, 3))


def test_only_a_bert_classifier_can_be_wrapped():
    refuses("the model is Linear; expected a BertForSequenceClassification", lambda: TextClassifier.of(nn.Linear(2, 2)),
            TypeError)  # fmt: skip


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("code of a checkpoint was run",))


def test_folders_that_are_no_bert_are_refused(folder, tmp_path):
    weights, config = folder / "model.safetensors", folder / "config.json"
    refuses("holds no BERT", lambda: build(tmp_path / "nowhere", 2))
    whole = weights.read_bytes()
    weights.unlink()
    refuses("cannot be read", lambda: build(folder, 2))
    torch.save({"a": Trap()}, folder / "pytorch_model.bin")
    refuses("cannot be read", lambda: build(folder, 2))
    state = tiny(dtype=torch.float32).encoder.state_dict()
    del state["pooler.dense.weight"]
    torch.save(state, folder / "pytorch_model.bin")
    refuses("lack 1 tensors of a BERT, such as pooler.dense.weight", lambda: build(folder, 2))
    weights.write_bytes(whole[:1000])
    refuses("cannot be read", lambda: build(folder, 2))
    settings = json.loads(config.read_text())
    config.write_text(json.dumps(settings | {"vocab_size": 7}))
    refuses(f"the tokenizer knows {len(TOKENIZER)} tokens and the model 7", lambda: build(folder, 2))
    config.write_text(json.dumps(settings | {"model_type": "roberta"}))
    refuses("its config.json is roberta, expected bert", lambda: build(folder, 2))
    (folder / "vocab.txt").unlink()
    refuses("has no vocabulary", lambda: load_tokenizer(folder))
    refuses("num_classes is 0", lambda: build(CONFIG, 0))


def test_tokens_are_what_was_written_cut_and_padded():
    small = tiny_tokenizer(["a", "play", "##ing", "do", "not"])
    tokens = tokenise(small, ["A playing b", "", "[SEP] [MASK]", "a a a a a"], 6)
    first, last, pad, unk, mask = 2, 3, 0, 1, 4
    assert tokens.ids.tolist() == [
        [first, 5, 6, 7, unk, last],
        [first, last, pad, pad, pad, pad],
        [first, last, mask, last, pad, pad],
        [first, 5, 5, 5, 5, last],
    ]
    assert tokens.mask.sum(1).tolist() == [6, 2, 4, 6]
    assert tokens.special.sum(1).tolist() == [2, 6, 6, 2]  # [UNK] is a word
    assert tokens.truncated.tolist() == [False, False, False, True]
    assert tokens.empty.tolist() == [False, True, True, False]
    assert untokenise(small, tokens.ids, tokens.mask) == ["a playing [UNK]", "", "[SEP] [MASK]", "a a a a"]
    assert tokens.take(torch.tensor([1, 2])).ids.shape == (2, 4)
    assert untokenise(small, *tokenise(small, ["do not"], 9)[:2]) == ["do not"]


def test_bad_texts_are_refused():
    refuses("expected a sequence of strings", lambda: tokenise(TOKENIZER, "one text", 9), TypeError)
    refuses("texts is list of NoneType, str", lambda: tokenise(TOKENIZER, ["a", None], 9), TypeError)
    refuses("0 texts and max_length 9", lambda: tokenise(TOKENIZER, [], 9))
    refuses("max_length 2; expected", lambda: tokenise(TOKENIZER, ["a"], 2))
    model = tiny()
    long = torch.zeros(1, 25, dtype=torch.int64)
    refuses("25 tokens; expected at most 24", lambda: model(model.embed(long), long == 0))
    refuses("expected (N, L, h) and (N, L)", lambda: model(model.embed(TOKENS.ids[:2]), TOKENS.mask))


def test_two_classifiers_have_their_displacements_in_common():
    first, second = tiny(seed=0), tiny(seed=1)
    read = reviews(4)[0]
    still = torch.zeros(*read.ids.shape, first.word_embeddings.shape[1], dtype=torch.float64)
    for net in (first, second):
        net.train()
        assert net.displaced(read).training  # it is left as it was
        assert net.training
        torch.testing.assert_close(net.eval().displaced(read)(still), net(net.embed(read.ids), read.mask))
    assert not torch.equal(first.displaced(read).words, second.displaced(read).words)
