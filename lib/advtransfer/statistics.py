"""Correlations, together with what a reader needs to judge them: an interval, a permutation p-value and n.

Beside them, a test of whether models are right equally often on the same samples.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Method = Literal["pearson", "spearman", "kendall"]
METHODS: tuple[Method, ...] = ("pearson", "spearman", "kendall")
Floats = NDArray[np.float64]


class Correlation(NamedTuple):
    """A correlation coefficient of n pairs."""

    r: float
    """The coefficient (ρ for Spearman, τ-b for Kendall)."""
    low: float
    """Lower end of the bootstrap percentile interval."""
    high: float
    """Upper end of that interval."""
    p: float
    """Two-sided permutation p-value, twice the smaller tail: exact if n! is at most `resamples`, else from a random
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
        Number of bootstrap samples, and of permutations if there are too many to list them all.
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
    coefficient = {"pearson": _pearson, "spearman": spearman_rows, "kendall": _kendall}.get(method)
    if coefficient is None:
        raise ValueError(f"method = {method!r}; expected 'pearson', 'spearman' or 'kendall'")
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"resamples = {resamples}, level = {level}; expected at least 1, and a level between 0 and 1")
    a, b = np.asarray(x, float), np.asarray(y, float)
    _check({"x": a, "y": b})
    n, rng, draws = len(a), np.random.default_rng(seed), []
    for size in _batches(resamples, max(1, 2_000_000 // n)):  # to limit the memory
        picked = rng.integers(n, size=(size, n))
        draws.append(coefficient(a[picked], b[picked]))
    low, high = np.nanquantile(np.concatenate(draws), [(1 - level) / 2, (1 + level) / 2])
    r = float(coefficient(a[None], b[None])[0])
    return Correlation(r, float(low), float(high), _permutation_p(coefficient, a, b, method, resamples, seed), n)


def half_width(spread: ArrayLike, n: ArrayLike, level: float = 0.95) -> Floats:
    """Half the width of Student's interval for the mean of n values with standard deviation `spread`.

    `spread` must have n - 1 in its denominator. `spread` and `n` may be arrays of one shape, which is then the shape of
    the result. The result is NaN where n is 1, because a single value says nothing about the spread. For very few
    values this interval is preferable to a bootstrap, which never leaves the range of the values.
    """
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


def _permutation_p(
    coefficient: Callable[[Floats, Floats], Floats], a: Floats, b: Floats, method: Method, resamples: int, seed: int
) -> float:
    """Two-sided permutation p-value of a against b."""
    if method == "spearman":
        a, b = stats.rankdata(a), stats.rankdata(b)
    test = stats.permutation_test(
        (a,),
        lambda permuted, axis: coefficient(permuted, np.broadcast_to(b, permuted.shape)),
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
    return np.where(varied, np.clip(r, -1, 1), np.nan)


def _scaled(v: Floats) -> Floats:
    """Rows times powers of two, so that their squares neither overflow nor vanish; no digit changes."""
    _, exponent = np.frexp(np.abs(v).max(-1, keepdims=True))
    return np.ldexp(v, -exponent)


def spearman_rows(a: Floats, b: Floats) -> Floats:
    """Spearman's correlation of each row, (..., n) and (..., n) -> (...); NaN where a row is constant."""
    return _pearson(stats.rankdata(a, axis=-1), stats.rankdata(b, axis=-1))


def _kendall(a: Floats, b: Floats) -> Floats:
    """Kendall's τ-b of each row, (..., n) and (..., n) -> (...).

    It is the number of pairs in the same order minus the number in opposite order, divided by the geometric mean of the
    numbers of pairs that differ in a and in b.
    """
    a, b = np.broadcast_arrays(a, b)
    shape, n = a.shape[:-1], a.shape[-1]
    # The differences of dense ranks are whole numbers, so that clipping them gives their signs.
    a, b = (stats.rankdata(v.reshape(-1, n), method="dense", axis=1).astype(np.float32) for v in (a, b))
    coefficients = []
    for part in np.array_split(np.arange(len(a)), max(1, len(a) * n // 60_000)):  # each part fits into a cache
        columns = [np.ascontiguousarray(v[part].T) for v in (a, b)]
        st, ss, tt = np.zeros((3, len(part)))
        for k in range(1, n):  # pairs that are k places apart
            s, t = (np.clip(v[k:] - v[:-k], -1, 1) for v in columns)
            st, ss, tt = st + _dots(s, t), ss + _dots(s, s), tt + _dots(t, t)
        with np.errstate(invalid="ignore"):
            coefficients.append(st / np.sqrt(ss * tt))
    return np.concatenate(coefficients).reshape(shape)


def _dots(s: Floats, t: Floats) -> Floats:
    dots: Floats = np.einsum("ij,ij->j", s, t)
    return dots
