"""Figures of a ranking: places with intervals, scores above their floor, and what a choice costs."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from advtransfer.pages import layout
from advtransfer.pages.layout import two_widths
from advtransfer.pages.plots import COLOURS

NAMES = {
    "alpha1": "α1, T→S", "alpha2": "α2, T→S", "alpha12": "α1∗α2, T→S", "back_alpha1": "α1, S→T",
    "back_alpha2": "α2, S→T", "back_alpha12": "α1∗α2, S→T", "distance": "matching distance",
    "own_accuracy": "own accuracy", "source_accuracy": "own accuracy", "noise": "α1, T→S, of random noise",
    "probe": "cross-validated probe", "parameters": "number of weights", "elsewhere": "mean rank on the other targets",
}  # fmt: skip
"""Scores as a reader meets them; every other one has its own name."""
OWN_DEVIATION = r"$\lVert\Delta_{SS}\rVert$"  # in the head of a table a bar would need to be escaped
COLUMNS = 3  # panels side by side


def label(score: str) -> str:
    """The name of a score as a reader meets it."""
    return NAMES.get(score.removesuffix("_unbiased"), score)


def _colour(score: str) -> str:
    return COLOURS["alpha1"] if score.startswith(("alpha", "back_alpha")) else COLOURS["other"]


def _panels(count: int, height: float, *, sharex: bool = False) -> tuple[Figure, list[plt.Axes]]:
    rows = -(-count // COLUMNS)
    figure, axes = layout.panels(
        rows, COLUMNS, size=(8.6, height * rows + 0.5), used=count, narrow=2, sharex=sharex, sharey=True
    )
    return figure, list(axes.flat[:count])


@two_widths
def ranks(table: pd.DataFrame) -> Figure:
    """A panel per score, a row per candidate: its rank, with the interval over the draws.

    `table` is that of `advtransfer.ranking.ranks`. Filled points cannot be told apart from the best candidate.
    """
    names = list(dict.fromkeys(table["candidate"]))
    order = table.groupby("candidate")["rank"].mean().loc[names].sort_values().index.tolist()
    scores = list(dict.fromkeys(table["score"]))
    figure, panels = _panels(len(scores), 0.24 * len(names) + 0.7, sharex=True)
    for panel, score in zip(panels, scores, strict=True):
        part = table[table["score"] == score]
        y = np.array([order.index(name) for name in part["candidate"]])
        colour = _colour(score)
        panel.hlines(y, part["rank_low"], part["rank_high"], color=colour, lw=1.8)
        for first, fill in ((True, colour), (False, "white")):
            chosen = ((part["group"] == 1) == first).to_numpy()
            panel.plot(part["rank"][chosen], y[chosen], "o", color=colour, mfc=fill, ms=6)
        panel.set_title(label(score), fontsize=10.5)
        panel.set(yticks=range(len(order)), yticklabels=order, ylim=(len(order) - 0.5, -0.5))
        panel.set(xlim=(0.5, len(order) + 0.5))
        panel.xaxis.set_major_locator(plt.MaxNLocator(5, integer=True))
        panel.tick_params(labelbottom=True)
    figure.supxlabel("rank, 1 is best", fontsize=10.5)
    return figure


@two_widths
def floors(table: pd.DataFrame) -> Figure:
    """A panel per score, a row per candidate: the score with its interval, and a grey mark for its floor.

    `table` is the attribute `scores` of a `Ranking`.
    """
    known = table[np.isfinite(table["value"]) & np.isfinite(table["floor"])]
    names, scores = list(dict.fromkeys(known["candidate"])), list(dict.fromkeys(known["score"]))
    figure, panels = _panels(len(scores), 0.24 * len(names) + 0.75)
    for panel, score in zip(panels, scores, strict=True):
        part = known[known["score"] == score]
        y = np.array([names.index(name) for name in part["candidate"]])
        colour = _colour(score)
        panel.hlines(y, part["low"], part["high"], color=colour, lw=1.8)
        panel.plot(part["value"], y, "o", color=colour, ms=6, label="score")
        panel.plot(part["floor"], y, "|", color=COLOURS["distance"], ms=11, mew=2.2, label="floor")
        panel.set_title(label(score), fontsize=10.5)
        panel.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
        panel.xaxis.set_major_locator(plt.MaxNLocator(2 if layout.is_narrow() else 4))
        panel.margins(x=0.08)
    layout.legend(figure, *panels[0].get_legend_handles_labels(), loc="outside upper center", columns=2)
    return figure


@two_widths
def regret(table: pd.DataFrame) -> Figure:
    """What the choice by each score loses, and what the score costs; `table` has score, seconds and regret."""
    shown = table[table["seconds"] > 0].sort_values(["regret", "seconds"], ignore_index=True)
    figure, (panels,) = layout.panels(1, 2, size=(8.6, 0.28 * len(shown) + 1.0), narrow=2, sharey=True)
    for y, row in shown.iterrows():
        colour = COLOURS["distance"] if row["score"] == "the truth itself" else _colour(row["score"])
        panels[0].plot([0, 100 * row["regret"]], [y, y], color=colour, lw=1.8)
        panels[0].plot(100 * row["regret"], y, "o", color=colour, ms=6)
        panels[1].plot(row["seconds"], y, "o", color=colour, ms=6)
    panels[0].set(yticks=range(len(shown)), yticklabels=[label(name) for name in shown["score"]])
    panels[0].set(ylim=(len(shown) - 0.5, -0.5), xlabel="points of accuracy lost")
    first, last = np.log10(shown["seconds"].agg(["min", "max"]))
    panels[1].set(xscale="log", xlim=(0.8 * 10 ** np.floor(first), 1.25 * 10 ** np.ceil(last)))  # whole decades
    panels[1].xaxis.set_major_formatter("{x:g}")
    panels[1].xaxis.set_minor_formatter(NullFormatter())
    panels[1].set_xlabel("seconds for all candidates")
    return figure


@two_widths
def dots(table: pd.DataFrame) -> Figure:
    """The mean weighted τ of each predictor with its interval, one row per predictor, in the order given."""
    figure, ((panel,),) = layout.panels(size=(8.6, 0.3 * len(table) + 1.0))
    for y, (_, row) in enumerate(table.iterrows()):
        colour = _colour(row["predictor"])
        panel.plot([row["weighted_low"], row["weighted_high"]], [y, y], color=colour, lw=1.8)
        panel.plot(row["weighted"], y, "o", color=colour, ms=6)
    panel.axvline(0, color=COLOURS["other"], lw=1)
    panel.set(yticks=range(len(table)), yticklabels=[label(name) for name in table["predictor"]])
    panel.set(ylim=(len(table) - 0.5, -0.5), xlabel=r"weighted $\tau$ with accuracy after transfer, mean over targets")
    return figure


@two_widths
def grid(table: pd.DataFrame, what: str) -> Figure:
    """A matrix of numbers between −1 and 1, each written into its cell, without a zero before the point."""
    figure, ((panel,),) = layout.panels(size=(8.6, 0.36 * len(table) + 2.0))
    written = table.map("{:.2f}".format).replace(r"^(-?)0\.", r"\1.", regex=True)
    sns.heatmap(
        table, ax=panel, vmin=-1, vmax=1, cmap="PuOr", annot=written.replace("-", "−", regex=True), fmt="",
        annot_kws={"fontsize": 8.5}, cbar=False, linewidths=0.5,
    )  # fmt: skip
    panel.set(xlabel="", ylabel="", title=what)
    panel.tick_params(length=0)
    panel.set_xticklabels(panel.get_xticklabels(), rotation=35, ha="right")
    return figure


@two_widths
def strips(table: pd.DataFrame) -> Figure:
    """Weighted τ on each data set, a row an estimator, with a bar at the mean; `table` has estimator and weighted."""
    order = table.groupby("estimator")["weighted"].mean().sort_values(ascending=False).index
    figure, ((panel,),) = layout.panels(size=(8.6, 0.42 * len(order) + 1.0))
    for y, name in enumerate(order):
        values = table[table["estimator"] == name]["weighted"]
        colour = COLOURS["distance"] if name.startswith("mean rank") else COLOURS["other"]
        panel.plot(values, np.full(len(values), y), "o", color=colour, ms=5.5, alpha=0.55, mew=0)
        panel.plot(values.mean(), y, "|", color=colour, ms=20, mew=2.5)
    panel.axvline(0, color=COLOURS["other"], lw=1)
    panel.set(yticks=range(len(order)), yticklabels=order, ylim=(len(order) - 0.5, -0.5))
    panel.set_xlabel(r"weighted $\tau$ with accuracy after fine-tuning, one point per data set")
    return figure
