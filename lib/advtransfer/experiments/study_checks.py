"""What the answer of the study depends on: checks that were added after the results were seen.

Recipes of one architecture are alike, several targets show the same images, and some text models have learnt the
target's own corpus. The plan of `study` treats all of these as they come; here they are taken into account.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from advtransfer.experiments import crossed
from advtransfer.ranking.comparing import weighted_tau
from advtransfer.statistics import Floats

CROSSED, OTHER_SET, OTHER_CORPORA = "architectures and ways drawn", "rank on the other images", "other corpora"
NAMED = ("alpha1", "source_accuracy")
"""The predictors of which the checks tell, with the best two of the study."""


def checks(
    sources: pd.DataFrame, predictors: Mapping[str, int], scores: pd.DataFrame, *, resamples: int, seed: int
) -> pd.DataFrame:
    """A row per check and predictor, with the mean weighted τ over targets.

    The first check is of all predictors. It has an interval, too, and ``less``, by how much τ is larger than that of
    α1, from the same draws, with its two-sided ``p``.
    """
    if sources.empty or scores.empty:
        return pd.DataFrame({"check": [], "predictor": [], "weighted": []})
    of_probe = scores[scores["truth"] == "probe_accuracy"]
    main: dict[str, float] = dict(zip(of_probe["predictor"], of_probe["weighted"], strict=True))
    rows: list[dict[str, Any]] = []
    every = [name for name in sorted(main, key=lambda name: -main[name]) if name in predictors and name in sources]
    draws = {name: _drawn(sources, name, predictors[name], resamples, seed) for name in every}
    for name in every:
        low, high = crossed.ends(draws[name])
        row = {"check": CROSSED, "predictor": name, "weighted": main[name], "low": low, "high": high}
        if name != "alpha1":
            low, high = crossed.ends(draws[name] - draws["alpha1"])
            row |= {"less": main[name] - main["alpha1"], "less_low": low, "less_high": high}
            row["p"] = crossed.tail_probability(draws[name] - draws["alpha1"])
        rows.append(row)
    if (cifar := sources["target"].str.startswith("cifar10")).any() and not cifar.all():
        rows.append({"check": OTHER_SET, "predictor": "elsewhere", "weighted": _other_set(sources, cifar)})
    if (own := sources["architecture"] == sources["target"]).any():
        parts = list(sources[~own].groupby("target"))
        for name in dict.fromkeys([*every[:2], *NAMED]):
            pairs = [(part[name].to_numpy(float), part["probe_accuracy"].to_numpy(float)) for _, part in parts]
            found = [weighted_tau(predictors[name] * score, truth) for score, truth in pairs]
            rows.append({"check": OTHER_CORPORA, "predictor": name, "weighted": float(np.mean(found))})
    return pd.DataFrame(rows)


def _drawn(sources: pd.DataFrame, name: str, sign: int, resamples: int, seed: int) -> Floats:
    """The mean weighted τ, (B,), if whole architectures, whole ways of training and targets are drawn."""
    part = sources.groupby(["target", "architecture", "series"], as_index=False)[[name, "probe_accuracy"]].mean()
    made = crossed.design(part.assign(run=part["target"]), "architecture", "series", ["target"])
    times = crossed.weights(made, resamples, seed).astype(int)
    rng = np.random.default_rng([seed, 1])  # not the stream of the weights
    score, truth = sign * part[name].to_numpy(float), part["probe_accuracy"].to_numpy(float)
    targets = [np.flatnonzero(made.run == k) for k in range(made.run.max() + 1)]
    means = []
    for row in times:
        drawn = [np.repeat(targets[k], row[targets[k]]) for k in rng.integers(len(targets), size=len(targets))]
        found = [float(weighted_tau(score[each], truth[each])) if len(each) else np.nan for each in drawn]
        means.append(np.mean(found))  # NaN where a target has none of the drawn sources
    return np.array(means)


def _other_set(sources: pd.DataFrame, first: "pd.Series[bool]") -> float:
    """The mean weighted τ of a recipe's mean rank on the targets that are made of other images."""
    truth = sources.groupby(["recipe", "target"])["probe_accuracy"].mean().unstack().dropna()  # noqa: PD010
    ranks = truth.rank()
    inside = set(sources.loc[first, "target"])
    found = []
    for target in truth:
        others = [name for name in truth if (name in inside) != (target in inside)]
        found.append(weighted_tau(ranks[others].mean(axis=1).to_numpy(), truth[target].to_numpy()))
    return float(np.mean(found))
