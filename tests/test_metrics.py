"""The metrics against explicit loops, closed forms and invariances; and that they stream."""

import copy
import subprocess
import sys
import warnings
from dataclasses import FrozenInstanceError
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advtransfer import metrics
from advtransfer.attacks import pgd
from advtransfer.intervals import unit_rows
from advtransfer.metrics import Accumulator, from_deviations, from_jacobians, transfer_matrix, transferability
from advtransfer.spectral import singular_attacks
from cases import ConvNet, assert_no_trace, normal, orthogonal, refuses, seeded, seeds, trace

NAMES = ("alpha1", "alpha2", "alpha12", "alpha2_unbiased", "alpha12_unbiased")
sizes = st.integers(1, 5)


def deviations(n=20, d1=3, d2=4, seed=0):
    own = normal(n, d2, seed=seed + 2)
    own *= 1 + 1 / own.norm(dim=1, keepdim=True)  # longer than 1: no α1(x) is so large that the others are rounded
    return normal(n, d1, seed=seed), normal(n, d2, seed=seed + 1), own


def numbers(result):
    return [getattr(result, name) for name in NAMES]


def same(found, expected, tolerance=1e-12):
    np.testing.assert_allclose(numbers(found), numbers(expected), rtol=0, atol=tolerance)
    np.testing.assert_allclose(found.alpha1_samples, expected.alpha1_samples, rtol=0, atol=tolerance)
    assert (found.n, found.undefined) == (expected.n, expected.undefined)


# Definitions.


def by_hand(d11, d12, d22):
    """Definitions 1 and 2, the combined metric and the mean over different pairs, sample by sample."""
    ratios, outer = [], []
    for a, b, c in zip(d11.numpy(), d12.numpy(), d22.numpy(), strict=True):
        if not c.any():
            continue
        ratios.append(np.linalg.norm(b) / np.linalg.norm(c))
        unit = [v / np.linalg.norm(v) if v.any() else v for v in (a, b)]
        outer.append(np.outer(*unit))
    n, found = len(ratios), [np.mean(ratios)]
    weighted = [r * g for r, g in zip(ratios, outer, strict=True)]
    found += [np.linalg.norm(np.mean(g, axis=0)) for g in (outer, weighted)]
    for g in (outer, weighted):
        mean = np.mean([(g[i] * g[j]).sum() for i in range(n) for j in range(n) if i != j])
        found.append(np.sign(mean) * abs(mean) ** 0.5)
    return found


@settings(max_examples=40, deadline=None)
@given(seed=seeds, n=st.integers(2, 12), d1=sizes, d2=sizes, zeros=st.integers(0, 3))
def test_the_metrics_are_those_of_the_definitions(seed, n, d1, d2, zeros):
    d11, d12, d22 = deviations(n + 3, d1, d2, seed)
    # Attacks that move nothing: in turn of each of the three.
    d22[:zeros], d11[2:3], d12[3:4] = 0, 0, 0
    found = from_deviations(d11, d12, d22)
    squares = [np.sign(v) * np.square(v) for v in (numbers(found), by_hand(d11, d12, d22))]
    np.testing.assert_allclose(*squares, rtol=0, atol=1e-13)
    assert (found.n, found.undefined) == (n + 3 - zeros, zeros)
    assert found.alpha1_samples.isnan().tolist() == [i < zeros for i in range(n + 3)]


def test_alpha2_is_the_mean_over_all_pairs():
    """Proposition 2.1: θ the cosine between two samples' deviations, pairs of a sample with itself included."""
    d11, d12, d22 = deviations()
    u, w = unit_rows(d11), unit_rows(d12)
    total = sum((u[i] @ u[j]) * (w[i] @ w[j]) for i in range(20) for j in range(20)) / 400
    assert from_deviations(d11, d12, d22).alpha2 ** 2 == pytest.approx(total.item(), abs=1e-15)


