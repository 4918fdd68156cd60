"""One figure style and one palette: a quantity has the same colour on every page."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# From the palette of Okabe and Ito (2008), which the common kinds of colour blindness keep apart.
COLOURS = {
    "alpha1": "#0072B2",
    "alpha2": "#009E73",
    "alpha12": "#CC79A7",
    "distance": "#D55E00",
    "loss": "#56B4E9",
    "other": "#555555",
}

SYMBOLS = {
    "alpha1": r"$\alpha_1$",
    "alpha2": r"$\alpha_2$",
    "alpha12": r"$\alpha_1 * \alpha_2$",
    "distance": "gradient matching distance",
    "loss": "transfer loss",
    "rho": r"$\rho$",
    "ratio": r"$R$",
    "ratio_first": r"$R_1$",
}


def use_style() -> None:
    """Set the book's style for all figures that follow; in a notebook they are embedded as SVG without a date."""
    sns.set_theme(
        context="notebook",
        style="ticks",
        rc={
            "figure.figsize": (8, 3.6),
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#e6e6e6",
            "grid.linewidth": 0.6,
            "axes.labelsize": 10.5,
            "axes.titlesize": 11,
            "xtick.labelsize": 9.5,
            "ytick.labelsize": 9.5,
            "legend.fontsize": 9.5,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "svg.hashsalt": "advtransfer",
            "font.family": "DejaVu Sans",
        },
    )
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ModuleNotFoundError:  # no notebook, no inline figures
        return
    set_matplotlib_formats("svg", bbox_inches="tight", metadata={"Date": None})


def growing_eps(table: pd.DataFrame) -> Figure:
    """How far the metrics at radius ε are from their limit, and α1(ε) for the best attack and for PGD.

    `table` is ``growing_eps`` of the theory record.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.7))
    best = table[table["attack"] == "best attack"]
    for metric in ("alpha1", "alpha2", "alpha12"):
        error = best.assign(error=(best[metric] - best[f"{metric}_limit"]).abs())
        _median_band(left, error, "eps", "error", COLOURS[metric], SYMBOLS[metric])
    eps = np.sort(best["eps"].unique())
    left.plot(eps, 0.3 * eps, color=COLOURS["other"], lw=1, ls=":", label="slope 1")
    left.set(xscale="log", yscale="log", xlabel=r"radius $\varepsilon$ (inputs have unit variance)")
    left.set(ylabel="distance from the limit", title="The limit is approached linearly")
    left.legend()
    for name, style in (("best attack", "-"), ("PGD", "--")):
        part = table[table["attack"] == name]
        _median_band(right, part, "eps", "alpha1", COLOURS["alpha1"], name, style)
    limit = table["alpha1_limit"].median()
    right.axhline(limit, color=COLOURS["other"], lw=1, ls=":", label=r"limit, $\varepsilon \to 0$")
    right.set(xscale="log", xlabel=r"radius $\varepsilon$ (inputs have unit variance)", ylabel=SYMBOLS["alpha1"])
    right.set(title="Past the limit's reach", ylim=(0, None))
    right.legend(loc="lower right")
    return figure


def figure_2(sources: pd.DataFrame, transfer: pd.DataFrame, axes: Sequence[Axes], level: int, x: str) -> None:
    """One panel of Figure 2 in each of `axes`: the metrics above, the two losses below.

    `sources` and `transfer` are tables of the synthetic record, with a column `x` to draw against.
    """
    metrics, losses = axes
    attacked = transfer[transfer["level"] == level]
    for metric in ("alpha1", "alpha2"):
        for direction, style in (("T→S", "-"), ("S→T", ":")):
            part = attacked[attacked["direction"] == direction]
            _median_band(metrics, part, x, metric, COLOURS[metric], f"{SYMBOLS[metric]}, {direction}", style)
    matched = transfer[(transfer["level"] == level) & (transfer["direction"] == "T→S")]
    _median_band(losses, matched, x, "distance", COLOURS["distance"], SYMBOLS["distance"])
    _median_band(losses, sources, x, "transfer_loss", COLOURS["loss"], "transfer loss (17), on the output")
    _median_band(losses, sources, x, "hidden_transfer_loss", COLOURS["loss"], "the same, on the hidden layer", "--")
    metrics.set(ylim=(0, 1.05), ylabel="metric", xlabel="")
    losses.set(ylim=(0, None), ylabel="distance or loss")


def shares(transfer: pd.DataFrame) -> Figure:
    """R, R1 and ρ against t, for both directions of transfer."""
    figure, panels = plt.subplots(1, 2, figsize=(8.6, 3.4), sharey=True)
    for panel, direction in zip(panels, ("T→S", "S→T"), strict=True):
        part = transfer[(transfer["direction"] == direction) & (transfer["level"] == 0) & (transfer["t"] <= 1)]
        for name, colour, style in (
            ("ratio", COLOURS["distance"], "-"),
            ("ratio_first", COLOURS["alpha12"], "--"),
            ("rho", COLOURS["other"], ":"),
        ):
            _median_band(panel, part, "t", name, colour, SYMBOLS[name], style)
        panel.set(title=f"Attack transferred {direction}", xlabel="scale $t$", ylim=(0, 1.03))
    panels[0].set(ylabel="share of the squared gradient")
    panels[0].legend()
    return figure


def rankings(agreement: pd.DataFrame) -> Figure:
    """How well each predictor ranks sources by transfer loss: along t, and among directions at one t.

    `agreement` has columns question, predictor, label, r, low and high.
    """
    questions = list(dict.fromkeys(agreement["question"]))
    figure, panels = plt.subplots(
        1, len(questions), figsize=(8.6, 0.42 * agreement["label"].nunique() + 1.3), sharey=True
    )
    for panel, question in zip(np.atleast_1d(panels), questions, strict=True):
        part = agreement[agreement["question"] == question].reset_index(drop=True)
        for y, row in part.iterrows():
            colour = COLOURS.get(row["predictor"], COLOURS["other"])
            panel.plot([row["low"], row["high"]], [y, y], color=colour, lw=2)
            panel.plot(row["r"], y, "o" if row["direction"] == "T→S" else "s", color=colour, ms=6)
        panel.axvline(0, color=COLOURS["other"], lw=1)
        panel.set(yticks=range(len(part)), yticklabels=part["label"], xlim=(-1.03, 1.03), title=question)
        panel.set(xlabel="Spearman's rank correlation with the loss")
    panels[0].invert_yaxis()
    return figure


def _median_band(axes: Axes, table: pd.DataFrame, x: str, y: str, colour: str, label: str, style: str = "-") -> None:
    """The median over repetitions with a band that holds the middle 80 percent of them."""
    grouped = table.groupby(x)[y]
    median, low, high = grouped.median(), grouped.quantile(0.1), grouped.quantile(0.9)
    axes.plot(median.index, median, color=colour, ls=style, label=label)
    axes.fill_between(median.index, low, high, color=colour, alpha=0.16, lw=0)
