"""Rank models of texts: tables as people have them, folders that transformers saved, and whose α can be computed."""

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2ForSequenceClassification,
)

from advtransfer import attacks, ranking
from advtransfer.commands.main import main
from advtransfer.datasets import encoders, generated_texts, textstore
from advtransfer.datasets.generated_texts import GENERATED_WORDS
from advtransfer.datasets.sources import source
from advtransfer.experiments import choosing
from advtransfer.models import images
from advtransfer.models.tokens import tiny_tokenizer
from advtransfer.pages import choosing as page
from advtransfer.ranking import Encoder, TextEncoder, scoring
from cases import refuses

WORDS = tiny_tokenizer(list(GENERATED_WORDS))
FAST = {"samples": 8, "gradients": 3, "steps": 2, "target_epochs": 1, "labels": 24}


def bert(seed=0, kind=BertForSequenceClassification, words=WORDS, width=16, **sizes):
    torch.manual_seed(seed)
    config = BertConfig(vocab_size=len(words), hidden_size=width, num_hidden_layers=1, num_attention_heads=2,
                        max_position_embeddings=64, intermediate_size=16, initializer_range=0.3, **sizes)  # fmt: skip
    return kind(config).eval()


def tuned(model, seed):
    """A copy whose weights were moved a little, as fine-tuning does."""
    made = type(model)(model.config).eval()
    made.load_state_dict(model.state_dict())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in made.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)
    return made


def target(n=24):
    made = generated_texts(seed=0, n_train=2 * n, n_test=n)
    return ranking.from_texts(made.train, made.y_train, made.test, made.y_test, name="reviews")


def saved(model, folder, words=WORDS):
    model.save_pretrained(folder)
    if words is not None:
        words.save_pretrained(folder)
    return folder


# Tables.

ROWS = pd.DataFrame({"text": ["NA", 'say "no",\nplease', "null", "d", "é", "f"], "label": [3, 7, 3, 7, 3, 7]})


def test_csv_and_parquet_give_the_same_texts(tmp_path):
    ROWS.to_csv(tmp_path / "a.csv", index=False)
    ROWS.to_csv(tmp_path / "with index.csv", encoding="utf-8-sig")
    ROWS.to_parquet(tmp_path / "a.parquet")
    found = [ranking.load(tmp_path / name) for name in ("a.csv", "with index.csv", "a.parquet")]
    by_text = dict(ROWS.itertuples(index=False))
    for data in found:
        assert (data.x_train, data.x_test) == (found[0].x_train, found[0].x_test)
        assert data.classes == ("3", "7")
        for texts, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
            assert [by_text[text] for text in texts] == [int(data.classes[k]) for k in y]
        assert sorted((*data.x_train, *data.x_test)) == sorted(ROWS["text"])


def test_names_of_classes_and_categories_are_kept(tmp_path):
    named = ROWS.assign(label=["10", "b", "10", "b", "10", "b"])
    named.to_csv(tmp_path / "a.csv", index=False)
    named.astype({"label": "category"}).to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        assert ranking.load(tmp_path / name).classes == ("10", "b")


def test_a_folder_of_two_tables_keeps_them_apart(tmp_path):
    ROWS.astype({"label": str}).to_csv(tmp_path / "train.csv", index=False)
    ROWS[:3].to_parquet(tmp_path / "test.parquet")
    data = ranking.load(tmp_path)
    assert data.x_train == tuple(ROWS["text"])
    assert (data.x_test, data.y_test.tolist()) == (tuple(ROWS["text"][:3]), [0, 1, 0])
    (tmp_path / "test.parquet").unlink()
    refuses("has no test.csv or test.parquet; expected train and test", lambda: ranking.load(tmp_path))


