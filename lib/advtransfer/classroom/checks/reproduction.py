"""Tests of the fourth assignment: rank correlation, its p-value and interval, and what a choice costs."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import stats

from advtransfer.classroom.checks.answers import equal, normal, random

Function = Callable[..., Any]


def _related(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Two related samples whose ranks and values tell different stories."""
    generator = random(seed)
    x = normal(generator, n)
    y = (x + normal(generator, n)).exp()
    return x.numpy(), y.numpy()


def rank_correlation(rank_correlation: Function, *, seed: int, ties: bool = False) -> None:
    """`rank_correlation` is Spearman's, with mean ranks where values are tied."""
    x, y = _related(seed, 9)
    if ties:
        x[:3] = x[0]
    ranks = [np.argsort(np.argsort(v)) for v in (x, y)]
    right = _spearman(x, y)
    equal("rank_correlation", rank_correlation(torch.tensor(x), torch.tensor(y)), right, {
        "this is Pearson's correlation of the values; expected that of the ranks.": stats.pearsonr(x, y)[0],
        "this is Kendall's τ; expected Pearson's correlation of the ranks.": stats.kendalltau(x, y)[0],
        "tied values got different ranks; give each of them the mean of their ranks.": stats.pearsonr(*ranks)[0],
        "argsort gives the order, not the ranks: apply it twice.": stats.pearsonr(np.argsort(x), np.argsort(y))[0],
        "one of the two is ranked the other way round.": -right,
    })  # fmt: skip


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    return float(stats.spearmanr(x, y).statistic)


def permutation_p(permutation_p: Function, *, seed: int) -> None:
    """`permutation_p` is the share of all n! orders whose |ρ| is at least the observed one."""
    draws = (_related((seed + k * 2**16) % 2**32, 5) for k in itertools.count())
    telling = ((x, y) for x, y in draws if abs(_spearman(x, y)) < 0.99)  # at |ρ| = 1 some mistakes give the same result
    for x, y in itertools.islice(telling, 2):  # a single pair may not reveal a mistake
        _one_permutation_p(permutation_p, x, y)


def _one_permutation_p(permutation_p: Function, x: np.ndarray, y: np.ndarray) -> None:
    observed = _spearman(x, y)
    orders = np.array([_spearman(np.array(order), y) for order in itertools.permutations(x)])
    extreme = np.abs(orders) >= abs(observed) - 1e-9
    values = np.array([np.corrcoef(order, y)[0, 1] for order in itertools.permutations(x)])
    equal("permutation_p", permutation_p(torch.tensor(x), torch.tensor(y)), extreme.mean(), {
        "this is one-sided; an order counts if |ρ| is as large, whatever its sign.":
            [(orders >= observed - 1e-9).mean(), (orders <= observed + 1e-9).mean()],
        "the order that was observed is one of the n! and counts too.":
            [(extreme.sum() - 1) / len(orders), (extreme.sum() - 1) / (len(orders) - 1)],
        "orders with the same |ρ| as the observed one count too (compare with a tolerance).":
            (np.abs(orders) > abs(observed) + 1e-9).mean(),
        "the values were correlated, not their ranks.":
            (np.abs(values) >= abs(np.corrcoef(x, y)[0, 1]) - 1e-9).mean(),
        "this is 1 − p.": [1 - extreme.mean(), (np.abs(orders) < abs(observed) - 1e-9).mean()],
        "this p-value assumes a distribution; with five points list all orders.": float(stats.spearmanr(x, y).pvalue),
    })  # fmt: skip


def interval(bootstrap_interval: Function, *, seed: int) -> None:
    """`bootstrap_interval` is the middle 95 % of the rank correlation over resamples of pairs."""
    x, y = _related(seed, 12)
    picks = torch.randint(12, (200, 12), generator=random(seed + 1))
    found = bootstrap_interval(torch.tensor(x), torch.tensor(y), picks.clone())
    rows = picks.numpy()
    draws = np.array([_spearman(x[row], y[row]) for row in rows])
    apart = np.array([_spearman(x[row], y[other]) for row, other in zip(rows, rows[::-1], strict=True)])
    kept = np.array([_spearman(x, y[row]) for row in rows])
    spread = 1.96 * draws.std(ddof=1)
    equal("bootstrap_interval", found, torch.tensor(np.quantile(draws, [0.025, 0.975])), {
        "x and y were resampled apart, which breaks the pairs.":
            [torch.tensor(np.quantile(wrong, [0.025, 0.975])) for wrong in (apart, kept)],
        "these are the 5 % and 95 % quantiles, which hold 90 %.": torch.tensor(np.quantile(draws, [0.05, 0.95])),
        "these are the extremes; expected the 2.5 % and 97.5 % quantiles.": torch.tensor([draws.min(), draws.max()]),
        "the ends are exchanged: the lower one comes first.": torch.tensor(np.quantile(draws, [0.975, 0.025])),
        "this interval assumes a normal distribution; take quantiles of the resamples.":
            [torch.tensor([c - spread, c + spread]) for c in (draws.mean(), _spearman(x, y))],
    })  # fmt: skip


def regret(regret: Function, *, seed: int) -> None:
    """`regret` is the best accuracy less that of the source with the largest α."""
    x, y = _related(seed, 7)
    x[y.argmax()] = x.min() - 1  # the prediction misses the best one
    alpha, accuracy = torch.tensor(x), torch.tensor(y / y.max())
    chosen = accuracy[alpha.argmax()]
    equal("regret", regret(alpha.clone(), accuracy.clone()), accuracy.max() - chosen, {
        "the sign is wrong: the regret is never negative.": chosen - accuracy.max(),
        "this is the accuracy of the chosen source; take it from the best one.": chosen,
        "the source with the smallest α was chosen.": accuracy.max() - accuracy[alpha.argmin()],
        "the regret is in accuracy, not in α.": alpha.max() - alpha[accuracy.argmax()],
        "this is the regret against the mean source; expected against the best one.": accuracy.mean() - chosen,
    })  # fmt: skip
