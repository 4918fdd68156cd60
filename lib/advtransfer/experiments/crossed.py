"""Correlations over sources that are crossed: every architecture in every way of training.

Two sources of one architecture are much alike, and so are two that were trained in one way. So neither sources nor
pairs of architecture and way are independent evidence. The intervals draw whole architectures and whole ways (the
pigeonhole bootstrap, Owen 2007), and p permutes whole architectures and whole ways. If only one of the two varies,
that one is drawn and permuted. With few of both, all draws and all permutations are listed, so nothing is random.
"""

import math
from collections.abc import Callable
from itertools import combinations_with_replacement, permutations, product
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from advtransfer.statistics import Correlation, Floats, quantiles, unrounded

Places = NDArray[np.int64]
LEVEL = 0.95
BATCH = 10_000  # draws at a time


class Design(NamedTuple):
    """Where each of N sources stands, as numbers from 0."""

    run: Places
    row: Places
    """Its architecture, or whatever else is drawn and permuted as a whole."""
    column: Places
    """Its way of training, likewise."""
    group: Places
    """The sources among which it was ranked."""


def design(table: pd.DataFrame, row: str, column: str, by: list[str]) -> Design:
    """The design of a table of sources with a column ``run``. A run may lack pairs of row and column.

    Raises
    ------
    ValueError
        A run has a pair of row and column twice.
    """
    if (twice := table.duplicated(["run", row, column])).any():
        pair = table.loc[twice, ["run", row, column]].iloc[0].tolist()
        raise ValueError(f"{row}, {column} of run {pair[0]!r}: {pair[1]!r}, {pair[2]!r} occurs twice; expected once")
    run, rows, columns = (pd.factorize(table[name])[0].astype(np.int64) for name in ("run", row, column))
    return Design(run, rows, columns, table.groupby(by, sort=False).ngroup().to_numpy().astype(np.int64))


def weights(made: Design, resamples: int, seed: int) -> Floats:
    """How often each source is drawn, (B, N), if rows and columns are drawn with repetition."""
    rng = np.random.default_rng(seed)
    times = np.ones((resamples, len(made.row)))
    for places in (made.row, made.column):
        size = places.max() + 1
        if size > 1:
            times *= rng.multinomial(size, np.full(size, 1 / size), resamples)[:, places]
    return times


def every_weight(made: Design, most: int) -> tuple[Floats, Floats] | None:
    """All of what `weights` can draw, (B, N), with probabilities (B,); None if these are more than `most`."""
    sizes = [int(places.max()) + 1 for places in (made.row, made.column)]
    if math.prod(math.comb(2 * size - 1, size) for size in sizes) > most:
        return None
    (rows, first), (columns, second) = (_every_count(size) for size in sizes)
    times = rows[:, None, made.row] * columns[None, :, made.column]
    return times.reshape(-1, len(made.row)), np.outer(first, second).ravel()


def _every_count(size: int) -> tuple[Floats, Floats]:
    """How often each of `size` things is drawn in `size` draws, a row per outcome, and the outcome's probability."""
    drawn = list(combinations_with_replacement(range(size), size))
    counts = np.array([np.bincount(each, minlength=size) for each in drawn], float)
    ways = [math.factorial(size) / math.prod(map(math.factorial, row)) for row in counts.astype(int).tolist()]
    return counts, np.array(ways) / size**size


