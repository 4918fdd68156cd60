"""The page *Which score should you trust?*: every score over recipes and targets, with its paired differences."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from advtransfer.experiments import study, study_checks
from advtransfer.experiments.selection import SCORES
from advtransfer.experiments.text_protocol import LABELS
from advtransfer.pages import evidence, ranked, tables
from advtransfer.pages.ranked import OWN_DEVIATION, label
from advtransfer.pages.verdicts import SIGNIFICANT, Finding
from advtransfer.records.published import NO_RUNS
from advtransfer.records.record import Record

TARGETS = {
    "tiny-imagenet-10": "Tiny ImageNet, ten classes", "tiny-vehicles": "Tiny ImageNet, vehicles",
    "tiny-animals": "Tiny ImageNet, animals", "cifar10-shift": "CIFAR-10, colour shift and blur",
    "cifar10-unseen": "CIFAR-10, unseen images", "cifar10-noise": "CIFAR-10, noise",
    "cifar10-blocks": "CIFAR-10, coarse blocks", "cifar10-negative": "CIFAR-10, negative",
}  # fmt: skip


def findings(record: Record) -> dict[str, Any]:
    """What other pages quote of this one."""
    texts = of_texts(record)
    return {
        "study_choice": Finding(choice(record)),
        "study_among_five": Finding(among_five(record)),
        "study_fine_tuned": Finding(among_five(record, "full_accuracy")),
        "study_labels": Finding(labels(record)),
        "study_place": Finding(place(record)),
        "study_texts_labels": Finding(labels(texts)),
        "study_backwards": Finding(backwards(record)),
        "study_texts_choice": Finding(choice(texts)),
        "study_texts_among_five": Finding(among_five(texts)),
    }


def of_texts(record: Record) -> Record:
    """The record with the tables of texts in the place of those of images."""
    tables = {name: record.tables[f"text_{name}"] for name in study.OF_TEXTS}
    return Record(record.experiment, record.config, tables, record.arrays, record.provenance)


def _main(record: Record, table: str, truth: str = "probe_accuracy") -> pd.DataFrame:
    """The rows of a table with one truth; every target has the linear probe."""
    found = record.tables[table]
    return found[found["truth"] == truth] if len(found) else found


def about(record: Record, models: str = "architectures") -> str:
    """How many recipes and targets there are; `models` says what the sources of one way of training differ in."""
    scores = _main(record, "scores")
    if scores.empty:
        return ""  # the answer has said it
    sources = record.tables["sources"]
    trained = sources[~sources["untrained"]]
    row = scores.iloc[0]
    once = not sources.duplicated(["recipe", "target"]).any()
    return (
        f"{row['recipes']} recipes ({models}: {trained['architecture'].nunique()}; ways of training: "
        f"{trained['series'].nunique()}) on {row['targets']} targets. Own accuracy spans "
        f"{100 * trained['source_accuracy'].min():.0f} to {100 * trained['source_accuracy'].max():.0f}%, accuracy "
        f"after transfer {100 * trained['probe_accuracy'].min():.0f} to {100 * trained['probe_accuracy'].max():.0f}%."
        + " Each source was trained once: no interval includes what another training of a source or "
        "of a target model would change." * once
    )


def choice(record: Record, truth: str = "probe_accuracy") -> str:
    """What a choice by the main predictors loses, among five sources and among all, with one truth."""
    known = _main(record, "scores", truth).set_index("predictor")
    if known.empty:
        return NO_RUNS
    every = [f"{label(name)} {tables.number(100 * float(known['regret'][name]), 1)}" for name in _named(known)]
    return f"{among_five(record, truth)} When one of all is chosen: {', '.join(every)}."


def among_five(record: Record, truth: str = "probe_accuracy") -> str:
    """What a choice among five loses, with one truth: ``probe_accuracy`` or ``full_accuracy``."""
    known = _main(record, "scores", truth).set_index("predictor")
    if known.empty:
        return NO_RUNS
    lost = known.T
    parts = [
        f"{label(name)} {tables.estimate(lost[name], 'regret_few', scale=100, digits=1)}" for name in _named(known)
    ]
    size = f"{known.iloc[0]['recipes']} recipes, {known.iloc[0]['targets']} targets"
    about = (
        f"{size}; the two best of {len(_readers(known))} scores, chosen after the fact, which flatters them, and "
        "three for comparison"
    )
    return f"Points lost when one of five sources is chosen ({about}): {', '.join(parts)}."


def _named(known: pd.DataFrame) -> list[str]:
    """The two scores that lose least, the probe, own accuracy and α1."""
    best = known["regret_few"][_readers(known)].nsmallest(2).index
    return list(dict.fromkeys([*map(str, best), "probe", "source_accuracy", "alpha1"]))


def _readers(known: pd.DataFrame) -> list[str]:
    """The scores that read labels, but not the probe."""
    return [name for name in SCORES if name in known.index and name != "probe"]


def labels(record: Record) -> str:
    """Whether scores that read labels beat own accuracy, in a sentence."""
    found = _main(record, "differences")
    if found.empty:
        return NO_RUNS
    pairs = found[(found["against"] == "source_accuracy") & found["predictor"].isin(SCORES)].set_index("predictor")
    better = [label(str(name)) for name, row in pairs.iterrows() if row["low"] > 0 and row["p_holm"] <= SIGNIFICANT]
    lost = _main(record, "scores").set_index("predictor")["regret_few"]
    least, most = str(lost[pairs.index].idxmin()), str(lost[pairs.index].idxmax())
    said = (
        f"these were shown to order sources better than own accuracy: {', '.join(better)}"
        if better
        else ("none was shown to order sources better than own accuracy")
    )
    return (
        f"Of {len(pairs)} scores that read a few hundred labels, {said}. Points lost when one of five is chosen: "
        f"from {100 * lost[least]:.1f} ({label(least)}) to {100 * lost[most]:.1f} ({label(most)}); by own accuracy "
        f"{100 * lost['source_accuracy']:.1f}."
    )


def place(record: Record) -> str:
    """Where α1 stands among all scores, in a sentence."""
    scores = _main(record, "scores")
    if scores.empty:
        return NO_RUNS
    return (
        f"Among {len(scores)} scores, over {scores.iloc[0]['recipes']} sources and {scores.iloc[0]['targets']} image "
        f"targets (cut from {_image_sets(record)} sets of images, one target model each), α1 (T→S) has rank "
        f"{_number(scores, 'alpha1')} by mean weighted τ, a rank correlation with accuracy after transfer. "
        f"Scores shown to be better: {_shown(record)[0]}, if sources count as unrelated"
        + (
            f"; {so_drawn}, if sources of one architecture, or trained in one way, are resampled as a group."
            if (so_drawn := _shown_drawn(record))
            else "."
        )
    )


def _image_sets(record: Record) -> int:
    """From how many sets of images the targets come, such as ``tiny-animals`` and ``tiny-vehicles`` from one."""
    return record.tables["sources"]["target"].str.partition("-")[0].nunique()


def _shown(record: Record) -> tuple[str, str]:
    """The scores that were shown to be better than α1, and those shown to be worse, after Holm's correction."""
    scores = _main(record, "scores").set_index("predictor")["weighted"].sort_values(ascending=False)
    pairs = _main(record, "differences").query("against == 'alpha1'").set_index("predictor")
    sure = pairs[pairs["p_holm"] <= SIGNIFICANT]["difference"]
    better, worse = ([label(str(name)) for name in scores.index if sign * sure.get(name, 0) > 0] for sign in (1, -1))
    return ", ".join(better) or "none", ", ".join(worse) or "none"


