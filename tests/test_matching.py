"""Distances against numpy's least squares, and equation 12 against its own double sum."""

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from advtransfer import matching
from advtransfer.matching import (
    function_matching,
    generalized_transferability,
    gradient_matching,
    gram,
    pairwise,
    theorem_ratio,
    transfer_loss,
)
from advtransfer.spectral import singular_attacks
from cases import Largest, inner_product, normal, orthogonal, refuses, seeds

KINDS = ["I", "PD", "PSD"]


def related(samples, d_a, d_b, n, seed=0):
    """Jacobians of which a part is shared: neither unrelated nor alike."""
    common = normal(samples, max(d_a, d_b), n, seed=seed)
    return common[:, :d_a] + normal(samples, d_a, n, seed=seed + 1), common[:, :d_b] + normal(
        samples, d_b, n, seed=seed + 2
    )


def factor(hessian, d):
    """C with CᵀC = H."""
    if hessian is None:
        return np.eye(d)
    u, values, _ = np.linalg.svd(hessian.numpy())
    return np.sqrt(values)[:, None] * u.T


def least_squares(a, b, hessian=None):
    """The distance, its ratio to E‖J_a‖², and W, from all N·n equations J_aᵀ = J_bᵀ Wᵀ at once."""
    design, target = (jac.mT.flatten(0, 1).numpy() for jac in (b, a))
    weight = np.linalg.lstsq(design, target, rcond=1e-13)[0].T
    c = factor(hessian, a.shape[1])
    left, total = (np.linalg.norm(rows @ c.T) / len(a) ** 0.5 for rows in (target - design @ weight.T, target))
    return left, left / total, weight


def hessians(kind, d_a, d_b, seed=0):
    return inner_product(kind, d_a, seed), inner_product("I" if kind == "I" else "PD", d_b, seed + 1)


# Gradient matching and equation 12.


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds,
    samples=st.integers(1, 40),
    d_a=st.integers(1, 6),
    d_b=st.integers(1, 6),
    n=st.integers(1, 10),
    kind=st.sampled_from(KINDS),
)
def test_both_routes_to_the_distance_are_least_squares(seed, samples, d_a, d_b, n, kind):
    pair = related(samples, d_a, d_b, n, seed)
    for (a, b), (h_a, h_b) in (
        (pair, hessians(kind, d_a, d_b, seed)),
        (pair[::-1], hessians(kind, d_b, d_a, seed)),
    ):
        values = np.linalg.svd(b.mT.flatten(0, 1), compute_uv=False)
        assume(not ((values > 1e-9 * values[0]) & (values < 1e-2 * values[0])).any())  # K is rounded beyond 1e-4
        left, relative, _ = least_squares(a, b, h_a)
        found = gradient_matching(a, b, h_a)
        assert found.distance == pytest.approx(left, rel=1e-10, abs=1e-10)
        assert found.relative == pytest.approx(relative, rel=1e-10, abs=1e-10)
        assert found.r2 == pytest.approx(1 - relative**2, rel=1e-10, abs=1e-10)
        by_theorem = theorem_ratio(a, b, h_a, h_b)
        assert by_theorem.ratio == pytest.approx(1 - relative**2, rel=1e-10, abs=1e-10)
        assert -1e-12 <= by_theorem.ratio <= 1 + 1e-12  # Proposition 3.1
        assert by_theorem.ratio_first <= by_theorem.rho + 1e-12
        assert 1 / min(a.shape[1], n) - 1e-12 <= by_theorem.rho <= 1 + 1e-12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flip", [False, True])
def test_five_thousand_samples_of_fifty_inputs_take_seconds(kind, flip):
    a, b = related(5000, 10, 4, 50)[:: -1 if flip else 1]
    h_a, h_b = hessians(kind, a.shape[1], b.shape[1])
    start = time.process_time()
    found, by_theorem = gradient_matching(a, b, h_a), theorem_ratio(a, b, h_a, h_b)
    assert time.process_time() - start < 5
    relative = least_squares(a, b, h_a)[1]
    assert found.relative == pytest.approx(relative, rel=1e-10)
    assert (1 - by_theorem.ratio) ** 0.5 == pytest.approx(relative, rel=1e-10)


def test_the_weight_is_the_least_squares_one_for_every_inner_product():
    a, b = related(30, 3, 4, 6)
    expected = least_squares(a, b)[2]
    for kind in KINDS:
        np.testing.assert_allclose(gradient_matching(a, b, inner_product(kind, 3)).weight, expected, atol=1e-12)
    b[:, 3] = b[:, 0] - b[:, 1]  # then many are best, and both give the smallest
    np.testing.assert_allclose(gradient_matching(a, b).weight, least_squares(a, b)[2], atol=1e-11)