def _interval(made: Design, value: Callable[[Floats], Floats], resamples: int, seed: int) -> tuple[float, float]:
    """The percentile interval of a function of `weights`, exact if there are at most `resamples` of these."""
    found = every_weight(made, resamples)
    times, chances = found if found else (weights(made, resamples, seed), None)
    parts = np.array_split(times, max(1, len(times) // BATCH))  # to limit the memory
    return ends(np.concatenate([value(part) for part in parts]), chances)


def correlations(times: Floats, made: Design, x: Floats, y: Floats, given: Floats | None = None) -> Floats:
    """Pearson's correlation of x and y (N,) or (B, N) within groups, each source as often as `times` (B, N) says.

    With `given` it is the partial correlation. NaN where a variable is constant within every group.
    """
    x, y, *rest = (_centred(v, times, made.group) for v in ((x, y) if given is None else (x, y, given)))
    xy = _correlation(times, x, y)
    if not rest:
        return xy
    xz, yz = _correlation(times, x, rest[0]), _correlation(times, y, rest[0])
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    return np.where(np.isfinite(r), unrounded(np.clip(r, -1, 1)), np.nan)


def correlate(
    made: Design, x: Floats, y: Floats, given: Floats | None = None, *, resamples: int = 1999, seed: int = 0
) -> Correlation:
    """The correlation with its interval and p, which is twice the smaller tail: exact if there are few permutations.

    With `given`, p permutes what a linear fit on it leaves of x (Freedman and Lane 1983). All are NaN where a variable
    is constant within every group.
    """
    once = np.ones((1, len(x)))
    r = float(correlations(once, made, x, y, given)[0])
    if math.isnan(r):
        return Correlation(math.nan, math.nan, math.nan, math.nan, len(x))
    low, high = _interval(made, lambda times: correlations(times, made, x, y, given), resamples, seed)
    p = _p(made, x, y, given, r, resamples, seed)
    return Correlation(r, low, high, p, len(x))


def p_of_rows(made: Design, x: Floats, y: Floats, given: Floats | None = None, *, resamples: int = 1999) -> float:
    """The p of `correlate` if only rows are permuted: the evidence of the architectures alone."""
    r = float(correlations(np.ones((1, len(x))), made, x, y, given)[0])
    return math.nan if math.isnan(r) else _p(made, x, y, given, r, resamples, 0, columns=False)


def _p(
    made: Design, x: Floats, y: Floats, given: Floats | None, r: float, resamples: int, seed: int, columns: bool = True
) -> float:
    once = np.ones((1, len(x)))
    x = _centred(x, once, made.group)[0]
    fitted = np.zeros_like(x)
    if given is not None:
        z = _centred(given, once, made.group)[0]
        fitted = z * (x @ z / (z @ z))
    orders, every = _orders(made, resamples, seed, columns)
    permuted = np.concatenate(
        [
            correlations((order >= 0).astype(float), made, (x - fitted)[order] + fitted, y, given)
            for order in np.array_split(orders, max(1, len(orders) // BATCH))
        ]
    )
    permuted = permuted[np.isfinite(permuted)]  # where runs lack pairs, a permutation may leave too few sources
    close = 1e-9  # equal but for rounding
    tails = [int(np.sum(tail)) for tail in (permuted >= r - close, permuted <= r + close)]
    p = min(tails) / len(permuted) if every else (min(tails) + 1) / (len(permuted) + 1)
    return min(1.0, 2 * p)


class Difference(NamedTuple):
    """By how much one correlation is larger than another, with its interval."""

    value: float
    low: float
    high: float


def difference(made: Design, a: Floats, b: Floats, y: Floats, *, resamples: int = 1999, seed: int = 0) -> Difference:
    """By how much the correlation of a with y is larger than that of b with y; both see the same draws."""
    once = np.ones((1, len(y)))
    value = correlations(once, made, a, y) - correlations(once, made, b, y)
    ahead = _interval(
        made, lambda times: correlations(times, made, a, y) - correlations(times, made, b, y), resamples, seed
    )
    return Difference(float(value[0]), *ahead)


def ends(drawn: Floats, chances: Floats | None = None) -> tuple[float, float]:
    """The ends of the percentile interval of drawn values (B,), with their probabilities if given; NaN are left out."""
    if chances is None:
        low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    else:
        low, high = quantiles(drawn, chances, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def tail_probability(apart: Floats) -> float:
    """Twice the smaller share of the draws (B,) of a difference that lie at 0 or beyond it: a two-sided p.

    Draws that are NaN are left out; the result is NaN if no others are left.
    """
    apart = apart[np.isfinite(apart)]
    if not len(apart):
        return float("nan")
    beyond = min((np.sum(apart <= 0) + 1) / (len(apart) + 1), (np.sum(apart >= 0) + 1) / (len(apart) + 1))
    return min(1.0, 2 * float(beyond))


def _orders(made: Design, resamples: int, seed: int, columns_too: bool = True) -> tuple[Places, bool]:
    """For each permutation of rows and columns the source that takes each one's place; whether these are all.

    Where a run lacks that source, the number is negative.
    """
    sizes = [int(places.max()) + 1 for places in (made.run, made.row, made.column)]
    at = np.full(sizes, -1)
    at[made.run, made.row, made.column] = np.arange(len(made.run))
    rows, columns = sizes[1:]
    every = math.factorial(rows) * (math.factorial(columns) if columns_too else 1) <= resamples
    rng, still = np.random.default_rng(seed), np.arange(columns)
    if every:
        seconds = permutations(still) if columns_too else [still]
        drawn = [(np.array(a), np.array(b)) for a, b in product(permutations(range(rows)), seconds)]
    else:
        drawn = [(rng.permutation(rows), rng.permutation(columns) if columns_too else still) for _ in range(resamples)]
    return np.array([at[made.run, first[made.row], second[made.column]] for first, second in drawn]), every


def _centred(values: Floats, times: Floats, group: Places) -> Floats:
    """Values (N,) or (B, N) minus their mean in each group, weighted by `times` (B, N)."""
    member = np.eye(group.max() + 1)[group]  # (N, groups)
    totals = times @ member
    with np.errstate(invalid="ignore"):
        means = (times * values) @ member / totals
    return values - np.nan_to_num(means)[:, group]  # a group that is not drawn has no weight


def _correlation(times: Floats, a: Floats, b: Floats) -> Floats:
    ab, aa, bb = ((times * u * v).sum(1) for u, v in ((a, b), (a, a), (b, b)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((aa > 1e-12) & (bb > 1e-12), unrounded(np.clip(ab / np.sqrt(aa * bb), -1, 1)), np.nan)