def test_a_corpus_of_the_book_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVTRANSFER_DATA", str(tmp_path))
    texts = textstore.Corpus(("a", "b", "c"), np.array([0, 1, 0]), ("d",), np.array([1]))
    textstore.write(tmp_path, source("mr"), texts)
    data = ranking.load("mr")
    assert (data.x_train, data.x_test, len(data.classes)) == (("a", "b", "c"), ("d",), 2)
    config = choosing.Config.from_profile("smoke", data="mr", pool="pool.toml")
    assert choosing.required(config) == ["mr"]
    assert {path.name for path in choosing.files(config).values()} == {"train.parquet", "test.parquet", "pool.toml"}


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ("a.csv cannot be read (No columns to parse from file); expected a table", b""),
        ("a holds no texts; expected at least two per class", b"text,label\n"),
        ("a.csv has the columns review, label, and no text; expected text and label", b"review,label\na,1\n"),
        ("a: 2 rows (2, 3) without a text; expected words in every text", b"text,label\na,0\n,1\n \t,0\n"),
        ("a: 1 row (2) without a label", b"text,label\na,0\nb\nc,1\n"),
        ("EOF inside string", b'text,label\n"a,0\n'),
        ("Expected 2 fields in line 3, saw 3", b"text,label\na,0\nb,1,2\n"),
        ("its rows have more fields than the 2 columns", b"text,label\na,0,5\nb,1,6\n"),
        ("can't decode byte 0xff", b"text,label\n\xff,0\n"),
        ("a: all 2 labels are 0; expected at least two classes", b"text,label\na,0\nb,0\n"),
        ("the class 1 has 1 text; expected at least two", b"text,label\na,0\nb,0\nc,1\n"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(tmp_path, message, content):
    (tmp_path / "a.csv").write_bytes(content)
    refuses(message, lambda: ranking.load(tmp_path / "a.csv"))


def test_names_of_classes_that_look_like_numbers_stay_apart(tmp_path):
    def classes(names):
        (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"word {k},{name}\n" for k, name in enumerate(names)))
        return ranking.load(tmp_path / "a.csv").classes

    assert classes(["01", "1", "01", "1"]) == ("01", "1")
    assert classes(["10", "9", "10", "9"]) == ("9", "10")


@pytest.mark.parametrize(
    ("message", "columns"),
    [
        ("labels are float; expected whole numbers or names", {"label": [0.0, 1.0] * 3}),
        ("a.parquet: 1 row (2) without a label", {"label": ["a", None, "b", "a", "b", "a"]}),
        ("texts are int; expected a sequence of strings", {"text": range(6)}),
    ],
)
def test_columns_of_other_types_are_refused(tmp_path, message, columns):
    ROWS.assign(**columns).to_parquet(tmp_path / "a.parquet")
    refuses(message, lambda: ranking.load(tmp_path / "a.parquet"))


def test_files_that_are_cut_or_missing_are_refused(tmp_path):
    ROWS.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:400])
    refuses("cut.parquet cannot be read", lambda: ranking.load(tmp_path / "cut.parquet"))
    refuses("gone.csv does not exist; expected a table", lambda: ranking.load(tmp_path / "gone.csv"))
    x, y = list(ROWS["text"]), list(ROWS["label"])
    refuses("the test texts have the labels ['9']", lambda: ranking.from_texts(x, y, x, [9] * 6))
    refuses("there are 6 texts and 5 labels", lambda: ranking.from_texts(x, y[:5]))


def test_labels_may_be_whole_numbers_of_numpy_in_a_list():
    assert ranking.from_texts(["a", "b", "c", "d"], [np.int64(k % 2) for k in range(4)]).classes == ("0", "1")


def test_fewer_texts_keep_their_labels_and_a_fair_share_of_each_class():
    x = [f"{k % 5} {k}" for k in range(100)]
    data = ranking.from_texts(x, [k % 5 for k in range(100)]).fewer(15, seed=3)
    assert [int(text.split()[0]) for text in data.x_train] == data.y_train.tolist()
    assert data.y_train.bincount().tolist() == data.y_test.bincount().tolist() == [3] * 5


# Encoders.

TEXTS = ["the film was good .", "bad", "the long story was very dull and the plot was bad"]


def decoder(**more):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(WORDS), n_embd=8, n_layer=1, n_head=1, n_positions=64, num_labels=3, **more)
    return GPT2ForSequenceClassification(config).eval()


