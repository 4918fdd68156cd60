"""The page of a sweep: what was run, and each measure against a parameter of the grid, with intervals."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advtransfer.pages import tables
from advtransfer.pages.plots import COLOURS, MARKERS
from advtransfer.sweeps.collect import OF_ROW

PANELS, LINES = 9, 7  # a reader cannot tell more of them apart
VALUES = 20  # of an axis, at most, are listed
ROWS = 60  # of the table, at most, are shown


def heading(
    notebook: str, rows: pd.DataFrame, axes: Sequence[str], runs: int, failed: Sequence[str], fixed: str, command: str
) -> str:
    """The title, the grid, and the command that continues the sweep."""
    grid = "".join(f"- `{name}`: {_values(rows[name])}\n" for name in axes)
    return (
        f"# A sweep of {notebook}\n\n{runs:,} runs, of which {len(failed):,} failed. {fixed}\n\n{grid}\n"
        f"Type this again to go on; nothing is computed twice:\n\n    {command}\n"
    )


def failures(failed: Sequence[str]) -> str | None:
    """A list of the runs that failed, if there are any."""
    return "## What failed\n\n" + "".join(f"- {tables.escaped(line)}\n" for line in failed) if failed else None


def files(stem: str, means: pd.DataFrame, axes: Sequence[str], table: str, others: Sequence[str]) -> str:
    """What the figure shows, of which table of the records, and which files hold the rest."""
    seeds = f"means over {means['seeds'].max()} seeds with Student's 95% interval"
    name = Path(stem).name
    more = f" `--table` chooses another: {', '.join(f'`{other}`' for other in others)}." if others else ""
    about = f"This is the table `{table}` of the records.{more}\n\n" if table else ""
    return (
        f"{about}Shown: {seeds if 'seed' in axes else 'one seed, no interval'}; at most {PANELS} measures, without "
        f"their own intervals, and {LINES} lines. All are in `{name}.parquet` and `.csv`, the rows of every run in "
        f"`{name}-runs.parquet` and `.csv`."
    )


def first_rows(means: pd.DataFrame) -> pd.DataFrame:
    """The first rows of the table, with four digits of each number."""
    return means.head(ROWS).map(lambda value: _short(value) if value == value else "–")


def _values(column: pd.Series) -> str:
    values = column.unique()
    return ", ".join(map(_short, values[:VALUES])) + (" …" if len(values) > VALUES else "")


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def figure(table: pd.DataFrame, axes: Sequence[str]) -> Figure:
    """Means and intervals of the first measures, one per panel, from a table that `collect.summarise` returns.

    The horizontal axis is the first parameter of the grid other than the seed. If there is none, the rows of the table
    are on the vertical axis. The remaining settings and rows are drawn as lines, the first seven of them.
    """
    settings = [name for name in axes if name != "seed"]
    measures = _measures(table)[:PANELS]
    labels = list(table.columns[len(settings) : table.columns.get_loc("measure")])
    varying = [name for name in [*settings[1:], *labels] if len(table[name].unique()) > 1]
    named = table.assign(line=_names(table, varying))
    wide = 1 if not settings else min(3, max(1, len(measures)))
    rows = -(-len(measures) // wide)
    tall = 3.2 if settings else 1.2 + 0.24 * max(1, named["line"].nunique())
    drawn, panels = plt.subplots(rows, wide, figsize=(min(9.5, 4.6 * wide + 1), tall * rows + 0.6), squeeze=False)
    for panel, measure in zip(panels.flat, measures, strict=False):
        part = named[named["measure"] == measure]
        if settings:
            _lines(panel, part, settings[0])
            panel.set_ylabel(measure)
        else:
            _dots(panel, part)
            panel.set_xlabel(measure)
    for panel in panels.flat[len(measures) :]:
        panel.set_axis_off()
    handles, lines = panels.flat[0].get_legend_handles_labels()
    if settings and len(lines) > 1:
        drawn.legend(handles, lines, loc="outside lower center", ncols=2 if max(map(len, lines)) < 40 else 1)
    return drawn


def _measures(table: pd.DataFrame) -> list[str]:
    """The measures in their order, without the ends of the intervals that the record has for them."""
    found = list(dict.fromkeys(table["measure"]))
    ends = {f"{name}{end}" for name in found for end in ("_low", "_high")} | {f"low{OF_ROW}", f"high{OF_ROW}"}
    return [name for name in found if name not in ends]


def _names(table: pd.DataFrame, columns: list[str]) -> pd.Series:
    """A name for each line: the values of its first columns, as many as are needed to tell the lines apart."""
    values = table[columns].map(_short)
    enough = next((k for k in range(len(columns)) if _count(values.iloc[:, :k]) == _count(values)), len(columns))
    names = values.iloc[:, :enough].agg(", ".join, axis=1) if enough else pd.Series("", table.index)
    return names.map(lambda name: textwrap.shorten(name, 60, placeholder=" …"))


def _count(table: pd.DataFrame) -> int:
    return len(table.drop_duplicates()) if len(table.columns) else 1


def _lines(panel: Axes, part: pd.DataFrame, x: str) -> None:
    numeric = pd.api.types.is_numeric_dtype(part[x])
    ticks = dict(zip(part[x].unique(), part[x].unique() if numeric else range(part[x].nunique()), strict=True))
    for number, (line, points) in enumerate(part.groupby("line", sort=False)):
        if number == LINES:
            break
        points = points.assign(at=points[x].map(ticks).astype(float)).sort_values("at")
        colour = list(COLOURS.values())[number % len(COLOURS)]
        panel.plot(points["at"], points["mean"], MARKERS[number % len(MARKERS)] + "-", ms=4, color=colour, label=line)
        panel.fill_between(points["at"], points["low"], points["high"], color=colour, alpha=0.18, lw=0)
    panel.set_xlabel(x)
    if not numeric:
        panel.set_xticks(list(ticks.values()), list(map(str, ticks)))


def _dots(panel: Axes, part: pd.DataFrame) -> None:
    places = np.arange(len(part))[::-1]
    spread = np.nan_to_num(part[["low", "high"]].sub(part["mean"], axis=0).abs().to_numpy().T)
    panel.errorbar(part["mean"], places, xerr=spread, fmt="o", ms=4, color=COLOURS["alpha1"], capsize=2)
    panel.set_yticks(places, part["line"])
