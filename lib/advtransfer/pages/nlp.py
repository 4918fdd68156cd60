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
from advtransfer.pages import comparison, nlp_tables, plots, tables, verdicts
from advtransfer.pages.comparison import MISSING
from advtransfer.pages.runs import Runs, read_summary
from advtransfer.pages.seeds import over_seeds
from advtransfer.pages.verdicts import Finding, Verdict
from advtransfer.records.published import published as published_records
from advtransfer.records.published import rows_of
from advtransfer.records.record import Record
from advtransfer.statistics import Correlation

NOT_RUN = Finding("not run, the texts are missing")
RUNS = ("paper", "published", "this run")
CLAIMS: dict[Direction, str] = {
    "T→S": "accuracy after transfer rises with α1, the target model attacked",
    "S→T": "accuracy after transfer rises with α1, the sources attacked",
}
FEW = "too few sources"


def load(config: text.Config) -> Runs:
    """This run, of the sources whose texts are here, and the published ones."""
    present = text_protocol.present(config)
    try:
        record = text.run(config.model_copy(update={"sources": present})) if present else None
    except DataUnavailable:
        record = None
    records = published_records("text")
    return Runs(config, record, records, read_summary("text", records))


def summary(published: Mapping[str, Record]) -> dict[str, pd.DataFrame]:
    """What follows from the printed tables and the published runs alone.

    ``correlations``: accuracy after transfer with the mean and the median of α1(x), over the sources of each table;
    ``texts``: the loss with α1(x), over the texts of the first published run, for the titles of figures 6 and 9.
    """
    rows, correlations = rows_of(published), []
    for direction, view in product(nlp_tables.DIRECTIONS, text.VIEWS):
        if view == "word":
            correlations += _with_accuracy(nlp_tables.PAPER[direction](), direction, view, "paper")
        own = nlp_tables.under(rows, direction, view)
        if len(own):
            means = over_seeds(own, ["label"], ["transfer_accuracy", "alpha1", "alpha1_median"])
            correlations += _with_accuracy(means, direction, view, "published")
    summaries = {"correlations": pd.DataFrame(correlations)}
    if published:
        first = next(iter(published.values()))
        summaries["texts"] = pd.concat(
            [_with_loss(first, direction) for direction in nlp_tables.DIRECTIONS], ignore_index=True
        )
    return summaries


def findings(runs: Runs) -> dict[str, Finding]:
    """What other pages quote of this one."""
    return {
        "text_alpha1": forecast(runs, *nlp_tables.DIRECTIONS),
        "text_target_attacked": forecast(runs, "T→S"),
        "text_sources_attacked": forecast(runs, "S→T"),
        "text_pearson_samples": over_texts(runs),
        "text_control": order(runs),
    }


# What was run.


def about(runs: Runs) -> str:
    """A paragraph on the published runs, and one on this run or on the data that it lacks."""
    return "\n\n".join((_about_published(runs), *_about_this_run(runs)))


def _about_published(runs: Runs) -> str:
    if not runs.published:
        return "No text run has been published, so there is no **published** column."
    first, n = next(iter(runs.published.values())), len(runs.published)
    settings = first.config
    return (
        f"The **published** columns rest on n = {n} seed{'s' * (n > 1)}: `{settings['encoder']}`, up to "
        f"{settings['train_texts']:,} training texts a corpus cut to {settings['max_length']} tokens, "
        f"{settings['epochs']} passes, {settings['samples']} attacked texts, on {first.provenance['device']}."
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
            f"**This run** has the encoder `{config.encoder}`, {len(runs.record.arrays['index'])} attacked texts, and "
            "is small; the table below says in what."
        )
        left_out = [text_protocol.LABELS[name] for name in config.sources if name not in runs.record.config["sources"]]
        if left_out:
            yield (
                f"Left out of it, because their texts could not be found: {', '.join(left_out)}. `python -m "
                "advtransfer data list` says where each corpus comes from."
            )


