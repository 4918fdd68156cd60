"""Training of text classifiers: it learns, by the rates and decays it names, and goes on to the same bits."""

import pytest
import torch
from torch.nn import functional as F
from transformers import get_linear_schedule_with_warmup

from advtransfer.models.text import logits
from advtransfer.records.weights import Checkpoint, content
from advtransfer.training import text as text_training
from advtransfer.training.loop import TrainingError
from advtransfer.training.text import fit_text
from cases import seeded
from text_cases import reviews, tiny

TOKENS, LABELS = reviews(200)


def fitted(model=None, **options):
    model = model or tiny(dtype=torch.float32)
    return model, fit_text(model, TOKENS, LABELS, **{"epochs": 2, "lr": 3e-3, "batch_size": 20} | options)


def test_learns():
    model, fit = fitted(tiny(dtype=torch.float32, spread=0.05), epochs=6, lr=1e-2)
    unseen, labels = reviews(60, seed=1)
    assert (logits(model, unseen).argmax(1) == labels).double().mean() > 0.9
    assert content(fit.last) == content(model.state_dict())
    assert not model.training
    assert all(weight.grad is None for weight in model.parameters())


def test_a_step_is_adamw_without_decay_of_biases_and_norms():
    """One batch an epoch, no dropout, float64: the same as a plain loop with the library's own optimiser."""
    ours, theirs = tiny(), tiny()
    for model in (ours, theirs):
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    fitted(ours, epochs=5, batch_size=200, warmup=0.4, weight_decay=0.3)
    theirs.train()
    plain = [w for name, w in theirs.named_parameters() if name.endswith("bias") or "LayerNorm" in name]
    rest = [w for name, w in theirs.named_parameters() if not (name.endswith("bias") or "LayerNorm" in name)]
    groups = [{"params": rest, "weight_decay": 0.3}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=3e-3)
    schedule = get_linear_schedule_with_warmup(optimiser, 2, 5)
    for _ in range(5):
        optimiser.zero_grad()
        F.cross_entropy(theirs(theirs.embed(TOKENS.ids), TOKENS.mask), LABELS).backward()
        optimiser.step()
        schedule.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_even_a_single_step_learns():
    model = tiny(dtype=torch.float32)
    before = model.head.weight.detach().clone()
    fitted(model, epochs=1, batch_size=200, warmup=1.0)
    assert not model.head.weight.equal(before)


def test_batches_hold_every_text_once_and_little_padding():
    lengths = TOKENS.mask.sum(1)
    first, second = (text_training._batches(lengths, 20, generator) for generator in [seeded(1)] * 2)
    for batches in (first, second):
        assert torch.cat(batches).sort().values.tolist() == list(range(200))
    assert not torch.cat(first).equal(torch.cat(second))
    padded = sum(len(rows) * int(lengths[rows].max()) for rows in first)
    assert padded < 1.15 * lengths.sum() < 200 * int(lengths.max())


def test_only_what_is_asked_for_is_trained_and_the_seed_decides():
    model, before = tiny(dtype=torch.float32), tiny(dtype=torch.float32).encoder.state_dict()
    model.encoder.pooler.dense.weight.requires_grad_(False)
    state = torch.get_rng_state()
    fitted(model, parameters=model.head.parameters())
    assert torch.get_rng_state().equal(state)
    assert content(model.encoder.state_dict()) == content(before)
    assert not model.head.weight.equal(tiny(dtype=torch.float32).head.weight)
    assert [w.requires_grad for w in model.encoder.pooler.parameters()] == [False, True]
    same, other = (fitted(seed=seed)[1] for seed in (0, 1))
    assert content(fitted()[1].last) == content(same.last) != content(other.last)


def test_bfloat16_is_close_and_weights_stay_float32():
    a, b = (fitted(epochs=1, lr=1e-4, precision=precision)[0] for precision in ("float32", "bfloat16"))
    assert all(weight.dtype == torch.float32 for weight in b.parameters())
    assert content(a.state_dict()) != content(b.state_dict())
    assert sum((u - v).square().sum() for u, v in zip(a.parameters(), b.parameters(), strict=True)) < 1e-3


class Killed(Checkpoint):
    """A checkpoint in whose training somebody pulls the plug after two epochs."""

    def save(self, state):
        super().save(state)
        if len(state["accuracy"]) == 2:
            raise KeyboardInterrupt


def test_killed_and_started_again_it_ends_in_the_same_bits(tmp_path):
    _, whole = fitted(epochs=4)
    with pytest.raises(KeyboardInterrupt):
        fitted(epochs=4, checkpoint=Killed(tmp_path / "state"))
    _, again = fitted(tiny(seed=9, dtype=torch.float32), epochs=4, checkpoint=Checkpoint(tmp_path / "state"))
    assert content(again.last) == content(whole.last)


def test_a_diverging_loss_is_an_error():
    model = tiny(dtype=torch.float32)
    model.head.weight.data[0, 0] = torch.nan
    with pytest.raises(TrainingError, match=r"trial: the loss is nan in epoch 1 of 2; .* below 0.003"):
        fitted(model, label="trial")


@pytest.mark.parametrize(
    ("labels", "options", "error", "message"),
    [
        (LABELS.float(), {}, TypeError, "labels are torch.float32 .* expected int64"),
        (LABELS[:5], {}, TypeError, r"of shape \(5,\); expected int64 labels \(200,\)"),
        (LABELS + 1, {}, ValueError, r"span \[1, 2\]; expected \[0, 1\]"),
        (LABELS, {"epochs": 0}, ValueError, "epochs is 0"),
        (LABELS, {"warmup": 2.0}, ValueError, "warmup 2.0; expected"),
    ],
)
def test_bad_labels_and_numbers_are_refused(labels, options, error, message):
    with pytest.raises(error, match=message):
        fit_text(tiny(), TOKENS, labels, **{"epochs": 1} | options)
