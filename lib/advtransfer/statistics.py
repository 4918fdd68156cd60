"""Correlations with what a reader needs to judge them: an interval, a permutation p and n."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Method = Literal["pearson", "spearman", "kendall"]
Floats = NDArray[np.float64]


class Correlation(NamedTuple):
    """A correlation coefficient of n pairs."""

    r: float
    """The coefficient (ρ for Spearman, τ-b for Kendall)."""
    low: float
    """Lower end of the bootstrap percentile interval."""
    high: float
    """Upper end."""
    p: float
    """Two-sided permutation p, twice the smaller tail: exact when n! is at most `resamples`, else drawn."""
    n: int
    """Pairs."""


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
        Bootstrap samples, and permutations where not all are listed.
    seed
        Of the resampling: the same data give the same result.

    Raises
    ------
    ValueError
        An unknown method, lengths that differ, n < 3, a value that is not finite, a constant sample, no resamples, or
        a level that is not between 0 and 1.

    Examples
    --------
    >>> result = correlate([1, 2, 3, 4, 5], [2, 1, 4, 3, 5])
    >>> round(result.r, 3), result.n
    (0.8, 5)
    """
    coefficient = {"pearson": _pearson, "spearman": spearman_rows, "kendall": _kendall}.get(method)
    if coefficient is None:
        raise ValueError(f"method = {method!r}; expected 'pearson', 'spearman' or 'kendall'")
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"resamples = {resamples}, level = {level}; expected at least 1, and a level between 0 and 1")
    a, b = np.asarray(x, float), np.asarray(y, float)
    if a.ndim != 1 or a.shape != b.shape or len(a) < 3:
        raise ValueError(f"x and y have shapes {a.shape} and {b.shape}; expected the same (n,) with n at least 3")
    for name, values in (("x", a), ("y", b)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds values that are NaN or infinite; expected finite values")
        if np.ptp(values) == 0:
            raise ValueError(f"{name} is constant ({values[0]:g}); a correlation needs values that vary")
    rows = max(1, 2_000_000 // len(a))  # resamples at a time, to bound the memory
    rng = np.random.default_rng(seed)
    draws = np.concatenate(
        [
            coefficient(a[index], b[index])
            for size in _batches(resamples, rows)
            for index in [rng.integers(len(a), size=(size, len(a)))]
        ]
    )
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    test = stats.permutation_test(
        (a,),
        lambda permuted, axis: coefficient(permuted, np.broadcast_to(b, permuted.shape)),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=resamples,
        batch=rows,
        rng=np.random.default_rng(seed),
    )
    r = float(coefficient(a[None], b[None])[0])
    return Correlation(r, float(low), float(high), float(test.pvalue), len(a))


def _batches(total: int, size: int) -> list[int]:
    return [size] * (total // size) + ([total % size] if total % size else [])


def _pearson(a: Floats, b: Floats) -> Floats:
    """Of each row, (..., n) and (..., n) -> (...); NaN where a row is constant."""
    varied = (np.ptp(a, axis=-1) > 0) & (np.ptp(b, axis=-1) > 0)  # exact, where a sum of squares is rounded
    a, b = (v - v.mean(-1, keepdims=True) for v in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return np.where(varied, np.clip(r, -1, 1), np.nan)


def spearman_rows(a: Floats, b: Floats) -> Floats:
    """Spearman's correlation of each row, (..., n) and (..., n) -> (...); NaN where a row is constant."""
    return _pearson(stats.rankdata(a, axis=-1), stats.rankdata(b, axis=-1))


def _kendall(a: Floats, b: Floats) -> Floats:
    flat = zip(a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1]), strict=True)
    return np.array([stats.kendalltau(u, v).statistic for u, v in flat]).reshape(a.shape[:-1])
