"""Figures of the theory checks and of the synthetic experiment."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advtransfer.pages import layout
from advtransfer.pages.layout import two_widths
from advtransfer.pages.plots import COLOURS, SYMBOLS


@two_widths
def growing_eps(table: pd.DataFrame) -> Figure:
    """How far the metrics at radius ε are from their limit, and α1(ε) over its limit for the best attack and for PGD.

    `table` is ``growing_eps`` of the theory record.
    """
    figure, ((left, right),) = layout.panels(1, 2, size=(8.6, 3.7))
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
        part = part.assign(share=part["alpha1"] / part["alpha1_limit"])
        _median_band(right, part, "eps", "share", COLOURS["alpha1"], name, style)
    right.axhline(1, color=COLOURS["other"], lw=1, ls=":", label=r"limit, $\varepsilon \to 0$")
    right.set(xscale="log", xlabel=r"radius $\varepsilon$ (inputs have unit variance)", ylim=(0, None))
    right.set(ylabel=r"$\alpha_1(\varepsilon)$ over its limit", title="Past the reach of the limit")
    right.legend(loc="lower left")
    return figure


@two_widths
def figure_2(sources: pd.DataFrame, transfer: pd.DataFrame) -> Figure:
    """Figure 2 against t: the metrics of the regular and of the secondary attacks, and the losses, which both share.

    `sources` and `transfer` are tables of the synthetic record.
    """
    figure, (panels,) = layout.panels(1, 3, size=(8.6, 4.2))
    for level, (panel, title) in enumerate(
        zip(panels[:2], ("(a) regular attacks", "(b) secondary attacks"), strict=True)
    ):
        _metrics(panel, transfer[transfer["level"] == level], "t")
        panel.set(title=title, xlabel="scale $t$")
    _losses(panels[2], sources, transfer, "t")
    panels[2].set(title="(c) distance and losses", xlabel="scale $t$")
    handles = [line for panel in panels[1:] for line in panel.get_lines()]
    layout.legend(figure, handles, [str(line.get_label()) for line in handles], loc="outside upper center", columns=3)
    return figure


@two_widths
def figure_2_accumulated(sources: pd.DataFrame, transfer: pd.DataFrame) -> Figure:
    """Figure 2 against the scale s of the released script, with the t that it has reached on an upper axis.

    `sources` and `transfer` are tables of the synthetic record, with a column s.
    """
    figure, (panels,) = layout.panels(1, 2, size=(8.6, 3.9))
    _metrics(panels[0], transfer[transfer["level"] == 0], "s")
    _losses(panels[1], sources, transfer, "s")
    ticks = sources[["s", "t"]].drop_duplicates().sort_values("s").iloc[::2]
    for panel in panels:
        panel.set_xlabel("scale $s$ as plotted")
        upper = panel.secondary_xaxis("top")
        upper.set_xticks(ticks["s"], ticks["t"].map("{:g}".format))
        upper.set_xlabel("scale $t$ reached", fontsize=9.5)
    panels[0].legend(loc="upper right", fontsize=8.5)
    panels[1].legend(loc="lower right", fontsize=8.5)
    return figure


def _metrics(panel: Axes, attacked: pd.DataFrame, x: str) -> None:
    """Draw the metrics of attacks of one level."""
    for metric in ("alpha1", "alpha2"):
        for direction, style in (("T→S", "-"), ("S→T", ":")):
            part = attacked[attacked["direction"] == direction]
            _median_band(panel, part, x, metric, COLOURS[metric], f"{SYMBOLS[metric]}, {direction}", style)
    panel.set(ylim=(0, 1.05), ylabel="metric")


def _losses(panel: Axes, sources: pd.DataFrame, transfer: pd.DataFrame, x: str) -> None:
    """Draw the gradient matching distance and the transfer losses."""
    matched = transfer[(transfer["level"] == 0) & (transfer["direction"] == "T→S")]
    _median_band(panel, matched, x, "distance", COLOURS["distance"], SYMBOLS["distance"])
    _median_band(panel, sources, x, "transfer_loss", COLOURS["loss"], "transfer loss, on the output")
    _median_band(panel, sources, x, "hidden_transfer_loss", COLOURS["loss"], "the same, on the hidden layer", "--")
    panel.set(ylim=(0, None), ylabel="distance or loss")


@two_widths
def shares(transfer: pd.DataFrame) -> Figure:
    """R, R1 and ρ against t, for both directions of transfer."""
    figure, (panels,) = layout.panels(1, 2, size=(8.6, 3.4), sharey=True)
    for panel, direction in zip(panels, ("T→S", "S→T"), strict=True):
        part = transfer[(transfer["direction"] == direction) & (transfer["level"] == 0) & (transfer["t"] <= 1)]
        for name, colour, style in (
            ("ratio", COLOURS["distance"], "-"),
            ("ratio_first", COLOURS["distance"], "--"),
            ("rho", COLOURS["other"], ":"),
        ):
            _median_band(panel, part, "t", name, colour, SYMBOLS[name], style)
        panel.set(title=f"Attack transferred {direction}", xlabel="scale $t$", ylim=(0, 1.03))
    panels[0].set(ylabel="share of the squared gradient")
    panels[0].legend()
    return figure


@two_widths
def rankings(agreement: pd.DataFrame) -> Figure:
    """How well each predictor ranks sources by transfer loss: along t, and among directions at one t.

    `agreement` has columns question, predictor, label, r, low and high.
    """
    questions = list(dict.fromkeys(agreement["question"]))
    figure, (panels,) = layout.panels(
        1, len(questions), size=(8.6, 0.42 * agreement["label"].nunique() + 1.3), sharey=True
    )
    for panel, question in zip(panels, questions, strict=True):
        part = agreement[agreement["question"] == question].reset_index(drop=True)
        for y, row in part.iterrows():
            colour = COLOURS.get(row["predictor"], COLOURS["other"])
            panel.plot([row["low"], row["high"]], [y, y], color=colour, lw=2)
            panel.plot(row["r"], y, "o" if row["direction"] == "T→S" else "s", color=colour, ms=6)
        panel.axvline(0, color=COLOURS["other"], lw=1)
        panel.set(yticks=range(len(part)), yticklabels=part["label"], xlim=(-1.09, 1.09), title=question)
        panel.set(xlabel="Spearman's rank correlation with the loss")
    panels[0].invert_yaxis()
    return figure


def _median_band(axes: Axes, table: pd.DataFrame, x: str, y: str, colour: str, label: str, style: str = "-") -> None:
    """The median over repetitions with a band that holds the middle 80 percent of them."""
    grouped = table.groupby(x)[y]
    median, low, high = grouped.median(), grouped.quantile(0.1), grouped.quantile(0.9)
    axes.plot(median.index, median, color=colour, ls=style, label=label)
    axes.fill_between(median.index, low, high, color=colour, alpha=0.16, lw=0)
