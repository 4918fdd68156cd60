"""The page of Table 1: five source models, transferred from CIFAR-10 and forecast by attacks."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from advtransfer.experiments import conclusions, evaluation, printed, protocol, vision
from advtransfer.experiments.conclusions import METRICS
from advtransfer.pages import comparison, evidence, plots, sizes, tables, verdicts
from advtransfer.pages import runs as page_runs
from advtransfer.pages.runs import HERE, STORED, Runs
from advtransfer.pages.seeds import over_seeds, range_over_seeds
from advtransfer.pages.verdicts import Finding, Verdict
from advtransfer.records.published import NO_RUNS, rows_of
from advtransfer.records.record import Record
from advtransfer.statistics import METHODS, Method

NOT_RUN = Finding("not run, the images are missing")
CLAIM = "accuracy after transfer rises with {}"


def load(config: vision.Config) -> Runs:
    """This run, and the stored ones."""
    return page_runs.load(vision, config, summary)


SERIES = ("trained", "trained-shift", "released", "released-shift", "stl10")
"""The stored series of Table 1, a column each; the first is the one that other pages quote."""


def summary(published: Mapping[str, Record]) -> dict[str, pd.DataFrame]:
    """What follows from the printed table and the stored runs alone.

    ``sources``, the rows of the source models of `SERIES`; and ``correlations`` of `conclusions.over_sources`, over the
    rows of the paper and over the means of each series.
    """
    everything = rows_of(published)
    everything = everything[everything["series"].isin(SERIES)].reset_index(drop=True)
    correlations = [conclusions.over_sources(printed.table(1)).assign(where="paper")]
    for series, part in everything.groupby("series", sort=False):
        means = over_seeds(part, ["label"], ["transfer_accuracy", "transfer_loss", *METRICS])
        correlations.append(conclusions.over_sources(means).assign(where=series))
    return {"sources": everything, "correlations": pd.concat(correlations, ignore_index=True)}


def findings(runs: Runs) -> dict[str, Any]:
    """What other pages quote of this one."""
    return {
        "cifar_pearson_samples": over_samples(runs),
        **{key: in_print(runs, metric) for key, metric in _IN_PRINT_KEYS.items()},
        **{key: over_models(runs, metric) for key, metric in _METRIC_KEYS.items()},
        "cifar_spearman_table": over_models(runs, "alpha1", "spearman"),
    }


_IN_PRINT_KEYS = {"cifar_in_print": "alpha1", "cifar_in_print_alpha2": "alpha2", "cifar_in_print_alpha12": "alpha12"}
_METRIC_KEYS = {"cifar_pearson_table": "alpha1", "cifar_alpha2": "alpha2", "cifar_alpha12": "alpha12"}


def _published(runs: Runs, series: str = SERIES[0]) -> pd.DataFrame:
    """The source models of a stored series."""
    everything = runs.summary["sources"]
    return everything[everything["series"] == series]


def _domains(runs: Runs) -> dict[str, str]:
    """The stored series, and the heads of their columns; where two have one target, the head names the series."""
    parts = {series: _published(runs, series) for series in SERIES}
    targets = {series: part["target"].iloc[0] for series, part in parts.items() if len(part)}
    several = Counter(targets.values())
    return {
        series: f"{STORED}, {protocol.SHORT[target]}{f' ({series})' * (several[target] > 1)}"
        for series, target in targets.items()
    }


def _settings(runs: Runs, series: str = SERIES[0]) -> Record:
    """The first record of a series, whose parameters all of its records share."""
    return next(iter(runs.series(series).values()))


def _alike(runs: Runs) -> list[list[str]]:
    """The stored series, those together that differ only in the target."""
    groups: dict[str, list[str]] = {}
    for series in _domains(runs):
        rest = {name: v for name, v in _settings(runs, series).config.items() if name not in ("target", "seed")}
        groups.setdefault(json.dumps(rest, sort_keys=True), []).append(series)
    return list(groups.values())


def _sources(runs: Runs) -> pd.DataFrame:
    """The source models of this run, with squares as the paper prints them."""
    return conclusions.squared(runs.record.tables["sources"]) if runs.record else pd.DataFrame()


# What was run.


def about_this_run(runs: Runs) -> str:
    """One paragraph on this run, or on the data that it lacks."""
    if runs.record is None:
        return tables.missing(protocol.required(runs.config))
    target = runs.record.tables["models"].iloc[0]
    attacked = "Of those" if runs.config.only_correct else "Of all of them"
    return (
        f"The target domain of this run is **{sizes.targets([runs.config.target])}**. The target model, a "
        f"{target.label}, classifies {tables.percent(target, 'accuracy')}% of its test images correctly. "
        f"{attacked}, {len(runs.record.arrays['index']):,} were attacked."
    )


def about_published(runs: Runs) -> str:
    """One paragraph on the stored runs."""
    rows = _published(runs)
    if rows.empty:
        return f"{NO_RUNS} So there is no **stored** column."
    told = " ".join(_about_series(runs, group) for group in _alike(runs))
    return (
        f"Each **stored** run draws everything anew: the target model, the sources, the images. {told} "
        f"The released schedule takes {sizes.EPOCHS} epochs at a falling learning rate. The target models were trained "
        "on the target's images alone. They classify these shares of the test images correctly: "
        f"{_beside(runs)}. The tests recompute every stored table from its samples."
    )


def _about_series(runs: Runs, group: list[str]) -> str:
    """A few sentences on stored series that share their sources."""
    first = _settings(runs, group[0])
    settings, seeds = first.config, min(_published(runs, series)["seed"].nunique() for series in group)
    targets = [_published(runs, series)["target"].iloc[0] for series in group]
    several = len(targets) > 1
    words = f"target domain{'s are' if several else ' is'} **{sizes.targets(targets)}**"
    schedule = "one-cycle schedule {cite:p}`smith2019`" if settings["schedule"] == "one_cycle" else "cosine schedule"
    without = " except those that the shifted target needs" * settings["hold_out"]
    return (
        f"The {words}{', with the same sources' * several} (n = {seeds} seeds). The three plain "
        f"networks have {_share(settings['plain_width'])} and the two ResNets {_share(settings['width'])}. They learn "
        f"from the images of CIFAR-10{without}: the ResNets for {settings['epochs']} epochs, the others for "
        f"{settings['plain_epochs']}, to the end of a {schedule}. Per target {settings['samples']:,} images are "
        f"attacked, on {first.provenance['device']}."
    )


def _beside(runs: Runs) -> str:
    """The accuracies of the target models, and of the best source after transfer, by target."""
    told = []
    for series, head in _domains(runs).items():
        models = pd.concat([made.tables["models"] for made in runs.series(series).values()])
        own, best = models.loc[models["role"] == "target", "accuracy"], _published(runs, series)["transfer_accuracy"]
        told.append(
            f"{100 * own.min():.1f} to {100 * own.max():.1f}% for {head.removeprefix(f'{STORED}, ')} (best source "
            f"after transfer: {100 * best.max():.1f}%)"
        )
    return "; ".join(told)


def _share(width: int) -> str:
    words = {1.0: "the released width", 0.5: "half the released width", 0.25: "a quarter of the released width"}
    return words.get(width / sizes.WIDTH, f"{width}/{sizes.WIDTH} of the released width")


def departures(runs: Runs) -> pd.DataFrame:
    """The parameters in which the stored runs and this one differ from the released protocol."""
    groups = _alike(runs)
    heads = [STORED] if len(groups) == 1 else [f"{STORED} ({', '.join(group)})" for group in groups]
    made = {head: vision.Config(**_settings(runs, group[0]).config) for head, group in zip(heads, groups, strict=True)}
    return tables.departures({**made, HERE: runs.config})


# The source models.


def source_accuracies(runs: Runs) -> pd.DataFrame:
    """Accuracies of the source models on CIFAR-10: stored, in this run, and as others state them."""
    rows, table = _published(runs), pd.DataFrame()
    if len(rows):
        seen = over_seeds(rows, ["label"], ["source_accuracy"])
        shares = [tables.percent(row, "source_accuracy") for _, row in seen.iterrows()]
        table = pd.DataFrame({"source model": seen["label"], "stored: accuracy, %": shares, "seeds": seen["seeds"]})
    if runs.record:
        models = runs.record.tables["models"].query("role == 'source'")
        ours = pd.DataFrame(
            {
                "source model": models["label"],
                "rebuilt here: weights": models["parameters"].map("{:,}".format),
                "rebuilt here: accuracy, %": [tables.percent(row, "accuracy") for _, row in models.iterrows()],
                "above chance": models["learnt"].map({True: "yes", False: "**no**"}),
            }
        )
        table = table.merge(ours, how="outer", on="source model", sort=False) if len(table) else ours
    if len(table):
        elsewhere = {
            row["label"]: f"{100 * row['accuracy']:.2f} ({row['epochs']:g} epochs; {{cite:t}}`{row['source']}`)"
            for row in printed.known_accuracies().to_dict("records")
        }
        table["elsewhere, %"] = table["source model"].map(elsewhere)
    return table.fillna(comparison.MISSING)


def against_known(runs: Runs) -> str | None:
    """How far the stored sources are from what others state, in a sentence."""
    rows = _published(runs)
    if rows.empty:
        return None
    known, settings = printed.known_accuracies().set_index("architecture"), _settings(runs).config
    means = over_seeds(rows, ["architecture", "label"], ["source_accuracy"]).set_index("architecture")
    parts = []
    for name, row in known.join(means["source_accuracy"], how="inner").iterrows():
        epochs = settings["epochs" if name in protocol.RESIDUAL else "plain_epochs"]
        gap = 100 * (row.source_accuracy - row.accuracy)
        off = "within 3 points of" if abs(gap) <= 3 else f"{abs(gap):.0f} points {'above' if gap > 0 else 'below'}"
        parts.append(
            f"{row.label} is {off} the published accuracy (ours after {epochs} epochs, the published one after "
            f"{row.epochs:g})"
        )
    unknown = [label for name, label in means["label"].items() if name not in known.index]
    return (
        f"Our {'; our '.join(parts)}. For {' and '.join(unknown)} in this form, we found no "
        "publication that says how many epochs the network was trained."
    )


# Table 1.


def table1(runs: Runs) -> pd.DataFrame:
    """Table 1 with the metrics as printed, squares included: paper, stored and this run."""
    paper = printed.table(1)
    columns = {"paper, STL-10": paper}
    columns |= {head: comparison.means(_published(runs, series), ["label"]) for series, head in _domains(runs).items()}
    if runs.record:
        columns[HERE] = _sources(runs)
    return comparison.side_by_side(paper[["label"]], columns).rename(columns={"label": "source model"})


def table1_as_defined(runs: Runs) -> pd.DataFrame:
    """Table 1 with the metrics as the paper defines them: no squares, and the noise taken off."""
    paper = printed.table(1)
    columns = {"paper": paper}
    for series, head in _domains(runs).items():
        rows = comparison.noise_off(_published(runs, series))
        columns[head] = comparison.means(rows, ["label"], comparison.AS_DEFINED)
    if runs.record:
        columns[HERE] = comparison.noise_off(_sources(runs))
    table = comparison.side_by_side(paper[["label"]], columns, comparison.AS_DEFINED)
    return table.rename(columns={"label": "source model"})


# Single images.


def by_image(runs: Runs) -> Figure | None:
    """α1(x) against the loss after transfer: the stored run of seed 0, else this run."""
    shown = next(iter(runs.series(SERIES[0]).values()), runs.record)
    if shown is None:
        return None
    labels = list(shown.tables["sources"]["label"])
    scores = shown.tables["samples"].query("method == 'pearson'")
    alpha1 = np.stack([evaluation.alpha1(shown.arrays, 0, 1 + place) for place in range(len(labels))])
    return plots.sample_scatter(labels, scores, alpha1, shown.arrays["transfer_loss"][:, shown.arrays["index"]])


def _shown(runs: Runs) -> dict[str, Record]:
    """The runs whose single images are judged, by what a table calls them."""
    shown = {
        f"{head}, seed {made.config['seed']}": made
        for series, head in _domains(runs).items()
        for made in runs.series(series).values()
    }
    return shown | runs.own


def by_sample(runs: Runs) -> pd.DataFrame:
    """The correlation of loss with α1(x) over the images of each source model."""
    rows = [({"source model": source, "run": label}, scores) for label, source, scores in _samples(runs)]
    table = comparison.by_sample(rows, -1)
    return table.sort_values("source model", kind="stable") if rows else table


def _samples(runs: Runs) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Run, source and correlations over samples, of all runs."""
    for label, made in _shown(runs).items():
        names = made.tables["sources"].set_index("architecture")["label"]
        for source, scores in made.tables["samples"].groupby("source", sort=False):
            yield label, names[source], scores


