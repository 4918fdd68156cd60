"""The word attack: every sentence can be written, a text is on its own, and the best one that flips is kept."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advtransfer.models.text import logits
from advtransfer.models.tokens import tokenise, untokenise
from advtransfer.text.nearest import NearestSentence, candidates, marked, reads_back
from advtransfer.text.word_attacks import word_attack
from cases import assert_no_trace, normal, refuses, seeded, seeds, trace
from text_cases import FILLER, GOOD, TOKENIZER, TRAPS, reviews, tiny

TOKENS, _ = reviews(6)
WORDS = [word for word in (*GOOD, *FILLER, *TRAPS) if not word.startswith("##")]


def attack(tokens=TOKENS, model=None, **options):
    return word_attack(model or tiny(), tokens, TOKENIZER, **{"steps": 30, "kappa": 1.0} | options)


def test_candidates_are_the_tokens_that_a_text_can_bring_back():
    words, pieces = (set(TOKENIZER.convert_ids_to_tokens(kind.tolist())) for kind in candidates(TOKENIZER))
    # "[unused0]" and "##" are split by the reader; "Upper" and "café" are read as other words.
    assert {"the", "playing", ".", "#", "中", "1", "cafe", "ß"} <= words
    assert not words & {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]", "Upper", "café", "##"}
    assert pieces >= {"##able", "##ing", "##e", "##1", "##ß"}
    assert not pieces & {"##!", "##.", "##é", "##中"}


@given(texts=st.lists(st.text(alphabet="aeioubdplnyigsmß1.,'#-中é ", max_size=30), min_size=1, max_size=4), seed=seeds)
@settings(max_examples=150, deadline=None)
def test_every_sentence_that_is_found_is_read_back(texts, seed):
    generator = seeded(seed)
    more = [WORDS[k] for k in torch.randint(len(WORDS), (4,), generator=generator)]
    tokens = tokenise(TOKENIZER, [*texts, " ".join([*more, "unableing", "playings", "embeds", "[MASK]", "[UNK]x"])], 24)
    weights = torch.randn(len(TOKENIZER), 5, generator=generator)
    x0 = weights[tokens.ids]
    z = 3 * torch.randn(x0.shape, generator=generator)
    free = ~tokens.special & (torch.rand(tokens.ids.shape, generator=generator) < 0.9)
    most = torch.randint(1, 30, (len(free),), generator=generator)
    ids = NearestSentence(weights, TOKENIZER)(tokens.ids, x0, z, free, most)
    assert reads_back(TOKENIZER, untokenise(TOKENIZER, ids, tokens.mask), ids, tokens.mask).all()
    changed = ids != tokens.ids
    assert not (changed & ~free).any()
    assert (changed.sum(1) <= most).all()


def test_a_sentence_that_is_not_read_back_is_told():
    """What the property above would see if words were replaced piece by piece without care."""
    play, ing, playing = TOKENIZER.convert_tokens_to_ids(["play", "##ing", "playing"])
    ids = torch.tensor([[2, play, ing, 3], [2, playing, 3, 0]])
    mask = ids > 0
    assert reads_back(TOKENIZER, untokenise(TOKENIZER, ids, mask), ids, mask).tolist() == [False, True]


def test_the_nearest_sentence_is_the_nearest():
    weights = normal(len(TOKENIZER), 4)
    tokens = tokenise(TOKENIZER, ["the film is a plot of good . not"], 24)
    free, x0, z = ~tokens.special, weights[tokens.ids], 2 * normal(1, 11, 4, seed=1)
    snap = NearestSentence(weights, TOKENIZER)
    assert snap(tokens.ids, x0, 0 * z, free, torch.tensor([11])).equal(tokens.ids)
    words = candidates(TOKENIZER).words
    for most in (1, 3, 9):
        best = words[torch.cdist(x0[0] + z[0], weights[words]).argmin(1)]
        gain = z[0].square().sum(1) - (x0[0] + z[0] - weights[best]).square().sum(1)
        gain = torch.where(free[0], gain, -torch.inf)
        top = gain.topk(most).indices
        expected = tokens.ids[0].clone()
        expected[top[gain[top] > 0]] = best[top[gain[top] > 0]]
        assert snap(tokens.ids, x0, z, free, torch.tensor([most]))[0].equal(expected)


def reference(model, tokens, steps, c=10.0, kappa=1.0):
    """One text, straight-through by autograd, with the library's clipping and Adam; words only."""
    weights = model.word_embeddings.detach()
    words, inner = candidates(TOKENIZER).words, slice(1, int(tokens.mask.sum()) - 1)
    x0 = weights[tokens.ids[0]]
    z = torch.zeros_like(x0).requires_grad_()
    adam = torch.optim.Adam([z], lr=0.2)
    real, best, kept = None, torch.inf, None
    for _ in range(steps):
        moved = x0 + z
        ids = tokens.ids[0].clone()
        if z.any():
            ids[inner] = words[torch.cdist(moved[inner], weights[words]).argmin(1)]
        e = moved + (weights[ids] - moved).detach()
        outputs = model(e[None], tokens.mask)[0]
        real = int(outputs.argmax()) if real is None else real
        square = (e - x0).square().sum()
        if int(outputs.argmax()) != real and square < best:
            best, kept = square.item(), ids
        loss = c * (outputs[real] - outputs[1 - real] + kappa).clamp(min=0) + square
        adam.zero_grad()
        loss.backward()
        z.grad[0], z.grad[inner.stop :] = 0, 0
        torch.nn.utils.clip_grad_norm_([z], 0.5)
        adam.step()
    return kept, best