def test_a_batch_that_moves_nothing_has_no_metrics():
    d11, d12, d22 = deviations(3)
    found = from_deviations(d11, d12, 0 * d22)
    assert np.isnan(numbers(found)).all()
    assert (found.n, found.undefined) == (0, 3)
    assert np.isnan(from_deviations(d11[:1], d12[:1], d22[:1]).alpha2_unbiased)


def test_a_result_stays_what_was_measured_and_is_equal_to_itself_alone():
    """Equality of its tensors, entry by entry, would be no yes or no."""
    results = [from_deviations(*deviations()) for _ in range(2)] + [transfer_matrix(nets(2), X, Recorded())]
    for result in results:
        with pytest.raises(FrozenInstanceError):
            result.alpha1 = 0.0
    assert len(set(results)) == 3


# Closed forms and invariances.


@pytest.mark.parametrize("m", [1, 2, 7])
def test_isotropic_directions(m):
    d = torch.eye(m).double().repeat(3, 1)
    found = from_deviations(2 * d, 3 * d, 4 * d)
    assert numbers(found)[:3] == pytest.approx([0.75, m**-0.5, 0.75 * m**-0.5], abs=1e-14)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, scale=st.floats(1e-6, 1e6))
def test_scales_and_rotations_of_the_outputs_do_not_matter(seed, scale):
    d11, d12, d22 = deviations(seed=seed)
    expected = from_deviations(d11, d12, d22)
    same(from_deviations(scale * d11, d12, d22), expected)
    same(from_deviations(d11, scale * d12, scale * d22), expected, 1e-10)
    one, two = orthogonal(3, seed), orthogonal(4, seed + 1)
    same(from_deviations(d11 @ one, d12 @ two, d22 @ two), expected)


@settings(deadline=None)
@given(seed=seeds, d1=sizes, d2=sizes)
def test_the_combined_metric_is_at_most_alpha1(seed, d1, d2):
    found = from_deviations(*deviations(6, d1, d2, seed))
    assert found.alpha12 <= found.alpha1 * (1 + 1e-12)
    assert found.alpha2 <= 1 + 1e-12


@pytest.mark.parametrize("related", [True, False])
def test_the_unbiased_estimates_are_right_on_average_and_the_plug_in_is_not(related):
    """In ℝ³, α2² = ⅓ for equal isotropic directions and 0 for independent ones; α1(x) is uniform on (0, 1)."""
    m, n, generator, squares = 3, 20, seeded(0), []
    for _ in range(1500):
        u, other = (unit_rows(torch.randn(n, m, generator=generator).double()) for _ in range(2))
        size = torch.rand(n, 1, generator=generator).double()
        found = from_deviations(u, size * (u if related else other), torch.eye(m).double()[[0] * n])
        squares.append([v * abs(v) for v in numbers(found)[1:]])
    mean, error = np.mean(squares, axis=0), np.std(squares, axis=0) / 1500**0.5
    truth = np.array([1 / m, 1 / (4 * m)]) * related
    bias = (np.array([1, 1 / 3]) - truth) / n  # E‖G‖² - ‖E G‖² over N, where E α1(x)² = ⅓
    assert (abs(mean[2:] - truth) < 4 * error[2:]).all()
    assert (abs(mean[:2] - truth - bias) < 4 * error[:2]).all()
    assert (bias > 10 * error[:2]).all()  # the test would see it


# Streaming.


@pytest.mark.parametrize("batch", [1, 3, 19])
def test_batches_add_up(batch):
    d11, d12, d22 = deviations()
    d22[5], d12[7] = 0, 0
    total = Accumulator()
    for parts in zip(*(d.split(batch) for d in (d11, d12, d22)), strict=True):
        total.update(*parts)
    same(total.compute(), from_deviations(d11, d12, d22))


