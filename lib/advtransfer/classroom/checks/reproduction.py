"""Tests of the fourth assignment: rank correlation, its p-value and interval, and what a choice costs."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from scipy import stats

from advtransfer.classroom.checks.answers import equal, normal, random
from advtransfer.classroom.quiet import without_source

Function = Callable[..., Any]


def _related(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Two related samples whose ranks and values tell different stories."""
    generator = random(seed)
    x = normal(generator, n)
    y = (x + normal(generator, n)).exp()
    return x.numpy(), y.numpy()


@without_source
def rank_correlation(rank_correlation: Function, *, seed: int, ties: bool = False) -> None:
    """`rank_correlation` is Spearman's, with mean ranks where values are tied."""
    x, y = _related(seed, 9)
    if ties:
        x = -x  # the correlation is negative
        x[:3], y[2:4] = x[0], y[2]
    ranks = [np.argsort(np.argsort(v)) for v in (x, y)]
    right = _spearman(x, y)
    shortcut = 1 - 6 * np.square(stats.rankdata(x) - stats.rankdata(y)).sum() / (9 * (9**2 - 1))
    others = [[stats.rankdata(v, method) for v in (x, y)] for method in ("min", "max", "dense", "ordinal")]
    equal("rank_correlation", rank_correlation(torch.tensor(x), torch.tensor(y)), right, {
        "this is Pearson's correlation of the values; expected that of the ranks.": stats.pearsonr(x, y)[0],
        "this is Kendall's τ; expected Pearson's correlation of the ranks.": stats.kendalltau(x, y)[0],
        "the formula with Σd² holds only without ties; correlate the ranks.": shortcut,
        "tied values do not have the mean of their ranks; give it to each of them.":
            [stats.pearsonr(*pair)[0] for pair in (ranks, *others)],
        "argsort gives the order, not the ranks: apply it twice.": stats.pearsonr(np.argsort(x), np.argsort(y))[0],
        "one of the two is ranked the other way round.": -right,
        "only one of the two was ranked.": [stats.pearsonr(stats.rankdata(x), y)[0], stats.pearsonr(x, ranks[1])[0]],
        "this is the p-value; expected the correlation.": float(stats.spearmanr(x, y).pvalue),
        "a negative correlation was cut off at 0.": max(right, 0.0),
    })  # fmt: skip


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    return float(stats.spearmanr(x, y).statistic)


def _unit(ranks: np.ndarray) -> np.ndarray:
    return (ranks - ranks.mean()) / np.linalg.norm(ranks - ranks.mean())


def _scores(ranks: np.ndarray) -> np.ndarray:
    return (ranks - ranks.mean()) / ranks.std(ddof=1)


WAYS: tuple[Callable[[np.ndarray, np.ndarray], float], ...] = (  # of computing ρ in which equal values come out unequal
    lambda x, y: _unit(x) @ _unit(y),
    lambda x, y: (_scores(x) * _scores(y)).sum() / (len(x) - 1),
    lambda x, y: np.corrcoef(x / len(x), y / len(y))[0, 1],
)


@without_source
def permutation_p(permutation_p: Function, *, seed: int) -> None:
    """`permutation_p` is the share of all n! orders whose |ρ| is at least the observed one.

    The pairs are such that, for each of the ways of computing ρ that round, a comparison without tolerance is wrong for
    one. (Correlations of whole ranks do not round, and then a comparison without tolerance is right.)
    """
    draws = (_related((seed + k * 2**16) % 2**32, 6 if k == 0 else 5) for k in itertools.count())
    telling = ((x, y) for x, y in draws if abs(_spearman(x, y)) < 0.99)  # at |ρ| = 1 some mistakes give the same result
    left = set(range(len(WAYS)))
    for k, (x, y) in enumerate(itertools.islice(telling, 40)):
        rounded = {way for way in left if _exact(x, y) != _without_tolerance(WAYS[way], x, y)}
        if k < 2 or rounded:  # a single pair may not reveal a mistake
            _one_permutation_p(permutation_p, x, y)
        left -= rounded
        if k >= 1 and not left:
            return


def _orders(x: np.ndarray) -> np.ndarray:
    return np.array(list(itertools.permutations(stats.rankdata(x))))


def _exact(x: np.ndarray, y: np.ndarray) -> float:
    """The p-value. Twice a rank is a whole number, so that nothing is rounded."""
    sums = np.abs((2 * _orders(x) - len(x) - 1) @ (2 * stats.rankdata(y) - len(y) - 1))
    return float((sums >= sums[0]).mean())


def _without_tolerance(way: Callable[..., float], x: np.ndarray, y: np.ndarray) -> float:
    ranks = stats.rankdata(y)
    found = np.abs([way(order, ranks) for order in _orders(x)])
    return float((found >= found[0]).mean())


