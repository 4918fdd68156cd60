"""The page of Tables 2 and 4: text classifiers of several corpora, attacked by words, sentences and embeddings."""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from advtransfer.datasets import DataUnavailable
from advtransfer.experiments import conclusions, printed, text, text_protocol
from advtransfer.experiments.evaluation import Direction
from advtransfer.pages import comparison, evidence, nlp_spread, nlp_tables, plots, sizes, tables, verdicts
from advtransfer.pages.comparison import MISSING
from advtransfer.pages.nlp_tables import IN_PRINT
from advtransfer.pages.runs import HERE, STORED, Runs
from advtransfer.pages.seeds import over_seeds, range_over_seeds
from advtransfer.pages.verdicts import Finding, Verdict
from advtransfer.records.published import first_series, rows_of
from advtransfer.records.published import published as published_records
from advtransfer.records.record import Record

CONFIDENT = "the confidence of the transferred model in a text rises with its α1(x)"
NOT_RUN = Finding("not run, the texts are missing")
RUNS = ("paper", STORED, HERE)
CLAIMS: dict[Direction, str] = {
    "T→S": "accuracy after transfer rises with α1, the target model attacked",
    "S→T": "accuracy after transfer rises with α1, the sources attacked",
}
FEW = "too few sources"
FORMS = {"alpha1": "mean, as defined", "alpha1_median": "median", "alpha1_ratio": "ratio of mean deviations"}
"""Three ways to sum up α1(x); the paper's is a mean of ratios, which one text with a small denominator can make."""

SERIES = ("whole", "minilm")
"""The stored series; the page shows the first that is there."""


def load(config: text.Config) -> Runs:
    """This run, of the sources whose texts are here, and the stored ones."""
    present = text_protocol.present(config)
    try:
        record = text.run(config.model_copy(update={"sources": present})) if present else None
    except DataUnavailable:
        record = None
    records = published_records("text")
    return Runs(config, record, first_series(records, *SERIES), summary(records))


def summary(published: Mapping[str, Record]) -> dict[str, pd.DataFrame]:
    """What follows from the printed tables and the stored runs alone.

    ``correlations``: accuracy after transfer with α1 and its two robust forms, over the sources of each table;
    ``texts``: the loss with α1(x), over the texts of the first stored run, for the titles of figures 6 and 9;
    ``spread``: how far apart the sources are after transfer, in the runs of every series.
    """
    spread = nlp_spread.spread(published)
    published = first_series(published, *SERIES)
    rows, correlations = rows_of(published), []
    for direction, view in product(nlp_tables.DIRECTIONS, text.VIEWS):
        if view == "word":
            correlations += _with_accuracy(printed.table(nlp_tables.PAPER[direction]), direction, view, "paper")
        own = nlp_tables.under(rows, direction, view)
        if len(own):
            means = over_seeds(own, ["label"], ["transfer_accuracy", *FORMS])
            correlations += _with_accuracy(means, direction, view, STORED)
    summaries = {"correlations": pd.DataFrame(correlations), "spread": spread}
    if published:
        first = next(iter(published.values()))
        summaries["texts"] = pd.concat(
            [_with_loss(first, direction) for direction in nlp_tables.DIRECTIONS], ignore_index=True
        )
    return summaries


def findings(runs: Runs) -> dict[str, Finding]:
    """What other pages quote of this one."""
    return {
        "text_in_print": in_print(runs),
        "text_target_attacked": forecast(runs, "T→S"),
        "text_sources_attacked": forecast(runs, "S→T"),
        "text_pearson_samples": over_texts(runs),
        "text_control": order(runs),
        "text_spread": Finding(nlp_spread.said(runs)),
    }


# The answer.


def answer(runs: Runs) -> str:
    """What this page finds, as a short list."""
    ours, texts = forecast(runs, *nlp_tables.DIRECTIONS), over_texts(runs)
    parts = [
        "**The claim is that accuracy after transfer rises with α1.** Over the paper's four sources: "
        f"{in_print(runs)}.",
        f"**Over our models of the same four corpora**: {ours.sized}.",
        f"**Over single texts** the confidence should rise with α1(x): {texts} ({{doc}}`the numbers <nlp_attacks>`).",
    ]
    if spread := nlp_spread.said(runs):
        parts.insert(2, f"**How much is there to forecast?** {spread}")
    return f"T→S: the target model is attacked; S→T: the sources are.\n\n{tables.listed(*parts)}"


