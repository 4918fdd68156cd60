"""Does α forecast transfer? The published source models taken together, and what is lost by trusting each predictor.

A *run* is one target model with all sources that were transferred to its data: only these can be compared, because
another target has other images and other accuracies. So every number here is made within runs. A *recipe* is one
architecture in one way of training. A run counts if it has most recipes, so that architectures and ways are crossed.
"""

from collections.abc import Callable, Mapping
from math import comb
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, field_validator

from advtransfer.experiments import crossed
from advtransfer.experiments.protocol import SHORT
from advtransfer.records.configs import Config as BaseConfig
from advtransfer.records.published import RESULTS, Published, published, rows_of
from advtransfer.records.record import Arrays, Record, Tables
from advtransfer.records.runs import recorded

__all__ = ["PREDICTORS", "SCOPES", "TABLES", "Config", "expected_best", "files", "required", "run"]

TABLES = ("sources", "forecasts", "series", "choices")
"""The tables of a record."""

PREDICTORS: dict[str, Literal[1, -1]] = {
    "source_accuracy": 1,
    "alpha1": 1,
    "alpha2": 1,
    "alpha12": 1,
    "distance": -1,
}
"""What may forecast the accuracy after transfer, and the sign that its correlation should have."""

SCOPES = {
    "run": "all sources of a run",
    "other corpora": "sources of other corpora",
    "architecture": "sources of one architecture",
    "architectures": "means of the architectures",
    "band": "sources of about the same accuracy",
    "given accuracy": "own accuracy held fixed",
    "given both": "own accuracy and architecture held fixed",
}
"""Which sources are compared with each other, in words for the page."""
FIXED = ("given accuracy", "given both")
"""The scopes in which own accuracy is held fixed, and α1 when own accuracy is the predictor."""
ASKED = {"texts": ("run", "other corpora", "given accuracy"), "similar domains": ("run",)}
"""The scopes of what is not images."""
OF_IMAGES = tuple(scope for scope in SCOPES if scope != "other corpora")

COLUMNS = ("domain", "kind", "series", "run", "seed", "recipe", "model", *PREDICTORS, "transfer_accuracy", "of_target")
"""What is known of a source. ``kind`` is its way of training; ``model`` its architecture, or what else makes sources
alike: the classes that it has learnt, or its corpus. ``of_target``: it has learnt the target's own corpus."""

IMAGES = ("trained", "brief", "slim", "unaugmented", "robust", "few")
SUBSETS = "trained"
TEXTS = ("tuned", "brief", "few")
SHOWN = ("coverage.json", "schedules.json")  # beside the records: a page made from others is out of date
EXPERIMENTS = ("vision", "similarity", "selection_texts")
MOST = 0.8  # share of the recipes that a run must have
ROWS_AT_LEAST = 5  # architectures, or what else is drawn as a whole