def departures(runs: Runs) -> pd.DataFrame:
    """The parameters in which this run differs from the paper's."""
    return tables.departures({"this run": runs.config})


# Over the sources.


def over_sources(runs: Runs) -> pd.DataFrame:
    """The correlation of accuracy after transfer with α1 over the sources, by direction, attack and run."""
    scores, rows = _correlations(runs), []
    for direction, view, run in product(nlp_tables.DIRECTIONS, text.VIEWS, RUNS):
        own = scores[(scores["direction"] == direction) & (scores["view"] == view) & (scores["run"] == run)]
        if own.empty:
            continue
        mean, verdict = conclusions.row(own, metric="alpha1"), _verdict(scores, direction, view, run)
        row = {
            "": nlp_tables.DIRECTIONS[direction],
            "attack": text.VIEWS[view],
            "run": run,
            r"accuracy with $\alpha_1$, Pearson": tables.interval(mean.r, mean.low, mean.high),
            "p": tables.probability(mean.p),
            "n": mean.n,
            "verdict": verdict.word if verdict else FEW,
            "with the median instead": MISSING,
        }
        if run != "paper":
            median = conclusions.row(own, metric="alpha1_median")
            interval = tables.interval(median.r, median.low, median.high)
            row["with the median instead"] = f"{interval}, p = {tables.probability(median.p)}"
        rows.append(row)
    return pd.DataFrame(rows)


def forecast(runs: Runs, *directions: Direction) -> Finding:
    """Whether sources with a larger α1 transfer better, under the attack on words: published, else this run."""
    run = next(iter(nlp_tables.sources(runs)), None)
    if run is None:
        return NOT_RUN
    scores, parts, judged = _correlations(runs), [], []
    for direction in directions:
        verdict = _verdict(scores, direction, "word", run)
        if verdict is None:
            n = _score(scores, direction, "word", run).n
            parts.append(f"{direction}: {MISSING}, p = {MISSING}, n = {n}, {FEW}")
        else:
            parts.append(f"{direction}: {verdict.correlation}, {verdict.word}")
            judged.append(verdict)
    return Finding(f"{'; '.join(parts)} ({run})", tuple(judged))


def rule() -> str:
    """How the verdicts over sources are made, and what four or five sources can show."""
    return (
        f"{verdicts.RULE_OVER_SOURCES}. With four sources even a perfect order has a p of 2/24 = "
        f"{tables.number(2 / 24, 3)}, so no table of four rows can be *reproduced* by this rule; with five the least p "
        f"is {tables.number(2 / 120, 3)}."
    )


def _correlations(runs: Runs) -> pd.DataFrame:
    """Correlations over the sources: those of paper and published runs as they are stored, and those of this run."""
    stored = (runs.summary or summary(runs.published))["correlations"]
    if runs.record is None:
        return stored
    rows = runs.record.tables["sources"]
    ours = [
        score
        for direction, view in product(nlp_tables.DIRECTIONS, dict.fromkeys(rows["view"]))
        for score in _with_accuracy(nlp_tables.under(rows, direction, view), direction, view, "this run")
    ]
    return pd.concat([stored, pd.DataFrame(ours)], ignore_index=True)


def _with_accuracy(rows: pd.DataFrame, direction: str, view: str, run: str) -> list[dict[str, Any]]:
    """Accuracy after transfer with the mean and the median of α1(x), over sources, as `conclusions.over_sources`."""
    about = {"direction": direction, "view": view, "run": run}
    return [
        {
            **about,
            "metric": metric,
            **conclusions.correlation(rows[metric], rows["transfer_accuracy"], resamples=499)._asdict(),
        }
        for metric in ("alpha1", "alpha1_median")
        if metric in rows
    ]


def _score(scores: pd.DataFrame, direction: Direction, view: str, run: str) -> Correlation:
    return conclusions.row(scores, direction=direction, view=view, run=run, metric="alpha1")


