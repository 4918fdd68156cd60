"""The attack at the root: equal to a loop written out for one text, every text for itself, and all of them told."""

import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from advtransfer.models.tree_autoencoder import TEMPERATURE, TreeAutoencoder, plant
from advtransfer.text.sentence_attacks import attack_root, lay_out, margin

WORDS, RELATIONS, WIDTH, CLASSES = 11, 3, 4, 3
VOCABULARY = [f"w{k}" for k in range(WORDS)]
FOREST = plant(
    [
        ([1, 2, 3], [1, 0, 2], [1, -1, 1]),
        ([4], [0], [-1]),
        ([5, 6, 7, 8, 1], [2, 1, 0, 1, 1], [1, 2, -1, 2, 3]),
        ([9, 10, 2, 2], [0, 1, 2, 1], [-1, 0, 1, 2]),
    ]
)


def drawn(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Victim(nn.Module):
    """The mean over a text of a curved function of its tokens; with dropout, so that eval mode is felt."""

    def __init__(self, seed=0, scale=1.0):
        super().__init__()
        self.a, self.b = (
            nn.Parameter(drawn(WIDTH, 8, seed=seed)),
            nn.Parameter(scale * drawn(8, CLASSES, seed=seed + 1)),
        )
        self.dropout = nn.Dropout(0.5)

    def forward(self, embedded, mask):
        hidden = self.dropout(torch.tanh(embedded @ self.a)) * mask[..., None]
        return hidden.sum(1) / mask.sum(1, keepdim=True) @ self.b


MODEL = TreeAutoencoder(WORDS, RELATIONS, hidden=6, word_size=5, relation_size=3).double().eval()
TABLE = drawn(WORDS, WIDTH, seed=7)
ENDS = (drawn(WIDTH, seed=8), drawn(WIDTH, seed=9))


def attack(forest=FOREST, victim=None, model=MODEL, table=TABLE, vocabulary=VOCABULARY, **options):
    return attack_root(model, forest, victim or Victim(), table, vocabulary, **{"steps": 30, "ends": ENDS} | options)


def read(victim, words):
    """The victim's logits (d,) for one text of word numbers, between the ends."""
    text = torch.stack([ENDS[0], *TABLE[words], ENDS[1]])
    return victim(text[None], torch.ones(1, len(text), dtype=torch.bool))[0]


def alone(victim, tree, *, steps, lr, c=1e4, kappa=0.0):
    """The attack on one text, written out: Adam by hand, and the soft choice by its own Jacobian."""
    label = int(read(victim, tree.words).argmax())
    root = MODEL.encode(tree).detach()
    z, m, v = torch.zeros_like(root), 0.0, 0.0
    best = None
    for step in range(steps + 1):
        leaf = z.clone().requires_grad_()
        choice = MODEL.decode(root + leaf, tree)
        words = choice.argmax(1)
        soft = torch.softmax(choice / TEMPERATURE, 1) @ TABLE
        hard = TABLE[words].clone().requires_grad_()
        text = torch.cat([ENDS[0][None], hard, ENDS[1][None]])[None]
        logits = victim(text, torch.ones(text.shape[:2], dtype=torch.bool))[0]
        other = max(logits[k] for k in range(CLASSES) if k != label)
        flipped = int(logits.argmax()) != label
        if best is None or not best[0] or (flipped and z.norm() < best[1]):
            best = flipped, z.norm(), words, z
        (at_words,) = torch.autograd.grad(c * (logits[label] - other + kappa).clamp(min=0), hard)
        (grad,) = torch.autograd.grad((soft * at_words).sum() + (leaf**2).sum(), leaf)
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        t = step + 1
        z = z - lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    return best


def test_equals_the_loop_written_out_text_by_text():
    seen = set()
    for seed in range(6):
        victim = Victim(seed).eval()
        found = attack(victim=victim, lr=0.3, steps=25)
        for n in range(4):
            tree = FOREST.select(torch.tensor([n]))
            flipped, distance, words, z = alone(victim, tree, steps=25, lr=0.3)
            assert bool(found.flipped[n]) == flipped
            torch.testing.assert_close(found.distance[n], distance, rtol=1e-6, atol=1e-9)
            torch.testing.assert_close(found.z[n], z[0], rtol=1e-6, atol=1e-9)
            assert torch.equal(found.words[FOREST.tree == n], words)
            seen.add((flipped, bool(found.flipped_unperturbed[n])))
    assert seen == {(False, False), (True, False), (True, True)}


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), data=st.data())
def test_a_text_does_not_depend_on_the_others(seed, data):
    chosen = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4)))
    all_four, some = attack(victim=Victim(seed)), attack(FOREST.select(chosen), victim=Victim(seed))
    for name in ("label", "flipped", "flipped_unperturbed", "changed"):
        assert torch.equal(getattr(some, name), getattr(all_four, name)[chosen]), name
    torch.testing.assert_close(some.z, all_four.z[chosen], rtol=1e-6, atol=1e-9)
    assert some.texts == tuple(all_four.texts[n] for n in chosen)


