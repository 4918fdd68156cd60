"""Correlations, together with what a reader needs to judge them: an interval, a permutation p-value and n.

Beside them, a test of whether models are right equally often on the same samples.
"""

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

Method = Literal["pearson", "spearman", "kendall"]
METHODS: tuple[Method, ...] = ("pearson", "spearman", "kendall")
Floats = NDArray[np.float64]
MOST_LISTED = 10  # pairs of which all resamples may be listed


class Correlation(NamedTuple):
    """A correlation coefficient of n pairs."""

    r: float
    """The coefficient (ρ for Spearman, τ-b for Kendall)."""
    low: float
    """Lower end of the bootstrap percentile interval."""
    high: float
    """Upper end of that interval."""
    p: float
    """Two-sided permutation p-value, twice the smaller tail, exact if n! is at most `resamples`, else from a random
    choice of permutations."""
    n: int
    """Number of pairs."""


def correlate(
    x: ArrayLike,
    y: ArrayLike,
    *,
    method: Method = "pearson",
    level: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Correlation:
    """Correlate two samples.

    Parameters
    ----------
    x, y
        Shape (n,), n ≥ 3, neither constant.
    method
        ``"pearson"``, ``"spearman"`` or ``"kendall"`` (τ-b, which allows for ties).
    level
        Coverage of the interval, which comes from resampling pairs. Resamples in which a variable is constant have no
        coefficient and are left out. With few pairs the interval is rough, and the p-value is the better guide.
    resamples
        Number of bootstrap samples, and of permutations, if there are too many to list them all.
    seed
        Seed of the resampling: the same data with the same seed give the same result.

    Raises
    ------
    ValueError
        An unknown method, lengths that differ, n < 3, a value that is not finite, a constant sample, no resamples, or a
        level that is not between 0 and 1.

    Examples
    --------
    >>> result = correlate([1, 2, 3, 4, 5], [2, 1, 4, 3, 5])
    >>> round(result.r, 3), result.n
    (0.8, 5)
    """
    if method not in METHODS:
        raise ValueError(f"method = {method!r}; expected 'pearson', 'spearman' or 'kendall'")
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"resamples = {resamples}, level = {level}; expected at least 1, and a level between 0 and 1")
    a, b = np.asarray(x, float), np.asarray(y, float)
    _check({"x": a, "y": b})
    n, at = len(a), [(1 - level) / 2, (1 + level) / 2]
    if n <= MOST_LISTED and math.comb(2 * n - 1, n) <= resamples:
        picks = np.array(list(combinations_with_replacement(range(n), n)))
        counts = (picks[:, :, None] == np.arange(n)).sum(1)
        ways = math.factorial(n) / special.factorial(counts).prod(1)
        low, high = quantiles(_resampled(method, a, b, picks), ways, at)
    else:
        rng, draws = np.random.default_rng(seed), []
        for size in _batches(resamples, max(1, 2_000_000 // n)):  # to limit the memory
            draws.append(_resampled(method, a, b, rng.integers(n, size=(size, n))))
        low, high = np.nanquantile(np.concatenate(draws), at)
    r = float(_resampled(method, a, b, np.arange(n)[None])[0])
    return Correlation(r, float(low), float(high), _permutation_p(method, a, b, resamples, seed), n)


def quantiles(values: Floats, weights: Floats, at: Sequence[float]) -> Floats:
    """The least values (B,) at or below which the shares `at` of all weight lie; NaN are left out.

    >>> quantiles(np.array([3.0, 1.0, 2.0]), np.array([1.0, 2.0, 1.0]), [0.5, 0.75])
    array([1., 2.])
    """
    known = np.isfinite(values)
    order = np.argsort(values[known])
    below = np.cumsum(weights[known][order])
    places = np.searchsorted(below, np.asarray(at) * below[-1] * (1 - 1e-12))
    return np.asarray(values[known][order][places])


def half_width(spread: ArrayLike, n: ArrayLike, level: float = 0.95) -> Floats:
    """Half the width of Student's interval for the mean of n values with standard deviation `spread`.

    `spread` must have n - 1 in its denominator. `spread` and `n` may be arrays of one shape, which is then the shape of
    the result. The result is NaN where n is 1, because a single value says nothing about the spread. For very few
    values this interval is preferable to a bootstrap, which never leaves the range of the values.

    Raises
    ------
    ValueError
        A level that is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level = {level}; expected a level between 0 and 1")
    n = np.asarray(n, float)
    with np.errstate(invalid="ignore"):
        return np.asarray(stats.t.ppf((1 + level) / 2, n - 1) * np.asarray(spread, float) / np.sqrt(n))


def cochran_q(right: ArrayLike) -> float:
    """p-value of Cochran's Q test that K models are right equally often, asked about the same N samples.

    Samples on which all models agree say nothing; the result is 1 where no others are left. The null distribution is χ²
    with K - 1 degrees of freedom, which holds where many are left.

    Parameters
    ----------
    right
        Shape (K, N), K ≥ 2: whether model k is right on sample n.

    Raises
    ------
    ValueError
        Another shape, or values other than 0 and 1.

    References
    ----------
    W. G. Cochran, "The comparison of percentages in matched samples", Biometrika 37, 1950.

    Examples
    --------
    >>> agreed, lost = [1] * 80, [1] * 20
    >>> cochran_q([agreed + lost, agreed + lost, agreed + [0] * 20]) < 0.001
    True
    """
    table = np.asarray(right)
    if table.ndim != 2 or len(table) < 2 or not np.isin(table, (0, 1)).all():
        raise ValueError(
            f"right has shape {table.shape}; expected (models, samples) of 0 and 1, for two models or more"
        )
    table, k = table.astype(float), len(table)
    models, samples = table.sum(1), table.sum(0)
    disagreement = k * table.sum() - (samples**2).sum()
    if disagreement == 0:
        return 1.0
    q = (k - 1) * (k * (models**2).sum() - table.sum() ** 2) / disagreement
    return float(stats.chi2.sf(q, k - 1))


def _resampled(method: Method, a: Floats, b: Floats, picked: NDArray[np.int64]) -> Floats:
    """The coefficient of each resample of pairs, whose places (B, n) are `picked`; NaN where a variable is constant."""
    if method == "kendall":
        rows = np.arange(len(picked))[:, None] * len(a)
        return _kendall(a, b, np.bincount((picked + rows).ravel(), minlength=picked.size).reshape(picked.shape))
    return {"pearson": _pearson, "spearman": spearman_rows}[method](a[picked], b[picked])


def _permutation_p(method: Method, a: Floats, b: Floats, resamples: int, seed: int) -> float:
    """Two-sided permutation p-value of a against b."""
    if method == "spearman":
        a, b = stats.rankdata(a), stats.rankdata(b)
    statistic = _concordance if method == "kendall" else _pearson
    test = stats.permutation_test(
        (a,),
        lambda permuted, axis: statistic(permuted, b),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, 2_000_000 // len(a)),
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def _check(columns: dict[str, Floats]) -> None:
    shapes = {name: values.shape for name, values in columns.items()}
    first = shapes["x"]
    if len(first) != 1 or first[0] < 3 or set(shapes.values()) != {first}:
        listed = " and ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"the shapes are {listed}; expected the same (n,) with n at least 3")
    for name, values in columns.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds values that are NaN or infinite; expected finite values")
        if np.ptp(values) == 0:
            raise ValueError(f"{name} is constant ({values[0]:g}); a correlation needs values that vary")


def _batches(total: int, size: int) -> list[int]:
    return [size] * (total // size) + ([total % size] if total % size else [])


def _pearson(a: Floats, b: Floats) -> Floats:
    """Pearson's correlation of each row, (..., n) and (..., n) -> (...); NaN where a row is constant."""
    varied = (np.ptp(a, axis=-1) > 0) & (np.ptp(b, axis=-1) > 0)  # exact, whereas a sum of squares is rounded
    a, b = (_scaled(v - v.mean(-1, keepdims=True)) for v in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return np.where(varied, unrounded(np.clip(r, -1, 1)), np.nan)


def unrounded(r: Floats) -> Floats:
    """Correlations in which those that rounding keeps from 0 are 0, so that their sign says nothing.

    >>> unrounded(np.array([3e-17, -0.5]))
    array([ 0. , -0.5])
    """
    return np.where(np.abs(r) < 1e-12, 0, r)


def _scaled(v: Floats) -> Floats:
    """Rows times powers of two, so that their squares neither overflow nor vanish; no digit changes."""
    _, exponent = np.frexp(np.abs(v).max(-1, keepdims=True))
    return np.ldexp(v, -exponent)


def spearman_rows(a: Floats, b: Floats) -> Floats:
    """Spearman's correlation of each row, (..., n) and (..., n) -> (...); NaN where a row is constant."""
    return _pearson(stats.rankdata(a, axis=-1), stats.rankdata(b, axis=-1))


def _kendall(a: Floats, b: Floats, counts: NDArray[np.int64]) -> Floats:
    """Kendall's τ-b (B,) of resamples in which pair i of a (n,) and b (n,) occurs `counts` (B, n) times.

    It is the number of pairs in the same order minus the number in opposite order, divided by the geometric mean of the
    numbers of pairs that differ in a and in b. Each number is a quadratic form in the counts.
    """
    weights = counts.astype(float)  # whole numbers, so that every sum below is exact
    same, in_a, in_b = np.zeros((3, len(weights)))
    for block in _blocks(len(a)):
        s, t = (np.sign(v[:, None] - v[block]) for v in (a, b))
        own = weights[:, block]
        pairs = (np.einsum("bi,bi->b", weights @ signs, own) for signs in (s * t, s * s, t * t))
        same, in_a, in_b = (total + more for total, more in zip((same, in_a, in_b), pairs, strict=True))
    with np.errstate(invalid="ignore"):
        return same / np.sqrt(in_a * in_b)


def _blocks(n: int) -> list[NDArray[np.int64]]:
    """The places 0 to n - 1 in blocks, so that n rows and a column per place of a block are about a million values."""
    return np.array_split(np.arange(n), -(-n * n // 1_000_000))


def _concordance(a: Floats, b: Floats) -> Floats:
    """Pairs in the same order minus pairs in opposite order, (..., n) and (n,) -> (...).

    Permutations change no other part of Kendall's τ-b.
    """
    shape, n = a.shape[:-1], a.shape[-1]
    # The differences of dense ranks are whole numbers, so that clipping them gives their signs.
    ranks = stats.rankdata(a.reshape(-1, n), method="dense", axis=1).astype(np.float32)
    found = []
    for part in np.array_split(ranks, max(1, ranks.size // 60_000)):  # each part fits into a cache
        columns, sums = np.ascontiguousarray(part.T), np.zeros(len(part))
        for k in range(1, n):  # pairs that are k places apart
            sums += np.sign(b[k:] - b[:-k]).astype(np.float32) @ np.clip(columns[k:] - columns[:-k], -1, 1)
        found.append(sums)
    return np.concatenate(found).reshape(shape)
