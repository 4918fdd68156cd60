"""Numbers of samples against exact distributions, other implementations and the law of heavy tails."""

import math
from decimal import Decimal, getcontext
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from advtransfer import concentration
from advtransfer.concentration import guaranteed_half_width, median_interval, needed_samples, ratio_interval
from advtransfer.intervals import unit_rows
from advtransfer.metrics import from_deviations
from cases import normal, refuses, seeded, seeds

confidences = st.floats(0.01, 0.999)


@given(width=st.floats(1e-4, 2), confidence=confidences, metric=st.sampled_from(concentration.METRICS))
def test_the_needed_number_is_the_first_that_is_enough(width, confidence, metric):
    n = needed_samples(width, metric=metric, confidence=confidence)
    assert guaranteed_half_width(n, metric=metric, confidence=confidence) <= width * (1 + 1e-12)
    if n > 1:
        assert guaranteed_half_width(n - 1, metric=metric, confidence=confidence) > width * (1 - 1e-12)


@pytest.mark.parametrize("confidence", ["0.5", "0.9", "0.95", "0.999"])
@pytest.mark.parametrize("width", ["0.3", "0.05", "0.013"])
def test_numbers_of_samples_in_fifty_digits(width, confidence):
    """From the inequalities themselves: the tail beyond the mean for norms, both tails for bounded means."""
    getcontext().prec = 50
    h, tail, n = Decimal(width), 1 - Decimal(confidence), needed_samples(float(width), confidence=float(confidence))
    enough = []
    for size in (n - 1, n):
        rest = h - 1 / Decimal(size).sqrt()  # beyond the expectation of the norm, at most 1/√N
        enough.append(rest > 0 and (-size * rest**2 / 2).exp() <= tail)
    assert enough == [False, True]
    n = needed_samples(float(width), confidence=float(confidence), metric="alpha1")
    assert [2 * (-2 * size * h**2).exp() <= tail for size in (n - 1, n)] == [False, True]


@given(confidence=confidences, largest=st.floats(0.01, 100))
def test_a_bound_scales_the_half_width(confidence, largest):
    for metric in concentration.SCALED:
        one = guaranteed_half_width(100, metric=metric, confidence=confidence)
        assert guaranteed_half_width(100, metric=metric, confidence=confidence, largest=largest) == pytest.approx(
            largest * one
        )


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_the_bound_holds_for_signs_exactly(confidence):
    """G = ±1 with any probability: the distribution of the plug-in estimate is binomial."""
    for n in (1, 2, 5, 17, 60, 400):
        for p in (0.5, 0.6, 0.8, 0.99):
            values, truth = np.abs(2 * np.arange(n + 1) / n - 1), abs(2 * p - 1)
            missed = np.abs(values - truth) > guaranteed_half_width(n, confidence=confidence)
            assert stats.binom.pmf(np.arange(n + 1), n, p)[missed].sum() <= 1 - confidence
            share = np.arange(n + 1) / n
            missed = np.abs(share - p) > guaranteed_half_width(n, metric="alpha1", confidence=confidence)
            assert stats.binom.pmf(np.arange(n + 1), n, p)[missed].sum() <= 1 - confidence