def _number(scores: pd.DataFrame, predictor: str) -> int:
    """The place of a predictor by its mean weighted τ, from 1."""
    return int(scores.set_index("predictor")["weighted"].rank(ascending=False, method="min")[predictor])


def backwards(record: Record) -> str:
    """How well α1 orders sources if the sources are attacked, in a sentence."""
    scores = record.tables["scores"]
    if scores.empty:
        return NO_RUNS
    found = scores[scores["predictor"] == "back_alpha1"].set_index("truth")
    parts = [f"{tables.estimate(row, 'weighted')} ({study.TRUTHS[str(truth)]})" for truth, row in found.iterrows()]
    return f"Mean weighted τ of α1, S→T: {', '.join(parts)}; {scores.iloc[0]['recipes']} recipes."


def checked(record: Record) -> str | None:
    """What the checks that were added after the results say."""
    found = record.tables["checks"]
    if found.empty:
        return None
    known = {str(name): part.set_index("predictor") for name, part in found.groupby("check", sort=False)}
    said = []
    if study_checks.CROSSED in known:
        each = [
            f"{label(str(name))} {tables.interval(row['weighted'], row['low'], row['high'])}"
            for name, row in _crossed(record).iterrows()
        ]
        unrelated = (
            " The targets still count as unrelated, though they come from fewer sets of images, so these intervals are "
            "too short, too."
            if study_checks.OTHER_SET in known
            else ""
        )
        said.append(
            f"Recipes of one {_alike_in(record)} are alike, and so are recipes trained in one way. If these are "
            f"resampled as groups, and the targets too, the mean weighted τ is: {', '.join(each)}.{unrelated}"
        )
    if (part := known.get(study_checks.OTHER_SET)) is not None:
        said.append(
            "The mean rank on the other targets comes partly from the same images in another form. If it comes only "
            f"from targets with other images, its mean weighted τ is still {tables.number(part['weighted'].iloc[0])}."
        )
    if (part := known.get(study_checks.OTHER_CORPORA)) is not None:
        each = [f"{label(str(name))} {tables.number(row['weighted'])}" for name, row in part.iterrows()]
        said.append(f"Without the sources that have learnt the target's own corpus: {', '.join(each)}.")
    return "*Added after the results were seen:* " + " ".join(said)


