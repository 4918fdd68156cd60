"""What first attacks prove, against least squares, numpy's singular vectors, and examples that attain the bounds."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from advtransfer.certificates import FirstAttacks, certified, distance_interval, first_attacks
from advtransfer.matching import gradient_matching, theorem_ratio
from cases import normal, refuses, seeds

shares = st.tuples(st.floats(0.01, 1), st.floats(0, 1)).map(lambda pair: (pair[0] * pair[1], pair[0]))  # R1, ρ


def related(seed, samples, d_a, d_b, n, steep=1.0):
    a = normal(samples, d_a, n, seed=seed)
    b = normal(d_b, d_a, seed=seed + 1) @ a + 0.5 * normal(samples, d_b, n, seed=seed + 2)
    a[:, 0] *= steep
    return a, b


sizes = {"samples": st.integers(1, 20), "d_a": st.integers(1, 4), "d_b": st.integers(1, 4), "n": st.integers(1, 6)}


@settings(max_examples=60, deadline=None)
@given(seed=seeds, **sizes)
def test_first_attacks_are_those_of_numpy_and_of_equation_12(seed, samples, d_a, d_b, n):
    a, b = related(seed, samples, d_a, d_b, n)
    found, whole = first_attacks(a, b), theorem_ratio(a, b)
    assert found.ratio_first == pytest.approx(whole.ratio_first, rel=1e-6, abs=1e-9)
    assert found.rho == pytest.approx(whole.rho, rel=1e-12)
    u, s, v = np.linalg.svd(a.numpy())
    first = v[:, 0, :, None]
    p1 = (s[:, 0, None, None] * u[:, :, :1] @ (b.numpy() @ first).transpose(0, 2, 1)).mean(0)
    steepest = np.linalg.norm(b.numpy(), 2, axis=(1, 2))
    expected = np.linalg.norm(p1) / np.sqrt((s[:, 0] ** 2).mean() * (steepest**2).mean())
    assert found.combined == pytest.approx(expected, rel=1e-7)
    assert found.rho == pytest.approx((s[:, 0] ** 2).mean() / (a.numpy() ** 2).sum((1, 2)).mean(), rel=1e-10)


@settings(max_examples=100, deadline=None)
@given(seed=seeds, steep=st.sampled_from([1.0, 3.0, 30.0]), **sizes)
def test_the_distance_lies_in_its_interval(seed, steep, samples, d_a, d_b, n):
    a, b = related(seed, samples, d_a, d_b, n, steep)
    found = first_attacks(a, b)
    low, high = distance_interval(found.ratio_first, found.rho)
    assert low - 1e-5 <= gradient_matching(a, b).relative <= high + 1e-5  # an arccosine halves the digits
    at_most = math.acos(min(1.0, found.combined)) + math.acos(min(1.0, found.rho**0.5))
    if at_most < math.pi / 2:
        assert high <= math.sin(at_most) + 1e-6


@given(pair=shares)
def test_the_interval_is_shorter_than_with_lengths_alone(pair):
    """√R ≥ √R1 - √(1 - ρ) is what prop-rho says; the angle takes √(1 - R1/ρ) of it away."""
    first, rho = pair
    low, high = distance_interval(first, rho)
    assert 0 <= low <= high <= 1
    least = math.sqrt(first) - math.sqrt((1 - rho) * max(0.0, 1 - first / rho))
    assert math.sqrt(max(0.0, 1 - high**2)) == pytest.approx(max(0.0, least), abs=1e-7)
    most = math.sqrt(first) + math.sqrt((1 - rho) * max(0.0, 1 - first / rho)) if first <= rho**2 else 1.0
    assert math.sqrt(max(0.0, 1 - low**2)) == pytest.approx(most, abs=1e-7)


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0.05, 0.95), place=st.floats(0.01, 0.99), m=st.integers(2, 6), far=st.booleans())
def test_both_ends_are_attained(share, place, m, far):
    """J_a has 1 at output k of input k and tan ψ/√(m - 1) elsewhere; J_b likewise, from a plane."""
    psi = share * math.atan((m - 1) ** 0.5)
    zeta = -place * (math.pi / 2 - psi) if far else psi + place * (math.pi / 2 - psi)
    here = torch.eye(m, dtype=torch.float64)
    a = torch.diag_embed(math.tan(psi) / (m - 1) ** 0.5 * (1 - here) + here)
    b = torch.diag_embed(math.sin(zeta) / (m - 1) ** 0.5 * (1 - here) + math.cos(zeta) * here)
    found = first_attacks(a, b)
    assert found.rho == pytest.approx(math.cos(psi) ** 2, rel=1e-12)
    assert found.ratio_first == pytest.approx(found.rho * math.cos(zeta) ** 2, rel=1e-9)
    ends = distance_interval(found.ratio_first, found.rho)
    assert gradient_matching(a, b).relative == pytest.approx(ends[far], abs=1e-7)


@given(near=shares, far=shares)
def test_an_order_is_certified_if_the_intervals_are_apart(near, far):
    one, two = (FirstAttacks(*pair, 0.5) for pair in (near, far))
    apart = distance_interval(*far).low - distance_interval(*near).high
    assume(abs(apart) > 1e-4)
    assert certified(one, two) == (apart > 0)
    assert not (certified(one, two) and certified(two, one))
    assert not certified(one, one)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, steep=st.sampled_from([3.0, 10.0, 100.0]), d_a=st.integers(1, 4))
def test_no_certified_order_is_wrong(seed, steep, d_a):
    a = normal(12, d_a, 5, seed=seed)
    a[:, 0] *= steep
    noise = normal(12, 3, 5, seed=seed + 1)
    sources = [normal(3, d_a, seed=seed + k) @ a / steep + t * noise for k, t in enumerate((0.01, 0.3, 1, 5))]
    first = [first_attacks(a, b) for b in sources]
    distances = [gradient_matching(a, b).relative for b in sources]
    for i, j in permutations(range(4), 2):
        if certified(first[i], first[j]):
            assert distances[i] < distances[j]


def test_steep_targets_have_certified_orders_and_either_record_will_do():
    a = normal(12, 3, 5, seed=1)
    a[:, 0] *= 30
    near, far = a + 0.01 * normal(12, 3, 5, seed=2), normal(12, 3, 5, seed=3)
    assert certified(first_attacks(a, near), first_attacks(a, far))
    assert certified(theorem_ratio(a, near), theorem_ratio(a, far))
    assert not certified(theorem_ratio(a, far), theorem_ratio(a, near))


def test_rounding_lifts_no_share_above_its_bound():
    """K has a condition number of 1e12, so that rounding would give R1 > ρ."""
    for seed in range(100):
        a, mixed = normal(3, 1, 6, seed=seed), normal(3, 5, 6, seed=seed + 1000)
        mixed[:, 0] = a[:, 0]
        b = torch.linalg.qr(normal(5, 5, seed=seed + 2000))[0] @ (10 ** -torch.linspace(0, 5.8, 5)[:, None] * mixed)
        for found in (first_attacks(a, b), theorem_ratio(a, b)):
            assert found.ratio_first <= found.rho <= 1
            distance_interval(found.ratio_first, found.rho)
        assert theorem_ratio(a, b).ratio <= 1
        one_way = normal(1, 4, 1, seed=seed) @ normal(1, 1, 5, seed=seed + 3000)  # of rank one, so that C_w is 1
        assert first_attacks(one_way, 3 * one_way).combined <= 1


def test_at_the_tie_nothing_is_certified():
    """Scalar models, for which ω = ω1: equal sources, and sources that differ by rounding."""
    one = FirstAttacks(0.5, 1.0, 0.7)
    assert not certified(one, one._replace(ratio_first=0.5 - 1e-12))
    assert certified(one, one._replace(ratio_first=0.5 - 1e-4))


@pytest.mark.parametrize(
    ("message", "call", "error"),
    [
        ("rho is 0; expected a share in (0, 1]", lambda: distance_interval(0.0, 0.0), ValueError),
        ("rho is 1.5; expected a share in (0, 1]", lambda: distance_interval(0.5, 1.5), ValueError),
        ("ratio_first is 0.8; expected at most rho = 0.7", lambda: distance_interval(0.8, 0.7), ValueError),
        ("ratio_first is -0.1; expected a finite number, at least 0", lambda: distance_interval(-0.1, 0.7), ValueError),
        ("rho is '1'; expected a number", lambda: distance_interval(0.5, "1"), TypeError),
        ("rho is nan", lambda: certified(FirstAttacks(0.1, math.nan, 0), FirstAttacks(0.1, 1, 0)), ValueError),
        (
            "jac_a has shape (2, 1, 3), jac_b has shape (3, 1, 3)",
            lambda: first_attacks(torch.ones(2, 1, 3), torch.ones(3, 1, 3)),
            ValueError,
        ),
        (
            "model a has zero gradient at every sample",
            lambda: first_attacks(torch.zeros(2, 1, 3), torch.ones(2, 1, 3)),
            ValueError,
        ),
        (
            "model b has zero gradient at every sample",
            lambda: first_attacks(torch.ones(2, 1, 3), torch.zeros(2, 1, 3)),
            ValueError,
        ),
    ],
)
def test_what_is_refused_is_said_in_one_line(message, call, error):
    refuses(message, call, error)