def test_features_are_what_the_head_reads_and_no_text_depends_on_the_others():
    with_bias, last = bert(num_labels=3), decoder(pad_token_id=0)
    for module, head in ((with_bias, with_bias.classifier), (last, last.score)):
        encoder = TextEncoder(module, WORDS)
        tokens = encoder.read(TEXTS)
        outputs, features = encoder.both(tokens)
        torch.testing.assert_close(head(features), outputs)
        torch.testing.assert_close(outputs, module(input_ids=tokens.ids, attention_mask=tokens.mask.long()).logits)
        for k, text in enumerate(TEXTS):  # without padding
            torch.testing.assert_close(encoder.both(encoder.read([text]))[1][0], features[k], rtol=1e-4, atol=1e-5)


def test_a_batch_is_filled_up_with_the_token_by_which_the_model_tells_where_a_text_ends():
    unused = WORDS.get_vocab()[next(word for word in GENERATED_WORDS if word not in " ".join(TEXTS))]
    encoder = TextEncoder(decoder(pad_token_id=unused), WORDS)
    assert encoder.digest() != TextEncoder(decoder(pad_token_id=0), WORDS).digest()
    outputs = encoder.extract(TEXTS)[0]
    for k, text in enumerate(TEXTS):
        torch.testing.assert_close(encoder.extract([text])[0][0], outputs[k], rtol=1e-4, atol=1e-5)


def test_a_model_in_half_precision_is_displaced_in_half_precision():
    encoder = TextEncoder(bert().bfloat16(), WORDS)
    tokens = encoder.read(TEXTS)
    displaced = encoder.displaced(tokens)
    still = torch.zeros(displaced.words.shape)  # float32, as of a target model
    torch.testing.assert_close(displaced(still), encoder(tokens), rtol=0.02, atol=0.02)