def in_print(runs: Runs) -> Finding:
    """What the paper's own four rows say of its claim, in both directions."""
    found = {
        direction: _verdict(_correlations(runs), direction, "word", "paper") for direction in nlp_tables.DIRECTIONS
    }
    judged = {direction: verdict for direction, verdict in found.items() if verdict}
    said = "; ".join(f"{direction}: r = {verdict.correlation}, {verdict.said}" for direction, verdict in judged.items())
    return Finding(said, tuple(judged.values()), "as printed")


def points(runs: Runs) -> Figure:
    """Accuracy after transfer against α1, one point per source and direction: paper, and stored, else this run."""
    panels = {}
    run, table = next(iter(nlp_tables.sources(runs).items()), ("", pd.DataFrame()))
    for direction in nlp_tables.DIRECTIONS:
        panels[f"Paper, {direction}"] = printed.table(nlp_tables.PAPER[direction])
        if run:
            rows = nlp_tables.under(table, direction, "word")
            rows = rows.drop(columns=["alpha1", "alpha1_low", "alpha1_high"])  # one text can make the mean
            rows = rows.rename(columns={"alpha1_ratio": "alpha1"})
            if len(runs.published) > 1:
                rows = range_over_seeds(rows, ["label"], ["transfer_accuracy", "alpha1"])
            own = rows[rows["label"].isin(IN_PRINT)]
            panels[f"{run.capitalize()}, {direction}, ratio of means"] = own.filter(
                regex="label|accuracy|^alpha1$|alpha1_"
            )
    return plots.forecast(panels)


# What was run.


def about(runs: Runs) -> str:
    """A paragraph on the stored runs, and one on this run or on the data that it lacks."""
    return "\n\n".join((_about_published(runs), *_about_this_run(runs)))


def _about_published(runs: Runs) -> str:
    if not runs.published:
        return "No text run has been stored, so there is no **stored** column."
    first, n = next(iter(runs.published.values())), len(runs.published)
    settings = first.config
    return (
        f"The **stored** columns rest on n = {n} seed{'s' * (n > 1)}: `{settings['encoder']}`, "
        f"{sizes.training_texts(first)} per corpus, cut to {settings['max_length']} tokens, "
        f"{settings['epochs']} epochs{'' if settings.get('dropout', 0.1) else ' without dropout'}, "
        f"{settings['samples']} attacked texts, on {first.provenance['device']}."
    )


def _about_this_run(runs: Runs) -> Iterator[str]:
    config = runs.config
    if runs.record is None:
        yield tables.missing(text_protocol.needed(config))
    elif config.encoder == text_protocol.TINY:
        yield (
            "**This run** has a tiny random encoder and made-up sentences: it shows that everything runs, and nothing "
            "else."
        )
    else:
        yield (
            f"**This run** has the encoder `{config.encoder}`, {len(runs.record.arrays['index'])} attacked texts. It "
            "is small; the table below lists the settings that differ."
        )
        left_out = [text_protocol.LABELS[name] for name in config.sources if name not in runs.record.config["sources"]]
        if left_out:
            yield (
                f"Left out of it, because their texts could not be found: {', '.join(left_out)}. `python -m "
                "advtransfer data list` says where each corpus comes from."
            )


def departures(runs: Runs) -> pd.DataFrame:
    """The parameters in which the stored runs and this one differ from the released ones."""
    shown = list(runs.published.values())
    stored = {STORED: text.Config(**shown[0].config)} if shown else {}
    return tables.departures(stored | {HERE: runs.config})


# Over the sources.


def over_sources(runs: Runs) -> pd.DataFrame:
    """The correlation of accuracy after transfer with α1 over the sources, by direction, attack and run."""
    scores, rows = _correlations(runs), []
    for direction, view, run in product(nlp_tables.DIRECTIONS, text.VIEWS, RUNS):
        own = scores[(scores["direction"] == direction) & (scores["view"] == view) & (scores["run"] == run)]
        if own.empty:
            continue
        found = {form: _verdict(scores, direction, view, run, form) for form in set(own["metric"])}
        cells = {
            words: f"{verdict.cell}, {verdict.said}" if (verdict := found.get(form)) else MISSING
            for form, words in FORMS.items()
        }
        about = {"": direction, "attack": text.VIEWS[view], "run": run}
        rows.append({**about, **cells, "n": conclusions.row(own, metric="alpha1").n})
    return pd.DataFrame(rows)


