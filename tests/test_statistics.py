"""Correlations against scipy and plain enumeration, and intervals against the truth."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from advtransfer import statistics
from advtransfer.statistics import cochran_q, correlate
from cases import refuses, seeds

SCIPY = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}
METHODS = sorted(SCIPY)


def sample(seed, n, slope=0.5, ties=False):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    y = slope * x + rng.standard_normal(n)
    x[0], x[1] = -9, 9  # never constant, however it is rounded
    y[0], y[1] = -9, 9
    return (x.round(), y.round()) if ties else (x, y)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, n=st.integers(3, 30), ties=st.booleans(), method=st.sampled_from(METHODS))
def test_the_coefficient_is_scipys(seed, n, ties, method):
    x, y = sample(seed, n, ties=ties)
    found = correlate(x, y, method=method, resamples=20)
    assert found.r == pytest.approx(SCIPY[method](x, y).statistic, abs=1e-12)
    assert found.n == n
    assert -1 <= found.low <= found.high <= 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_five_pairs_are_tested_by_enumeration(method, ties, seed):
    x, y = sample(seed, 5, ties=ties)
    every = np.array([SCIPY[method](permuted, y).statistic for permuted in itertools.permutations(x)])
    r = SCIPY[method](x, y).statistic
    tails = np.mean(every >= r - 1e-12), np.mean(every <= r + 1e-12)
    assert correlate(x, y, method=method, resamples=120).p == pytest.approx(min(1, 2 * min(tails)), abs=1e-12)


def test_a_p_that_is_drawn_is_near_the_one_that_is_enumerated():
    x, y = sample(1, 7)
    exact, drawn = correlate(x, y, resamples=5040).p, correlate(x, y, resamples=5039).p
    assert exact != drawn
    assert abs(exact - drawn) < 5 * (exact / 5039) ** 0.5


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """Binormal pairs with r = 0.6: of 300 intervals of 90%, percentiles at n = 40 hold it some 265 times."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(300):
        x = rng.standard_normal(40)
        found = correlate(x, 0.6 * x + 0.8 * rng.standard_normal(40), level=0.9, resamples=200)
        hits += found.low <= 0.6 <= found.high
    assert 245 <= hits <= 288


def test_the_interval_is_that_of_resampled_pairs():
    x, y = sample(2, 12)
    rows = np.random.default_rng(7).integers(12, size=(50, 12))
    expected = np.quantile([np.corrcoef(x[row], y[row])[0, 1] for row in rows], [0.25, 0.75])
    assert correlate(x, y, level=0.5, resamples=50, seed=7)[1:3] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_the_interval_of_few_pairs_is_that_of_all_resamples(method):
    x, y = np.random.default_rng(3).normal(size=(2, 4))
    drawn = []
    for picks in itertools.product(range(4), repeat=4):
        a, b = x[list(picks)], y[list(picks)]
        drawn.append(SCIPY[method](a, b).statistic if np.ptp(a) and np.ptp(b) else np.nan)
    found = correlate(x, y, method=method, resamples=35)  # of which 35 differ
    assert (found.low, found.high) == pytest.approx(np.nanquantile(drawn, [0.025, 0.975], method="inverted_cdf"))
    assert found == correlate(x, y, method=method, resamples=9999, seed=5)


def test_resamples_that_are_constant_are_left_out():
    """A third of them; six times 0.1 is not 0.6 in floating point, so their deviations are not quite zero."""
    x, y = np.array([0.1] * 5 + [7.0]), np.array([0.3, 0.1, 0.7, 0.2, 0.5, 0.4])
    assert (x[:1].repeat(6) - x[:1].repeat(6).mean()).any()
    rows = np.random.default_rng(0).integers(6, size=(400, 6))
    kept = [np.corrcoef(x[row], y[row])[0, 1] for row in rows if 5 in row and len(set(row)) > 1]
    assert 200 < len(kept) < 300
    found = correlate(x, y, level=0.6, resamples=400)
    assert found[1:3] == pytest.approx(np.quantile(kept, [0.2, 0.8]), abs=1e-12)


def test_in_portions_as_at_once():
    """Long samples are resampled a few rows at a time: the draws are the same."""
    x, y = sample(3, 700)
    rows = np.random.default_rng(0).integers(700, size=(6000, 700))
    expected = np.quantile([np.corrcoef(x[row], y[row])[0, 1] for row in rows], [0.025, 0.975])
    assert 2_000_000 // 700 < 6000
    assert correlate(x, y, resamples=6000)[1:3] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("method", ["spearman", "kendall"])
def test_ranks_see_only_the_order(method):
    x, y = sample(4, 15)
    expected = correlate(x, y, method=method, resamples=100)
    assert correlate(np.exp(x), y**3, method=method, resamples=100) == expected
    flipped = correlate(-x, y, method=method, resamples=100)
    assert flipped[:3] == pytest.approx((-expected.r, -expected.high, -expected.low), abs=1e-12)


@settings(deadline=None)
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3))
def test_pearson_sees_no_unit(scale, shift):
    x, y = sample(5, 15)
    found, expected = correlate(scale * x + shift, y, resamples=50), correlate(x, y, resamples=50)
    assert found[:3] == pytest.approx(expected[:3], abs=1e-8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1e-300, 1e-162, 1e155, 1e300])
