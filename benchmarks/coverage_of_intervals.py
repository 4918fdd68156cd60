"""How often the intervals of the book hold the truth, and how often its tests cry wolf: simulated at the n it uses.

    python benchmarks/coverage_of_intervals.py [--simulations 1000] [--keep] [--out data/results/coverage.json]

An interval that claims 95% should hold the truth in 95% of all samples, and p ≤ 0.05 should occur in 5% of samples in
which there is nothing. Each row is one kind of interval at one n and one truth; it is itself an estimate from the
simulations, with Wilson's interval. `--keep` leaves the rows that are stored already. It takes an hour of one core,
half of it for the intervals of the study of scores, which are therefore drawn less often.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from advtransfer import intervals, metrics, ranking
from advtransfer.experiments import crossed, study
from advtransfer.experiments.regret import regret as regret_among
from advtransfer.pages.verdicts import judge_correlation
from advtransfer.statistics import correlate, half_width

OUT = Path(__file__).parents[1] / "data" / "results" / "coverage.json"
LEVEL = 0.95
RESAMPLES = 499
SLOW = 4  # how much less often an interval of the study is drawn: it takes more than a second
Draw = Callable[[np.random.Generator], dict[str, bool]]
"""Draws one sample, and says whether the interval holds the truth (held) and whether a test rejects (rejected)."""


def pairs(n: int, rho: float, method: Any, rng: np.random.Generator) -> dict[str, bool]:
    """A bootstrap interval of the correlation of n normal pairs, such as the five sources of a table."""
    x, noise = rng.normal(size=(2, n))
    found = correlate(x, rho * x + math.sqrt(1 - rho**2) * noise, method=method, resamples=RESAMPLES, seed=_seed(rng))
    return _judged(found, _spearman(rho) if method == "spearman" else rho)


def crossing(rho: float, within: bool, rng: np.random.Generator) -> dict[str, bool]:
    """The interval of Spearman's correlation of crossed sources, over all of them or within architectures."""
    x, other = _grids(2, rng)
    return _over_sources(x, rho * x + math.sqrt(1 - rho**2) * other, None, _spearman(rho), rho == 0, within, rng)


def in_runs(runs: int, columns: int, between: float, within: float, rng: np.random.Generator) -> dict[str, bool]:
    """The interval of Spearman's correlation within several runs of the same 5 architectures × ways of training.

    The correlation is `between` for what the architectures differ in, and `within` for the rest.
    """
    x, y = np.zeros((2, runs, 5, columns))
    for share, size, rho in ((0.85, (1, 5, 1), between), (0.05, (1, 1, columns), within), (0.1, x.shape, within)):
        a, b = rng.normal(size=(2, *size))
        x, y = x + math.sqrt(share) * a, y + math.sqrt(share) * (rho * a + math.sqrt(1 - rho**2) * b)
    run, row, column = (places.ravel() for places in np.indices(x.shape))
    ranks = [stats.rankdata(v.reshape(runs, -1), axis=1).ravel() for v in (x, y)]
    found = crossed.correlate(crossed.Design(run, row, column, run), *ranks, resamples=RESAMPLES, seed=_seed(rng))
    return _judged(found, _spearman(0.85 * between + 0.15 * within))


def held_fixed(partial_rho: float, rng: np.random.Generator) -> dict[str, bool]:
    """The interval of their correlation with a third variable held fixed, on which both depend."""
    z, x, noise = _grids(3, rng)
    y = partial_rho * x + math.sqrt(1 - partial_rho**2) * noise
    x, y = (math.sqrt(0.5) * z + math.sqrt(0.5) * part for part in (x, y))
    both, each = _spearman(0.5 + 0.5 * partial_rho), _spearman(math.sqrt(0.5))
    return _over_sources(x, y, z, (both - each**2) / (1 - each**2), partial_rho == 0, False, rng)


def _grids(k: int, rng: np.random.Generator) -> np.ndarray:
    """k independent variables of 5 architectures × 6 ways of training, of which each has its own part."""
    rows, columns, own = (rng.normal(size=(k, *size)) for size in ((5, 1), (1, 6), (5, 6)))
    return math.sqrt(0.85) * rows + math.sqrt(0.05) * columns + math.sqrt(0.1) * own  # as in the stored sources