def answer(record: Record) -> str:
    """The answer as a list, written from the numbers."""
    scores = _main(record, "scores")
    if scores.empty:
        return NO_RUNS
    known = scores.set_index("predictor")
    order = known["weighted"].sort_values(ascending=False)
    better, worse = _shown(record)
    return tables.listed(
        f"**{label(str(order.index[0]))} has the largest mean weighted τ**, {_tau(known, str(order.index[0]))}, over "
        f"{scores.iloc[0]['recipes']} recipes and {scores.iloc[0]['targets']} targets. Own accuracy has "
        f"{_tau(known, 'source_accuracy')}.",
        f"**α1 (T→S) has rank {_number(scores, 'alpha1')} of {len(order)}**, with {_tau(known, 'alpha1')}. After "
        f"Holm's correction, and if recipes are taken as unrelated, the scores shown to be better than α1 are: "
        f"{better}; the scores shown to be worse: {worse}. {_alike(record)}",
        f"**What a choice costs.** {choice(record)}",
    )


def _alike(record: Record) -> str:
    """By how much the scores that are checked are ahead of α1, if sources that are alike are resampled as a group."""
    part = _crossed(record)
    less = [f"{label(str(name))} {tables.estimate(row, 'less')}" for name, row in part.iterrows() if name != "alpha1"]
    if not less:
        return ""
    return (
        f"If recipes of one {_alike_in(record)}, or trained in one way, are resampled as groups, and the targets too, "
        f"the weighted τ of a score minus that of α1 is: {', '.join(less)}; the scores shown in this way to be better "
        f"than α1, after Holm's correction, are: {_shown_drawn(record)}. "
    )


def _alike_in(record: Record) -> str:
    """What makes recipes alike, besides the way of training; only image targets come from several sets."""
    return "architecture" if (record.tables["checks"]["check"] == study_checks.OTHER_SET).any() else "corpus"


def _shown_drawn(record: Record) -> str:
    """The scores shown to be better than α1 if architectures, ways and targets are drawn; empty if not known."""
    found = record.tables["checks"]
    if found.empty:
        return ""
    every = found[found["check"] == study_checks.CROSSED].dropna(subset="p").set_index("predictor")
    sure = every["less"][study.holm(every["p"]) <= SIGNIFICANT]
    return ", ".join(label(str(name)) for name in sure.index[sure > 0]) or "none"


def _crossed(record: Record) -> pd.DataFrame:
    """The rows of the check that draws architectures and ways as wholes: the best two predictors, α1, own accuracy."""
    found = record.tables["checks"]
    if found.empty:
        return found
    part = found[found["check"] == study_checks.CROSSED].set_index("predictor")
    return part.loc[list(dict.fromkeys([*part.index[:2], *study_checks.NAMED]))]


def _tau(known: pd.DataFrame, name: str) -> str:
    return tables.estimate(known.T[name], "weighted")


def figure(record: Record) -> Figure | None:
    """The mean weighted τ of every predictor, with intervals."""
    scores = _main(record, "scores")
    return ranked.dots(scores.sort_values("weighted", ascending=False)) if len(scores) else None


def numbers(record: Record, truth: str = "probe_accuracy") -> pd.DataFrame | None:
    """The numbers behind the figure, with one truth: ``probe_accuracy`` or ``full_accuracy``."""
    scores = _main(record, "scores", truth)
    if scores.empty:
        return None
    rows = [
        {
            "score": label(row["predictor"]),
            "weighted τ": tables.estimate(row, "weighted"),
            "Kendall's τ": tables.number(row["kendall"]),
            "best one found, share of targets": tables.number(row["top"]),
            "points lost, one of five chosen": tables.estimate(row, "regret_few", scale=100, digits=1),
            "points lost, one of all chosen": tables.number(100 * row["regret"], 1),
        }
        for _, row in scores.sort_values("weighted", ascending=False).iterrows()
    ]
    return pd.DataFrame(rows)


def rule(record: Record) -> str:
    """How good the intervals and the p values are."""
    found = _main(record, "differences")
    scores, draws = found["predictor"].nunique(), record.config["resamples"]
    return (
        "Recipes and targets are drawn for the intervals. In simulations with thirty unrelated recipes on eight "
        "unrelated targets the intervals of the mean weighted τ hold the truth in "
        f"{evidence.held('mean weighted τ, 30 recipes on 8 targets: bootstrap', 240)} ({{ref}}`intervals-checked`). "
        "The intervals of the points lost were not simulated. A draw contains some recipes twice, so fewer different "
        "recipes remain and fewer points can be lost. "
        f"With {draws:,} draws and {scores - 1} comparisons no p after Holm's correction can be below "
        f"{tables.probability(min(1.0, 2 * (scores - 1) / (draws + 1)))}."
    )