STREAM = """\
import resource, torch
from advtransfer.metrics import transferability

generator = torch.Generator().manual_seed(0)
one, two = (torch.randn(8, 10, generator=generator) for _ in range(2))
direction = {one: torch.randn(8, generator=generator), two: torch.randn(8, generator=generator)}

class Linear:
    def __init__(self, weight): self.weight = weight
    def __call__(self, x): return x @ self.weight

def peak(samples):
    batches = (torch.randn(5000, 8, generator=generator) for _ in range(samples // 5000))
    found = transferability(Linear(one), Linear(two), batches, lambda model, x: direction[model.weight] * (1 + x))
    assert found.n == samples == len(found.alpha1_samples), found
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

few = peak(5000)
print((peak(1_000_000) - few) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of peak memory is another elsewhere")
def test_a_million_samples_take_no_more_memory_than_one_batch():
    """Beside α1(x) itself: 8 MB, and as much again while it is put together. Deviations would take 240 MB."""
    found = subprocess.run([sys.executable, "-c", STREAM], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) < 40


# Models.


class Counted(torch.nn.Module):
    """A tanh network of given output width that counts its forward passes."""

    def __init__(self, seed, d):
        super().__init__()
        self.first, self.second, self.calls = normal(6, 8, seed=seed), normal(8, d, seed=seed + 1), 0

    def forward(self, x):
        self.calls += 1
        return torch.tanh(x @ self.first) @ self.second


def nets(count=3):
    return [Counted(7 * i, d=2 + i) for i in range(count)]


X = normal(10, 6, seed=99)


class Recorded:
    """An attack that is a fixed direction of each model, and who was attacked."""

    def __init__(self):
        self.attacked = []

    def __call__(self, model, x):
        self.attacked.append(model)
        return 0.1 * normal(6, seed=model.second.shape[1]) * (1 + x)


@pytest.mark.parametrize("batch_size", [4, 256])
def test_the_matrix_is_all_pairs_from_k_attacks(batch_size):
    models, attack, batches = nets(), Recorded(), -(-10 // batch_size)
    table = transfer_matrix(models, X, attack, batch_size=batch_size)
    assert attack.attacked == models * batches  # K attacks
    assert [net.calls for net in models] == [4 * batches + 1] * 3  # K clean and K² attacked passes, and K to try them
    assert table.alpha1_samples.shape == (3, 3, 10)
    assert table.n.tolist() == [[10] * 3] * 3
    assert table.undefined.sum() == 0
    for i, first in enumerate(models):
        for j, second in enumerate(models):
            d1, d2 = Recorded()(first, X), Recorded()(second, X)
            expected = from_deviations(*(f(X + d) - f(X) for f, d in ((first, d1), (second, d1), (second, d2))))
            same(transferability(first, second, X, Recorded(), batch_size=batch_size), expected)
            found = [getattr(table, name)[i, j].item() for name in NAMES]
            np.testing.assert_allclose(found, numbers(expected), rtol=0, atol=1e-12)
            np.testing.assert_allclose(table.alpha1_samples[i, j], expected.alpha1_samples, rtol=0, atol=1e-12)


def test_a_pair_takes_two_attacks_and_five_passes():
    (first, second), attack = nets(2), Recorded()
    same(transferability(first, second, iter(X.split(3)), attack), transferability(first, second, X, Recorded()))
    assert len(attack.attacked) == 8
    assert (first.calls, second.calls) == (4 * 2 + 2 + 2, 4 * 3 + 3 + 2)  # one more in each of the two calls


def test_networks_in_train_mode_are_measured_in_eval_mode_without_a_trace():
    first, second = ConvNet().train(), ConvNet().eval()
    second[5].weight.data.mul_(-0.5)
    x = torch.rand(5, 1, 3, 4, generator=seeded(3)).double()
    expected = transferability(second.eval(), first.eval(), x, lambda model, x: 0.01 * model(x).mean() * x)
    first.train(), second.train()
    second[0].eval()
    before = trace(first), trace(second)

    def attack(model, x):
        assert torch.is_grad_enabled()
        return 0.01 * model(x).mean() * x  # a graph, and dropout if it were on

    with torch.no_grad():
        found = transferability(second, first, x, attack)
    assert_no_trace(first, before[0])
    assert_no_trace(second, before[1])
    same(found, expected)


# The small-ε regime.


def test_jacobians_give_the_metrics_of_linear_models_under_exact_attacks():
    first, second = normal(3, 6), normal(4, 6, seed=1)

    def attack(weight, level):
        return 1e-3 * singular_attacks(weight[None]).delta[0, level]

    jac_1, jac_2 = first.expand(5, -1, -1), second.expand(5, -1, -1)
    for level in range(3):
        d1, d2 = attack(first, level), attack(second, 0)
        expected = from_deviations(
            *((weight @ d).expand(5, -1) for weight, d in ((first, d1), (second, d1), (second, d2)))
        )
        same(from_jacobians(jac_1, jac_2, level=level), expected, 1e-9)
    known = singular_attacks(jac_1), singular_attacks(jac_2)
    same(from_jacobians(jac_1, jac_2, level=2, attacks=known), expected, 1e-9)
    values = np.linalg.svd(second.numpy(), compute_uv=False)
    assert from_jacobians(jac_2, jac_2, level=3).alpha1 == pytest.approx(values[3] / values[0], rel=1e-12)


def test_jacobians_of_any_precision_are_multiplied_in_double():
    jac_1, jac_2 = normal(5, 3, 6, dtype=torch.float32), normal(5, 4, 6, seed=1)
    same(from_jacobians(jac_1, jac_2), from_jacobians(jac_1.double(), jac_2), 1e-7)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cpu_and_gpu_agree():
    jac_1, jac_2 = normal(5, 3, 6), normal(5, 4, 6, seed=1)
    same(from_jacobians(jac_1.cuda(), jac_2.cuda()), from_jacobians(jac_1, jac_2))


# Refusals.


@pytest.mark.parametrize("batch_size", [3, 256])
def test_deviations_are_differences_of_outputs(batch_size):
    models, deltas = nets(3), {}

    def attack(model, x):
        deltas[id(model)] = 0.1 * normal(*x.shape, seed=len(deltas))
        return deltas[id(model)]

    pairs = [(0, 2), (2, 0), (1, 1)]
    found = metrics.deviations(models, X, attack, pairs=pairs, batch_size=batch_size)
    assert set(found) == set(pairs)
    for (i, j), moved in found.items():
        with torch.no_grad():
            torch.testing.assert_close(
                moved, models[j](X + deltas[id(models[i])]) - models[j](X), rtol=1e-12, atol=1e-14
            )


D = normal(4, 2)
NET = nets(1)[0]
IMAGES = torch.rand(3, 6, generator=seeded()).double()
ATTACK = partial(pgd, eps=0.1)


def updated_twice(first=2, second=1):
    total = Accumulator()
    total.update(D[:, :first], D, D)
    total.update(D[:, :second], D, D)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("d11 is an empty batch of shape (0, 2)", lambda: from_deviations(D[:0], D, D)),
        ("deviations have shapes (4, 2), (4, 2), (4, 1); expected (N, d1)", lambda: from_deviations(D, D, D[:, :1])),
        ("deviations have widths (1, 2); expected (2, 2) as in the batches before", updated_twice),
        ("deviations have widths (2, 2); expected (1, 2) as in the batches before", lambda: updated_twice(1, 2)),
        ("no deviations were added", Accumulator().compute),
        ("no deviations were added", lambda: transferability(NET, NET, [], Recorded())),
        ("x is an empty batch of shape (0, 6)", lambda: transferability(NET, NET, X[:0], Recorded())),
        ("x holds 60 values that are NaN", lambda: transferability(NET, NET, X * torch.nan, Recorded())),
        (
            "the attack's perturbation holds 60 values that are NaN",
            lambda: transferability(NET, NET, X, lambda m, x: x * torch.nan),
        ),
        ("model outputs have shape (10,)", lambda: transferability(NET, lambda x: x[:, 0], X, lambda m, x: x)),
        ("x spans [-1, 2]; expected values within", lambda: transferability(NET, NET, IMAGES.round() * 3 - 1, ATTACK)),
        ("eps is -1; expected", lambda: transferability(NET, NET, IMAGES, partial(pgd, eps=-1))),
        (
            "pairs are [(0, 3)]; expected numbers of models",
            lambda: metrics.deviations([NET], X, Recorded(), pairs=[(0, 3)]),
        ),
        (
            "pairs are [(0, -1)]; expected numbers of models",
            lambda: metrics.deviations([NET], X, Recorded(), pairs=[(0, -1)]),
        ),
        ("batch_size is 0; expected at least 1", lambda: transfer_matrix([NET], X, Recorded(), batch_size=0)),
        ("no models were given; expected at least one", lambda: transfer_matrix([], X, Recorded())),
        ("level is 3; expected 0 to 2", lambda: from_jacobians(normal(2, 3, 4), normal(2, 3, 4), level=3)),
        ("level is -1; expected 0 to 2", lambda: from_jacobians(normal(2, 3, 4), normal(2, 3, 4), level=-1)),
        (
            "jac_1 has shape (2, 3, 4), jac_2 has shape (2, 3, 5)",
            lambda: from_jacobians(normal(2, 3, 4), normal(2, 3, 5)),
        ),
        ("jac_1 has shape (2, 3, 5, 1)", lambda: from_jacobians(normal(2, 3, 5, 1), normal(2, 3, 5))),
        (
            "jac_2 has shape (2, 3, 5, 1)",
            lambda: from_jacobians(normal(2, 3, 5), normal(2, 3, 5, 1)),
        ),
        ("jac_1 has shape (2, 3); expected 3 axes", lambda: from_jacobians(normal(2, 3), normal(2, 3, 5))),
    ],
)
def test_what_is_refused_is_said_in_one_line(message, call):
    refuses(message, call)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("level", [0, 1, 3])
def test_jacobians_are_widened_before_their_attacks_are_computed(dtype, level):
    """A weak attack, rounded, would move the model along the strongest one."""
    first = normal(40, 1, 30) + 1e-2 * normal(40, 4, 30, seed=1)
    given = first.to(dtype), normal(40, 5, 30, seed=2).to(dtype)
    found, expected = (metrics.from_jacobians(*pair, level=level) for pair in (given, [v.double() for v in given]))
    assert found.alpha2_unbiased == expected.alpha2_unbiased
    assert found.alpha1 == expected.alpha1


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (lambda model, x: None, "the attack gave NoneType"),
        (lambda model, x: x[:1], r"of shape \(1, 3\); expected a perturbation like x"),
        (lambda model, x: x.double(), "torch.float64 of shape"),
        (lambda model, x: x * float("nan"), "the attack's perturbation holds 12 values"),
    ],
)
def test_an_attack_must_give_a_perturbation_like_x(attack, message) -> None:
    model = torch.nn.Linear(3, 2)
    with pytest.raises(ValueError, match=message) as refused:
        metrics.transferability(model, model, torch.rand(4, 3), attack)
    assert "\n" not in str(refused.value)


def test_batches_keep_no_graph_of_the_networks_they_come_from():
    d = normal(5, 2).requires_grad_()
    found = from_deviations(d, d, d)
    assert not found.alpha1_samples.requires_grad
    assert found.alpha1_samples.equal(from_deviations(*[d.detach()] * 3).alpha1_samples)


def test_robust_forms_of_alpha1_do_not_follow_one_small_denominator():
    """Against numpy, in batches too; a sample that its own attack does not move counts in none of them."""
    generator = torch.Generator().manual_seed(0)
    d11, d12, d22 = (torch.randn(41, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    d22[7] = 0
    d22[8] *= 1e-9
    total = metrics.Accumulator()
    for part in (slice(0, 10), slice(10, 41)):
        total.update(d11[part], d12[part], d22[part])
    found, kept = total.compute(), np.arange(41) != 7
    carried, own = (d.norm(dim=1).numpy()[kept] for d in (d12, d22))
    assert found.alpha1 == pytest.approx((carried / own).mean(), rel=1e-12)
    assert found.alpha1_median == pytest.approx(np.median(carried / own), rel=1e-12)
    assert found.alpha1_ratio == pytest.approx(carried.sum() / own.sum(), rel=1e-12)
    assert found.alpha1 > 1e6 > 10 > max(found.alpha1_median, found.alpha1_ratio)


def test_one_batch_of_a_loader_is_not_taken_for_two():
    pair = [torch.rand(4, 5), torch.arange(4)]
    for labels in (pair[1], pair[1].float()):
        with pytest.raises(TypeError, match="x is a list of inputs and labels; expected the inputs"):
            transferability(NET, NET, [pair[0], labels], Recorded())
    with pytest.raises(TypeError, match=r"x is list; .* \(of a batch such as \(inputs, labels\), pass the first"):
        pgd(NET, pair, eps=0.1)


class AlwaysDropped(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.dropout(x, 0.2)  # `training` is true unless it is given


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_is_random_or_reads_the_other_samples_is_told(dtype):
    def nudge(model, x):
        return 0.01 * x.roll(1, 0)

    x = torch.rand(6, 3, 4, 4, generator=seeded(0)).to(dtype)
    steady = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(),
                                 torch.nn.Dropout(), torch.nn.Linear(16, 3)).to(dtype).train()  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics.transferability(steady, steady, x, nudge)
    random = torch.nn.Sequential(steady, AlwaysDropped())
    other = copy.deepcopy(steady)
    for strange in (random, lambda x: other[:3](x)):  # whose BatchNorm nobody sets into eval mode
        with pytest.warns(metrics.UnsteadyModelWarning, match="model 2 of 2: its outputs for one sample differ by"):
            metrics.transferability(steady, strange, x, nudge)
    with pytest.warns(metrics.UnsteadyModelWarning):
        metrics.deviations([random], x, nudge, batch_size=2)


@pytest.mark.parametrize(("members", "warned"), [
    ([(4, 5, 3), (4, 5)], True), ([(4, 5), (4, 5), (4,)], True), ([(4, 3, 2, 2), (4, 3, 2, 2)], True),
    ([(4, 5), (4,)], False), ([(4, 3, 2, 2), (4, 3)], False), ([(4, 5, 3), (4, 2)], False),
])  # fmt: skip
def test_a_second_input_is_not_left_out_in_silence(members, warned):
    class Flat(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1)

    loader = [tuple(torch.rand(shape) for shape in members)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        metrics.transferability(Flat(), Flat(), loader, lambda model, x: 0.1 * x.roll(1, 0))
    assert any("which the models do not get" in str(warning.message) for warning in caught) == warned


def test_an_attack_that_gives_the_attacked_input_is_told_and_one_that_is_no_model_is_refused():
    x = torch.rand(6, 5, dtype=torch.float64)
    model = torch.nn.Linear(5, 3).double()
    with pytest.warns(UserWarning, match=r"may have given x \+ δ"):
        metrics.transferability(model, model, x, lambda model, x: x + 0.03 * x.sign())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics.transferability(model, model, x, lambda model, x: 0.3 * x.roll(1, 0))
        metrics.transferability(model, model, 0 * x, lambda model, x: x + 1)
    with pytest.raises(TypeError, match="a model is a list; expected a module or a function"):
        metrics.transferability([model], model, x, lambda model, x: x)