def forecast(runs: Runs, *directions: Direction) -> Finding:
    """Whether sources with a larger α1 transfer better, under the attack on words: stored, else this run."""
    run = next(iter(nlp_tables.sources(runs)), None)
    if run is None:
        return NOT_RUN
    scores, parts, judged = _correlations(runs), [], []
    for direction in directions:
        verdict = _verdict(scores, direction, "word", run)
        if verdict is None:
            parts.append(f"{direction}: {FEW}")
            continue
        robust = _verdict(scores, direction, "word", run, "alpha1_ratio")
        beside = f" (by the {FORMS['alpha1_ratio']} {robust.cell}, {robust.word})" if robust else ""
        parts.append(f"{direction}: {verdict.correlation}, {verdict.word}{beside}")
        judged.append(verdict)
    return Finding("; ".join(parts), tuple(judged), size(runs))


def size(runs: Runs) -> str:
    """How large the stored runs are, else this run."""
    return sizes.of_texts(runs.published or runs.own)


def rule() -> str:
    """How the verdicts over sources are made, and what four sources can show."""
    return (
        f"{verdicts.RULE}. With four sources even a perfect order has a p of 2/24 = "
        f"{tables.number(2 / 24, 3)}, so no table of four rows can be *reproduced* by this rule. In simulations a 95% "
        f"interval from four sources holds the truth in {evidence.held('correlation, Pearson: bootstrap', 4)} "
        "({ref}`intervals-checked`). The added source *AG, two classes* is not in the paper, and so it is left out "
        "here."
    )


def _correlations(runs: Runs) -> pd.DataFrame:
    """Correlations over the sources: those of paper and stored runs as they are stored, and those of this run."""
    stored = runs.summary["correlations"]
    if runs.record is None:
        return stored
    rows = runs.record.tables["sources"]
    ours = [
        score
        for direction, view in product(nlp_tables.DIRECTIONS, dict.fromkeys(rows["view"]))
        for score in _with_accuracy(nlp_tables.under(rows, direction, view), direction, view, HERE)
    ]
    return pd.concat([stored, pd.DataFrame(ours)], ignore_index=True)


def _with_accuracy(rows: pd.DataFrame, direction: str, view: str, run: str) -> list[dict[str, Any]]:
    """Accuracy after transfer with each form of α1, over the paper's sources, as `conclusions.over_sources`."""
    rows = rows[rows["label"].isin(IN_PRINT)]
    about = {"direction": direction, "view": view, "run": run}
    return [
        {
            **about,
            "metric": metric,
            **conclusions.correlation(rows[metric], rows["transfer_accuracy"], resamples=499)._asdict(),
        }
        for metric in FORMS
        if metric in rows
    ]


def _verdict(scores: pd.DataFrame, direction: Direction, view: str, run: str, form: str = "alpha1") -> Verdict | None:
    """The verdict on one correlation over sources; None for fewer than three of them."""
    score = conclusions.row(scores, direction=direction, view=view, run=run, metric=form)
    return Verdict.of(CLAIMS[direction], score, run) if score.n > 2 else None


# Single texts.


def by_text(runs: Runs, direction: Direction) -> Figure | None:
    """Figure 6 (T→S) or 9 (S→T): α1(x) against the loss after transfer, in the first stored run or this one."""
    made = next(iter(nlp_tables.shown(runs).values()), None)
    if made is None:
        return None
    stored = runs.summary.get("texts")
    scores = _with_loss(made, direction) if stored is None else stored[stored["direction"] == direction]
    labels = [text_protocol.LABELS[name] for name in made.config["sources"]]
    return plots.sample_scatter(labels, scores, nlp_tables.alpha1(made, direction), _losses(made))


def _with_loss(record: Record, direction: Direction) -> pd.DataFrame:
    """The loss after transfer with α1(x), over the texts of each source."""
    scores = [
        conclusions.correlation(alpha1, loss, resamples=99)._asdict()
        for alpha1, loss in zip(nlp_tables.alpha1(record, direction), _losses(record), strict=True)
    ]
    about = pd.DataFrame({"direction": direction, "source": list(record.config["sources"])})
    return about.join(pd.DataFrame(scores))


def _losses(record: Record) -> np.ndarray:
    """The losses of the transferred sources on the attacked texts."""
    return record.arrays["transfer_loss"].astype(float)[:, record.arrays["index"]]


def by_confidence(runs: Runs) -> pd.DataFrame:
    """The correlation of confidence after transfer with α1(x) over the texts of each source."""
    rows = [({"source": f"{text_protocol.LABELS[source]}, {direction}", "run": run}, scores)
            for run, direction, source, scores in _single_texts(runs)]  # fmt: skip
    table = comparison.by_sample(rows, 1)
    return table.sort_values("source", kind="stable") if rows else table