def _over_sources(
    x: np.ndarray, y: np.ndarray, z: np.ndarray | None, truth: float, nothing: bool, within: bool, rng: Any
) -> dict[str, bool]:
    place = [values.ravel() for values in np.indices(x.shape)]
    made = crossed.Design(np.zeros(x.size, int), *place, place[0] if within else np.zeros(x.size, int))
    ranks = [stats.rankdata(v, axis=1 if within else None).ravel() for v in (x, y, z) if v is not None]
    found = crossed.correlate(made, *ranks, resamples=RESAMPLES, seed=_seed(rng))
    return _judged(found, truth, nothing=nothing)


def scores(noise: float, rng: np.random.Generator) -> dict[str, bool]:
    """The study's interval of a score's mean weighted τ over 30 recipes and 8 targets, and its test of two scores."""
    made = _study(noise, rng)
    config = study.Config(resamples=199, seed=_seed(rng))
    first, second = (study.drawn(config, made, made.predictors[name])[:, 0] for name in ("first", "second"))
    low, high = np.nanquantile(first, [0.025, 0.975])
    p = study.tail_probability(first - second)
    return {"held": bool(low <= _study_truth(noise) <= high), "rejected": bool(p <= 1 - LEVEL)}


def _study(noise: float, rng: np.random.Generator) -> study.Grid:
    """Two scores that are equally good, and the truth, which depends on the recipe and on the target."""
    recipes, targets = [f"recipe {k}" for k in range(30)], [f"target {k}" for k in range(8)]
    value = rng.normal(size=(30, 1))
    truth = value + 0.5 * rng.normal(size=(30, 8))
    made = {name: value + noise * (rng.normal(size=(30, 1)) + rng.normal(size=(30, 8))) for name in ("first", "second")}
    return study.Grid(recipes, targets, truth, made)


@cache
def _study_truth(noise: float) -> float:
    """The expected weighted τ of 30 recipes on one target, from many draws."""
    rng, found = np.random.default_rng(1), []
    for _ in range(400):
        made = _study(noise, rng)
        found += [ranking.agreement(made.predictors["first"][:, k], made.truth[:, k])["weighted"] for k in range(8)]
    return float(np.mean(found))


def seeds(n: int, skewed: bool, rng: np.random.Generator) -> dict[str, bool]:
    """Student's interval of a mean over n seeds, of normal values or of lognormal ones."""
    values = rng.lognormal(0, 0.5, n) if skewed else rng.normal(size=n)
    half = half_width(values.std(ddof=1), n)
    return {"held": bool(abs(values.mean() - (math.exp(0.125) if skewed else 0)) <= half)}


def share(n: int, p: float, rng: np.random.Generator) -> dict[str, bool]:
    """Wilson's interval of an accuracy over n images."""
    low, high = stats.binomtest(int(rng.binomial(n, p)), n).proportion_ci(method="wilson")
    return {"held": bool(low <= p <= high)}


def deviations(n: int, coupling: float, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Deviations of two models with ten outputs; without coupling the second one's have no direction in common."""
    own, other, noise = torch.from_numpy(rng.normal(size=(3, n, 10)))
    return own, 0.5 * (coupling * own + math.sqrt(1 - coupling**2) * noise), other


def metric(name: str, n: int, coupling: float, rng: np.random.Generator) -> dict[str, bool]:
    """The bootstrap interval of a metric from n samples."""
    low, high = getattr(intervals.intervals(*deviations(n, coupling, rng)), name)
    return {"held": bool(low <= _metric_truth(name, coupling) <= high)}


def regret(noise: float, rng: np.random.Generator) -> dict[str, bool]:
    """The interval of the regret among five of 30 crossed sources."""
    value, other = _grids(2, rng).reshape(2, -1)
    place = [values.ravel() for values in np.indices((5, 6))]
    made = crossed.Design(np.zeros(30, int), *place, np.zeros(30, int))
    lost = regret_among(5)
    drawn = [lost(times, value + noise * other, value) for times in crossed.weights(made, RESAMPLES, seed=_seed(rng))]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"held": bool(low <= _regret_truth(noise) <= high)}


def _judged(found: Any, truth: float, *, nothing: bool | None = None) -> dict[str, bool]:
    drawn = {"held": bool(found.low <= truth <= found.high)}
    if truth == 0 if nothing is None else nothing:
        drawn |= {
            "rejected": bool(found.p <= 1 - LEVEL),
            "reproduced": (word := judge_correlation(found, claimed=1)) == "reproduced",
            "right_sign_only": word == "right sign only",
        }
    return drawn


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _spearman(rho: float) -> float:
    """Spearman's correlation of normal variables with Pearson's (Pearson 1907)."""
    return 6 / math.pi * math.asin(rho / 2)


