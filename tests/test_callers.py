"""What callers bring along: models that write into their input, numbers, batches, outputs and boxes of other kinds."""

from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from advtransfer import attacks, intervals, matching, metrics, scores, spectral
from advtransfer.attacks import NoGradientWarning
from advtransfer.checks import as_number
from advtransfer.prepare import prepare
from cases import ConvNet, normal, refuses, seeded

X = torch.rand(6, 1, 3, 4, generator=seeded(1), dtype=torch.float64)
NET = ConvNet().eval()


class OutOfMemory(Exception):
    """Raised by a model in the middle of its work."""


class InPlace(nn.Module):
    """`NET` on normalised inputs; the normalisation overwrites the input."""

    def __init__(self, fails_at=None):
        super().__init__()
        self.net, self.calls, self.fails_at = NET, 0, fails_at

    def forward(self, x):
        x.sub_(0.5).div_(0.5)
        self.calls += 1
        if self.calls == self.fails_at:
            raise OutOfMemory
        return self.net(x)


def same(x):
    return NET((x - 0.5) / 0.5)


def shove(model, x):
    """An attack without a gradient."""
    return 0.05 * normal(*x.shape, seed=3).sign()


def own(model, x):
    """A foreign attack, which writes into what it gets."""
    return (model(x.mul_(0.9)) * 0).sum() + torch.zeros_like(x).add_(0.01)