def test_without_a_head_features_are_the_mean_over_the_tokens():
    module = bert(kind=BertModel)
    encoder = TextEncoder(module, WORDS)
    outputs, features = encoder.both(encoder.read(TEXTS))
    assert not encoder.classifier
    for k, text in enumerate(TEXTS):
        alone = module(encoder.read([text]).ids).last_hidden_state[0].mean(0)
        torch.testing.assert_close(features[k], alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(outputs[k], alone, rtol=1e-4, atol=1e-5)


def test_texts_are_cut_at_what_the_model_can_read():
    long = ["good " * 200]
    assert TextEncoder(bert(), WORDS).read(long).ids.shape == (1, 64)  # its positions
    assert TextEncoder(bert(), WORDS, max_length=10).read(long).ids.shape == (1, 10)


def test_the_identity_of_a_candidate_is_that_of_weights_tokenizer_and_length():
    encoder = TextEncoder(bert(), WORDS)
    before = encoder.digest()
    encoder.read(TEXTS)
    other = tiny_tokenizer(list(reversed(GENERATED_WORDS)))
    others = [TextEncoder(bert(1), WORDS), TextEncoder(bert(), WORDS, 9), TextEncoder(bert(), other)]
    assert TextEncoder(bert(), WORDS).digest() == encoder.digest() == before
    assert len({before, *(each.digest() for each in others)}) == 4


def test_what_cannot_be_an_encoder_of_texts_is_said():
    refuses("max_length is 2; expected at least 3 tokens", lambda: TextEncoder(bert(), WORDS, 2))
    refuses("unknown layer 'head'", lambda: TextEncoder(bert(), WORDS, features="head"))
    many = tiny_tokenizer([*GENERATED_WORDS, "more"])
    refuses("the tokenizer knows 45 tokens and the model 44; expected", lambda: TextEncoder(bert(), many))
    fails = TextEncoder(decoder(), WORDS)  # which cannot tell where a text ends
    refuses("the model cannot be used: Cannot handle batch sizes > 1", lambda: fails.both(fails.read(TEXTS)))


# Pool files.


def read(folder, text):
    (folder / "pool.toml").write_text(text, encoding="utf-8")
    return ranking.read(folder / "pool.toml")


def test_a_saved_classifier_keeps_its_head_and_other_models_give_their_encoder(tmp_path):
    classifier, masked = bert(num_labels=3), bert(1, BertForMaskedLM)
    saved(classifier, tmp_path / "tuned")
    saved(masked, tmp_path / "masked")
    pool = read(tmp_path, "[a]\ntransformers = 'tuned'\nmax_length = 9\n[b]\ntransformers = 'masked'")
    tokens = pool["a"].read(TEXTS)
    assert tokens.ids.shape[1] == pool["a"].max_length == 9
    expected = classifier(input_ids=tokens.ids, attention_mask=tokens.mask.long()).logits
    torch.testing.assert_close(pool["a"](tokens), expected)
    assert (pool["a"].classifier, pool["b"].classifier) == (True, False)
    alone = pool["b"].read(TEXTS[:1])
    torch.testing.assert_close(pool["b"](alone), masked.bert(alone.ids).last_hidden_state.mean(1))


def test_folders_that_lack_something_are_refused_and_nothing_is_left_at_random(tmp_path):
    saved(bert(kind=BertModel), tmp_path / "headless")
    about = json.loads((tmp_path / "headless" / "config.json").read_text())
    about["architectures"] = ["BertForSequenceClassification"]
    (tmp_path / "headless" / "config.json").write_text(json.dumps(about))
    saved(bert(), tmp_path / "mute", words=None)
    saved(bert(kind=BertModel), tmp_path / "mute and headless", words=None)
    saved(bert(), tmp_path / "foreign", words=tiny_tokenizer([*GENERATED_WORDS, "more"]))
    saved(bert(), tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    saved(bert(), tmp_path / "no json")
    (tmp_path / "no json" / "config.json").write_text("[")
    names = ("headless", "mute", "mute and headless", "foreign", "cut", "no json")
    with pytest.raises(ranking.PoolError) as caught:
        read(tmp_path, "\n".join(f"['{name}']\ntransformers = '{name}'" for name in names))
    told = dict(line.split(": ", 1) for line in str(caught.value).splitlines())
    assert "lack 2 tensors of BertForSequenceClassification, such as classifier.bias" in told["headless"]
    assert "mute has no tokenizer; expected one" in told["mute"]
    assert "holds a BertModel, which reads texts, and no tokenizer; expected the files" in told["mute and headless"]
    assert "the tokenizer knows 45 tokens and the model 44" in told["foreign"]
    assert "cut cannot be read: " in told["cut"]
    assert "config.json is damaged" in told["no json"]


def test_pickled_weights_that_hold_more_than_tensors_are_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "touched").touch, ())

    saved(bert(), tmp_path / "evil")
    (tmp_path / "evil" / "model.safetensors").unlink()
    (tmp_path / "evil" / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Evil()}))
    with pytest.raises(ranking.PoolError, match="evil cannot be read"):
        read(tmp_path, "[a]\ntransformers = 'evil'")
    assert not (tmp_path / "touched").exists()


def test_the_encoder_of_the_book_is_a_candidate_by_its_name(tmp_path, monkeypatch):
    saved(bert(kind=BertModel), tmp_path / "minilm")
    monkeypatch.setattr(encoders, "encoder_path", lambda name: tmp_path / {"minilm-l6": "minilm"}[name])
    encoder = read(tmp_path, "[a]\nencoder = 'minilm-l6'")["a"]
    assert (encoder.classifier, encoder.both(encoder.read(TEXTS))[1].shape) == (False, (3, 16))


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("size is for image models, and this one reads texts", "transformers = 'a'\nsize = 64"),
        ("mean is for image models", "transformers = 'a'\nmean = [0.5]"),
        ("arguments and weights beside a saved folder", "transformers = 'a'\nweights = 'w.pt'"),
        ("unknown layer 'bert.poolr'; did you mean 'bert.pooler'?", "transformers = 'a'\nfeatures = 'bert.poolr'"),
        ("max_length is for text models", "build = 'torch.nn:Identity'\nmax_length = 9"),
    ],
)
def test_keys_for_the_other_kind_of_model_are_refused(tmp_path, message, text):
    saved(bert(), tmp_path / "a")
    with pytest.raises(ranking.PoolError) as caught:
        read(tmp_path, f"[a]\n{text}")
    assert message in str(caught.value)