class Config(BaseConfig):
    """Which published sources to pool, and how to judge the predictors."""

    PROFILES: ClassVar = {"smoke": {"resamples": 99}, "quick": {}, "paper": {"resamples": 9999}}

    series: tuple[str, ...] = Field(IMAGES, min_length=1, description="series of image runs to pool, on all targets")
    candidates: int = Field(5, ge=2, le=100, description="sources among which one is chosen")
    band: float = Field(0.1, gt=0, le=1, description="width of a band of own accuracy")
    resamples: int = Field(1999, ge=9, le=100_000, description="bootstrap samples and permutations")

    @field_validator("series")
    @classmethod
    def _published(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = sorted({_series(name).removesuffix("-shift") for name in published("vision")})
        if missing := [name for name in value if name not in known]:
            raise ValueError(f"published series ({', '.join(known)}), not {', '.join(missing)}")
        return value


def required(config: Config) -> list[str]:
    """The data sets that must be in the data root: none, for the published records are in the repository."""
    return []


def files(config: Config, results: Path = RESULTS) -> dict[str, Path]:
    """The head of each published record that is read, with the digests of the rest; and what else the page shows."""
    records = {
        f"{experiment}/{name}": results / experiment / name / "record.json"
        for experiment in EXPERIMENTS
        for name in published(experiment, results)
    }
    return records | {name: path for name in SHOWN if (path := results / name).is_file()}


@recorded
def run(config: Config) -> tuple[Tables, Arrays]:
    """Pool the published sources.

    Tables: ``sources`` (every source that is pooled, with its domain, run and recipe); ``forecasts`` (correlations of
    accuracy after transfer with each predictor, by domain and scope); ``series`` (the same over the sources of one
    series, and over all of them); ``choices`` (what is lost by trusting each predictor).
    """
    return pooled(config, {name: published(name) for name in EXPERIMENTS}), {}


def pooled(config: Config, records: Mapping[str, Published]) -> Tables:
    """The tables of a record."""
    images = image_sources(records["vision"])
    kept = images[images["kind"].isin(config.series)]
    parts = [kept, subset_sources(records["similarity"]), text_sources(records["selection_texts"])]
    every = pd.concat([part for part in parts if len(part)], ignore_index=True)
    sources = pd.concat([complete(part) for _, part in every.groupby("domain", sort=False)], ignore_index=True)
    return {
        "sources": sources.astype({"seed": int}),
        "forecasts": forecasts(config, sources),
        "series": by_series(config, images),
        "choices": choices(config, sources[sources["domain"].str.startswith("images")]),
    }


# The sources.


def image_sources(records: Published) -> pd.DataFrame:
    """The sources of image runs. Series on several targets, such as trained and trained-shift, are of one kind.

    The newer series of one seed share a target model if it was trained on the same kind of device; each of the older
    ones has its own.
    """
    parts = [rows_of({name: records[name]}).assign(device=_device(records[name])) for name in records]
    table = pd.concat(parts, ignore_index=True)
    kind = table["series"].str.removesuffix("-shift")
    run = table["target"] + ", seed " + table["seed"].astype(str) + table["device"]
    return _plain(
        table,
        domain="images, " + table["target"].map(SHORT),
        kind=kind,
        recipe=kind + " " + table["architecture"],
        run=run.where(kind.isin(IMAGES), run + ", " + kind),
        model=table["label"],
    )


def subset_sources(records: Published) -> pd.DataFrame:
    """The sources of Table 3, T→S: five networks that have learnt some classes of the target's domain or none.

    Both domains have the same five networks. Their own accuracy is no predictor here, for each has its own classes.
    """
    chosen = {name: record for name, record in records.items() if _series(name).removesuffix("-shift") == SUBSETS}
    if not chosen:
        return pd.DataFrame()
    keys = ["series", "seed", "domain", "animals"]
    reached = rows_of(chosen)[[*keys, "target", "transfer_accuracy"]].astype({"animals": str})
    moved = rows_of(chosen, "transfers").query("attacked == 'target' and evaluated != 'target'")
    moved = moved.rename(columns={"evaluated": "similarity"}).astype({"similarity": str})
    learnt = rows_of(chosen)[["series", "seed", "domain", "similarity", "animals"]].astype(str).astype({"seed": int})
    table = moved.drop(columns="target").merge(learnt, on=["series", "seed", "domain", "similarity"])
    table = table.merge(reached, on=keys)
    return _plain(
        table.assign(source_accuracy=np.nan),
        domain="similar domains",
        kind=table["series"].str.removesuffix("-shift"),
        recipe=table["animals"] + " animals",
        run=table["target"] + ", " + table["domain"] + ", seed " + table["seed"].astype(str),
        model=table["animals"] + " animals",
    )


def text_sources(records: Published) -> pd.DataFrame:
    """The text models of the study of scores; own accuracy is that on the source's own corpus."""
    chosen = {name: record for name, record in records.items() if _series(name).partition("-")[0] in TEXTS}
    table = rows_of(chosen)
    if table.empty:
        return table
    kind = table["series"].str.partition("-")[0]
    return _plain(
        table.rename(columns={"probe_accuracy": "transfer_accuracy"}),
        domain="texts",
        kind=kind,
        recipe=kind + " " + table["architecture"],
        run=table["target"] + ", seed " + table["seed"].astype(str),
        model=table["label"],
        of_target=table["architecture"] == table["target"],
    )


def _device(record: Record) -> str:
    return ", CPU" if record.provenance["device"].startswith("cpu") else ""


def complete(sources: pd.DataFrame) -> pd.DataFrame:
    """The sources of the runs that have most recipes of a domain."""
    return sources[sources.groupby("run")["recipe"].transform("nunique") >= MOST * sources["recipe"].nunique()]


def _plain(table: pd.DataFrame, **about: "str | bool | pd.Series[Any]") -> pd.DataFrame:
    return table.assign(**{"of_target": False, **about})[list(COLUMNS)]


def _series(name: str) -> str:
    return name.rpartition("-seed")[0]


# Correlations.


def forecasts(config: Config, sources: pd.DataFrame) -> pd.DataFrame:
    """A row per domain, scope and predictor: Spearman's correlation within runs, with interval, p and numbers.

    Ranks are taken among the sources that are compared, set to a mean of zero and put together. ``n`` counts the
    sources that have another one to be compared with, ``rows`` and ``columns`` what is drawn and permuted as a whole
    (`crossed`), ``runs`` the target models. ``ahead`` is how much larger the correlation of own accuracy is, with an
    interval from the same draws. A domain with fewer than five rows has none here, nor has a scope in which no source
    has another one to be compared with.
    """
    found = []
    for domain, part in sources.groupby("domain", sort=False):
        if part["model"].nunique() < ROWS_AT_LEAST:
            continue
        known = [name for name in PREDICTORS if part[name].notna().all()]
        for scope in ASKED.get(str(domain), OF_IMAGES):
            compared = _compared(config, part, scope)
            for predictor in known:
                about = {"domain": domain, "scope": scope, "predictor": predictor}
                found.append(about | _score(config, compared, predictor, fixed=scope in FIXED))
    return pd.DataFrame(found).dropna(subset="r", ignore_index=True)


class Compared(NamedTuple):
    """Sources with their ranks, and how they are crossed."""

    ranks: pd.DataFrame
    design: crossed.Design


def _compared(config: Config, part: pd.DataFrame, scope: str) -> Compared:
    """Ranks among the sources that a scope compares."""
    by = ["run"]
    if scope == "architectures":
        known = [*PREDICTORS, "transfer_accuracy"]
        part = part.groupby(["run", "model"], as_index=False, sort=False)[known].mean().assign(kind="mean")
    elif scope in ("architecture", "given both"):
        by = ["run", "model"]
    elif scope == "other corpora":
        part = part[~part["of_target"]]
    elif scope == "band":
        part, by = part.assign(band=part["source_accuracy"] // config.band), ["run", "band"]
    return ranked(part, by)


def ranked(part: pd.DataFrame, by: list[str]) -> Compared:
    """Each source's predictors and accuracy as ranks within its group, from −½ to ½."""
    columns = [name for name in (*PREDICTORS, "transfer_accuracy") if part[name].notna().all()]
    sizes = part.groupby(by)["transfer_accuracy"].transform("size")
    ranks = part.groupby(by)[columns].rank()
    ranks = ranks.sub((sizes + 1) / 2, axis=0).div(sizes, axis=0)
    return Compared(ranks, crossed.design(part, "model", "kind", by))


def _score(config: Config, compared: Compared, predictor: str, *, fixed: bool = False) -> dict[str, float]:
    ranks, design = compared
    x, y = ranks[predictor].to_numpy(), ranks["transfer_accuracy"].to_numpy()
    other = "alpha1" if predictor == "source_accuracy" else "source_accuracy"
    given = ranks[other].to_numpy() if fixed else None
    found = crossed.correlate(design, x, y, given, resamples=config.resamples)
    alone = np.bincount(design.group)[design.group] == 1
    rows, columns, runs = (int(places.max()) + 1 for places in (design.row, design.column, design.run))
    about = found._asdict() | {"n": int((~alone).sum()), "rows": rows, "columns": columns, "runs": runs}
    if not fixed and "source_accuracy" in ranks and np.isfinite(found.r):
        times = crossed.weights(design, config.resamples, seed=0)
        own = ranks["source_accuracy"].to_numpy()
        drawn = [crossed.correlations(times, design, v, y) for v in (own, x)]
        low, high = np.nanquantile(drawn[0] - drawn[1], [0.025, 0.975])
        once = np.ones((1, len(y)))
        ahead = crossed.correlations(once, design, own, y)[0] - found.r
        about |= {"ahead": float(ahead), "ahead_low": float(low), "ahead_high": float(high)}
    return about


def by_series(config: Config, images: pd.DataFrame) -> pd.DataFrame:
    """Correlations within runs for each series of image runs, old and new; and over all of them.

    ``series`` is "all" for every stored source within its run, and "ranked together" if the sources of all targets are
    ranked as if they were alike, which is a mistake that the page shows. Here only architectures are drawn.
    """
    images = images.assign(place=images["run"] + images["kind"], all=0)
    parts = [(series, part, "run") for series, part in images.groupby("series", sort=False)]
    new = images[images["kind"].isin(config.series)]
    parts += [
        ("all", images, "run"),
        ("ranked together", images, "all"),
        ("new, ranked together", new, "all"),
    ]
    found = []
    for series, part, group in parts:
        if part.empty:
            continue
        about = {"series": series, "low_accuracy": part["source_accuracy"].min()}
        about |= {"high_accuracy": part["source_accuracy"].max(), "seeds": part["seed"].nunique()}
        part = part.assign(compared=part[group], run=part["place"], kind="")
        for predictor in ("source_accuracy", "alpha1"):
            found.append({**about, "predictor": predictor, **_score(config, ranked(part, ["compared"]), predictor)})
    return pd.DataFrame(found)


# Choices.

Floats = NDArray[np.float64]


def choices(config: Config, images: pd.DataFrame) -> pd.DataFrame:
    """A row per domain and predictor: what one loses by trusting it, in shares of accuracy, averaged over runs.

    ``regret`` is the accuracy that the best of `candidates` sources, drawn at random from a run, has more than the one
    with the best score among them; ``regret_all`` is the same with all sources of the run as candidates, and has no
    interval, for the one best source jumps. ``error`` is the mean absolute error of a straight line in the predictor,
    fitted to the other recipes of the run, at a recipe that it has not seen. ``more`` is the regret minus that of own
    accuracy. Intervals (``_low``, ``_high``) draw whole architectures and whole ways of training. "chance" chooses at
    random, and forecasts the mean. Runs with fewer than twice as many recipes as candidates are left out.
    """
    found = []
    for domain, part in images.groupby("domain", sort=False):
        if part["recipe"].nunique() < 2 * config.candidates:
            continue
        design = crossed.design(part, "model", "kind", ["run"])
        times = np.concatenate([np.ones((1, len(part))), crossed.weights(design, config.resamples, seed=0)])
        runs = [np.flatnonzero(design.run == k) for k in np.unique(design.run)]
        value = part["transfer_accuracy"].to_numpy()
        known: dict[str, Floats | None] = {name: sign * part[name].to_numpy() for name, sign in PREDICTORS.items()}
        known["chance"] = None
        lost = {name: _mean_over(runs, times, score, value, regret(config.candidates)) for name, score in known.items()}
        numbers = {"sources": len(part), "recipes": part["recipe"].nunique(), "runs": len(runs)}
        for predictor, score in known.items():
            row: dict[str, Any] = {"domain": domain, "predictor": predictor, **numbers}
            row |= _drawn("regret", lost[predictor]) | _drawn("more", lost[predictor] - lost["source_accuracy"])
            row |= _drawn("error", _mean_over(runs, times, score, value, error))
            every = _mean_over(runs, times[:1], score, value, regret())
            found.append({**row, "regret_all": every[0]})
    return pd.DataFrame(found)


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
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    return {name: float(values[0]), f"{name}_low": float(low), f"{name}_high": float(high)}


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
    (Belsley, Kuh and Welsch 1980).
    """
    columns = [np.ones_like(value)] if score is None else [np.ones_like(value), score]
    x = np.stack(columns, 1)
    gram = np.linalg.pinv(x.T @ (times[:, None] * x))
    residual = value - x @ (gram @ (x.T @ (times * value)))
    leverage = times * np.einsum("ij,jk,ik->i", x, gram, x)
    kept = (times > 0) & (leverage < 1 - 1e-9)
    return float(np.average(np.abs(residual[kept] / (1 - leverage[kept])), weights=times[kept]))


def expected_best(score: Floats, value: Floats, candidates: int) -> float:
    """The expected value of the one with the highest score among `candidates` of N items, drawn without repetition.

    Ties in the score are broken by order. With the value as its own score this is the expected best value.

    Examples
    --------
    >>> expected_best(np.array([3.0, 1.0, 2.0]), np.array([0.9, 0.5, 0.1]), 2)  # of three pairs
    0.6333333333333333
    """
    order = np.argsort(-score, kind="stable")
    n = len(score)
    chosen = [comb(n - 1 - place, candidates - 1) / comb(n, candidates) for place in range(n)]
    return float(np.dot(chosen, value[order]))
