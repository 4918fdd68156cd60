"""How far apart the paper's four sources of text are after transfer: what each stored series has to forecast."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from advtransfer.experiments import conclusions, text_protocol
from advtransfer.pages import tables
from advtransfer.pages.nlp_tables import DIRECTIONS, IN_PRINT, under
from advtransfer.pages.runs import Runs
from advtransfer.pages.verdicts import SIGNIFICANT
from advtransfer.records.published import series_of
from advtransfer.records.record import Record
from advtransfer.statistics import cochran_q

FORMS = {"alpha1_ratio": "", "alpha1": ", as defined"}


def spread(records: Mapping[str, Record]) -> pd.DataFrame:
    """For each stored run, the least and the greatest accuracy after transfer of the paper's sources.

    ``p`` is that of `cochran_q`, of the hypothesis that these sources are right equally often on the same test texts;
    ``T→S`` and ``S→T`` are Pearson's r of accuracy with α1 under the attack on words, as the ratio of mean deviations;
    with ``, as defined``, with α1 as the mean of ratios.
    """
    made = [_row(series_of(name), each) for name, each in records.items() if _has_the_four(each)]
    return pd.DataFrame(made)


def _has_the_four(record: Record) -> bool:
    """Whether a run is of real texts and has all four sources of the paper's tables."""
    labels = set(record.tables["sources"]["label"])
    return record.config["encoder"] != text_protocol.TINY and {*IN_PRINT} <= labels


def _row(series: str, record: Record) -> dict[str, Any]:
    target = record.tables["models"].query("role == 'target'").iloc[0]
    rows = {direction: under(record.tables["sources"], direction, "word") for direction in DIRECTIONS}
    first = rows["T→S"]
    kept = first["label"].isin(IN_PRINT).to_numpy()
    accuracy = first["transfer_accuracy"][kept]
    return {
        "series": series,
        "seed": record.config["seed"],
        "train_texts": int(target["train_texts"]),
        "test_texts": int(target["test_texts"]),
        "least": accuracy.min(),
        "greatest": accuracy.max(),
        "p": cochran_q(record.arrays["transfer_right"][kept]),
        **{
            f"{direction}{words}": conclusions.correlation(table[form][kept], accuracy, resamples=99).r
            for direction, table in rows.items()
            for form, words in FORMS.items()
        },
    }


def said(runs: Runs) -> str:
    """Whether there is anything to forecast, a sentence for each stored series; empty where nothing is stored."""
    rows = _most_texts_first(runs)
    return " ".join(_sentence(part) for _, part in rows.groupby("series", sort=False)) if len(rows) else ""


def _most_texts_first(runs: Runs) -> pd.DataFrame:
    rows = runs.summary["spread"]
    return rows.sort_values("train_texts", ascending=False, kind="stable") if len(rows) else rows


def _sentence(rows: pd.DataFrame) -> str:
    first, apart = rows.iloc[0], int((rows["p"] <= SIGNIFICANT).sum())
    seeds = f"in {apart} of {len(rows)} seeds" if len(rows) > 1 else "in the one seed"
    ratio, defined = (
        " and ".join(
            f"{', '.join(tables.number(r) for r in rows[direction + words])} ({direction})" for direction in DIRECTIONS
        )
        for words in FORMS.values()
    )
    found = (
        f"they differ by more than the choice of test texts explains {seeds}. Over these four models Pearson's r of "
        f"accuracy with α1 is, seed by seed, {ratio} as the ratio of mean deviations, and {defined} as defined; four "
        "models cannot say more"
    )
    if not apart:
        found = f"{first['test_texts']:,} test texts cannot tell them apart, so there is hardly anything to forecast"
    low, high = 100 * rows["least"].min(), 100 * rows["greatest"].max()
    return (
        f"With {first['train_texts']:,} training texts of IMDB our models of the paper's four corpora have an accuracy "
        f"of {low:.1f} to {high:.1f}% after transfer: {found}."
    )


def table(runs: Runs) -> pd.DataFrame | None:
    """The same in numbers: a row for each stored run."""
    rows = _most_texts_first(runs)
    if rows.empty:
        return None
    return pd.DataFrame(
        [
            {
                "run": f"{row['series']}, seed {row['seed']}",
                "training texts": f"{row['train_texts']:,}",
                "n": f"{row['test_texts']:,}",
                "accuracy, %": f"{100 * row['least']:.1f} to {100 * row['greatest']:.1f}",
                "p": tables.probability(row["p"]),
                **{
                    f"r, {direction}{words}": tables.number(row[direction + words])
                    for direction in DIRECTIONS
                    for words in FORMS.values()
                },
            }
            for _, row in rows.iterrows()
        ]
    )