# Rankings.


@pytest.fixture(scope="module")
def found():
    first = bert(num_labels=3)
    pool = {
        "one": TextEncoder(first, WORDS),
        "two": TextEncoder(tuned(first, 1), WORDS),
        "headless": TextEncoder(tuned(first, 2).bert, WORDS),
        "stranger": TextEncoder(bert(5, num_labels=3), WORDS),
        "wide": TextEncoder(bert(6, width=20, num_labels=3), WORDS),
        "foreign": TextEncoder(bert(7, words=(few := tiny_tokenizer(GENERATED_WORDS[3:]))), few),
        "decoder": TextEncoder(decoder(pad_token_id=0), WORDS),
    }
    calls, pgd = [], attacks.pgd

    def counted(model, x, **options):
        calls.append(pgd(model, x, **options))
        return calls[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attacks, "pgd", counted)
        return pool, ranking.score(pool, target(), **FAST), calls


def test_alpha_is_computed_for_candidates_that_read_the_same_inputs_and_the_others_say_why(found):
    _, result, calls = found
    assert len(calls) == 4  # the target model and three candidates, all 8 texts at once
    table = result.scores.set_index(["candidate", "score"])
    for score in (*ranking.scoring.ALPHAS, "distance"):
        values = table.xs(score, level="score")
        assert np.isfinite(values["value"][["one", "two", "headless"]]).all(), score
        assert values["value"][["stranger", "wide", "foreign", "decoder"]].isna().all(), score
        notes = values["note"]
        assert "its word embeddings differ from the target model's (correlation" in notes["stranger"]
        assert "its word embeddings have 20 numbers, and the target model's 16" in notes["wide"]
        assert "its tokens differ from the target model's" in notes["foreign"]
        assert notes["one"] == ""


def test_every_other_score_has_a_value_and_the_truth_is_known(found):
    pool, result, _ = found
    table = result.scores[result.scores["score"].isin(ranking.SCORES)]
    unknown = table[table["value"].isna()]
    assert set(unknown["candidate"]) == {"headless"}
    assert set(unknown["score"]) == {"LEEP", "NCE"}  # it has no classes of its own
    assert set(result.candidates["candidate"]) == set(pool)
    assert result.candidates["accuracy"].between(0, 1).all()
    assert set(ranking.ranks(result).query("score == 'alpha1'")["candidate"]) == {"one", "two", "headless"}


def test_the_order_of_the_pool_of_texts_changes_nothing(found):
    pool, result, _ = found
    again = ranking.score(dict(reversed(pool.items())), target(), **FAST)
    keys = ["candidate", "score"]
    first, second = (each.scores.sort_values(keys)["value"].to_numpy() for each in (result, again))
    np.testing.assert_allclose(first, second, rtol=1e-6, atol=1e-9)


def test_a_model_transfers_to_itself_completely():
    model = TextEncoder(bert(num_labels=3), WORDS)
    score = ranking.score({"self": model}, target(), target=model, only=["alpha1", "back_alpha1", "distance"], **FAST)
    values = score.scores.set_index("score")["value"]
    assert values["alpha1"] == pytest.approx(1, abs=1e-5)
    assert values["back_alpha1"] == pytest.approx(1, abs=1e-5)
    assert values["distance"] == pytest.approx(0, abs=1e-4)


def test_an_attack_stays_in_its_ball_and_does_more_than_noise(found):
    pool, _, calls = found
    embeddings = pool["one"].word_embeddings.detach()
    data = target()
    settings = ranking.measure.Settings(**FAST)
    task = ranking.text_target.TextTarget(data, settings, pool, pool["one"])
    tokens = pool["one"].read([data.x_test[k] for k in task.chosen])
    radius = settings.eps * float(embeddings[tokens.ids[tokens.mask]].norm(dim=1).mean())
    for delta in (*calls, *task.delta):
        assert float(delta.flatten(1).norm(dim=1).max()) <= radius * (1 + 1e-5)
    arrays = task.attacked(pool["two"])
    for attacked, noise in (("d00", "noise0"), ("d11", "noise1")):
        assert (np.linalg.norm(arrays[attacked], axis=1) > np.linalg.norm(arrays[noise], axis=1)).all()