def _verdict(scores: pd.DataFrame, direction: Direction, view: str, run: str) -> Verdict | None:
    """The verdict on one correlation over sources; None for fewer than three of them."""
    score = _score(scores, direction, view, run)
    word = verdicts.judge_over_sources(score, claimed=1)
    return Verdict.of(CLAIMS[direction], score, word, run) if score.n > 2 else None


# Single texts.


def by_text(runs: Runs, direction: Direction) -> Figure | None:
    """Figure 6 (T→S) or 9 (S→T): α1(x) against the loss after transfer, in the first published run or this one."""
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
    """The correlation of confidence after transfer with α1(x) over the texts of each source, with a verdict."""
    rows = []
    for run, direction, source, scores in _single_texts(runs):
        verdict = _text_verdict(scores, run)
        about = {"": direction, "source": text_protocol.LABELS[source], "run": run}
        rows.append({**about, **comparison.scores(scores), "n": verdict.n, "a positive r is": verdict.word})
    table = pd.DataFrame(rows)
    return table.sort_values(["", "source"], kind="stable", ascending=[False, True]) if rows else table


def over_texts(runs: Runs) -> Finding:
    """Whether the transferred models are more confident of texts with a larger α1(x)."""
    judged = tuple(_text_verdict(scores, run) for run, _, _, scores in _single_texts(runs))
    share = verdicts.share(judged) if judged else "none"
    in_print = " and ".join(tables.number(printed.pearson(table)) for table in ("table2", "table4"))
    return Finding(f"{share} reproduced (in print {in_print})", judged)


def _single_texts(runs: Runs) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """Of each run, direction and source the correlations over texts."""
    for run, made in nlp_tables.shown(runs).items():
        own = made.tables["samples"].query("view == 'word'")
        for (direction, source), scores in own.groupby(["direction", "source"], sort=False):
            yield run, str(direction), str(source), scores


def _text_verdict(scores: pd.DataFrame, run: str) -> Verdict:
    score = conclusions.row(scores, method="pearson")
    word = verdicts.judge(score.r, score.low, score.high, claimed=1)
    return Verdict.of("the confidence of the transferred model in a text rises with its α1(x)", score, word, run)


# Does the order survive a control?


def control(runs: Runs) -> str | None:
    """The order of the sources in both directions, and what cutting AG to two classes does, as a list."""
    return "\n".join(f"- {line}." for line in _orders(runs)) or None


def order(runs: Runs) -> Finding:
    """The same in one sentence; nobody has tested it."""
    lines = _orders(runs)
    return Finding(". ".join(lines)) if lines else NOT_RUN


def _orders(runs: Runs) -> list[str]:
    """Of each direction the order of the sources by accuracy and by α1, in words: published, else of this run."""
    run, table = next(iter(nlp_tables.sources(runs).items()), ("", pd.DataFrame()))
    lines = []
    for direction in nlp_tables.DIRECTIONS if run else ():
        rows = nlp_tables.under(table, direction, "word")
        if run == "published":
            rows = over_seeds(rows, ["label"], ["transfer_accuracy", "alpha1"])
        rows = rows.set_index("label")
        four = rows[rows.index.isin(["MR", "Yelp", "AG", "Fake"])]
        accuracy, alpha1 = (
            ", ".join(four.sort_values(column, ascending=False).index) for column in ("transfer_accuracy", "alpha1")
        )
        lines.append(f"{direction}: by accuracy after transfer {accuracy}; by α1 {alpha1}")
        if {"AG", "AG, two classes"} <= set(rows.index):
            whole, cut = (tables.estimate(row, "alpha1") for _, row in rows.loc[["AG", "AG, two classes"]].iterrows())
            lines[-1] += f"; α1 of AG is {whole} with four classes and {cut} with two"
    return lines