def test_it_is_the_published_loop_and_a_batch_is_its_texts():
    model = tiny()
    whole = attack(model=model)
    assert whole.flipped.sum() >= 4
    assert whole.roundtrip.all()
    for k in range(6):
        alone = TOKENS.take(torch.tensor([k]))
        single = attack(alone, model=model)
        length = alone.ids.shape[1]
        assert single.ids[0].equal(whole.ids[k, :length])
        assert (single.flipped[0], single.steps[0], single.texts[0]) == (
            whole.flipped[k], whole.steps[k], whole.texts[k],
        )  # fmt: skip
        torch.testing.assert_close(single.distance[0], whole.distance[k], rtol=1e-9, atol=0)
        kept, best = reference(model, alone, 30)
        assert (kept is not None) == bool(whole.flipped[k])
        if kept is not None:
            assert single.ids[0].equal(kept)
            assert single.distance[0].item() ** 2 == pytest.approx(best, rel=1e-6)


def test_what_is_reported_is_so_and_the_model_is_left_alone():
    model = tiny().train()
    before = trace(model)
    found = attack(model=model, batch_size=2)
    assert_no_trace(model, before)
    after = TOKENS._replace(ids=found.ids)
    assert found.flipped.equal(logits(model, after).argmax(1) != logits(model, TOKENS).argmax(1))
    assert found.changed.equal((found.ids != TOKENS.ids).sum(1))
    change = (model.embed(found.ids) - model.embed(TOKENS.ids)).detach()
    torch.testing.assert_close(change.flatten(1).norm(dim=1), found.distance)
    assert tokenise(TOKENIZER, found.texts, 24).ids.equal(found.ids)


def test_models_in_half_precision_are_attacked_in_single_precision():
    found = attack(model=tiny(dtype=torch.float16))
    assert found.distance.dtype == torch.float32
    assert found.distance.isfinite().all()
    assert found.flipped.sum() >= 3
    assert found.roundtrip.all()


def test_logits_that_cannot_be_attacked_are_refused():
    model = tiny()
    model.head.bias.data[0] = torch.nan
    refuses("the model's logits holds 6 values that are NaN or infinite", lambda: attack(model=model))
    model.head = torch.nn.Linear(model.head.in_features, 1).double()
    refuses("expected (6, d) with d at least 2", lambda: attack(model=model))


def test_texts_that_do_not_flip_stay_in_changed():
    model = tiny()
    model.head.bias.data = torch.tensor([1e3, 0.0]).double()
    found = attack(model=model)
    assert not found.flipped.any()
    assert (found.changed > 0).all()
    assert (found.steps == 30).all()


def test_what_is_kept_and_budgets_hold():
    keep = TOKENS.ids == TOKENIZER.convert_tokens_to_ids("the")
    assert keep.any()
    found = attack(keep=keep, max_changed=2)
    assert found.ids[keep].equal(TOKENS.ids[keep])
    assert found.changed.max() == 2
    share = attack(max_changed=0.4)
    assert (share.changed <= (0.4 * (~TOKENS.special).sum(1)).floor().clamp_min(1)).all()
    still = attack(keep=TOKENS.mask)
    assert still.ids.equal(TOKENS.ids)
    assert still.steps.sum() == still.changed.sum() == still.flipped.sum() == 0


def test_patience_leaves_the_others_as_they_are():
    whole, short = attack(), attack(patience=3)
    assert short.flipped.equal(whole.flipped)
    assert (short.steps < whole.steps)[short.flipped].any()
    assert (short.distance >= whole.distance)[short.flipped].all()
    assert (short.steps == 30)[~short.flipped].all()
    assert short.ids[~short.flipped].equal(whole.ids[~short.flipped])


def test_an_empty_text_is_passed_over():
    tokens = tokenise(TOKENIZER, ["", "the good film", "[SEP]"], 24)
    found = attack(tokens)
    assert found.steps.tolist() == [0, 30, 0]
    assert found.roundtrip.all()
    assert found.texts[0] == ""


def test_marked_words_are_whole_words_and_no_sign_is_markup():
    mine = torch.tensor([2, *TOKENIZER.convert_tokens_to_ids(["un", "##able", "the", "-", "good"]), 3, 0])
    other = torch.tensor([2, *TOKENIZER.convert_tokens_to_ids(["un", "##ed", "the", "-", "#"]), 3, 0])
    assert marked(mine, other, TOKENIZER) == (
        "<mark>unable</mark> the &#45; <mark>good</mark>",
        "<mark>uned</mark> the &#45; <mark>&#35;</mark>",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0; expected at least 1"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"patience": 0}, "patience is 0"),
        ({"c": float("nan")}, "c is nan; expected a finite number"),  # no text was flipped, without a word
        ({"c": 0}, "c is 0; expected a number above 0"),
        ({"kappa": -5}, "kappa is -5; expected a finite number, at least 0"),
        ({"precision": "float16"}, "precision is 'float16'; expected one of 'float32', 'bfloat16'"),
        ({"max_changed": 0}, "max_changed is 0; expected"),
        ({"max_changed": 1.5}, "max_changed is 1.5; expected a number of tokens (int) or a share in (0, 1]"),
        ({"keep": torch.ones(2, 3)}, "keep is torch.float32 of (2, 3); expected bool (6,"),
    ],
)
def test_bad_options_are_refused(options, message):
    refuses(message, lambda: attack(**options))


@pytest.mark.parametrize("name", ["lr", "c", "kappa", "clip", "steps", "max_changed", "batch_size"])
def test_what_is_no_number_is_refused_by_name(name):
    refuses(f"{name} is 'a'; expected a", lambda: attack(**{name: "a"}), TypeError)