def test_the_radius_for_texts_may_be_longer_than_the_vector_of_a_word(found):
    pool, *_ = found
    data, settings = target(), ranking.measure.Settings(**FAST, eps=2.0)
    task = ranking.text_target.TextTarget(data, settings, pool, pool["one"])
    tokens = pool["one"].read([data.x_test[k] for k in task.chosen])
    length = float(pool["one"].word_embeddings.detach()[tokens.ids[tokens.mask]].norm(dim=1).mean())
    moved = max(float(delta.flatten(1).norm(dim=1).max()) for delta in task.delta)
    assert length < moved <= 2 * length * (1 + 1e-5)
    options = {**FAST, "eps": 2.0, "only": ["alpha1"], "truth": "none"}
    assert ranking.score({"one": pool["one"]}, data, **options).scores["value"].notna().all()
    assert choosing.Config(eps=2.0).eps == 2.0


def test_the_naive_target_model_learns_and_keeps_the_word_embeddings():
    like, data = TextEncoder(bert(width=32), WORDS), target(100)
    settings = ranking.measure.Settings(target_epochs=40, samples=4, gradients=1, steps=1)
    task = ranking.text_target.TextTarget(data, settings, {"a": like})
    torch.testing.assert_close(task.model.word_embeddings, like.word_embeddings)
    assert task.accuracy() > 0.8


def test_all_weights_are_tuned_on_a_copy():
    module = bert(num_labels=3)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.train()
    options = {**FAST, "truth": "full", "full_epochs": 1}
    ranking.score({"a": TextEncoder(module, WORDS)}, target(), only=["1-NN"], **options)
    assert module.training
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_images_and_texts_are_never_mixed():
    text, image = TextEncoder(bert(), WORDS), Encoder(images.build("lenet", width=4), size=32)
    pictures = ranking.from_tensors(torch.rand(8, 3, 8, 8), torch.arange(8) % 2)
    message = "the data 'reviews' are texts, and b read images; expected models for texts only"
    refuses(message, lambda: ranking.score({"a": text, "b": image}, target()))
    refuses("are images, and a read texts", lambda: ranking.score({"a": text, "b": image}, pictures))
    refuses("and the target model read images", lambda: ranking.score({"a": text}, target(), target=image))


def test_a_candidate_of_texts_that_fails_is_named_and_the_others_are_ranked():
    class Strange(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, input_ids, attention_mask):
            return self.layer(torch.full((len(input_ids), 2), float("nan")))

    pool = {"good": TextEncoder(bert(), WORDS), "nan": TextEncoder(Strange(), WORDS)}
    pool["decoder"] = TextEncoder(decoder(), WORDS)
    result = ranking.score(pool, target(), only=["1-NN"], **FAST)
    assert list(result.candidates["candidate"]) == ["good"]
    reasons = dict(result.left_out.to_numpy())
    assert "its outputs are not finite at 2 of 2 texts" in reasons["nan"]
    assert "Cannot handle batch sizes > 1" in reasons["decoder"]


def test_a_candidate_that_cannot_be_used_does_not_choose_the_target_model():
    other = tiny_tokenizer(list(reversed(GENERATED_WORDS)))
    pool = {"a": TextEncoder(decoder(), other), "b": TextEncoder(bert(), WORDS)}
    result = ranking.score(pool, target(), only=["alpha1"], **FAST)
    assert list(result.candidates["candidate"]) == ["b"]
    assert result.scores["value"].notna().all()


# Runs.