@cache
def _metric_truth(name: str, coupling: float) -> float:
    """The metric itself, from many samples; without coupling, α2 and α1∗α2 are zero."""
    if coupling == 0 and name != "alpha1":
        return 0.0
    found = metrics.from_deviations(*deviations(400_000, coupling, np.random.default_rng(1)))
    return getattr(found, name if name == "alpha1" else f"{name}_unbiased")


@cache
def _regret_truth(noise: float) -> float:
    """The regret among five of infinitely many unrelated sources, from many draws."""
    rng = np.random.default_rng(1)
    value = rng.normal(size=(400_000, 5))
    chosen = (value + noise * rng.normal(size=value.shape)).argmax(1)
    return float((value.max(1) - value[np.arange(len(value)), chosen]).mean())


def cases() -> Iterator[tuple[dict[str, Any], partial[dict[str, bool]]]]:
    """Every kind of interval, at the n that the book uses."""
    for method in ("pearson", "spearman"):
        for n in (4, 5, 10, 13, 39, 300):
            for rho in (0.0, 0.5, 0.9):
                about = {"what": f"correlation, {method.title()}: bootstrap", "n": n, "truth": f"ρ = {rho:g}"}
                yield about, partial(pairs, n, rho, method)
    for what, within in (("over sources", False), ("within architectures", True)):
        for rho in (0.0, 0.5, 0.9):
            about = {"what": f"correlation {what}, 5 architectures × 6 ways: crossed", "n": 30}
            yield {**about, "truth": f"ρ = {rho:g}"}, partial(crossing, rho, within)
    for between, within in ((0.9, 0.25), (0.95, 0.2)):
        about = {"what": "correlation over sources, larger between architectures: crossed", "n": 60}
        yield {**about, "truth": f"ρ = {between:g} and {within:g}"}, partial(in_runs, 2, 6, between, within)
    for rho in (0.0, 0.5):
        about = {"what": "correlation over sources, 5 corpora × 3 ways for 5 targets: crossed", "n": 75}
        yield {**about, "truth": f"ρ = {rho:g}"}, partial(in_runs, 5, 3, rho, rho)
    for rho in (0.0, 0.5, 0.9):
        about = {"what": "correlation over sources, one variable held fixed: crossed", "n": 30}
        yield {**about, "truth": f"partial ρ = {rho:g}"}, partial(held_fixed, rho)
    for noise in (0.5, 1.5):
        about = {"what": "mean weighted τ, 30 recipes on 8 targets: bootstrap", "n": 240}
        yield {**about, "truth": f"{_study_truth(noise):.3f}"}, partial(scores, noise)
    for skewed in (False, True):
        about = {"what": "mean over seeds: Student", "n": 3, "truth": "lognormal values" if skewed else "normal values"}
        yield about, partial(seeds, 3, skewed)
    for n in (300, 5000):
        for p in (0.5, 0.95):
            yield {"what": "accuracy: Wilson", "n": n, "truth": f"{p:.0%}"}, partial(share, n, p)
    for name in ("alpha1", "alpha2", "alpha12"):
        for n in (300, 1000):
            for coupling in (0.0, 0.3, 0.9) if name != "alpha1" else (0.0,):
                about = {"what": f"{name}: bootstrap", "n": n, "truth": f"{_metric_truth(name, coupling):.3f}"}
                yield about, partial(metric, name, n, coupling)
    for noise in (0.3, 1.0):
        about = {"what": "regret among five, 5 architectures × 6 ways: crossed", "n": 30}
        yield {**about, "truth": f"{_regret_truth(noise):.3f}"}, partial(regret, noise)


def simulated(about: dict[str, Any], draw: Draw, simulations: int, seed: int = 0) -> dict[str, Any]:
    """A row: shares of the simulations in which the interval holds the truth, and in which the test rejects."""
    rng = np.random.default_rng(seed)
    drawn = [draw(rng) for _ in range(simulations)]
    row = {**about, "simulations": simulations}
    for name in drawn[0]:
        hits = sum(each[name] for each in drawn)
        low, high = stats.binomtest(hits, simulations).proportion_ci(method="wilson")
        row |= {name: hits / simulations, f"{name}_low": float(low), f"{name}_high": float(high)}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--keep", action="store_true", help="leave the rows that are stored already as they are")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    stored = json.loads(options.out.read_text(encoding="utf-8")) if options.keep else []
    rows = []
    for about, draw in cases():
        known = [row for row in stored if about.items() <= row.items()]
        fewer = SLOW if draw.func is scores else 1
        rows.append(known[0] if known else simulated(about, draw, options.simulations // fewer))
        print(rows[-1], flush=True)
    text = json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False)
    options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