def over_samples(runs: Runs) -> Finding:
    """Whether images with a larger α1(x) have a smaller loss."""
    judged, by_ranks = (
        verdicts.quoted(
            Verdict.of("the loss after transfer of an image falls with its α1(x)", found, label, sign=-1)
            for label, _, scores in _samples(runs)
            for found in [conclusions.row(scores, method=method)]
        )
        for method in ("pearson", "spearman")
    )
    if not judged:
        return NOT_RUN
    scores = [verdict.estimate for verdict in judged]
    by_series = groupby(judged, lambda verdict: verdict.run.partition(", seed")[0])
    tallies = [f"{series}: {verdicts.tally(part)}" for series, part in by_series]
    return Finding(
        f"{tables.number(min(scores))} to {tables.number(max(scores))} (in print "
        f"{tables.number(printed.pearson('table1'))}). Verdicts by Pearson's r: {'; '.join(tallies)}. By ranks, in "
        f"all: {verdicts.tally(by_ranks)}",
        judged,
        size(runs),
    )


def size(runs: Runs) -> str:
    """How large the stored series are, else this run."""
    stored = {name: made for series in _domains(runs) for name, made in runs.series(series).items()}
    return sizes.of_images(stored or runs.own)


# Source models: what five points show.


def forecast(runs: Runs) -> Figure:
    """Accuracy after transfer against α1, one point per source model: paper, stored and this run."""
    panels = {"Paper, STL-10": printed.table(1)}
    for series, head in _domains(runs).items():
        rows = range_over_seeds(_published(runs, series), ["label"], ["transfer_accuracy", "alpha1"])
        panels[head[0].upper() + head[1:]] = rows
    if runs.record:
        panels[f"Rebuilt here, {protocol.SHORT[runs.config.target]}"] = _sources(runs)
    return plots.forecast(panels)