def test_the_result_is_what_the_victim_and_the_decoder_say():
    for seed in range(5):
        victim = Victim(seed).eval()
        found = attack(victim=victim)
        with torch.no_grad():
            said = MODEL.decode(MODEL.encode(FOREST) + found.z, FOREST).argmax(1)
        assert torch.equal(found.words, said)
        torch.testing.assert_close(found.distance, found.z.norm(dim=1))
        for n in range(4):
            own = FOREST.tree == n
            words, before = found.words[own], FOREST.words[own]
            assert found.label[n] == read(victim, before).argmax()
            assert found.flipped[n] == (read(victim, words).argmax() != found.label[n])
            assert found.changed[n] == (words != before).sum()
            assert found.texts[n] == " ".join(f"w{k}" for k in words)
        assert (found.distance[found.flipped_unperturbed] == 0).all()
        assert found.flipped[found.flipped_unperturbed].all()


def test_a_victim_that_returns_an_object_with_logits_and_numbers_of_any_kind_are_taken():
    victim = Victim(1).eval()
    plain = attack(victim=victim, c=0.5, steps=5)
    other = attack(victim=lambda e, m: SimpleNamespace(logits=victim(e, m)), c=Fraction(1, 2), steps=np.int64(5))
    assert other.words.equal(plain.words)
    assert other.distance.equal(plain.distance)


def test_a_victim_that_cannot_be_moved_is_told_with_every_text():
    found = attack(victim=lambda embedded, mask: embedded.sum((1, 2))[:, None] * 0 + torch.tensor([1.0, 0.0]))
    assert not found.flipped.any()
    assert len(found.texts) == len(found.distance) == 4
    assert (found.distance == 0).all()  # nothing pulls, so nothing moves


def test_labels_lead_away_from_the_class_given():
    victim = Victim(2).eval()
    own = attack(victim=victim).label
    other = attack(victim=victim, labels=(own + 1) % CLASSES, kappa=0.5)
    assert torch.equal(other.label, (own + 1) % CLASSES)
    for n in range(4):
        predicted = read(victim, other.words[FOREST.tree == n]).argmax()
        assert other.flipped[n] == (predicted != other.label[n])


def test_a_logit_that_is_not_finite_is_no_success():
    calls = []

    def broken(embedded, mask):
        calls.append(1)
        logits = Victim(scale=0.0).eval()(embedded, mask) + torch.tensor([1.0, 0.0, 0.0])
        return logits if len(calls) == 1 else logits * torch.tensor([1.0, torch.nan, 1.0])

    assert not attack(victim=broken).flipped.any()


@pytest.mark.parametrize("ends", [None, ENDS])
def test_texts_are_laid_out_between_their_ends(ends):
    embedded = drawn(len(FOREST.words), WIDTH)
    laid, mask = lay_out(embedded, FOREST, ends)
    around = ([end[None] for end in ENDS]) if ends else [TABLE[:0], TABLE[:0]]
    for n in range(4):
        text = torch.cat([around[0], embedded[FOREST.tree == n], around[1]])
        assert torch.equal(laid[n, : len(text)], text)
        assert mask[n].tolist() == [k < len(text) for k in range(laid.shape[1])]
        assert not laid[n, len(text) :].any()
    assert laid.shape[1] == 5 + (2 if ends else 0)


def test_margin():
    logits = torch.tensor([[1.0, 4.0, 2.0], [1.0, 4.0, 2.0]])
    assert margin(logits, torch.tensor([1, 2])).tolist() == [2.0, -2.0]


def test_leaves_no_trace():
    victim, model = Victim(), TreeAutoencoder(WORDS, RELATIONS, hidden=6, word_size=5, relation_size=3).double()
    before = torch.get_rng_state()
    with torch.inference_mode():
        found = attack(victim=victim, model=model)
        again = attack(victim=victim, model=model)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found.z, again.z)
    assert not found.z.requires_grad
    assert all(module.training for part in (victim, model) for module in part.modules())
    assert all(weight.grad is None and weight.requires_grad for p in (victim, model) for weight in p.parameters())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"table": TABLE[:5]}, ValueError, "table has 5 rows and vocabulary 11 words; expected 11"),
        ({"vocabulary": ["a"]}, ValueError, "table has 11 rows and vocabulary 1 words; expected 11"),
        ({"table": TABLE * math.nan}, ValueError, "table holds 44 values that are NaN"),
        ({"ends": (TABLE[0], TABLE)}, ValueError, r"ends have the shapes \(4,\) and \(11, 4\); expected \(4,\)"),
        ({"steps": 0}, ValueError, "steps is 0; expected at least 1"),
        ({"steps": 2.5}, TypeError, "steps is 2.5; expected a whole number"),
        ({"c": "1"}, TypeError, "c is '1'; expected a number"),
        ({"lr": 0}, ValueError, "lr is 0; expected a finite number above 0"),
        ({"kappa": -1.0}, ValueError, "kappa is -1; expected a finite number, at least 0"),
        (
            {"labels": torch.zeros(3)},
            TypeError,
            r"labels are torch.float32 of shape \(3,\); expected int64 labels \(4,\)",
        ),
        ({"labels": torch.full((4,), 3)}, ValueError, r"labels span \[3, 3\]; expected \[0, 2\]"),
        ({"victim": lambda e, m: e.sum((1, 2))[:, None]}, ValueError, r"shape \(4, 1\); expected \(4, d\) with d at"),
        ({"victim": lambda e, m: e.sum((1, 2))}, ValueError, r"logits has shape \(4,\)"),
    ],
)
def test_bad_arguments_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        attack(**options)
