"""What is lost by trusting a predictor: the accuracy that the best choice among a few sources would have had more."""

from collections.abc import Callable
from functools import cache
from math import comb
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from advtransfer.experiments import crossed
from advtransfer.experiments.pool import PREDICTORS
from advtransfer.statistics import Floats

OWN, CHANCE = "source_accuracy", "chance"


def choices(images: pd.DataFrame, candidates: int, resamples: int, seed: int = 0) -> pd.DataFrame:
    """A row per domain and predictor: what one loses by trusting it, in shares of accuracy, averaged over runs.

    ``regret`` is the accuracy that the best of `candidates` sources, drawn at random from a run, has more than the one
    with the best score among them; ``regret_all`` is the same with all sources of the run as candidates, and has no
    interval, because the best source changes abruptly from draw to draw. ``error`` is the mean absolute error of a
    straight line in the predictor, fitted to the other recipes of the run, at a recipe that it has not seen. ``more``
    is the regret minus that of own accuracy. Intervals (``_low``, ``_high``) draw whole architectures and whole ways
    of training. "chance" chooses at random, and forecasts the mean. A predictor that is not known for all sources is
    judged over those for which it is. Domains with fewer than twice as many recipes as candidates are left out.
    """
    found = []
    for domain, part in images.groupby("domain", sort=False):
        whole = [name for name in PREDICTORS if part[name].notna().all()]
        rows = _rows(part, [*whole, CHANCE], candidates, resamples, seed)
        for name in PREDICTORS:
            if name not in whole:
                known = part.dropna(subset=name)
                rows[name] = _rows(known, [OWN, name], candidates, resamples, seed).get(name, {})
        found += [{"domain": domain, **rows[name]} for name in (*PREDICTORS, CHANCE) if rows.get(name)]
    return pd.DataFrame(found, columns=None if found else ["domain", "predictor"])


def _rows(
    part: pd.DataFrame, predictors: list[str], candidates: int, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """What is lost by trusting each of these predictors; own accuracy, which all are compared with, is among them."""
    if part["recipe"].nunique() < 2 * candidates:
        return {}
    design = crossed.design(part, "model", "kind", ["run"])
    times = np.concatenate([np.ones((1, len(part))), crossed.weights(design, resamples, seed)])
    runs = [np.flatnonzero(design.run == k) for k in np.unique(design.run)]
    value = part["transfer_accuracy"].to_numpy()
    scores = {name: PREDICTORS[name] * part[name].to_numpy() if name != CHANCE else None for name in predictors}
    lost = {name: _mean_over(runs, times, score, value, regret(candidates)) for name, score in scores.items()}
    rows = {}
    for name, score in scores.items():
        row = {"predictor": name, "sources": len(part), "recipes": part["recipe"].nunique(), "runs": len(runs)}
        row |= _drawn("regret", lost[name]) | _drawn("more", lost[name] - lost[OWN])
        row |= _drawn("error", _mean_over(runs, times, score, value, error))
        rows[name] = row | {"regret_all": _mean_over(runs, times[:1], score, value, regret())[0]}
    return rows


Measure = Callable[[Floats, "Floats | None", Floats], float]
"""Of the times that each source of a run is drawn, its score (None: chance), and its value."""


def _mean_over(
    runs: list[NDArray[np.int64]], times: Floats, score: Floats | None, value: Floats, of: Measure
) -> Floats:
    """For each draw the mean of a measure over runs."""
    each = [[of(row[k], None if score is None else score[k], value[k]) for k in runs] for row in times]
    return np.mean(each, axis=1)


def _drawn(name: str, values: Floats) -> dict[str, float]:
    """The value, which comes first, and the interval of the draws after it."""
    low, high = crossed.ends(values[1:])
    return {name: float(values[0]), f"{name}_low": low, f"{name}_high": high}


def regret(candidates: int | None = None) -> Measure:
    """What is lost if the one with the best score among so many drawn sources is taken, or else among all."""

    def lost(times: Floats, score: Floats | None, value: Floats) -> float:
        drawn = np.repeat(np.arange(len(value)), times.astype(int))
        few = candidates or len(drawn)
        if not 0 < few <= len(drawn):
            return float("nan")
        best = expected_best(value[drawn], value[drawn], few)
        if score is None:
            return float(best - value[drawn].mean())
        return best - expected_best(score[drawn], value[drawn], few)

    return lost


def error(times: Floats, score: Floats | None, value: Floats) -> float:
    """The mean absolute error of a line in the score, fitted without the source that it is asked for.

    Leaving out source i changes its residual e of the fit to all by the factor 1 / (1 - h), where h is its leverage
    (Belsley, Kuh and Welsch 1980). NaN where no source can be left out.
    """
    columns = [np.ones_like(value)] if score is None else [np.ones_like(value), score]
    x = np.stack(columns, 1)
    gram = np.linalg.pinv(x.T @ (times[:, None] * x))
    residual = value - x @ (gram @ (x.T @ (times * value)))
    leverage = times * np.einsum("ij,jk,ik->i", x, gram, x)
    kept = (times > 0) & (leverage < 1 - 1e-9)
    if not kept.any():
        return float("nan")
    return float(np.average(np.abs(residual[kept] / (1 - leverage[kept])), weights=times[kept]))


def expected_best(score: Floats, value: Floats, candidates: int) -> float:
    """The expected value of the one with the highest score among `candidates` of N items, drawn without repetition.

    Ties in the score are broken at random. With the value as its own score this is the expected best value.

    Examples
    --------
    >>> expected_best(np.array([3.0, 1.0, 2.0]), np.array([0.9, 0.5, 0.1]), 2)  # of three pairs
    0.6333333333333333
    """
    order = np.argsort(-score, kind="stable")
    score, value = score[order], value[order]
    ties = np.flatnonzero(np.append(True, score[1:] != score[:-1]))  # where each group of equal scores begins
    chances = np.add.reduceat(_chances(len(score), candidates), ties)
    return float(chances @ (np.add.reduceat(value, ties) / np.diff(ties, append=len(score))))


@cache
def _chances(n: int, candidates: int) -> Floats:
    """For each place in the order of N items, the probability that it is the first of those drawn."""
    return np.array([comb(n - 1 - place, candidates - 1) / comb(n, candidates) for place in range(n)])