def _correlations(runs: Runs) -> dict[str, pd.DataFrame]:
    """Correlations over source models by run: in the paper, over the stored rows, and in this run."""
    heads = {"paper": "paper"} | _domains(runs)
    found = {heads[str(where)]: part for where, part in runs.summary["correlations"].groupby("where", sort=False)}
    if runs.record:
        found[HERE] = runs.record.tables["correlations"]
    return found


def over_five_models(runs: Runs) -> pd.DataFrame:
    """Correlations of accuracy and loss after transfer with each metric, over the five source models."""
    found, rows = _correlations(runs), []
    outcomes: tuple[tuple[str, str, Literal[1, -1]], ...] = (
        ("transfer_accuracy", "accuracy", 1),
        ("transfer_loss", "loss", -1),
    )
    for outcome, words, claimed in outcomes:
        for metric in METRICS:
            for method in METHODS if claimed == 1 else METHODS[:1]:
                for name, table in found.items():
                    if outcome not in set(table["outcome"]):  # the paper prints no losses
                        continue
                    score = conclusions.row(table, outcome=outcome, metric=metric, method=method)
                    about = {"correlation": f"{words} with {plots.SYMBOLS[metric]}, {method.title()}", "run": name}
                    rows.append(about | Verdict.of("", score, name, sign=claimed).cells)
    return pd.DataFrame(rows)