def over_texts(runs: Runs) -> Finding:
    """Whether the transferred models are more confident of texts with a larger α1(x)."""
    judged = {
        direction: verdicts.quoted(
            Verdict.of(CONFIDENT, conclusions.row(scores, method="pearson"), run)
            for run, where, source, scores in _single_texts(runs)
            if where == direction and text_protocol.LABELS[source] in IN_PRINT
        )
        for direction in nlp_tables.DIRECTIONS
    }
    values = dict.fromkeys(tables.number(printed.pearson(table)) for table in ("table2", "table4"))
    in_print = f"{next(iter(values))} in both directions" if len(values) == 1 else " and ".join(values)
    said = "; ".join(f"{direction}: {verdicts.tally(part)}" for direction, part in judged.items())
    return Finding(f"{said} (in print {in_print})", tuple(v for part in judged.values() for v in part), size(runs))


def about_single_texts(runs: Runs) -> str | None:
    """What the attack on words does, and whether α1(x) tells of the confidence, in two sentences; and missing data."""
    shown = nlp_tables.shown(runs)
    lacks = "" if runs.record else tables.missing(text_protocol.needed(runs.config))
    if not shown:
        return lacks or None
    made = list(runs.published.values()) or list(shown.values())
    attacked = pd.concat([each.tables["attacks"].query("view == 'word'") for each in made])
    least, most = 100 * attacked["flipped"].min(), 100 * attacked["flipped"].max()
    flipped = f"{least:.0f}" if round(least) == round(most) else f"{least:.0f} to {most:.0f}"
    said = (
        f"**The attack on words** flips {flipped}% of the attacked texts; on average it changes "
        f"{attacked['changed'].min():.1f} to {attacked['changed'].max():.1f} tokens. **The claim** that the "
        "transferred model is more confident of texts with a larger α1(x) is, by direction, "
        f"{over_texts(runs)}. T→S: the target model is attacked; S→T: the sources are."
    )
    return f"{said}\n\n{lacks}"


def _single_texts(runs: Runs) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """Of each run, direction and source the correlations over texts."""
    for run, made in nlp_tables.shown(runs).items():
        own = made.tables["samples"].query("view == 'word'")
        for (direction, source), scores in own.groupby(["direction", "source"], sort=False):
            yield run, str(direction), str(source), scores


# Does the order survive a control?


def control(runs: Runs) -> str | None:
    """The order of the sources in both directions, and what cutting AG to two classes does, as a list."""
    return "\n".join(f"- {line}." for line in _orders(runs)) or None


def order(runs: Runs) -> Finding:
    """The orders in one sentence; they have no test."""
    lines = _orders(runs)
    return Finding(". ".join(lines)) if lines else NOT_RUN


def _orders(runs: Runs) -> list[str]:
    """Of each direction the order of the sources by accuracy and by α1, in words: stored, else of this run.

    α1 is the ratio of mean deviations, which no single text can dominate.
    """
    run, table = next(iter(nlp_tables.sources(runs).items()), ("", pd.DataFrame()))
    lines = []
    for direction in nlp_tables.DIRECTIONS if run else ():
        rows = nlp_tables.under(table, direction, "word")
        seeds = rows.groupby("label", sort=False)[["transfer_accuracy", "alpha1_ratio"]].agg(list)
        four = seeds.loc[seeds.index.isin(IN_PRINT)].map(np.mean)
        accuracy, alpha1 = (
            ", ".join(four.sort_values(name, ascending=False).index) for name in ("transfer_accuracy", "alpha1_ratio")
        )
        lines.append(
            f"{direction}: the order by accuracy after transfer is {accuracy}; the order by α1, as the ratio of mean "
            f"deviations, is {alpha1}"
        )
        if {"AG", "AG, two classes"} <= set(seeds.index):
            ratios = seeds["alpha1_ratio"]
            whole, cut = (
                ", ".join(tables.number(float(value)) for value in ratios[name]) for name in ("AG", "AG, two classes")
            )
            each = "by seed, " if len(ratios["AG"]) > 1 else ""
            lines[-1] += f"; {each}this ratio of AG is {whole} with four classes and {cut} with two"
            less = four["alpha1_ratio"].drop("AG")
            less["AG with two classes"] = np.mean(ratios["AG, two classes"])
            lines[-1] += (
                "; if AG with two classes takes the place of AG, the order by the ratio is "
                f"{', '.join(less.sort_values(ascending=False).index)}"
            )
    return lines
