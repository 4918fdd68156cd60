"""Does α forecast transfer? The published source models taken together, and what is lost by trusting each predictor.

The sources are those of `pool`; every number is made within runs. What is lost is measured in `regret`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from advtransfer.experiments import crossed, pool
from advtransfer.experiments.pool import PREDICTORS
from advtransfer.experiments.regret import choices
from advtransfer.records.configs import Config as BaseConfig
from advtransfer.records.published import NO_RUNS, RESULTS, Published, published, series_of
from advtransfer.records.record import Arrays, Tables
from advtransfer.records.runs import recorded

__all__ = ["SCOPES", "TABLES", "Config", "files", "run"]

TABLES = ("sources", "forecasts", "series", "choices")
"""The tables of a record."""

SCOPES = {
    "run": "all sources of a run",
    "other corpora": "sources of other corpora",
    "family": "ResNets among themselves, and plain networks",
    "architecture": "sources of one architecture",
    "architectures": "means of the architectures",
    "band": "sources of about the same accuracy",
    "given accuracy": "own accuracy held fixed",
    "given both": "own accuracy and architecture held fixed",
    "given distance": "gradient matching distance held fixed",
}
"""Which sources are compared with each other, in words for the page."""
FIXED = {"given accuracy": "source_accuracy", "given both": "source_accuracy", "given distance": "distance"}
"""The scopes in which a predictor is held fixed; α1 is, where this is the one that is judged."""
ASKED = {"texts": ("run", "other corpora", "given accuracy"), "similar domains": ("run",)}
"""The scopes of what is not images."""
OF_IMAGES = tuple(scope for scope in SCOPES if scope != "other corpora")

EXPERIMENTS = ("vision", "similarity", "selection_texts")
ROWS_AT_LEAST = 5  # architectures, or what else is drawn as a whole


class Config(BaseConfig):
    """Which published sources to pool, and how to judge the predictors."""

    PROFILES: ClassVar = {"smoke": {"resamples": 99, "draws": 99}, "quick": {}, "paper": {"draws": 9999}}

    series: tuple[str, ...] = Field(
        pool.IMAGES, min_length=1, description="series of image runs to pool, on all targets"
    )
    candidates: int = Field(5, ge=2, le=100, description="sources among which one is chosen")
    band: float = Field(0.1, gt=0, le=1, description="width of a band of own accuracy")
    resamples: int = Field(
        100_000, ge=9, le=1_000_000, description="bootstrap samples and permutations of a correlation, at most"
    )
    draws: int = Field(1999, ge=9, le=100_000, description="bootstrap samples of what a choice loses")

    @field_validator("series")
    @classmethod
    def _published(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = sorted({series_of(name).removesuffix("-shift") for name in published("vision")})
        if not known:
            raise ValueError(NO_RUNS)
        if missing := [name for name in value if name not in known]:
            raise ValueError(f"published series ({', '.join(known)}), not {', '.join(missing)}")
        return value


def files(config: Config, results: Path = RESULTS) -> dict[str, Path]:
    """The head of each published record that is read, with the digests of the rest."""
    return {
        f"{experiment}/{name}": results / experiment / name / "record.json"
        for experiment in EXPERIMENTS
        for name in published(experiment, results)
    }


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
    images = pool.image_sources(records["vision"])
    kept = images[images["kind"].isin(config.series)]
    parts = [kept, pool.subset_sources(records["similarity"]), pool.text_sources(records["selection_texts"])]
    every = pd.concat([part for part in parts if len(part)], ignore_index=True)
    sources = pd.concat([pool.complete(part) for _, part in every.groupby("domain", sort=False)], ignore_index=True)
    return {
        "sources": sources.astype({"seed": int}),
        "forecasts": forecasts(config, sources),
        "series": by_series(config, images),
        "choices": choices(
            sources[sources["domain"].str.startswith("images")], config.candidates, config.draws, config.seed
        ),
    }


def forecasts(config: Config, sources: pd.DataFrame) -> pd.DataFrame:
    """A row per domain, scope and predictor: Spearman's correlation within runs, with interval, p and numbers.

    Ranks are taken among the sources that are compared, set to a mean of zero and put together. ``n`` counts the
    sources that have another one to be compared with, ``rows`` and ``columns`` what is drawn and permuted as a whole
    (`crossed`), ``runs`` the target models; ``p_of_rows`` is p if only rows are permuted. ``ahead`` is how much larger
    the correlation of own accuracy is, with an interval from the same draws. Sources for which a predictor is not known
    are left out for this predictor. A domain with fewer than five rows has none here, nor has a scope in which no
    source has another one to be compared with.
    """
    found = []
    for domain, part in sources.groupby("domain", sort=False):
        if part["model"].nunique() < ROWS_AT_LEAST:
            continue
        for scope in ASKED.get(str(domain), OF_IMAGES):
            for predictor in PREDICTORS if scope != "given distance" else ("alpha1", "distance"):
                known = part.dropna(subset=[predictor, FIXED.get(scope, predictor)])
                if known["model"].nunique() < ROWS_AT_LEAST:
                    continue
                about = {"domain": domain, "scope": scope, "predictor": predictor}
                compared = _compared(config, known, scope)
                found.append(about | _score(config, compared, predictor, FIXED.get(scope)))
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
    elif scope == "family":
        part, by = part.assign(family=part["model"].str.startswith("ResNet")), ["run", "family"]
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


def _score(config: Config, compared: Compared, predictor: str, fixed: str | None = None) -> dict[str, float]:
    ranks, design = compared
    x, y = ranks[predictor].to_numpy(), ranks["transfer_accuracy"].to_numpy()
    given = ranks["alpha1" if predictor == fixed else fixed].to_numpy() if fixed else None
    found = crossed.correlate(design, x, y, given, resamples=config.resamples, seed=config.seed)
    of_rows = crossed.p_of_rows(design, x, y, given, resamples=config.resamples)
    alone = np.bincount(design.group)[design.group] == 1
    rows, columns, runs = (int(places.max()) + 1 for places in (design.row, design.column, design.run))
    about = found._asdict() | {
        "p_of_rows": of_rows,
        "n": int((~alone).sum()),
        "rows": rows,
        "columns": columns,
        "runs": runs,
    }
    if not fixed and "source_accuracy" in ranks and np.isfinite(found.r):
        own = ranks["source_accuracy"].to_numpy()
        ahead = crossed.difference(design, own, x, y, resamples=config.resamples, seed=config.seed)
        about |= {"ahead": ahead.value, "ahead_low": ahead.low, "ahead_high": ahead.high}
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