def over_models(runs: Runs, metric: str, method: Method = "pearson") -> Finding:
    """Whether a metric forecasts accuracy after transfer over five source models: on each stored target, else here."""
    found, judged = _correlations(runs), {}
    for run in list(_domains(runs).values()) or [HERE]:
        if run in found:
            score = conclusions.row(found[run], outcome="transfer_accuracy", metric=metric, method=method)
            judged[run.removeprefix(f"{STORED}, ")] = Verdict.of(CLAIM.format(metric), score, run)
    if not judged:
        return NOT_RUN
    said = "; ".join(f"{verdict.correlation}, {verdict.word} ({where})" for where, verdict in judged.items())
    return Finding(said, tuple(judged.values()), size(runs))


def in_print(runs: Runs, metric: str = "alpha1") -> Finding:
    """What the paper's own five rows say of its claim."""
    score = conclusions.row(_correlations(runs)["paper"], outcome="transfer_accuracy", metric=metric, method="pearson")
    return verdicts.in_print(CLAIM.format(metric), score)


def answer(runs: Runs) -> str:
    """What this page finds, as a list."""
    return tables.listed(
        "**The claim is that accuracy after transfer rises with α1.** Over the paper's own five sources: "
        f"{in_print(runs)}.",
        f"**Over our five sources** Pearson's correlation is {over_models(runs, 'alpha1').sized}. By ranks, Spearman's "
        f"is {over_models(runs, 'alpha1', 'spearman')}.",
        _own(runs),
        f"**Over the images of one source** the loss should fall with α1(x); Pearson's r is {over_samples(runs)}.",
    )


def _own(runs: Runs) -> str:
    """What the sources' own accuracy forecasts on each stored target, in a sentence; empty where no run is stored."""
    parts = []
    for series, head in _domains(runs).items():
        means = over_seeds(_published(runs, series), ["label"], ["transfer_accuracy", "source_accuracy"])
        found = conclusions.correlation(means["source_accuracy"], means["transfer_accuracy"], resamples=499)
        cell = tables.interval(found.r, found.low, found.high, n=found.n)
        parts.append(f"{cell}, {tables.p_value(found.p)} ({head.removeprefix(f'{STORED}, ')})")
    return f"**Own accuracy**, which needs no attack, has Pearson's r = {' and '.join(parts)}." if parts else ""


def rule() -> str:
    """How the verdicts over source models are made."""
    return (
        f"{verdicts.RULE}. The claim is a positive correlation with "
        "accuracy and a negative one with loss. In simulations a 95% interval from five sources holds the truth in "
        f"{evidence.held('correlation, Pearson: bootstrap', 5)} (Pearson) or "
        f"{evidence.held('correlation, Spearman: bootstrap', 5)} (Spearman; {{ref}}`intervals-checked`), so "
        "*reproduced* also asks for a small p."
    )
