"""Unbiased estimates against explicit sums over pairs, and intervals against a plain bootstrap and the truth."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advtransfer.intervals import directions, intervals, resampled, signed_root, unbiased_square, unit_rows
from advtransfer.metrics import from_deviations
from cases import Largest, normal, refuses, seeded, seeds


@settings(deadline=None)
@given(seed=seeds, n=st.integers(2, 9))
def test_the_unbiased_square_is_the_mean_over_different_pairs(seed, n):
    g = normal(n, 3, 4, seed=seed)
    pairs = [(g[i] * g[j]).sum().item() for i in range(n) for j in range(n) if i != j]
    found = unbiased_square(g.mean(0).square().sum().item(), g.square().sum().item(), n)
    assert found == pytest.approx(np.mean(pairs), abs=1e-12)


def test_small_cases():
    assert math.isnan(unbiased_square(1.0, 1.0, 1))
    assert [signed_root(square) for square in (4.0, 0.0, -9.0)] == [2, 0, -3]
    assert unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -1e-10]])).tolist() == [
        [0.6000000238418579, 0.800000011920929],  # in the precision given
        [0, 0],
        [0, -1],
    ]
    alpha1, u, w = directions(*torch.tensor([[[0.0, 2]], [[3, 4]], [[0, 10]]]))
    assert (alpha1.tolist(), u.tolist(), w.tolist()) == ([0.5], [[0, 1]], [[0.6, 0.8]])
    assert alpha1.dtype == u.dtype == w.dtype == torch.float64


def model(n, generator, m=3, agree=0.7):
    """Unit directions in ℝᵐ that agree with a probability, else are independent: α2 = agree/√m.

    α1(x) is uniform on (0, 1) beside them: α1 = ½ and α1∗α2 = ½ agree/√m.
    """
    u, other = (unit_rows(torch.randn(n, m, generator=generator).double()) for _ in range(2))
    same = torch.rand(n, 1, generator=generator) < agree
    size = torch.rand(n, 1, generator=generator).double()
    return 5 * u, size * torch.where(same, u, other), unit_rows(torch.randn(n, m, generator=generator).double())


def test_intervals_cover_the_truth_as_often_as_they_say():
    """150 times 90%: a count within some 4 standard deviations, the bootstrap itself being good to a few percent."""
    truth, generator, hits = np.array([0.5, 0.7 / 3**0.5, 0.35 / 3**0.5]), seeded(5), np.zeros(3)
    for _ in range(150):
        found = np.array(intervals(*model(60, generator), resamples=200, level=0.9))
        hits += (found[:, 0] <= truth) & (truth <= found[:, 1])
    assert (hits >= 117).all(), hits
    assert (hits <= 147).all(), hits


@settings(max_examples=25, deadline=None)
@given(seed=seeds, agree=st.sampled_from([0.0, 0.5, 1.0]))
def test_intervals_hold_the_estimates_and_grow_with_the_level(seed, agree):
    deviations = model(40, seeded(seed), agree=agree)
    point = from_deviations(*deviations)
    narrow, wide = (intervals(*deviations, level=level, resamples=200) for level in (0.5, 0.95))
    for inner, outer in zip(narrow, wide, strict=True):
        assert outer.low <= inner.low <= inner.high <= outer.high
    values = (point.alpha1, point.alpha2_unbiased, point.alpha12_unbiased)
    for (low, high), value in zip(wide, values, strict=True):
        assert low <= value <= high


def test_many_outputs_give_the_intervals_of_the_few_that_they_hold():
    """Outputs padded with zeros and rotated take the way through N × N inner products, and change nothing."""
    d11, d12, d22 = model(40, seeded(3))
    turned = torch.linalg.qr(torch.randn(90, 90, generator=seeded(4)).double())[0]
    wide = [torch.nn.functional.pad(d, (0, 87)) @ turned for d in (d11, d12, d22)]
    for few, many in zip(intervals(d11, d12, d22), intervals(*wide), strict=True):
        assert many == pytest.approx(few, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("n", "d"), [(400, 3), (150, 30)])
def test_the_smaller_table_is_held(n, d):
    """Beside the weights of a hundred resamples: all outer products, N·d1·d2 entries, or all inner ones, N²."""
    deviations = [normal(n, d, seed=seed) for seed in range(3)]
    with Largest() as made:
        intervals(*deviations, resamples=200)
    assert made.entries <= max(100 * n, min(n * d * d, n * n))


def test_resampled_values_have_the_intervals_as_their_quantiles():
    deviations = model(40, seeded(6))
    drawn = resampled(*deviations, resamples=400, generator=seeded(2))
    found = intervals(*deviations, resamples=400, generator=seeded(2))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(np.array(found).T, [low, high], rtol=2e-2)  # roots are taken before or after


def test_intervals_are_those_of_a_plain_bootstrap():
    deviations, n, b = model(30, seeded(1)), 30, 150
    found = intervals(*deviations, resamples=b, level=0.8, generator=seeded(9))
    generator = seeded(9)
    rows = torch.cat([torch.randint(n, (100, n), generator=generator) for _ in range(2)])[:b]
    draws = []
    for index in rows:
        one = from_deviations(*(d[index] for d in deviations))
        draws.append([one.alpha1, one.alpha2**2, one.alpha12**2])
    point = from_deviations(*deviations)
    bias = 2 * (np.mean(draws, axis=0) - [point.alpha1, point.alpha2**2, point.alpha12**2])
    bias[0] = 0
    expected = np.quantile(draws, [0.1, 0.9], axis=0) - bias
    expected[:, 1:] = np.sign(expected[:, 1:]) * np.sqrt(np.abs(expected[:, 1:]))
    np.testing.assert_allclose(np.array(found).T, expected, rtol=0, atol=1e-12)


def test_one_resample_is_enough():
    """Its interval is a point: α1 of the resample, and 2 α² of the data − α² of the resample for the squares."""
    deviations = model(30, seeded(1))
    index = torch.randint(30, (100, 30), generator=seeded(9))[0]
    drawn, point = from_deviations(*(d[index] for d in deviations)), from_deviations(*deviations)
    expected = [drawn.alpha1] + [
        signed_root(2 * of_data**2 - of_drawn**2)
        for of_data, of_drawn in ((point.alpha2, drawn.alpha2), (point.alpha12, drawn.alpha12))
    ]
    found = intervals(*deviations, resamples=1, generator=seeded(9))
    low, high = zip(*found, strict=True)
    assert low == high == pytest.approx(expected, abs=1e-12)
    assert resampled(*deviations, resamples=1, generator=seeded(9)).tolist()[0] == pytest.approx(expected, abs=1e-12)


def test_intervals_depend_on_nothing_but_the_data_and_the_generator():
    deviations = model(20, seeded(2))
    state = torch.get_rng_state()
    first = intervals(*deviations)
    assert torch.get_rng_state().equal(state)
    assert intervals(*deviations) == first
    assert intervals(*deviations, generator=seeded(0)) == first
    assert intervals(*deviations, generator=seeded(1)) != first


def test_samples_without_a_metric_are_left_out():
    d11, d12, d22 = model(20, seeded(3))
    expected = intervals(d11[2:], d12[2:], d22[2:])
    d22[:2] = 0
    assert intervals(d11, d12, d22) == expected
    d22[:19] = 0
    assert all(math.isnan(end) for interval in intervals(d11, d12, d22) for end in interval)


def test_one_direction_leaves_no_doubt():
    one = torch.ones(10, 1)
    for low, high in intervals(one, one, one):
        assert (low, high) == pytest.approx((1, 1), abs=1e-12)


D = normal(4, 2)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("deviations have shapes (4, 2), (4, 2), (4, 1); expected (N, d1), (N, d2)", lambda: intervals(D, D, D[:, :1])),
        ("deviations have shapes (3, 2), (4, 2), (4, 2); expected (N, d1), (N, d2)", lambda: intervals(D[:3], D, D)),
        ("d12 is an empty batch", lambda: intervals(D, D[:0], D)),
        ("d22 holds 8 values that are NaN", lambda: intervals(D, D, D * torch.nan)),
        ("d11 has shape (2,); expected 2 axes", lambda: intervals(D[0], D, D)),
        ("resamples is 0; expected at least 1", lambda: intervals(D, D, D, resamples=0)),
        ("level = 95; expected a level between 0 and 1", lambda: intervals(D, D, D, level=95)),
    ],
)
def test_what_is_refused_is_said_in_one_line(message, call):
    refuses(message, call)