def test_the_command_ranks_models_of_texts_and_says_for_which_there_is_no_alpha(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(tmp_path / "cache"))
    first = bert(num_labels=3)
    saved(first, tmp_path / "a")
    saved(tuned(first, 1), tmp_path / "b")
    saved(bert(9), tmp_path / "c")
    (tmp_path / "pool.toml").write_text("".join(f"[{name}]\ntransformers = '{name}'\n" for name in "abc"))
    made = generated_texts(seed=0, n_train=60, n_test=10)
    table = pd.DataFrame({"text": made.train, "label": [made.classes[k] for k in made.y_train]})
    table.to_csv(tmp_path / "reviews.csv", index=False)
    options = ["--samples", "4", "--gradients", "2", "--steps", "1", "--labels", "12", "--target-epochs", "1"]
    words = ["rank", str(tmp_path / "pool.toml"), "--data", str(tmp_path / "reviews.csv"), *options]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert (
        "2 classes, texts. There are 3 candidates. An attack is made once on 2 of them, and once on the target model."
        in " ".join(told.out.split())
    )
    assert "pixels" not in told.out
    assert "c: alpha1, alpha2, alpha12, back_alpha1, back_alpha2, back_alpha12, distance: not computed" in told.err
    ranked = pd.read_csv(tmp_path / "out" / "ranking.csv").set_index("candidate")
    assert pd.isna(ranked.loc["c", "alpha1"])
    html = (tmp_path / "out" / "choose_a_source.html").read_text(encoding="utf-8")
    assert "There is no α for" in html
    (tmp_path / "images.toml").write_text("[a]\nbuild = 'torchvision.models:alexnet'")
    assert main(["rank", str(tmp_path / "images.toml"), "--data", str(tmp_path / "reviews.csv")]) == 2
    assert "the data 'reviews' are texts, and a read images; expected models for texts only" in capsys.readouterr().err
    assert main(["rank", "book", "--data", str(tmp_path / "reviews.csv")]) == 2
    assert "the candidates of book read images; expected a pool file with models of texts" in capsys.readouterr().err


def test_what_was_measured_is_kept_until_the_word_embeddings_of_the_target_model_change(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(tmp_path / "cache"))
    first, data, computed = bert(num_labels=3), target(), []
    pool = {"a": TextEncoder(first, WORDS), "b": TextEncoder(tuned(first, 1), WORDS)}

    def kept(pool, name):
        keep = choosing.keeper(pool, data, None, {})
        keep(name, "attack", lambda: computed.append(name) or {"x": np.zeros(1)})

    kept(pool, "a")
    kept(pool, "a")
    kept({**pool, "c": TextEncoder(bert(5), WORDS)}, "a")
    assert computed == ["a"]
    others = {name: TextEncoder(tuned(bert(5, num_labels=3), k), WORDS) for k, name in enumerate("xyz")}
    kept({**pool, **others}, "a")
    assert computed == ["a", "a"]


def test_the_page_says_what_a_target_of_texts_is(found):
    _, result, _ = found
    tables = {"target": pd.DataFrame([result.target]), "candidates": result.candidates, "scores": result.scores,
              "left_out": result.left_out, "ranks": ranking.ranks(result)}  # fmt: skip
    record = type("Measured", (), {"tables": tables, "config": {"target": ""}})
    said = page.about(record)
    assert "There are 7 candidates. An attack is made once on 3 of them" in said
    assert "foreign (not computed: its tokens differ from the target model's)" in said
    assert "On the test texts" in page.answer(record)
    assert set(page.attacks_table(record).set_index("candidate")["α1, T→S"][["foreign", "wide"]]) == {"–"}


def test_a_model_that_reads_the_padding_is_left_out_and_named():
    class LastBertForSequenceClassification(BertForSequenceClassification):
        """Reads the last position of the batch, whatever stands there."""

        def forward(self, input_ids=None, attention_mask=None, **given):
            return super().forward(input_ids=input_ids[:, -3:], **given)

    pool = {
        "last": TextEncoder(bert(kind=LastBertForSequenceClassification), WORDS),
        "fine": TextEncoder(bert(), WORDS),
    }
    texts = [" ".join([word] * (2 + k % 7)) for k in range(12) for word in ("good", "bad")]
    found = ranking.score(pool, ranking.from_texts(texts, ["praise", "blame"] * 12), only=["1-NN"], **FAST)
    assert found.candidates["candidate"].tolist() == ["fine"]
    assert (
        "other outputs where a longer one beside it pads it" in found.left_out.set_index("name").loc["last", "reason"]
    )


