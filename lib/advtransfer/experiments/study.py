"""Which score orders sources best? The published measurements of `selection`, pooled over recipes and targets.

The analysis was fixed before any result was seen; the page states it. A *recipe* is one architecture in one series.
Everything is computed within a target and averaged over targets; intervals draw recipes and targets.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field
from scipy import stats

from advtransfer import ranking
from advtransfer.experiments.crossed import tail_probability
from advtransfer.experiments.regret import expected_best
from advtransfer.experiments.selection import SCORES
from advtransfer.experiments.study_checks import checks
from advtransfer.ranking.comparing import weighted_tau
from advtransfer.records import shipped
from advtransfer.records.configs import Config as BaseConfig
from advtransfer.records.published import NO_RUNS, RESULTS, published, series_of
from advtransfer.records.record import Arrays, Record, Tables
from advtransfer.records.runs import recorded
from advtransfer.statistics import Floats, spearman_rows

__all__ = ["BASELINES", "TABLES", "Config", "files", "run"]

OF_TEXTS = ("sources", "scores", "by_target", "differences", "checks")
"""The tables that are made for texts, too, where their names begin with ``text_``."""
TABLES = (*OF_TEXTS, "control", "elsewhere", *(f"text_{n}" for n in OF_TEXTS))
"""The tables of a record."""

Sign = Literal[1, -1]
BASELINES: dict[str, Sign] = {"source_accuracy": 1, "parameters": 1, "elsewhere": 1, "1-NN": 1, "probe": 1}
"""What a score has to beat: own accuracy, size, the mean rank on the other targets, the neighbour, and the probe."""
ATTACKS: dict[str, Sign] = {
    "alpha1": 1, "alpha2_unbiased": 1, "alpha12_unbiased": 1, "back_alpha1": 1, "back_alpha2_unbiased": 1,
    "back_alpha12_unbiased": 1, "distance": -1,
}  # fmt: skip
PREDICTORS: dict[str, Sign] = {
    **BASELINES, **{name: 1 for name in SCORES if name not in BASELINES}, **ATTACKS
}  # fmt: skip
"""Everything that is judged, with the sign under which larger is better."""
AGAINST = ("alpha1", "source_accuracy")
"""The two with which every other one is compared in pairs."""
TRUTHS = {"probe_accuracy": "linear probe", "full_accuracy": "fine-tuning of all weights"}
KINDS = ("selection", "selection_texts")
"""The experiments whose published records are pooled: images and texts, each by itself."""
TARGETS_AT_LEAST, RECIPES_AT_LEAST = 2, 5
NO_SOURCES = pd.DataFrame({"target": [], "untrained": pd.Series(dtype=bool)})


class Config(BaseConfig):
    """How to judge the scores."""

    PROFILES: ClassVar = {"smoke": {"resamples": 49}, "quick": {}, "paper": {"resamples": 4999}}

    candidates: int = Field(5, ge=2, le=100, description="sources among which one is chosen")
    resamples: int = Field(999, ge=9, le=100_000, description="bootstrap samples of recipes and targets")


def files(config: Config, results: Path = RESULTS) -> dict[str, Path]:
    """The head of each published record that is read, with the digests of the rest; and what others have published."""
    records = {
        f"{kind}/{name}": results / kind / name / "record.json" for kind in KINDS for name in published(kind, results)
    }
    if not records:
        raise ValueError(NO_RUNS)
    return records | {path.name: path for path in sorted(_elsewhere_folder().glob("*.csv"))}


@recorded
def run(config: Config) -> tuple[Tables, Arrays]:
    """Pool the published measurements.

    Tables: ``sources`` (every source on every target); ``scores`` (each predictor with its mean agreement over targets,
    and intervals); ``by_target`` (the same for each target); ``differences`` (paired, against α1 and own accuracy);
    ``checks`` (`study_checks`); ``control`` (α1 with ‖Δ_SS‖ held fixed, and robust against standard sources);
    ``elsewhere`` (the same question asked of the table that Shao et al. published); and those of `OF_TEXTS` for sources
    and targets of texts.
    """
    images, texts = (published(kind) for kind in KINDS)
    return pooled(config, images) | of_texts(config, texts), {}


def pooled(config: Config, records: Mapping[str, Record]) -> Tables:
    """The tables of sources and targets of images, with the controls, and what others have published."""
    tables = judged(config, sources_of(records))
    sources = tables["sources"]
    return {**tables, "control": control(sources[~sources["untrained"]]), "elsewhere": elsewhere()}


def of_texts(config: Config, records: Mapping[str, Record]) -> Tables:
    """The tables of sources and targets of texts, without the number of weights: only the heads differ in it."""
    sources = sources_of(records).drop(columns="parameters", errors="ignore")
    return {f"text_{name}": table for name, table in judged(config, sources).items()}


def judged(config: Config, sources: pd.DataFrame) -> Tables:
    """The tables of `OF_TEXTS`, of every predictor that the sources have."""
    trained = sources[~sources["untrained"]]
    found = [judge(config, trained, truth) for truth in TRUTHS if truth in trained]
    parts = [part for part in found if part is not None]
    joined = {
        name: pd.concat([part[name] for part in parts], ignore_index=True) if parts else pd.DataFrame()
        for name in ("scores", "by_target", "differences")
    }
    checked = checks(trained, PREDICTORS, joined["scores"], resamples=config.resamples, seed=config.seed)
    return {"sources": sources, **joined, "checks": checked}


def sources_of(records: Mapping[str, Record]) -> pd.DataFrame:
    """Every source on every target, with its recipe; numbers that a record does not have are NaN."""
    parts = []
    for name, record in records.items():
        target = record.config["target"]
        series = series_of(name).removesuffix(f"-{target}")
        table = record.tables["sources"]
        parts.append(
            table.assign(
                series=series, target=target, seed=record.config["seed"], recipe=series + " " + table["architecture"]
            )
        )
    return pd.concat(parts, ignore_index=True) if parts else NO_SOURCES


# Agreement.


class Grid(NamedTuple):
    """Recipes × targets: the truth (R, T), and each predictor, larger is better (R, T)."""

    recipes: list[str]
    targets: list[str]
    truth: Floats
    predictors: dict[str, Floats]


def grid(sources: pd.DataFrame, truth: str) -> Grid | None:
    """The sources that have a truth on every one of the targets; None if these are too few to compare."""
    known = sources[np.isfinite(sources[truth])]
    table = known.groupby(["recipe", "target"])[truth].mean().unstack()  # noqa: PD010 - a mean over seeds
    table = table.dropna(axis=0)
    if table.shape[0] < RECIPES_AT_LEAST or table.shape[1] < TARGETS_AT_LEAST:
        return None
    values = table.to_numpy()
    places = stats.rankdata(values, axis=0)
    count = values.shape[1]
    predictors = {"elsewhere": (places.sum(1, keepdims=True) - places) / (count - 1)}  # mean rank on the other targets
    for name, sign in PREDICTORS.items():
        if name in known:
            own = known.groupby(["recipe", "target"])[name].mean().unstack()  # noqa: PD010
            predictors[name] = sign * own.loc[table.index, table.columns].to_numpy(float)
    return Grid(
        list(table.index),
        list(table.columns),
        values,
        {name: predictors[name] for name in PREDICTORS if name in predictors},
    )


MEASURES = ("weighted", "kendall", "top", "regret", "regret_few")


def agreement(config: Config, score: Floats, truth: Floats) -> dict[str, float]:
    """How well a score (R,) orders the truth (R,): `ranking.agreement`, and the regret among few candidates."""
    found = ranking.agreement(score, truth)
    return {**{name: float(value) for name, value in found.items()}, "regret_few": _regret_few(config, score, truth)}


def _regret_few(config: Config, score: Floats, truth: Floats) -> float:
    size = min(config.candidates, len(truth))
    return expected_best(truth, truth, size) - expected_best(score, truth, size)


def judge(config: Config, sources: pd.DataFrame, truth: str) -> Tables | None:
    """The agreement of every predictor with one truth: means over targets, each target, and paired differences."""
    found = grid(sources, truth)
    if found is None:
        return None
    about = {"truth": truth, "recipes": len(found.recipes), "targets": len(found.targets)}
    by_target = pd.DataFrame(
        [
            {"truth": truth, "predictor": name, "target": target, "n": len(found.recipes),
             **agreement(config, values[:, k], found.truth[:, k])}
            for name, values in found.predictors.items()
            for k, target in enumerate(found.targets)
        ]
    )  # fmt: skip
    means = by_target.groupby("predictor", sort=False)[list(MEASURES)].mean()
    draws = {name: drawn(config, found, values) for name, values in found.predictors.items()}  # (B, 2) each
    rows: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for name in found.predictors:
        low, high = np.nanquantile(draws[name], [0.025, 0.975], axis=0)
        row: dict[str, Any] = {**about, "predictor": name, **{str(key): value for key, value in means.T[name].items()}}
        row |= {"weighted_low": low[0], "weighted_high": high[0], "regret_few_low": low[1], "regret_few_high": high[1]}
        rows.append(row)
        for other in AGAINST:
            if name != other:
                apart = draws[name][:, 0] - draws[other][:, 0]
                pairs.append({**about, "predictor": name, "against": other, **_difference(means, name, other, apart)})
    differences = pd.DataFrame(pairs)
    differences["p_holm"] = differences.groupby("against")["p"].transform(holm)
    return {"scores": pd.DataFrame(rows), "by_target": by_target, "differences": differences}


def drawn(config: Config, found: Grid, values: Floats) -> Floats:
    """Mean weighted τ and regret over drawn targets with drawn recipes, (B, 2); alike for all predictors."""
    rng = np.random.default_rng(config.seed)
    recipes, targets = len(found.recipes), len(found.targets)
    scores, truths = [], []
    for _ in range(config.resamples):
        places = np.ix_(rng.integers(recipes, size=recipes), rng.integers(targets, size=targets))
        scores.append(values[places].T)
        truths.append(found.truth[places].T)
    lost = [np.mean(list(map(partial(_regret_few, config), *each))) for each in zip(scores, truths, strict=True)]
    return np.column_stack([weighted_tau(np.stack(scores), np.stack(truths)).mean(1), lost])


def _difference(means: pd.DataFrame, name: str, other: str, apart: Floats) -> dict[str, float]:
    """The difference of two mean weighted τ with its interval, and p from the share of draws beyond 0."""
    low, high = np.nanquantile(apart, [0.025, 0.975])
    known = means["weighted"].to_dict()
    return {"difference": known[name] - known[other], "low": low, "high": high, "p": tail_probability(apart)}


def holm(p: pd.Series) -> pd.Series:
    """p-values adjusted for their number (Holm 1979).

    Examples
    --------
    >>> holm(pd.Series([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    stepped = p.sort_values() * np.arange(len(p), 0, -1)
    return stepped.cummax().clip(upper=1).reindex(p.index)


# Controls.


def control(sources: pd.DataFrame) -> pd.DataFrame:
    """Per target: Spearman's correlation of α1 with accuracy, as it is and with ‖Δ_SS‖ held fixed; robust sources.

    ``robust_alpha1`` and ``robust_accuracy`` are the mean differences of the robust source and the standard one of the
    same architecture, which are alike but for the adversarial training; NaN where there are no such pairs.
    """
    rows = []
    for target, part in sources.groupby("target", sort=False):
        if len(part) < RECIPES_AT_LEAST:
            continue
        x, y, z = (part[name].to_numpy()[None] for name in ("alpha1", "probe_accuracy", "own_deviation"))
        xy, xz, yz = (float(spearman_rows(a, b)[0]) for a, b in ((x, y), (x, z), (y, z)))
        row = {"target": target, "n": len(part), "plain": xy, "with_own_deviation": xz}
        left = (1 - xz**2) * (1 - yz**2)
        row["held"] = (xy - xz * yz) / left**0.5 if left > 0 else np.nan
        pairs = part[part["series"].isin(["robust", "slim"])].groupby(["architecture", "series"])
        for column, name in (("alpha1", "robust_alpha1"), ("probe_accuracy", "robust_accuracy")):
            both = pairs[column].mean().unstack().dropna() if len(pairs) else pd.DataFrame()  # noqa: PD010
            row[name] = float((both["robust"] - both["slim"]).mean()) if {"robust", "slim"} <= set(both) else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


# What others have published.


def _elsewhere_folder() -> Path:
    return shipped.CHECKOUT / "data" / "estimators"


def elsewhere() -> pd.DataFrame:
    """Weighted τ on eleven data sets: of five estimators as Shao et al. publish it, and of a score that never looks.

    "mean rank elsewhere" is the mean rank of a model's accuracy on the ten other data sets, which needs no image of the
    target. It is computed here from the accuracies that Shao et al. publish.
    """
    folder = _elsewhere_folder()
    if not folder.is_dir():
        return pd.DataFrame()
    accuracy = pd.read_csv(folder / "fine_tuned.csv").set_index("model")
    stated = pd.read_csv(folder / "weighted_tau.csv").set_index("estimator")
    places = accuracy.rank()
    tau = {
        name: weighted_tau(places.drop(columns=name).mean(axis=1).to_numpy(), accuracy[name].to_numpy())
        for name in accuracy
    }
    blind = pd.DataFrame(tau, index=["mean rank elsewhere"])
    table = pd.concat([stated, blind]).rename_axis("estimator").reset_index()
    return table.melt("estimator", var_name="data_set", value_name="weighted")