PGD = partial(attacks.pgd, eps=0.1)
USES = {
    "pgd": PGD,
    "pgd l2": partial(attacks.pgd, eps=0.1, norm="l2", loss="deviation"),
    "fgsm": partial(attacks.fgsm, eps=0.1),
    "mi_fgsm": partial(attacks.mi_fgsm, eps=0.1),
    "eps=0": partial(attacks.pgd, eps=0),
    "jacobian": spectral.jacobian,
    "first_attack": partial(spectral.first_attack, eps=0.1),
    "transferability": lambda f, x: metrics.transferability(f, f, x, PGD).alpha1_samples,
    "shoved": lambda f, x: metrics.transferability(f, same, x, shove).alpha1_samples,
    "shoved batches": lambda f, x: metrics.transferability(same, f, [x[:3], x[3:]], shove).alpha1_samples,
    "matrix": lambda f, x: metrics.transfer_matrix([f, same, f], x, shove).alpha1_samples,
    "deviations": lambda f, x: torch.stack(list(metrics.deviations([f, same], x, PGD).values())),
    "foreign attack": lambda f, x: metrics.deviations([f], x, own)[0, 0],
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_model_that_writes_into_its_input_gives_the_same_and_writes_nothing_of_the_callers(use):
    x = X.clone()
    found = use(InPlace(), x)
    assert x.equal(X)
    torch.testing.assert_close(found, use(same, X), rtol=1e-9, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("call", [1, 2])
def test_nothing_is_written_when_the_model_fails_midway(use, call):
    x, model = X.clone(), InPlace(call)
    with suppress(OutOfMemory):
        use(model, x)
    assert x.equal(X)
    assert model.calls <= call


def test_alpha2_of_a_model_that_writes_into_its_input():
    """The smallest case of a wrong number without a word: all later models saw an altered batch."""
    a, b = (metrics.transferability(f, f, X, shove) for f in (InPlace(), same))
    assert a.alpha2 == pytest.approx(b.alpha2, rel=1e-12)


# Radii and boxes.

BOXED = {
    "pgd": attacks.pgd,
    "fgsm": attacks.fgsm,
    "mi_fgsm": attacks.mi_fgsm,
    "first_attack": spectral.first_attack,
}


@pytest.mark.parametrize("attack", BOXED.values(), ids=BOXED)
@pytest.mark.parametrize(
    "eps",
    [Fraction(8, 255), Decimal(8 / 255), torch.tensor(8 / 255, dtype=torch.float64), np.float64(8 / 255),
     np.array(8 / 255)],
    ids=lambda e: type(e).__name__,
)  # fmt: skip
def test_a_radius_may_be_a_number_of_any_kind(attack, eps):
    assert attack(same, X, eps=eps).equal(attack(same, X, eps=8 / 255))


@pytest.mark.parametrize("attack", BOXED.values(), ids=BOXED)
def test_the_model_and_the_samples_may_be_named_and_all_else_must_be(attack):
    """A bare number in third place says neither which ball it is the radius of, nor that it is a radius."""
    assert attack(x=X, model=same, eps=0.1).equal(attack(same, X, eps=0.1))
    with pytest.raises(TypeError, match="positional"):
        attack(same, X, 0.1)


@pytest.mark.parametrize("given", ["0.1", None, True, [0.1], torch.ones(1), torch.ones(2), np.ones(1), 1j])
def test_what_is_no_number_is_refused(given):
    refuses(f"eps is {given!r}; expected a number".replace("\n", ""), lambda: as_number("eps", given), TypeError)


@pytest.mark.parametrize("attack", BOXED.values(), ids=BOXED)
def test_every_attack_refuses_the_same_inputs_with_the_same_words(attack):
    call = partial(attack, same)
    refuses("x spans [-0.5, 1.5]; expected values within bounds (0.0, 1.0)", lambda: call(2 * X.round() - 0.5, eps=0.1))
    refuses("x spans [-1e-05, 1]", lambda: call(X.round() - 1e-5 * (X.round() == 0), eps=0.1))
    refuses("bounds is (1.0, 0.0); expected (low, high) with low < high", lambda: call(X, eps=0.1, bounds=(1.0, 0.0)))
    for bounds in (5, (None, None), (torch.zeros(3), torch.ones(3)), (0.0, float("nan"))):
        refuses("expected (low, high) with low < high, or None", lambda b=bounds: call(X, eps=0.1, bounds=b))
    refuses("x has shape (4,); expected (N, ...), samples first", lambda: call(torch.rand(4), eps=0.1))
    refuses("x is an empty batch", lambda: call(X[:0], eps=0.1))
    refuses("x holds 72 values that are NaN or infinite", lambda: call(X * torch.nan, eps=0.1))
    refuses("x is torch.uint8; expected a floating-point tensor", lambda: call(X.byte(), eps=0.1), TypeError)
    refuses("eps is -1; expected a finite number, at least 0", lambda: call(X, eps=-1))
    refuses("eps is '0.1'; expected a number", lambda: call(X, eps="0.1"), TypeError)
    refuses("did you mean 8/255?", lambda: call(X, eps=8))


@pytest.mark.parametrize(
    ("norm", "eps", "bounds", "message"),
    [
        ("linf", 8, (0, 1), "eps is 8; expected at most 1, the width of the box: did you mean 8/255?"),
        ("l2", 128, (0, 1), "eps is 128; expected at most 3.464, the diagonal of the box: did you mean 128/255?"),
        ("linf", 8, (-1, 1), "expected at most 2, the width of the box: did you mean 8/255 of the width, 0.06275?"),
    ],
)
def test_a_radius_beyond_the_box_is_refused_with_the_one_that_was_meant(norm, eps, bounds, message):
    refuses(message, lambda: attacks.pgd(same, X, eps=eps, norm=norm, bounds=bounds))


@pytest.mark.parametrize(("eps", "bounds"), [(300, (0, 1)), (300, (-1, 1)), (1e6, (0, 1))])
def test_no_guess_is_made_that_would_be_refused_too(eps, bounds):
    with pytest.raises(ValueError, match=r"expected at most \d, the width of the box$"):
        attacks.pgd(same, X, eps=eps, bounds=bounds)


def test_a_radius_of_the_whole_box_or_without_a_box_is_taken():
    attacks.pgd(same, X, eps=1.0)
    attacks.pgd(same, X, eps=12**0.5, norm="l2")
    attacks.pgd(same, X, eps=8, bounds=None)
    attacks.pgd(same, 255 * X, eps=8, bounds=(0, 255))


@pytest.mark.parametrize("attack", BOXED.values(), ids=BOXED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_pixels_outside_by_rounding_are_taken_and_the_result_is_inside(attack, dtype):
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    x = (((torch.arange(256) / 255).view(1, 1, 16, 16).expand(2, 3, 16, 16) - mean) / std * std + mean).to(dtype)
    x[0, 0, 0, 0], x[0, 0, 0, 1] = -2.98e-8, 1 + torch.finfo(dtype).eps
    delta = attack(lambda x: x.double().flatten(1)[:, :3], x, eps=0.1)
    assert delta.dtype == dtype
    assert 0 <= (x + delta).min() <= (x + delta).max() <= 1
    assert delta.double().abs().max() <= 0.1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("ulps", [1, 4])
@pytest.mark.parametrize("name", [*BOXED, "pgd l2", "fgsm l2"])
def test_a_perturbation_is_never_longer_than_its_radius_even_if_all_pixels_are_outside_by_rounding(name, ulps, dtype):
    """Bringing many pixels back into the box takes a length, which counts."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).to(dtype)
    white = torch.rand(4, 3, 8, 8, generator=seeded(5)).to(dtype).round()
    x = white + ulps * torch.finfo(dtype).eps * (2 * white - 1)
    far = (x - x.clamp(0, 1)).double().flatten(1)
    l2 = name == "first_attack" or name.endswith("l2")
    attack = partial(BOXED[name.removesuffix(" l2")], **({"norm": "l2"} if name.endswith(" l2") else {}))
    lengths = partial(torch.linalg.vector_norm, ord=2 if l2 else torch.inf, dim=1)
    for eps in (1e-6, 1 / 255, 8 / 255, 0.5):
        delta = attack(net, x, eps=eps)
        assert lengths(delta.double().flatten(1)).max() <= eps
        moved = (x + delta).double().flatten(1)
        outside = lengths(moved - moved.clamp(0, 1))
        assert (outside <= lengths(far)).all()
        assert not outside[2 * lengths(far) < eps].any()


# Batches, outputs, precisions.


@pytest.mark.parametrize("shape", [tuple, list])
def test_batches_of_a_data_loader_are_taken(shape):
    rows = TensorDataset(X, torch.arange(6))
    loader = DataLoader(rows, batch_size=3, collate_fn=lambda each: shape(map(torch.stack, zip(*each, strict=True))))
    batches = metrics.transferability(NET, same, [X[:3], X[3:]], PGD)
    assert metrics.transferability(NET, same, loader, PGD).alpha2 == batches.alpha2
    call = lambda: metrics.transferability(NET, same, "ab", PGD)  # noqa: E731
    refuses("x is str; expected a floating-point tensor", call, TypeError)


def test_what_gives_no_batches_is_told_how_to():
    rows = [{"pixels": x, "label": k} for k, x in enumerate(X)]
    call = lambda x: metrics.transferability(NET, same, x, shove)  # noqa: E731
    told = "a batch is dict with 'pixels', 'label'; .* pass (batch['pixels'] for batch in x), with the name"
    loader = DataLoader(rows, batch_size=3)
    refuses(
        told.replace(".* ", "expected a tensor, or a tuple that begins with one: "), lambda: call(loader), TypeError
    )
    assert call(batch["pixels"] for batch in loader).n == 6
    single = TensorDataset(X, torch.arange(6))
    refuses("x is TensorDataset, which gives single samples; expected batches", lambda: call(single), TypeError)
    refuses("x is NoneType; expected a tensor, or an iterable of batches", lambda: call(None), TypeError)


@pytest.mark.parametrize("attack", [spectral.jacobian, BOXED["first_attack"]], ids=["jacobian", "first_attack"])
def test_a_model_that_autograd_cannot_follow_is_no_constant_one(attack):
    """Its Jacobian was zero without a word, and so was the attack."""
    attack = partial(attack, **({"eps": 0.1} if attack is BOXED["first_attack"] else {}))
    for x in (X, X[:1]):
        refuses("the model's outputs do not depend on x", lambda x=x: attack(lambda z: same(z).detach(), x))
        assert not attack(lambda z: torch.ones(len(z), 2), x).any()
    refuses("model outputs is torch.int64", lambda: attack(lambda z: same(z).argmax(1, keepdim=True), X), TypeError)
    refuses("model outputs is torch.complex128", lambda: attack(lambda z: same(z) + 0j, X), TypeError)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_prepared_half_model_takes_single_precision(dtype):
    x = X.float()
    half = prepare(NET, dtype=dtype)
    delta = attacks.pgd(half, x, eps=0.1)
    assert delta.dtype == torch.float32
    assert delta.abs().max() > 0.09
    found = metrics.transferability(half, half, x, PGD)
    assert found.n == len(X)
    torch.testing.assert_close(spectral.jacobian(half, x).double(), spectral.jacobian(NET, X), rtol=0.1, atol=0.05)


# Rows that do not move.


class Probe(nn.Module):
    """A head that is trained on features that are not."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 3).double()

    def forward(self, x):
        with torch.no_grad():
            features = same(x)
        return self.head(features)


@pytest.mark.parametrize("attack", [spectral.jacobian, partial(spectral.first_attack, eps=0.1), PGD])
def test_weights_that_require_a_gradient_do_not_hide_that_the_inputs_get_none(attack):
    refuses("not depend on x; expected a model", lambda: attack(Probe(), X))


@pytest.mark.parametrize("name", ["dtype", "device"])
def test_no_result_follows_the_defaults_of_the_process(name):
    """Not even the random start of an attack."""

    def results():
        start = (
            attacks.pgd(lambda z: z.flatten(1), X.float(), eps=0.1, steps=1, step_size=1e-30),
            PGD(NET, X, norm="l2"),
        )
        jac = spectral.jacobian(NET, X)
        found = metrics.transferability(NET, same, X, PGD)
        drawn = intervals.resampled(NET(X), same(X), NET(X + 1), resamples=10)
        estimate = scores.estimate(scores.parc, jac[:, 0], torch.arange(6, device="cpu") % 2, subsamples=3)
        return *start, found.alpha1, drawn.tolist(), matching.theorem_ratio(jac, jac + 1), estimate.low

    expected = results()
    try:
        if name == "dtype":
            torch.set_default_dtype(torch.float64)
        else:
            torch.set_default_device("meta")
        found = results()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert all(a.equal(b) for a, b in zip(found[:2], expected[:2], strict=True))
    assert found[2:] == expected[2:]


def test_one_output_and_cross_entropy_are_told_and_counted():
    first = nn.Sequential(nn.Flatten(), nn.Linear(12, 1)).double()
    reason = "6 of 6 rows did not move, so their δ is 0 .*: the cross-entropy of one output is constant"
    with pytest.warns(NoGradientWarning, match=reason):
        found = metrics.transferability(first, first, X, PGD)
    assert (found.n, found.undefined) == (0, 6)
    assert np.isnan(found.alpha1)
    told = metrics.transferability(first, first, X, partial(PGD, loss="deviation"))
    assert (told.n, told.alpha1) == (6, 1.0)


def test_saturated_rows_are_told_as_such():
    steep = lambda x: torch.cat([1e4 * same(x)[:3], same(x)[3:]])  # noqa: E731
    with pytest.warns(
        NoGradientWarning, match="3 of 6 rows did not move, so .* random start: 3 are saturated"
    ) as caught:
        delta = attacks.pgd(steep, X, eps=0.01)
    assert caught[0].filename == __file__
    assert (delta.flatten(1).abs().amax(1) > 0).tolist() == 3 * [False] + 3 * [True]


# Many outputs and many inputs.


def test_the_gram_matrix_of_batches_is_the_mean_of_theirs():
    jacs = [normal(7, 4, 9, seed=k) for k in range(3)]
    parts = [matching.gram([jac[rows] for jac in jacs]) * len(jacs[0][rows]) for rows in (slice(0, 2), slice(2, 7))]
    torch.testing.assert_close(sum(parts) / 7, matching.gram(jacs))
