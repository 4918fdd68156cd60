"""Does α forecast transfer? The published source models taken together, and what is lost by trusting each predictor.

A *run* is one target model with all sources that were transferred to its data: only these can be compared, because
another target has other images and other accuracies. So every number here is made within runs. A *recipe* is a way to
make a source, alike but for the seed: seeds of one recipe are no independent evidence, so they are drawn and permuted
together.
"""

from collections.abc import Callable, Mapping
from functools import partial
from math import comb
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, field_validator

from advtransfer.experiments.protocol import SHORT
from advtransfer.records.configs import Config as BaseConfig
from advtransfer.records.published import RESULTS, Published, first_series, published, rows_of
from advtransfer.records.record import Arrays, Tables
from advtransfer.records.runs import recorded
from advtransfer.statistics import correlate

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
    "architecture": "sources of one architecture",
    "architectures": "means of the architectures",
    "band": "sources of about the same accuracy",
    "given accuracy": "own accuracy held fixed",
}
"""Which sources are compared with each other, in words for the page."""

COLUMNS = ("domain", "kind", "series", "run", "seed", "recipe", "model", *PREDICTORS, "transfer_accuracy")
"""What is known of a source; ``model`` is its architecture, or empty where all sources have the same."""

IMAGES = ("trained", "brief", "slim", "unaugmented", "robust", "few")
SUBSETS = "trained"
SHOWN = ("coverage.json", "schedules.json")  # beside the records: a page made from others is out of date
TEXTS = ("whole", "minilm")  # the first that is published


class Config(BaseConfig):
    """Which published sources to pool, and how to judge the predictors."""

    PROFILES: ClassVar = {"smoke": {"resamples": 99}, "quick": {}, "paper": {"resamples": 9999}}

    series: tuple[str, ...] = Field(IMAGES, min_length=1, description="series of image runs to pool, on all targets")
    candidates: int = Field(5, ge=2, le=100, description="sources among which one is chosen")
    band: float = Field(0.1, gt=0, le=1, description="width of a band of own accuracy")
    resamples: int = Field(1999, ge=1, le=100_000, description="bootstrap samples and permutations")

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
        for experiment in ("vision", "similarity", "text")
        for name in published(experiment, results)
    }
    return records | {name: path for name in SHOWN if (path := results / name).is_file()}


@recorded
def run(config: Config) -> tuple[Tables, Arrays]:
    """Pool the published sources.

    Tables: ``sources`` (every source that is pooled, with its domain, run and recipe); ``forecasts`` (correlations of
    accuracy after transfer with each predictor, by domain and scope); ``series`` (the same over the sources of one
    series, and over all sources thrown together); ``choices`` (what is lost by trusting each predictor).
    """
    return pooled(config, {name: published(name) for name in ("vision", "similarity", "text")}), {}


def pooled(config: Config, records: Mapping[str, Published]) -> Tables:
    """The tables of a record."""
    images = image_sources(rows_of(records["vision"]))
    kept = images[images["kind"].isin(config.series)]
    subsets, texts = subset_sources(records["similarity"]), text_sources(records["text"])
    sources = pd.concat([part for part in (kept, subsets, texts) if len(part)], ignore_index=True)
    return {
        "sources": sources.astype({"seed": int}),
        "forecasts": forecasts(config, sources),
        "series": by_series(config, images),
        "choices": choices(config, kept),
    }


# The sources.


def image_sources(table: pd.DataFrame) -> pd.DataFrame:
    """The sources of image runs. Series on several targets, such as trained and trained-shift, are of one kind."""
    kind = table["series"].str.removesuffix("-shift")
    return _plain(
        table,
        domain="images, " + table["target"].map(SHORT),
        kind=kind,
        recipe=kind + " " + table["architecture"],
        run=table["target"] + ", seed " + table["seed"].astype(str),
        model=table["label"],
    )