def test_no_size_of_the_values_is_too_small_or_too_large(method, scale):
    x, y = np.array([1, 2, 4, 3.0]), [1, 2, 3, 4]
    found, expected = (correlate(values, y, method=method, resamples=50) for values in (scale * x, x))
    assert found == pytest.approx(expected, rel=1e-12)


def test_the_seed_decides():
    x, y = sample(6, 12)
    first = correlate(x, y, resamples=99)
    np.random.seed(3)  # noqa: NPY002
    assert correlate(list(x), tuple(y), resamples=99) == first
    assert correlate(x, y, resamples=99, seed=1) != first


GOOD = [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("method = 'cosine'; expected 'pearson', 'spearman' or 'kendall'", {"method": "cosine"}),
        ("the shapes are x (2,) and y (3,); expected the same (n,) with n at least 3", {"x": GOOD[:2]}),
        ("the shapes are x (2,) and y (2,); expected the same", {"x": GOOD[:2], "y": GOOD[:2]}),
        ("the shapes are x (1, 3) and y (1, 3); expected the same", {"x": [GOOD], "y": [GOOD]}),
        ("y holds values that are NaN or infinite", {"y": [1, 2, np.nan]}),
        ("x holds values that are NaN or infinite", {"x": [1, 2, np.inf]}),
        ("x is constant (7); a correlation needs values that vary", {"x": [7, 7, 7]}),
        ("y is constant (0.1); a correlation needs values that vary", {"y": [0.1] * 3}),
        ("resamples = 0, level = 0.95; expected at least 1", {"resamples": 0}),
        ("resamples = 9999, level = 1.0; expected at least 1, and a level between 0 and 1", {"level": 1.0}),
    ],
)
def test_what_is_refused_is_said_in_one_line(message, arguments):
    refuses(message, lambda: correlate(**{"x": GOOD, "y": GOOD} | arguments))


def test_kendall_of_resampled_pairs_is_scipys_with_ties(monkeypatch):
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 6, (2, 25)).astype(float)
    picked = rng.integers(25, size=(7, 25))
    expected = [stats.kendalltau(a[rows], b[rows]).statistic for rows in picked]
    np.testing.assert_allclose(statistics._resampled("kendall", a, b, picked), expected, atol=1e-14)
    monkeypatch.setattr(statistics, "_blocks", lambda n: np.array_split(np.arange(n), 4))
    np.testing.assert_allclose(statistics._resampled("kendall", a, b, picked), expected, atol=1e-14)
    assert np.isnan(statistics._resampled("kendall", np.zeros(25), b, picked)).all()


def test_permutations_change_kendall_by_its_concordance_alone():
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 6, (2, 12)).astype(float)
    rows = rng.permuted(np.tile(a, (2, 5, 1)), axis=-1)
    tau = np.array([[stats.kendalltau(row, b).statistic for row in part] for part in rows])
    differ = [sum(u != v for u, v in itertools.combinations(column, 2)) for column in (a, b)]
    np.testing.assert_allclose(statistics._concordance(rows, b), tau * np.sqrt(np.prod(differ)), atol=1e-10)


@pytest.mark.parametrize("level", [None, 0.8])
def test_half_the_width_of_students_interval_is_scipys(level):
    values = np.random.default_rng(0).normal(size=(4, 7))
    spread, n = values.std(axis=1, ddof=1), np.full(4, 7)
    found = statistics.half_width(spread, n, **({"level": level} if level else {}))
    low, high = stats.t.interval(level or 0.95, 6, values.mean(axis=1), stats.sem(values, axis=1))
    np.testing.assert_allclose(found, (high - low) / 2, rtol=1e-12)
    assert np.isnan(statistics.half_width(0.0, 1))
    refuses("level = 95; expected a level between 0 and 1", lambda: statistics.half_width(1.0, 5, level=95))


def test_cochran_q_of_two_models_is_mcnemars_test():
    right = np.random.default_rng(0).random((2, 400)) < np.array([[0.8], [0.7]])
    first, second = int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())
    assert cochran_q(right) == pytest.approx(stats.chi2.sf((first - second) ** 2 / (first + second), 1), rel=1e-12)


@pytest.mark.parametrize("gain", [0.0, 0.03])
def test_cochran_q_agrees_with_exchanging_the_models_within_each_sample(gain):
    """Under the hypothesis the answers to one sample may be exchanged among the models."""
    rng = np.random.default_rng(1)
    hard = rng.random(2000)
    right = (rng.random((4, 2000)) + np.array([[gain], [0], [0], [0]]) > 0.5 * hard).astype(float)
    exchanged = stats.permutation_test(
        tuple(right), lambda *models, axis: np.var([model.mean(axis) for model in models], axis=0),
        permutation_type="samples", vectorized=True, n_resamples=4000, batch=200, alternative="greater", rng=rng,
    ).pvalue  # fmt: skip
    assert cochran_q(right) == pytest.approx(exchanged, abs=0.03)


def test_cochran_q_of_models_that_agree_or_of_one_model():
    assert cochran_q(np.ones((3, 5))) == 1
    refuses("right has shape (1, 5)", lambda: cochran_q(np.ones((1, 5))))
    refuses("of 0 and 1", lambda: cochran_q(np.full((2, 5), 0.5)))