def pairs(record: Record, against: str) -> pd.DataFrame | None:
    """The difference of each predictor from another one, with Holm's p."""
    found = _main(record, "differences")
    if found.empty:
        return None
    rows = [
        {
            "score": label(row["predictor"]),
            f"weighted τ minus that of {label(against)}": tables.interval(row["difference"], row["low"], row["high"]),
            "p, Holm": tables.probability(row["p_holm"]),
        }
        for _, row in found[found["against"] == against].sort_values("difference", ascending=False).iterrows()
    ]
    return pd.DataFrame(rows)


def targets_figure(record: Record) -> Figure | None:
    """The weighted τ of every predictor on every target."""
    found = _main(record, "by_target")
    if found.empty:
        return None
    table = found.set_index(["predictor", "target"])["weighted"].unstack()  # noqa: PD010 - nothing is aggregated
    order = _main(record, "scores").sort_values("weighted", ascending=False)["predictor"]
    table = table.loc[order].rename(index=label, columns=TARGETS | LABELS)
    return ranked.grid(table, "weighted τ")


def controls(record: Record) -> pd.DataFrame | None:
    """α1 with ‖Δ_SS‖ held fixed, and robust against standard sources."""
    rows = [
        {
            "target": TARGETS.get(row["target"], row["target"]),
            "n": row["n"],
            "Spearman, α1 and accuracy": tables.number(row["plain"]),
            f"Spearman, α1 and {OWN_DEVIATION}": tables.number(row["with_own_deviation"]),
            f"α1 and accuracy, {OWN_DEVIATION} held fixed": tables.number(row["held"]),
            "robust minus standard, α1": tables.number(row["robust_alpha1"]),
            "robust minus standard, accuracy, points": tables.number(100 * row["robust_accuracy"], 1),
        }
        for _, row in record.tables["control"].iterrows()
    ]
    table = pd.DataFrame(rows)
    return table.loc[:, (table != tables.number(np.nan)).any()] if rows else None


def about_controls(record: Record) -> str | None:
    """How much of α1's correlation is that of its denominator, in a sentence."""
    found = record.tables["control"]
    if found.empty:
        return None
    rises = int((found["with_own_deviation"] > 0).sum())
    lower = int((found["robust_alpha1"] < 0).sum())
    better = int((found["robust_accuracy"] > 0).sum())
    robust = (
        f" Robust sources have a smaller α1 than standard ones on {lower} of {len(found)} targets, and a larger "
        f"accuracy after transfer on {better}."
    )
    spans = [f"{tables.number(found[name].min())} and {tables.number(found[name].max())}" for name in ("plain", "held")]
    return (
        f"α1 and {OWN_DEVIATION} rise together on {rises} of {len(found)} targets, although {OWN_DEVIATION} is in its "
        f"denominator. The rank correlation of α1 with accuracy lies between {spans[0]} on the targets; with "
        f"{OWN_DEVIATION} held fixed between {spans[1]}."
        f"{robust if found['robust_alpha1'].notna().all() else ''}"
    )


def untrained(record: Record) -> str | None:
    """How the networks that were not trained score, in a sentence."""
    sources = record.tables["sources"]
    if not sources["untrained"].any():
        return None
    raw, made = sources[sources["untrained"]], sources[~sources["untrained"]]
    return (
        f"Networks that were not trained at all reach {100 * raw['probe_accuracy'].mean():.0f}% on average (trained "
        f"ones {100 * made['probe_accuracy'].mean():.0f}%). Their mean α1 is {raw['alpha1'].mean():.2f} (trained "
        f"{made['alpha1'].mean():.2f}), and their mean H-score is {raw['H-score'].mean():.2f} "
        f"({made['H-score'].mean():.2f})."
    )


def elsewhere_figure(record: Record) -> Figure | None:
    """The published weighted τ of five estimators, and that of a score that never looks at the target."""
    found = record.tables["elsewhere"]
    return ranked.strips(found) if len(found) else None


def about_elsewhere(record: Record) -> str | None:
    """The means behind the figure."""
    found = record.tables["elsewhere"]
    if found.empty:
        return None
    means = found.groupby("estimator")["weighted"].mean().sort_values(ascending=False)
    said = [f"{name} {tables.number(value)}" for name, value in means.items()]
    return f"Mean weighted τ over {found['data_set'].nunique()} data sets: {', '.join(said)}."