def subset_sources(records: Published) -> pd.DataFrame:
    """The sources of Table 3, which have learnt some classes of the target's domain or none."""
    chosen = {name: record for name, record in records.items() if _series(name).removesuffix("-shift") == SUBSETS}
    table = rows_of(chosen or records)
    if table.empty:
        return table
    return _plain(
        table,
        domain="similar domains",
        kind=table["series"].str.removesuffix("-shift"),
        recipe=table["domain"] + " from " + table["animals"].astype(str) + " animals",
        run=table["target"] + ", " + table["domain"] + ", seed " + table["seed"].astype(str),
        model="",
    )


def text_sources(records: Published) -> pd.DataFrame:
    """The sources of Table 2, under the attack on words; own accuracy is that on the source's own corpus."""
    if not (chosen := first_series(records, *TEXTS)):
        return pd.DataFrame()
    table = rows_of(chosen).query("view == 'word' and direction == 'T→S'")
    own = rows_of(chosen, "models")[["corpus", "seed", "accuracy"]]
    own = own.rename(columns={"corpus": "source", "accuracy": "source_accuracy"})
    joined = table.merge(own, on=["source", "seed"])
    run = "seed " + joined["seed"].astype(str)
    return _plain(joined, domain="texts", kind=table["series"].iloc[0], recipe=joined["source"], run=run, model="")


def _plain(table: pd.DataFrame, **about: "str | pd.Series[Any]") -> pd.DataFrame:
    return table.assign(**about)[list(COLUMNS)]


def _series(name: str) -> str:
    return name.rpartition("-seed")[0]


# Correlations.


def forecasts(config: Config, sources: pd.DataFrame) -> pd.DataFrame:
    """A row per domain, scope and predictor: Spearman's correlation within runs, with interval, p and numbers.

    Ranks are taken among the sources that are compared, set to a mean of zero and put together. ``n`` counts sources,
    ``recipes`` the groups that are drawn and permuted, ``runs`` the target models. Fewer than ten sources, or five
    groups of them, have no row.
    """
    found = []
    for domain, part in sources.groupby("domain", sort=False):
        for scope in SCOPES:
            compared, group, given = _compared(config, part, scope)
            for predictor in PREDICTORS:
                if compared is not None and predictor != given:
                    about = {"domain": domain, "scope": scope, "predictor": predictor}
                    found.append(about | _score(config, compared, predictor, group, given))
    return pd.DataFrame(found)