def test_texts_that_are_cut_are_counted_before_any_long_work(monkeypatch, capsys):
    monkeypatch.setattr(scoring, "_task", lambda *args: pytest.fail("long work began"))
    texts = [" ".join(["good" if k % 2 else "bad"] * (3 + 9 * (k % 4 == 0))) for k in range(40)]
    data = ranking.from_texts(texts, [k % 2 for k in range(40)])
    short = sum(len(text.split()) == 12 for text in data.x_train)
    pool = {name: TextEncoder(bert(), WORDS, max_length=most) for name, most in (("a", 8), ("b", 8), ("c", 20))}
    with pytest.raises(pytest.fail.Exception, match="long work"):
        ranking.score(pool, data, only=["alpha1"], progress=True, **FAST)
    told = capsys.readouterr().err
    assert f"a, b: cut {short} of the first {len(data.x_train)} texts at 8 tokens" in told
    assert "c: cut" not in told


def test_models_in_half_precision_are_attacked_as_any_other():
    first = bert(num_labels=3)
    pool = {"half": TextEncoder(tuned(first, 1).bfloat16(), WORDS), "whole": TextEncoder(tuned(first, 1), WORDS)}
    found = ranking.score(pool, target(), target=TextEncoder(first, WORDS), only=["alpha1", "distance"], **FAST)
    values = found.scores.set_index(["candidate", "score"])["value"]
    assert values["half", "alpha1"] == pytest.approx(values["whole", "alpha1"], rel=0.1)


@pytest.mark.parametrize(
    ("names", "right"),
    [(("blame", "praise"), 1), (("praise", "blame"), 0), (("LABEL_0", "LABEL_1"), 1), (("x", "y"), None)],
)
def test_the_target_models_own_classes_are_compared_by_name(names, right):
    texts = [f"{word} film" for word in ("bad", "good") * 8]
    data = ranking.from_texts(texts, ["blame", "praise"] * 8)
    made = bert(num_labels=2, id2label=dict(enumerate(names)))
    encoder = TextEncoder(made, WORDS)
    settings = ranking.measure.Settings(**FAST)
    found = ranking.text_target.TextTarget(data, settings, {"a": encoder}, encoder).accuracy()
    share = float((encoder.extract(data.x_test)[0].argmax(1) == data.y_test).double().mean())
    assert found == pytest.approx({1: share, 0: 1 - share}.get(right, np.nan), nan_ok=True)


def test_half_a_surrogate_pair_is_told_with_its_row():
    refuses("texts: 1 row (2) with half a surrogate pair; expected texts that UTF-8 can hold",
            lambda: ranking.from_texts(["a good film", "a\ud83d film", "c", "d"], ["x", "y", "x", "y"]))  # fmt: skip


def test_a_text_classifier_is_told_what_goes_around_it():
    from advtransfer.models.text import TextClassifier

    made = TextClassifier.of(bert())
    refuses("a is a TextClassifier; expected ranking.TextEncoder(model, tokenizer) around it, of a TextClassifier its "
            "whole()", lambda: ranking.score({"a": made}, target(), **FAST))  # fmt: skip


def test_lengths_that_differ_are_told_from_other_tokenizers():
    first = bert(num_labels=3)
    pool = {
        "a": TextEncoder(tuned(first, 1), WORDS, max_length=8),
        "b": TextEncoder(tuned(first, 2), WORDS, max_length=4),
    }
    found = ranking.score(pool, target(), target=TextEncoder(first, WORDS, max_length=8), only=["alpha1"], **FAST)
    note = found.scores.set_index("candidate")["note"]
    assert "if only its max_length does, give all models the same" in note["b"]
