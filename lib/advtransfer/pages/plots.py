"""One figure style and one palette: a quantity has the same colour on every page."""

from collections.abc import Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from advtransfer.pages import layout
from advtransfer.pages.layout import two_widths

# From the palette of Okabe and Ito (2008), which the common kinds of colour blindness keep apart.
COLOURS = {
    "alpha1": "#0072B2",
    "alpha2": "#009E73",
    "alpha12": "#CC79A7",
    "distance": "#D55E00",
    "loss": "#56B4E9",
    "other": "#555555",
}

KINDS = [COLOURS[name] for name in ("alpha1", "distance", "alpha2", "alpha12", "other", "loss")]
MARKERS = "osD^vPX"  # of what has no colour of its own

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
    layout.offer()


@two_widths
def sample_scatter(labels: Sequence[str], scores: pd.DataFrame, alpha1: np.ndarray, loss: np.ndarray) -> Figure:
    """α1(x) against the loss after transfer, one panel per source model: appendix figures 4 and 8.

    `scores` holds Pearson's r and n of each source, in the order of `labels`; `alpha1` and `loss` are
    (sources, samples). The few largest α1(x) lie beyond the panels, which say how many.
    """
    columns = min(3, len(labels))
    rows = -(-len(labels) // columns)
    figure, panels = layout.panels(
        rows, columns, size=(7.8, 2.7 * rows + 0.3), used=len(labels), narrow=2, sharex=True, sharey=True
    )
    end = 1.05 * np.nanquantile(alpha1, 0.99)
    for panel, label, (_, row), x, y in zip(panels.flat, labels, scores.iterrows(), alpha1, loss, strict=False):
        panel.plot(x, y, "o", color=COLOURS["alpha1"], ms=3, alpha=0.35, mew=0, rasterized=True)
        kept = np.isfinite(x)
        if np.isfinite(row["r"]):
            slope, intercept = np.polyfit(x[kept], y[kept], 1)
            ends = np.array([x[kept].min(), x[kept].max()])
            panel.plot(ends, intercept + slope * ends, color=COLOURS["other"], label="least squares")
        beyond = int((x[kept] > end).sum())
        about = f"r = {row['r']:.2f}, n = {int(row['n'])}".replace("-", "−")
        about += f", {beyond}\N{NO-BREAK SPACE}beyond" if beyond else ""
        panel.set_title(f"{label}\n{about}", fontsize=10.5)
        panel.set(xlim=(0, end), ylim=(0, None))
        panel.xaxis.set_tick_params(labelbottom=True)
    for panel in panels[:, 0]:
        panel.set_ylabel("loss after transfer")
    figure.supxlabel(r"$\alpha_1(x)$", fontsize=10.5)
    panels[0, 0].legend(loc="upper right")
    return figure


@two_widths
def forecast(panels: dict[str, pd.DataFrame]) -> Figure:
    """Transfer accuracy against α1, one point per source model, one panel per table; with the intervals of the table.

    At most three panels are in a row; each has its own scales.
    """
    columns = min(3, len(panels)) if len(panels) != 4 else 2
    rows = -(-len(panels) // columns)
    figure, axes = layout.panels(rows, columns, size=(7.8, 3 * rows + 0.6), used=len(panels), narrow=2)
    labels = dict.fromkeys(label for table in panels.values() for label in table["label"])
    markers = dict(zip(labels, cycle(MARKERS), strict=False))
    for axis, (title, table) in zip(axes.flat, panels.items(), strict=False):
        for _, row in table.iterrows():
            x, y = row["alpha1"], 100 * row["transfer_accuracy"]
            if "alpha1_low" in row:
                axis.hlines(y, row["alpha1_low"], row["alpha1_high"], color=COLOURS["alpha1"], lw=1.2)
            if "transfer_accuracy_low" in row:
                low, high = 100 * row["transfer_accuracy_low"], 100 * row["transfer_accuracy_high"]
                axis.vlines(x, low, high, color=COLOURS["alpha1"], lw=1.2)
            axis.plot(x, y, markers[row["label"]], color=COLOURS["alpha1"], ms=8, label=row["label"])
        axis.set(title=title, xlabel=SYMBOLS["alpha1"])
        axis.xaxis.set_major_locator(plt.MaxNLocator(4))
        axis.margins(0.12)
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy after transfer (%)")
    handles = {
        text: handle
        for axis in axes.flat[: len(panels)]
        for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    layout.legend(
        figure, [handles[label] for label in labels], list(labels), loc="outside upper center", columns=len(labels)
    )
    return figure


@two_widths
def forest(table: pd.DataFrame) -> Figure:
    """Correlations with intervals, one panel per domain, one row per scope: of α1 and of own accuracy.

    `table` has domain, scope, predictor (alpha1 or source_accuracy), r, low and high.
    """
    domains = list(dict.fromkeys(table["domain"]))
    sizes = [table[table["domain"] == domain]["scope"].nunique() for domain in domains]
    size = (8.6, 0.34 * sum(sizes) + 0.62 * len(domains) + 0.9)
    figure, panels = layout.panels(len(domains), size=size, sharex=True, heights=sizes)
    drawn = (("alpha1", r"$\alpha_1$", "o", -0.14), ("source_accuracy", "own accuracy", "s", 0.14))
    for panel, domain in zip(panels[:, 0], domains, strict=True):
        own = table[table["domain"] == domain]
        scopes = list(dict.fromkeys(own["scope"]))
        for predictor, label, marker, shift in drawn:
            part = own[own["predictor"] == predictor]
            y = np.array([scopes.index(scope) for scope in part["scope"]]) + shift
            colour = COLOURS.get(predictor, COLOURS["other"])
            panel.hlines(y, part["low"], part["high"], color=colour, lw=1.8)
            panel.plot(part["r"], y, marker, color=colour, ms=7, label=label)
        panel.axvline(0, color=COLOURS["other"], lw=1)
        panel.set(yticks=range(len(scopes)), yticklabels=scopes, ylim=(len(scopes) - 0.5, -0.5), xlim=(-1.05, 1.05))
        panel.set_title(domain, loc="left")
    panels[-1, 0].set_xlabel("Spearman's rank correlation with accuracy after transfer, within runs")
    layout.legend(figure, *panels[0, 0].get_legend_handles_labels(), loc="outside upper right", columns=2)
    return figure


@two_widths
def sources(table: pd.DataFrame) -> Figure:
    """Accuracy after transfer against predictors, one row of panels per domain, one point per source.

    A marker is an architecture, a colour a series. `table` has domain, model, kind, transfer_accuracy, source_accuracy,
    alpha1 and distance.
    """
    names = {"source_accuracy": "accuracy on the source's own images (%)", "alpha1": r"$\alpha_1$",
             "distance": "matching distance"}  # fmt: skip
    domains = list(dict.fromkeys(table["domain"]))
    figure, panels = layout.panels(
        len(domains), 3, size=(7.8, 2.9 * len(domains) + 0.9), shorter=[0.75] * 3 * len(domains), sharey="row"
    )
    markers = dict(zip(dict.fromkeys(table["model"]), cycle(MARKERS), strict=False))
    colours = dict(zip(dict.fromkeys(table["kind"]), cycle(KINDS), strict=False))
    for row, domain in zip(panels, domains, strict=True):
        own = table[table["domain"] == domain]
        for panel, predictor in zip(row, names, strict=True):
            for (model, kind), part in own.groupby(["model", "kind"], sort=False):
                x, y = part[predictor] * (100 if predictor == "source_accuracy" else 1), 100 * part["transfer_accuracy"]
                panel.plot(x, y, markers[model], color=colours[kind], ms=7, mec="white", mew=0.6)
            panel.set_xlabel(names[predictor])
            panel.xaxis.set_major_locator(plt.MaxNLocator(4))
        row[0].set_ylabel("accuracy after transfer (%)")
        row[0].set_title(domain, loc="left")
    shapes = [plt.Line2D([], [], ls="", marker=marker, color=COLOURS["other"], ms=7) for marker in markers.values()]
    layout.legend(figure, shapes, list(markers), loc="outside upper center", columns=len(markers))
    lines = [plt.Line2D([], [], color=colour, lw=4) for colour in colours.values()]
    layout.legend(figure, lines, list(colours), loc="outside lower center", columns=len(colours))
    return figure


@two_widths
def learning(accuracies: dict[str, Sequence[float]]) -> Figure:
    """Accuracy on the test images after each epoch, one line per recipe of training."""
    figure, ((panel,),) = layout.panels(size=(6.2, 3.4))
    for (name, values), colour, style in zip(
        accuracies.items(), (COLOURS["other"], COLOURS["alpha1"]), ("--", "-"), strict=False
    ):
        panel.plot(
            range(1, 1 + len(values)), 100 * np.asarray(values), style, color=colour, marker="o", ms=3.5, label=name
        )
    panel.set(xlabel="epoch", ylabel="accuracy on CIFAR-10 (%)")
    panel.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
    panel.legend(loc="lower right")
    return figure