def test_no_inner_product_is_the_identity():
    a, b = related(30, 3, 4, 6)
    one, two = torch.eye(3), torch.eye(4)
    for plain, explicit in (
        (gradient_matching(a, b), gradient_matching(a, b, one)),
        (theorem_ratio(a, b), theorem_ratio(a, b, one, two)),
        (function_matching(a[:, :, 0], b[:, :, 0]), function_matching(a[:, :, 0], b[:, :, 0], one)),
    ):
        for first, second in zip(plain, explicit, strict=True):
            torch.testing.assert_close(torch.as_tensor(first), torch.as_tensor(second), rtol=1e-13, atol=1e-13)


@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_an_invertible_map_of_the_other_model_changes_nothing(seed):
    a, b = related(20, 3, 4, 6, seed)
    first, second = orthogonal(4, seed), orthogonal(4, seed + 1)
    invertible = first @ torch.diag(torch.tensor([3.0, 2, 1, 0.1])).double() @ second
    before, after = gradient_matching(a, b), gradient_matching(a, invertible @ b)
    assert after.distance == pytest.approx(before.distance, rel=1e-9)
    torch.testing.assert_close(after.weight @ invertible, before.weight, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_an_exact_map_leaves_nothing(kind):
    b, weight = normal(40, 4, 6), normal(3, 4, seed=1)
    found = gradient_matching(weight @ b, b, inner_product(kind, 3))
    assert found.relative < 1e-13
    assert found.r2 == 1
    torch.testing.assert_close(found.weight, weight, rtol=0, atol=1e-12)
    noise = normal(40, 3, 6, seed=2)
    slight = gradient_matching(weight @ b + 1e-9 * noise, b).distance  # 1 - R would be all rounding
    assert slight == pytest.approx(1e-9 * gradient_matching(noise, b).distance, rel=1e-5)


def test_a_model_that_maps_to_nothing_is_no_help():
    a, b = normal(10, 2, 3), torch.zeros(10, 4, 3)
    assert gradient_matching(a, b)[1::2] == (1, 0)
    assert theorem_ratio(a, b).ratio == 0
    assert generalized_transferability(a, b).a1.equal(torch.zeros(10, 3).double())


def test_an_inner_product_that_varies():
    """Equal to least squares with rows C(x), and to the constant case where it does not vary."""
    a, b = related(20, 3, 4, 6)
    h = torch.stack([inner_product("PD", 3, seed) for seed in range(20)])
    c = np.stack([factor(one, 3) for one in h])
    design = np.einsum("nip,nqk->nikpq", c, b.numpy()).reshape(-1, 12)
    target = (c @ a.numpy()).reshape(-1)
    vec, (squares,) = np.linalg.lstsq(design, target, rcond=None)[:2]
    found = gradient_matching(a, b, h)
    np.testing.assert_allclose(found.weight, vec.reshape(3, 4), atol=1e-12)
    assert found.distance == pytest.approx((squares / 20) ** 0.5, rel=1e-12)
    assert found.relative == pytest.approx((squares / (target @ target)) ** 0.5, rel=1e-12)
    same = gradient_matching(a, b, h[:1].expand(20, -1, -1))
    assert same.distance == pytest.approx(gradient_matching(a, b, h[0]).distance, rel=1e-12)


def test_all_pairs_from_one_gram_matrix():
    jacs = [normal(30, d, 6, seed=d) + (d > 2) * normal(30, 1, 6) for d in (1, 2, 3, 4)]
    jacs[3] = jacs[3].float()
    found = pairwise(jacs)
    assert found.shape == (4, 4)
    assert found.dtype == torch.float64
    for i, a in enumerate(jacs):
        for j, b in enumerate(jacs):
            expected = gradient_matching(a, b).relative
            assert found[i, j].item() == pytest.approx(expected, abs=1e-7 if i == j else 1e-13)


@pytest.mark.parametrize(("few", "d", "n"), [(100, 2, 3000), (20, 1000, 60)])
@pytest.mark.parametrize("use", [gradient_matching, lambda a, b: gram([a, b])], ids=["gradient_matching", "gram"])
def test_no_more_is_copied_of_many_samples_than_of_few(few, d, n, use):
    """The Jacobians themselves may fill the memory."""

    def copied(samples):
        jacs = normal(samples, d, n), normal(samples, 2, n, seed=1)
        with Largest() as made:
            use(*jacs)
        return made.entries

    assert 0 < copied(4 * few) <= copied(few) < 4 * few * d * n


# A1 and A2.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("d_a", "d_b", "n"), [(3, 4, 6), (4, 2, 3)])
def test_a1_and_a2_and_the_double_sum_over_all_pairs(kind, d_a, d_b, n):
    """Equations 8, 9 and 11 and Theorem 3.1 spelt out: four loops over (x1, x2, i, j), with no shortcut."""
    samples = 8 if kind == "I" else 5
    a, b = related(samples, d_a, d_b, n)
    h_a, h_b = (
        torch.eye(d).double() if h is None else h for h, d in zip(hessians(kind, d_a, d_b), (d_a, d_b), strict=True)
    )
    parts, k = generalized_transferability(a, b, h_a, h_b), min(d_a, n)
    sigma, delta = singular_attacks(a, h_a)
    k_mean = sum(one @ one.T for one in b) / samples
    kernel = torch.linalg.pinv(k_mean)
    c_b = torch.from_numpy(factor(h_b, d_b))
    norm = torch.linalg.eigvals(torch.linalg.inv(h_b) @ kernel).real.max()  # λmax(H^-½ J† H^-½)
    assert parts.kernel_norm == pytest.approx(norm.item(), rel=1e-10)

    def length(v, h):
        return (v @ h @ v) ** 0.5

    a1, own, other = torch.zeros(samples, n).double(), {}, {}
    strongest = [torch.linalg.matrix_norm(c_b @ one, 2) for one in b]
    for x in range(samples):
        for i in range(k):
            if sigma[x, i] > 0:
                own[x, i], other[x, i] = a[x] @ delta[x, i], b[x] @ delta[x, i]
                a1[x, i] = length(other[x, i], h_b) / strongest[x]
    torch.testing.assert_close(parts.a1, a1, rtol=0, atol=1e-10)

    norm_a = sum(torch.trace(one.T @ h_a @ one) for one in a) / samples
    total = 0.0
    for x, i in own:
        for y, j in own:
            first = own[x, i] @ h_a @ own[y, j] / (length(own[x, i], h_a) * length(own[y, j], h_a))
            second = other[x, i] @ kernel @ other[y, j] / norm / (length(other[x, i], h_b) * length(other[y, j], h_b))
            entry = parts.a2(slice(x, x + 1), torch.tensor([y]))
            assert entry.shape == (1, 1, k, k)
            assert entry[0, 0, i, j].item() == pytest.approx((first * second).item(), abs=1e-7)
            assert abs(first * second) < 1 + 1e-9
            weights = [strongest[z] * sigma[z, m] * a1[z, m] for z, m in ((x, i), (y, j))]
            total += weights[0] * weights[1] * first * second
    ratio = (total * norm / norm_a).item() / samples**2
    found = theorem_ratio(a, b, h_a, h_b)
    assert found.ratio == pytest.approx(ratio, rel=1e-9)
    assert found.rho == pytest.approx((sigma[:, 0].square().mean() / norm_a).item(), rel=1e-12)


@pytest.mark.parametrize("kind", ["I", "PD"])
def test_the_first_attacks_alone(kind):
    """R1 = tr(M1 K† M1ᵀ) / E‖J_a‖² with M1 = E[C J_a δ⁽¹⁾ (J_b δ⁽¹⁾)ᵀ], from numpy's singular vectors."""
    a, b = related(30, 3, 4, 6)
    h_a, h_b = hessians(kind, 3, 4)
    c = factor(h_a, 3)
    white = c @ a.numpy()
    first = np.linalg.svd(white)[2][:, 0, :, None]
    m = ((white @ first) @ (b.numpy() @ first).transpose(0, 2, 1)).mean(0)
    k = (b.numpy() @ b.numpy().transpose(0, 2, 1)).mean(0)
    expected = np.trace(m @ np.linalg.inv(k) @ m.T) / (white**2).sum((1, 2)).mean()
    assert theorem_ratio(a, b, h_a, h_b).ratio_first == pytest.approx(expected, rel=1e-11)
    known = singular_attacks(a, h_a), singular_attacks(b, h_b)
    assert theorem_ratio(a, b, h_a, h_b, attacks=known) == pytest.approx(theorem_ratio(a, b, h_a, h_b), rel=1e-12)


def test_closed_forms():
    """J_a = diag(3, 1) and J_b = (1, 1): ρ = 9/10, P = (3, 1), K = 2, R = 10/2/10, and R1 = 3²/2/10."""
    a, b = torch.tensor([[[3.0, 0], [0, 1]]]), torch.tensor([[[1.0, 1]]])
    assert theorem_ratio(a, b) == pytest.approx((1 / 2, 9 / 20, 9 / 10), rel=1e-14)
    assert theorem_ratio(b, a) == pytest.approx((1, 1, 1), rel=1e-14)
    parts = generalized_transferability(a, b)
    torch.testing.assert_close(parts.a1, torch.full((1, 2), 0.5**0.5, dtype=torch.float64), rtol=1e-14, atol=0)
    assert parts.sigma.tolist() == [[3, 1]]
    assert parts.sigma_b.tolist() == pytest.approx([2**0.5], rel=1e-14)
    wide = generalized_transferability(b, a)
    assert wide.a1.tolist()[0] == pytest.approx([(5 / 9) ** 0.5, 0], rel=1e-14)  # (3, 1)/√2 over 3; no second attack
    scalar = related(20, 1, 3, 5)
    one = theorem_ratio(*scalar)
    assert one == pytest.approx((one.ratio, one.ratio, 1), rel=1e-13)


# Function matching.


@settings(max_examples=40, deadline=None)
@given(
    seed=seeds,
    samples=st.integers(8, 60),
    d_a=st.integers(1, 5),
    d_b=st.integers(1, 5),
    kind=st.sampled_from(KINDS),
    shift=st.sampled_from([0.0, 100.0]),
)
def test_function_matching_is_least_squares_with_a_constant(seed, samples, d_a, d_b, kind, shift):
    f_b = normal(samples, d_b, seed=seed) + shift
    f_a = normal(samples, d_a, seed=seed + 1) + f_b @ normal(d_b, d_a, seed=seed + 2)
    h = inner_product(kind, d_a, seed)
    centred = f_b.numpy() - f_b.numpy().mean(0)
    design = np.column_stack([centred, np.ones(samples)])
    solution = np.linalg.lstsq(design, f_a.numpy(), rcond=None)[0]
    weight, bias = solution[:-1].T, solution[-1] - solution[:-1].T @ f_b.numpy().mean(0)
    residual, c = f_a.numpy() - design @ solution, factor(h, d_a)
    found = function_matching(f_a, f_b, h)
    scale = np.abs(f_a.numpy()).max()
    np.testing.assert_allclose(found.weight, weight, rtol=0, atol=1e-9 * scale)
    np.testing.assert_allclose(found.bias, bias, rtol=0, atol=1e-7 * scale)
    assert found.distance == pytest.approx(np.linalg.norm(residual @ c.T) / samples**0.5, rel=1e-9, abs=1e-10 * scale)
    about_mean = np.linalg.norm((f_a.numpy() - f_a.numpy().mean(0)) @ c.T) / samples**0.5
    assert found.relative == pytest.approx(found.distance / about_mean, rel=1e-9)
    predicted = f_b @ found.weight.T + found.bias
    assert transfer_loss(f_b, f_a, h).distance == found.distance  # the labels are what is matched
    if kind == "I":
        assert found.distance == pytest.approx((predicted - f_a).square().sum(1).mean().sqrt().item(), abs=1e-9 * scale)


def test_function_matching_at_its_ends():
    f_b, weight = normal(30, 3, seed=4), normal(2, 3, seed=5)
    exact = function_matching(f_b @ weight.T + 7, f_b)
    assert exact.relative < 1e-13
    torch.testing.assert_close(exact.weight, weight, rtol=0, atol=1e-12)
    torch.testing.assert_close(exact.bias, torch.full((2,), 7.0, dtype=torch.float64), rtol=0, atol=1e-12)
    nothing = function_matching(f_b, torch.ones(30, 2))
    assert nothing.relative == 1
    torch.testing.assert_close(nothing.bias, f_b.mean(0), rtol=0, atol=1e-15)
    assert np.isnan(function_matching(torch.ones(30, 2), f_b).relative)  # nothing to explain


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cpu_and_gpu_agree():
    a, b = related(50, 3, 4, 6)
    h_a, h_b = hessians("PD", 3, 4)
    on_gpu = [t.cuda() for t in (a, b, h_a, h_b)]
    assert theorem_ratio(*on_gpu) == pytest.approx(theorem_ratio(a, b, h_a, h_b), rel=1e-10)
    assert gradient_matching(*on_gpu[:3]).distance == pytest.approx(gradient_matching(a, b, h_a).distance, rel=1e-10)


@pytest.mark.parametrize("n", range(2, 12))
def test_a_constant_is_matched_by_nothing_whatever_its_digits(n):
    """The mean of seven 0.1 is not 0.1."""
    constant, other = torch.full((n, 1), 0.1, dtype=torch.float64), normal(n, 2, seed=n)
    assert math.isnan(function_matching(constant, other).relative)
    found = function_matching(other, constant)
    assert not found.weight.any()
    assert found.relative == pytest.approx(1)


# Refusals.

A, B = related(5, 3, 4, 6)
NOTHING = "model a has zero gradient at every sample (in the H_a norm); expected something to match"
EACH = torch.eye(3).expand(5, 3, 3)


@pytest.mark.parametrize("call", [gradient_matching, theorem_ratio])
@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("jac_a has shape (5, 3, 6), jac_b has shape (4, 4, 6); expected (N, d, n) with the same N and n", (A, B[:4])),
        ("jac_a has shape (5, 3, 6), jac_b has shape (5, 4, 5); expected (N, d, n)", (A, B[:, :, 1:])),
        ("jac_a has shape (3, 6); expected 3 axes", (A[0], B)),
        ("jac_b is an empty batch", (A, B[:0])),
        ("jac_b holds 120 values that are NaN", (A, B * torch.nan)),
        (NOTHING, (0 * A, B)),
        (NOTHING, (A, B, torch.zeros(3, 3))),
        ("hessian_a has shape (4, 4); expected (3, 3)", (A, B, torch.eye(4))),
        ("hessian_a has shape (4, 3, 3); expected", (A, B, EACH[:4])),
        ("hessian_a has the eigenvalue -1; expected positive semi-definite", (A, B, -torch.eye(3))),
    ],
)
def test_both_routes_refuse_the_same(call, message, arguments):
    refuses(message, lambda: call(*arguments))


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("hessian_a has shape (5, 3, 3); expected one matrix (3, 3)", lambda: theorem_ratio(A, B, EACH)),
        ("hessian_b has shape (3, 3); expected (4, 4)", lambda: theorem_ratio(A, B, None, torch.eye(3))),
        (
            "hessian_b is singular (eigenvalues down to 0 of 1); expected positive definite: equation 12",
            lambda: theorem_ratio(A, B, None, torch.diag(torch.tensor([1.0, 1, 0, 1]))),
        ),
        (
            "hessian_b has shape (5, 4, 4); expected one",
            lambda: theorem_ratio(A, B, None, torch.eye(4).expand(5, 4, 4)),
        ),
        ("no Jacobians were given", lambda: pairwise([])),
        ("jacs[0] holds 90 values that are NaN", lambda: pairwise([A * torch.nan])),
        ("jacs[0] has shape (5, 3, 6), jacs[1] has shape (4, 4, 6)", lambda: pairwise([A, B[:4]])),
        ("zero gradient at every sample", lambda: pairwise([A, 0 * B])),
        ("f_a has 5 samples and f_b 4; expected the same", lambda: function_matching(A[:, 0], B[:4, 0])),
        ("f_a has shape (5, 3, 6); expected 2 axes", lambda: function_matching(A, B[:, 0])),
        ("f_b holds 30 values that are NaN", lambda: function_matching(A[:, 0], B[:, 0] * torch.nan)),
        ("hessian_a has shape (5, 3, 3); expected one matrix", lambda: function_matching(A[:, :, 0], B[:, 0], EACH)),
        ("hessian_a has shape (3, 3); expected (6, 6)", lambda: transfer_loss(B[:, 0], A[:, 0], torch.eye(3))),
    ],
)
def test_what_is_refused_is_said_in_one_line(message, call):
    refuses(message, call)


def test_whole_numbers_are_refused_by_the_name_of_the_argument():
    refuses("y is torch.int64; expected a floating", lambda: transfer_loss(B[:, 0], A[:, 0].long()), TypeError)


def test_samples_that_are_matched_are_spread_over_data_sorted_by_class():
    y = torch.arange(10).repeat_interleave(60)
    assert (y[matching.evenly(600, 50)].bincount() - 5).abs().max() <= 1
    for n, most in ((1, 1), (7, 7), (7, 50), (60_001, 60_000)):
        found = matching.evenly(n, most)
        assert len(found.unique()) == len(found) == min(n, most)
        assert (found[0], found[-1]) == (0, n - 1)