@pytest.mark.parametrize("agree", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("m", [1, 3, 30])
def test_the_metrics_of_the_library_stay_within_their_bounds(m, agree):
    """Directions that agree with a probability: α2 = agree/√m, and α1(x) is uniform on (0, 1) beside them."""
    n, generator, errors = 40, seeded(m), []
    for _ in range(200):
        u, other = (unit_rows(torch.randn(n, m, generator=generator).double()) for _ in range(2))
        same = torch.rand(n, 1, generator=generator) < agree
        size = torch.rand(n, 1, generator=generator).double()
        found = from_deviations(u, size * torch.where(same, u, other), unit_rows(other + 3))
        truth = agree / m**0.5
        errors.append([found.alpha2 - truth, found.alpha12 - truth / 2, found.alpha1 - 0.5])
    missed = [
        np.mean(np.abs(column) > guaranteed_half_width(n, metric=metric, confidence=0.8))
        for column, metric in zip(np.array(errors).T, ("alpha2", "alpha12", "alpha1"), strict=True)
    ]
    assert max(missed) <= stats.binom.ppf(1 - 1e-6, 200, 0.2) / 200


def test_the_noise_floor_is_in_the_bound_and_a_smaller_constant_would_fail():
    """Unrelated directions in many dimensions: ‖mean‖ is 1/√N almost surely, so a bound below that never holds."""
    n, u, w = 50, unit_rows(normal(50, 400)), unit_rows(normal(50, 400, seed=1))
    floor = from_deviations(u, w, w).alpha2
    assert floor == pytest.approx(n**-0.5, rel=0.05)
    assert floor < guaranteed_half_width(n, confidence=0.01)


@settings(deadline=None)
@given(seed=seeds, n=st.integers(6, 200), confidence=st.floats(0.05, 0.96))
def test_the_interval_of_the_median_is_counted_in_whole_numbers(seed, n, confidence):
    """Of the 2ⁿ sequences of tosses, those with fewer than k heads are at most half of the share that may fail."""
    values, k = normal(n, seed=seed), 0
    while 2 * sum(math.comb(n, j) for j in range(k + 1)) <= (1 - Fraction(confidence)) * 2**n:
        k += 1
    ordered = sorted(values.tolist())
    found = median_interval(values, confidence=confidence)
    assert found == (ordered[k - 1], ordered[-k])
    holes = torch.cat([values[:3], torch.tensor([torch.nan], dtype=torch.float64), values[3:]])
    assert median_interval(holes, confidence=confidence) == found


def test_the_fewest_values_for_a_median():
    """Three tosses without heads have the probability 1/8, which is all that 75% allow; with 76% it takes four."""
    assert median_interval(V[:3], confidence=0.75) == (1, 3)
    refuses(
        "values holds 3 values that are not NaN; expected at least 4", lambda: median_interval(V[:3], confidence=0.76)
    )
    assert median_interval(V[:4], confidence=0.76) == (1, 4)


@pytest.mark.parametrize("n", [6, 9, 20])
def test_the_interval_of_the_median_holds_it_for_values_with_ties(n):
    """0 with probability p, else 1: the coverage is a sum of binomial probabilities, in exact arithmetic."""
    for p in (Fraction(1, 3), Fraction(1, 2), Fraction(7, 10)):
        medians = {0} if p > Fraction(1, 2) else {1} if p < Fraction(1, 2) else {0, Fraction(1, 2), 1}
        for median in medians:
            held = Fraction(0)
            for zeros in range(n + 1):
                low, high = median_interval(torch.cat([torch.zeros(zeros), torch.ones(n - zeros)]))
                held += (low <= median <= high) * math.comb(n, zeros) * p**zeros * (1 - p) ** (n - zeros)
            assert held >= Fraction(95, 100)


@given(
    ratio=st.floats(0, 3),
    n=st.integers(1, 5000),
    confidence=st.floats(0.05, 0.999),
    slack=st.floats(1, 5),
)
def test_the_interval_of_the_ratio_is_the_set_that_the_inequality_allows(ratio, n, confidence, slack):
    own = torch.ones(n, 1, dtype=torch.float64)
    largest = slack * max(1, ratio)
    found = ratio_interval(ratio * own, own, largest=largest, confidence=confidence)
    xi = largest * math.sqrt(math.log(2 / (1 - confidence)) / (2 * n))
    for end, inside in ((found.low, 1), (found.high, -1)):
        if end == 0:
            assert ratio <= xi * (1 + 1e-9)
        elif end == math.inf:
            assert xi >= 1
        else:
            assert abs(ratio - end) == pytest.approx((1 + end) * xi, rel=1e-7)
            assert inside * (ratio - end) >= -1e-12


def test_the_ratio_holds_where_the_mean_of_alpha1_is_infinite():
    """Deviations 1 and |x1| with x1 uniform on [-1, 1], as in the book's example, where r = 2; then 0 and 1."""
    generator, misses = seeded(3), 0
    for _ in range(300):
        own = torch.rand(60, 1, generator=generator, dtype=torch.float64)
        low, high = ratio_interval(torch.ones_like(own), own, largest=1.0, confidence=0.8)[1:]
        misses += not low <= 2 <= high
    assert misses <= stats.binom.ppf(1 - 1e-6, 300, 0.2)
    for p in (0.1, 0.5, 0.9):  # the own deviation is 1 or 0, the borrowed one the reverse: the widest range there is
        r, misses, size = (1 - p) / p, 0.0, 80
        for ones in range(1, size + 1):
            own = torch.cat([torch.ones(ones, 1), torch.zeros(size - ones, 1)])
            low, high = ratio_interval(1 - own, own, largest=1.0, confidence=0.8)[1:]
            misses += (not low <= r <= high) * stats.binom.pmf(ones, size, p)
        assert misses + (1 - p) ** size <= 0.2


V = torch.arange(1.0, 9)
D = torch.ones(4, 2)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("half_width is 0; expected at least 1e-09", lambda: needed_samples(0)),
        ("half_width is -0.1; expected a finite number, at least 0", lambda: needed_samples(-0.1)),
        ("half_width is nan; expected a finite number", lambda: needed_samples(math.nan)),
        (
            "confidence is 1; expected a probability between 0 and 1, such as 0.95",
            lambda: needed_samples(0.1, confidence=1),
        ),
        ("confidence is 95; expected a probability", lambda: median_interval(V, confidence=95)),
        ("unknown metric 'alpha3'; did you mean 'alpha", lambda: needed_samples(0.1, metric="alpha3")),
        (
            "largest is inf; expected a bound of α1(x): without one no number",
            lambda: needed_samples(0.1, metric="alpha1", largest=math.inf),
        ),
        ("largest is 2; expected 1, since alpha2 does not depend on it", lambda: needed_samples(0.1, largest=2)),
        ("largest is 0; expected a positive number", lambda: needed_samples(0.1, metric="alpha12", largest=0)),
        ("n is 0; expected at least 1", lambda: guaranteed_half_width(0)),
        (
            "values holds 5 values that are not NaN; expected at least 6 for a confidence of 0.95",
            lambda: median_interval(V[:5]),
        ),
        ("values holds 0 values that are not NaN", lambda: median_interval(V * torch.nan)),
        (
            "d12 and d22 have shapes (3, 2) and (4, 2); expected the same (N, d2)",
            lambda: ratio_interval(D[:3], D, largest=2),
        ),
        ("a deviation has the length 1.41421; expected at most largest = 1", lambda: ratio_interval(D, D, largest=1)),
        ("d22 is zero at every sample; expected an attack that moves", lambda: ratio_interval(D, 0 * D, largest=2)),
        ("d22 holds 8 values that are NaN", lambda: ratio_interval(D, D * torch.nan, largest=2)),
    ],
)
def test_what_is_refused_is_said_in_one_line(message, call):
    refuses(message, call)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("half_width is '0.1'; expected a number", lambda: needed_samples("0.1")),
        ("n is 10.0; expected a whole number", lambda: guaranteed_half_width(10.0)),
        ("values is list; expected a floating-point tensor of shape (N,)", lambda: median_interval([1.0])),
        ("values is torch.float32 of shape (4, 2); expected", lambda: median_interval(D)),
        ("values is torch.int64 of shape (3,); expected", lambda: median_interval(torch.arange(3))),
    ],
)
def test_what_has_another_type_is_refused(message, call):
    refuses(message, call, TypeError)
