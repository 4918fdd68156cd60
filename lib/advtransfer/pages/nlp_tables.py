"""The tables of the page on text: corpora, what the attacks did, and Tables 2 and 4."""

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from advtransfer.experiments import conclusions, evaluation, printed, text, text_protocol
from advtransfer.experiments.evaluation import Direction
from advtransfer.matching import evenly
from advtransfer.pages import comparison, tables
from advtransfer.pages.comparison import MISSING, Quantity
from advtransfer.pages.runs import HERE, STORED, Runs
from advtransfer.records.published import rows_of
from advtransfer.records.record import Record

DIRECTIONS: dict[Direction, str] = {
    "T→S": "Table 2: the target model is attacked (T→S)",
    "S→T": "Table 4: the sources are attacked (S→T)",
}
PAPER: dict[Direction, int] = {"T→S": 2, "S→T": 4}
"""The number of the paper's table."""
SOURCES = [label for name, label in text_protocol.LABELS.items() if name != text_protocol.TARGET]
"""The rows of the tables, in their order; the paper has no "AG, two classes"."""
IN_PRINT = ("MR", "Yelp", "AG", "Fake")
"""The sources of the paper, over which its claim is judged."""
AS_PRINTED = (
    comparison.ACCURACY,
    comparison.ALPHA1,
    comparison.ALPHA1_MEDIAN,
    comparison.ALPHA1_RATIO,
    comparison.ALPHA2_SQUARED._replace(digits=4),
    comparison.FLOOR._replace(digits=4),
    comparison.ALPHA12_SQUARED,
)
"""The columns of the paper's tables, with what a reader needs to judge them."""
EXAMPLES = 4  # texts shown


def shown(runs: Runs) -> dict[str, Record]:
    """The runs whose models and texts are shown one by one, by what a table calls them."""
    records = {f"stored, seed {made.config['seed']}": made for made in runs.published.values()}
    return records | runs.own


def sources(runs: Runs) -> dict[str, pd.DataFrame]:
    """The source models of the stored runs and of this one, with squares as the paper prints them."""
    rows = {STORED: rows_of(runs.published)} if runs.published else {}
    if runs.record:
        rows[HERE] = runs.record.tables["sources"]
    return {run: conclusions.squared(table) for run, table in rows.items()}


def under(rows: pd.DataFrame, direction: str, view: str) -> pd.DataFrame:
    """The rows under one attack in one direction."""
    return rows[(rows["view"] == view) & (rows["direction"] == direction)] if len(rows) else rows


def alpha1(record: Record, direction: Direction) -> np.ndarray:
    """α1(x) of the attack on words, as an array (sources, texts)."""
    arrays = {"deviations": record.arrays["word_deviations"]}
    places = range(1, 1 + len(record.config["sources"]))
    pairs = [(0, place) if direction == "T→S" else (place, 0) for place in places]
    return np.stack([evaluation.alpha1(arrays, *pair) for pair in pairs])


def corpora(runs: Runs) -> pd.DataFrame:
    """Each corpus, and the accuracy of its classifier: in the first stored run and in this one."""
    every = shown(runs)
    return _by(
        "corpus",
        [
            {
                "corpus": row["label"],
                "run": run,
                "role": row["role"],
                "classes": row["classes"],
                "training texts": f"{row['train_texts']:,}",
                "test texts": f"{row['test_texts']:,}",
                "cut, %": tables.number(100 * row["truncated"], 0),
                "majority, %": tables.number(100 * row["majority"], 1),
                "accuracy, %": tables.percent(row, "accuracy"),
            }
            for run in dict.fromkeys([*list(every)[:1], HERE])
            if run in every
            for _, row in every[run].tables["models"].iterrows()
        ],
    )


def word_attacks(runs: Runs) -> pd.DataFrame:
    """What the attack on words did to each model, in each run."""
    return _by(
        "model",
        [
            {
                "model": row["label"],
                "run": run,
                "flipped, %": tables.percent(row, "flipped"),
                "tokens changed": tables.estimate(row, "changed", digits=1),
                "distance": tables.estimate(row, "distance"),
                "read back, %": tables.number(100 * row["roundtrip"], 1),
                "n": row["n"],
            }
            for run, made in shown(runs).items()
            for _, row in made.tables["attacks"].query("view == 'word'").iterrows()
        ],
    )


def sentence_attacks(runs: Runs) -> pd.DataFrame | str:
    """What the attack on sentences did to each model, in the runs that made it."""
    spoken = _with_sentence_attack(runs)
    if not spoken:
        return "**Not run here**: no run on this page has made the sentence-level attack."
    return _by(
        "model",
        [
            {
                "model": row["label"],
                "run": run,
                "flipped, %": tables.percent(row, "flipped"),
                "flipped unperturbed, %": tables.percent(row, "unperturbed"),
                "words changed": tables.estimate(row, "changed", digits=1),
                "words written back, %": tables.number(100 * made.arrays["reconstructed"].mean(), 1),
                "n": row["n"],
            }
            for run, made in spoken.items()
            for _, row in made.tables["attacks"].query("view == 'sentence'").iterrows()
        ],
    )


def _with_sentence_attack(runs: Runs) -> dict[str, Record]:
    """The runs that attacked sentences."""
    return {run: made for run, made in shown(runs).items() if "reconstructed" in made.arrays}