def _one_permutation_p(permutation_p: Function, x: np.ndarray, y: np.ndarray) -> None:
    observed = _spearman(x, y)
    ranks = stats.rankdata(y)
    orders = np.array([np.corrcoef(order, ranks)[0, 1] for order in _orders(x)])
    right, count = _exact(x, y), len(orders)
    values = np.array([np.corrcoef(order, y)[0, 1] for order in itertools.permutations(x)])
    equal("permutation_p", permutation_p(torch.tensor(x), torch.tensor(y)), right, {
        "this is one-sided; an order counts if |ρ| is as large, whatever its sign.":
            [(orders >= observed - 1e-9).mean(), (orders <= observed + 1e-9).mean(),
             (orders >= abs(observed) - 1e-9).mean()],
        "the order that was observed is one of the n! and counts too.":
            [right - 1 / count, (right * count - 1) / (count - 1)],
        "orders with the same |ρ| as the observed one count too (compare with a tolerance).":
            [(np.abs(orders) > abs(observed) + 1e-9).mean(), *(_without_tolerance(way, x, y) for way in WAYS)],
        "the values were correlated, not their ranks.":
            (np.abs(values) >= abs(np.corrcoef(x, y)[0, 1]) - 1e-9).mean(),
        "this is 1 − p.": [1 - right, (np.abs(orders) < abs(observed) - 1e-9).mean()],
        "this is the number of orders; divide it by n!.": right * count,
        "this p-value assumes a distribution; with so few points list all orders.": float(stats.spearmanr(x, y).pvalue),
    })  # fmt: skip


@without_source
def interval(bootstrap_interval: Function, *, seed: int) -> None:
    """`bootstrap_interval` is the middle 95 % of the rank correlation over resamples, some of them constant."""
    x, y = _related(seed, 12)
    x[:3] = x[0]
    generator = random(seed + 1)
    picks = torch.randint(12, (20 * int(torch.randint(9, 16, (), generator=generator)), 12), generator=generator)
    picks[::20] = torch.randint(3, picks[::20].shape, generator=generator)  # x is constant here
    picks[5::40] = torch.randint(12, (len(picks[5::40]), 1), generator=generator)  # and x and y here
    found = bootstrap_interval(torch.tensor(x), torch.tensor(y), picks.clone())
    rows = picks.numpy()

    def drawn(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        return np.array([_spearman(*pair) if all(np.ptp(v) for v in pair) else np.nan for pair in pairs])

    def quantiles(draws: np.ndarray, *levels: float, **options: Any) -> torch.Tensor:
        return torch.tensor(np.quantile(draws[~np.isnan(draws)], levels or (0.025, 0.975), **options))

    draws = drawn((x[row], y[row]) for row in rows)
    zero = np.nan_to_num(draws)
    known = draws[~np.isnan(draws)]
    spread = 1.96 * known.std(ddof=1)
    count = len(known)
    positions = [np.sort(known)[[low, high]] for low in (int(0.025 * count), int(0.025 * count) - 1)
                 for high in (int(0.975 * count), int(0.975 * count) - 1)]  # fmt: skip
    equal("bootstrap_interval", found, quantiles(draws), {
        "resamples in which x or y is constant have no ρ; leave them out.":
            [torch.full((2,), torch.nan), quantiles(zero)],
        "x and y were resampled apart, which breaks the pairs.":
            [quantiles(drawn((x[row], y[other]) for row, other in zip(rows, rows[::-1], strict=True))),
             quantiles(drawn((x, y[row]) for row in rows)), quantiles(drawn((x[row], y) for row in rows))],
        "these are the 5 % and 95 % quantiles, which hold 90 %.": quantiles(draws, 0.05, 0.95),
        "these are the extremes; expected the 2.5 % and 97.5 % quantiles.": torch.tensor([known.min(), known.max()]),
        "the ends are exchanged: the lower one comes first.": quantiles(draws, 0.975, 0.025),
        "the quantiles are of another definition; the sheet asks for linear interpolation, as in np.quantile.":
            [*(quantiles(draws, method=method) for method in METHODS), *map(torch.tensor, positions)],
        "this interval assumes a normal distribution; take quantiles of the resamples.":
            [torch.tensor([c - spread, c + spread]) for c in (known.mean(), _spearman(x, y))],
    })  # fmt: skip


METHODS = ("inverted_cdf", "averaged_inverted_cdf", "closest_observation", "interpolated_inverted_cdf", "hazen",
           "weibull", "median_unbiased", "normal_unbiased", "lower", "higher", "midpoint", "nearest")  # fmt: skip


@without_source
def regret(regret: Function, *, seed: int) -> None:
    """`regret` is the best accuracy less that of the source with the largest α."""
    x, y = _related(seed, int(torch.randint(6, 10, (), generator=random(seed))))
    x[y.argmax()] = x.min() - 1  # the prediction misses the best one
    alpha, accuracy = torch.tensor(x), torch.tensor(0.8 * y / y.max())
    chosen = accuracy[alpha.argmax()]
    equal("regret", regret(alpha.clone(), accuracy.clone()), accuracy.max() - chosen, {
        "the sign is wrong: the regret is never negative.": chosen - accuracy.max(),
        "this is the accuracy of the chosen source; take it from the best one.": chosen,
        "this is relative; the regret is a difference of accuracies.":
            [(accuracy.max() - chosen) / accuracy.max(), chosen / accuracy.max(), (accuracy.max() - chosen) / chosen],
        "the source with the smallest α was chosen.": accuracy.max() - accuracy[alpha.argmin()],
        "the regret is in accuracy, not in α.": alpha.max() - alpha[accuracy.argmax()],
        "this is the regret against the mean source; expected against the best one.": accuracy.mean() - chosen,
        "these are percent; expected a difference of accuracies.": 100 * (accuracy.max() - chosen),
        "this is the regret of the worst choice; expected that of the source with the largest α.":
            accuracy.max() - accuracy.min(),
    })  # fmt: skip
    others = accuracy[accuracy < accuracy.max()].max()
    equal("regret", regret(accuracy.clone(), accuracy.clone()), torch.zeros((), dtype=torch.float64), {
        "the regret of the best choice is 0: the best source is the best of all, the chosen one among them.":
            [others - accuracy.max(), accuracy.max() - others],
    })  # fmt: skip