def _compared(config: Config, part: pd.DataFrame, scope: str) -> tuple[pd.DataFrame | None, str, str | None]:
    """Centred ranks of the sources that a scope compares; what is drawn as a whole; what is held fixed."""
    by, group, given = ["run"], "recipe", None
    if scope == "given accuracy":
        given = "source_accuracy"
    elif scope == "band":
        part, by = part.assign(band=part["source_accuracy"] // config.band), ["run", "band"]
    elif scope != "run":
        part, by = part[part["model"] != ""], ["run", "model"]
        if scope == "architectures":
            columns = [*PREDICTORS, "transfer_accuracy"]
            part, by, group = part.groupby(by, as_index=False)[columns].mean(), ["run"], "model"
    ranked = centred_ranks(part, by)
    enough = len(ranked) >= 10 and ranked[group].nunique() >= 5
    return (ranked if enough else None), group, given


def centred_ranks(table: pd.DataFrame, by: list[str], least: int = 3) -> pd.DataFrame:
    """Each row's predictors and accuracy as ranks among its group, from −½ to ½; groups of fewer than `least` go."""
    columns = [*PREDICTORS, "transfer_accuracy"]
    sizes = table.groupby(by)["transfer_accuracy"].transform("size")
    table, sizes = table[sizes >= least], sizes[sizes >= least]
    ranks = table.groupby(by)[columns].rank()
    return table.assign(**{name: (ranks[name] - (sizes + 1) / 2) / sizes for name in columns})


def _score(
    config: Config, ranked: pd.DataFrame, predictor: str, group: str, given: str | None = None
) -> dict[str, float]:
    held = ranked[given] if given else None
    found = correlate(
        ranked[predictor], ranked["transfer_accuracy"], given=held, groups=ranked[group], resamples=config.resamples
    )
    return {**found._asdict(), "recipes": ranked[group].nunique(), "runs": ranked["run"].nunique()}


def by_series(config: Config, images: pd.DataFrame) -> pd.DataFrame:
    """Correlations within runs for each series of image runs, old and new; and over all sources, compared as if alike.

    In the last rows, ``series`` is "all": the sources of all targets are ranked together, which is a mistake that the
    page shows.
    """
    found = []
    for series, part in images.groupby("series", sort=False):
        about = {"series": series, "low_accuracy": part["source_accuracy"].min()}
        about |= {"high_accuracy": part["source_accuracy"].max(), "seeds": part["seed"].nunique()}
        ranked = centred_ranks(part, ["run"])
        for predictor in ("source_accuracy", "alpha1"):
            found.append({**about, "predictor": predictor, **_score(config, ranked, predictor, "recipe")})
    ranked = centred_ranks(images.assign(all=0), ["all"])
    for predictor in ("source_accuracy", "alpha1"):
        found.append({"series": "all", "predictor": predictor, **_score(config, ranked, predictor, "recipe")})
    return pd.DataFrame(found)


# Choices.

Floats = NDArray[np.float64]


def choices(config: Config, images: pd.DataFrame) -> pd.DataFrame:
    """A row per domain and predictor: what one loses by trusting it, in shares of accuracy, averaged over runs.

    ``regret`` is the accuracy that the best of `candidates` sources, drawn at random from a run, has more than the one
    with the best score among them; ``regret_all`` is the same with all sources of the run as candidates. ``error`` is
    the mean absolute error of a straight line in the predictor, fitted to the other recipes of the run, at a recipe
    that it has not seen. Intervals (``_low``, ``_high``) are those of a jackknife over recipes; ``regret_all`` has
    none, for the one best source jumps. "chance" chooses at random, and forecasts the mean. Runs with fewer than twice
    as many recipes as candidates are left out.
    """
    found = []
    for domain, part in images.groupby("domain", sort=False):
        large = part.groupby("run")["recipe"].transform("nunique") >= 2 * config.candidates
        part = part[large]
        if part.empty:
            continue
        numbers = {"sources": len(part), "recipes": part["recipe"].nunique(), "runs": part["run"].nunique()}
        for predictor in (*PREDICTORS, "chance"):
            row: dict[str, object] = {"domain": domain, "predictor": predictor, **numbers}
            row["regret_all"] = _regret(config, part, predictor, candidates=len(part))
            for name, measure in (("regret", _regret), ("error", _error)):
                row |= _jackknifed(name, part, partial(measure, config, predictor=predictor))
            found.append(row)
    return pd.DataFrame(found)


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


def _regret(config: Config, table: pd.DataFrame, predictor: str, candidates: int | None = None) -> float:
    lost = []
    for _, part in table.groupby("run"):
        value = part["transfer_accuracy"].to_numpy()
        size = min(candidates or config.candidates, len(part))
        best = expected_best(value, value, size)
        if predictor == "chance":
            lost.append(best - value.mean())
        else:
            lost.append(best - expected_best(PREDICTORS[predictor] * part[predictor].to_numpy(), value, size))
    return float(np.mean(lost))


def _error(config: Config, table: pd.DataFrame, predictor: str) -> float:
    errors = []
    for _, part in table.groupby("run"):
        for _, left_out in part.groupby("recipe"):
            others = part.drop(left_out.index)
            expected = np.full(len(left_out), others["transfer_accuracy"].mean())
            if predictor != "chance":
                line = np.polynomial.Polynomial.fit(others[predictor], others["transfer_accuracy"], 1)
                expected = line(left_out[predictor].to_numpy())
            errors.append(np.abs(left_out["transfer_accuracy"].to_numpy() - expected).mean())
    return float(np.mean(errors))


def _jackknifed(name: str, table: pd.DataFrame, measure: Callable[[pd.DataFrame], float]) -> dict[str, float]:
    """A measure of a table with its interval, from leaving out one recipe after the other (Efron and Stein 1981)."""
    value = measure(table)
    left = np.array([measure(table[table["recipe"] != recipe]) for recipe in table["recipe"].unique()])
    n = len(left)
    half = 1.96 * np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum())
    return {name: value, f"{name}_low": value - half, f"{name}_high": value + half}