def _by(column: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows sorted by a column, else in their order."""
    table = pd.DataFrame(rows)
    return table.sort_values(column, kind="stable") if rows else table


def changed_words(runs: Runs) -> pd.DataFrame | None:
    """A few texts, and what the attack on the words of the target model made of them."""
    for made in shown(runs).values():
        table = made.tables["examples"]
        return table.iloc[_some(len(table))].rename(columns={"before": "text", "after": "attacked"})
    return None


def changed_sentences(runs: Runs) -> pd.DataFrame | None:
    """A few texts, what the autoencoder writes of them, and what it writes under the attack on the target model."""
    columns = ["text, cut", "written back", "written under the attack on the target"]
    for made in _with_sentence_attack(runs).values():
        found = made.arrays["sentence_examples"]
        return pd.DataFrame(found[_some(len(found))], columns=columns)
    return None


def _some(n: int) -> list[int]:
    """Which of n texts are shown: not the first, for they may be sorted by class."""
    return evenly(n, EXAMPLES).tolist()


# Tables 2 and 4.


def as_printed(runs: Runs, direction: Direction) -> pd.DataFrame:
    """Table 2 (T→S) or 4 (S→T) with the metrics as printed, squares included: paper, stored and this run.

    Where one run is stored, its intervals are those over texts.
    """
    paper = printed.table(PAPER[direction]).rename(columns={"label": "source"})
    own = _columns(runs, direction, "word", AS_PRINTED, over_texts=len(runs.published) == 1)
    return _side_by_side({"paper": paper, **own}, AS_PRINTED)


def without_noise(runs: Runs) -> pd.DataFrame:
    """Tables 2 and 4 with the noise taken off, unsquared: stored and this run."""
    quantities, columns = (comparison.ALPHA2, comparison.ALPHA12), {}
    for direction in DIRECTIONS:
        for run, rows in _columns(runs, direction, "word", quantities, noise_off=True).items():
            columns[f"{direction}, {run}"] = rows
    return _side_by_side(columns, quantities)


def other_attacks(runs: Runs) -> pd.DataFrame:
    """α1 and α2 under the attacks on sentences and on embeddings, in both directions: a row for each source."""
    parts = []
    for view, direction in product([view for view in text.VIEWS if view != "word"], DIRECTIONS):
        quantities = {
            quantity.words: _side_by_side(_columns(runs, direction, view, (quantity,)), (quantity,))
            for quantity in (comparison.ALPHA1, comparison.ALPHA2)
        }
        found = {words: rows.drop(columns="").set_index("source") for words, rows in quantities.items() if len(rows)}
        if found:
            part = pd.concat(found, axis="columns").reindex(SOURCES).rename_axis("source").reset_index()
            part.columns = [", ".join(filter(None, head)) for head in part.columns]
            part.insert(0, "attack", f"{text.VIEWS[view]}, {direction}")
            parts.append(part)
    return pd.concat(parts, ignore_index=True).fillna(MISSING) if parts else pd.DataFrame()


def _side_by_side(columns: Mapping[str, pd.DataFrame], quantities: tuple[Quantity, ...]) -> pd.DataFrame:
    keys = pd.DataFrame({"source": SOURCES})
    return comparison.side_by_side(keys, columns, quantities) if columns else pd.DataFrame()


def _columns(
    runs: Runs,
    direction: Direction,
    view: str,
    quantities: tuple[Quantity, ...],
    *,
    noise_off: bool = False,
    over_texts: bool = False,
) -> dict[str, pd.DataFrame]:
    """The sources under one attack in one direction: of stored runs means over seeds, and those of this run."""
    columns = {}
    for run, table in sources(runs).items():
        rows = under(table, direction, view).drop(columns="source").rename(columns={"label": "source"})
        rows = comparison.noise_off(rows) if noise_off else rows
        if len(rows):
            means = run == STORED and not over_texts
            columns[run] = comparison.means(rows, ["source"], quantities) if means else rows
    return columns


def largest_ratio(runs: Runs) -> str | None:
    """The largest α1(x) of all runs, and what it does to the mean, in words."""
    ratios = []
    for (run, made), direction in product(shown(runs).items(), DIRECTIONS):
        for place, values in enumerate(alpha1(made, direction)):
            worst, source = int(np.nanargmax(values)), made.config["sources"][place]
            flipped = bool(made.arrays["word_flipped"][1 + place if direction == "T→S" else 0][worst])
            name = f"{text_protocol.LABELS[source]}, {direction}, {run}"
            ratios.append((values[worst], np.nanmean(values), np.nanmean(np.delete(values, worst)), name, flipped))
    if not ratios:
        return None
    largest, mean, without, name, flipped = max(ratios)
    why = (
        "only just flipped that text, and so moved the outputs little"
        if flipped
        else "failed on that text and hardly moved the outputs"
    )
    return (
        f"Under the attack on words, the largest $\\alpha_1(x)$ is {tables.number(largest, 1)} ({name}). The reason is "
        f"the denominator: the attack on the evaluated model itself {why}. With that text the mean is "
        f"{tables.number(mean)}, and without it {tables.number(without)}."
    )
