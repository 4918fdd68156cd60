"""One figure style and one palette: a quantity has the same colour on every page."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
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
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ModuleNotFoundError:  # no notebook, no inline figures
        return
    set_matplotlib_formats("svg", bbox_inches="tight", metadata={"Date": None})


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
    _median_band(panel, sources, x, "transfer_loss", COLOURS["loss"], "transfer loss (17), on the output")
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
    markers = dict(zip(labels, MARKERS, strict=False))
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
    markers = dict(zip(dict.fromkeys(table["model"]), MARKERS, strict=False))
    colours = dict(zip(dict.fromkeys(table["kind"]), KINDS, strict=False))
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


@two_widths
def curves(tables: dict[str, pd.DataFrame], labels: dict[str, str]) -> Figure:
    """α1 of each source against what a study varies, one panel per study, with a band where the table has intervals.

    `tables` maps the label of the horizontal axis to rows with value, setting, architecture, alpha1, alpha1_low and
    alpha1_high.
    """
    figure, panels = layout.panels(1, len(tables), size=(7.8, 3.9), sharey=True)
    shades = dict(zip(labels, KINDS, strict=False))
    for panel, (name, table) in zip(panels[0], tables.items(), strict=True):
        for (architecture, label), marker in zip(labels.items(), MARKERS, strict=False):
            part = table[table["architecture"] == architecture].sort_values("value")
            panel.plot(part["value"], part["alpha1"], f"{marker}-", color=shades[architecture], ms=4.5, label=label)
            panel.fill_between(
                part["value"], part["alpha1_low"], part["alpha1_high"], color=shades[architecture], alpha=0.1, lw=0
            )
        panel.set(xlabel=name, xscale="log")
        ticks = table.drop_duplicates("value").sort_values("value")
        panel.set_xticks(ticks["value"], ticks["setting"], fontsize=8.5)
        panel.minorticks_off()
    panels[0, 0].set_ylim(0, None)
    panels[0, 0].set_ylabel(r"$\alpha_1$, T→S")
    layout.legend(figure, *panels[0, 0].get_legend_handles_labels(), loc="outside upper center", columns=len(labels))
    return figure


@two_widths
def settings(table: pd.DataFrame, titles: dict[str, str]) -> Figure:
    """α1 of each source under each setting of studies that vary a kind, one panel per study.

    `table` has study, setting, architecture, label, alpha1, alpha1_low and alpha1_high.
    """
    sizes = [table[table["study"] == study]["setting"].nunique() for study in titles]
    size = (8.6, 0.42 * sum(sizes) + 0.75 * len(titles) + 0.8)
    figure, panels = layout.panels(len(titles), size=size, sharex=True, heights=sizes)
    labels = list(dict.fromkeys(table["label"]))
    shades = sns.color_palette("crest", len(labels))
    for panel, (study, title) in zip(panels[:, 0], titles.items(), strict=True):
        part = table[table["study"] == study]
        names = list(dict.fromkeys(part["setting"]))
        for k, (label, marker) in enumerate(zip(labels, MARKERS, strict=False)):
            own = part[part["label"] == label]
            y = np.array([names.index(name) for name in own["setting"]]) + 0.13 * (k - (len(labels) - 1) / 2)
            panel.hlines(y, own["alpha1_low"], own["alpha1_high"], color=shades[k], lw=1.4)
            panel.plot(own["alpha1"], y, marker, color=shades[k], ms=5, label=label)
        panel.set(yticks=range(len(names)), yticklabels=names, title=title, ylim=(len(names) - 0.5, -0.5))
    panels[-1, 0].set(xlabel=r"$\alpha_1$, T→S")
    layout.legend(figure, *panels[0, 0].get_legend_handles_labels(), loc="outside upper center", columns=len(labels))
    return figure


@two_widths
def choices(table: pd.DataFrame, baselines: dict[str, float]) -> Figure:
    """The correlation of accuracy after transfer with α1 under each choice of the attack, a panel per thing to choose.

    `table` has panel, setting, whose, r, low, high and seeds, the correlation of each seed. `baselines` has the
    correlation under the attack of the run itself, by panel; it is a dashed line.
    """
    names = list(dict.fromkeys(table["panel"]))
    columns = min(2, len(names))
    lines = [names[k : k + columns] for k in range(0, len(names), columns)]
    sizes = {name: table[table["panel"] == name]["setting"].nunique() for name in names}
    rows = [max(sizes[name] for name in line) for line in lines]
    height = 0.27 * sum(rows) + 0.62 * len(lines) + 0.8
    figure, panels = layout.panels(
        len(lines), columns, size=(8.6, height), used=len(names), heights=rows,
        shorter=[(0.28 * sizes[name] + 0.9) * len(lines) / height for name in names], sharex=True,
    )  # fmt: skip
    looks = dict(zip(dict.fromkeys(table["whose"]), ((COLOURS["alpha1"], "o"), (COLOURS["other"], "s")), strict=False))
    shifts = dict(zip(looks, (0.0,) if len(looks) == 1 else (-0.16, 0.16), strict=True))
    for panel, name in zip(panels.flat, names, strict=False):
        part = table[table["panel"] == name]
        settings = list(dict.fromkeys(part["setting"]))
        groups = list(part.groupby("whose", sort=False))
        apart = len(groups) > 1
        for whose, own in groups:
            colour, marker = looks[whose]
            y = np.array([settings.index(setting) for setting in own["setting"]]) + apart * shifts[whose]
            panel.hlines(y, own["low"], own["high"], color=colour, lw=1.6)
            for place, seeds in zip(y, own["seeds"], strict=True):
                panel.plot(seeds, np.full(len(seeds), place), marker, color=colour, mfc="white", ms=4)
            panel.plot(own["r"], y, marker, color=colour, ms=6.5)
        panel.axvline(0, color=COLOURS["other"], lw=1)
        if name in baselines:
            panel.axvline(baselines[name], color=COLOURS["distance"], lw=1.3, ls="--")
        panel.set(yticks=range(len(settings)), yticklabels=settings, ylim=(len(settings) - 0.5, -0.5), title=name)
        panel.set(xlim=(-1.07, 1.07))
        panel.tick_params(labelbottom=True)
    for panel in panels[-1]:
        panel.set_xlabel("Pearson's r")
    handles = [plt.Line2D([], [], color=colour, marker=marker, ms=6.5) for colour, marker in looks.values()]
    labels = list(looks)
    if baselines:
        handles.append(plt.Line2D([], [], color=COLOURS["distance"], lw=1.3, ls="--"))
        labels.append("the attack of the run")
    layout.legend(figure, handles, labels, loc="outside upper center", columns=len(labels))
    return figure


@two_widths
def switches(table: pd.DataFrame) -> Figure:
    """What each switch of the protocol does to the correlation of accuracy with each metric, and over samples.

    `table` has setting, metric, r, low and high, and pearson_samples with pearson_samples_low and _high.
    """
    names = list(dict.fromkeys(table["setting"]))
    figure, ((left, right),) = layout.panels(
        1, 2, size=(7.8, 0.95 * len(names) + 1.5), sharey=True, widths=[3, 2], shorter=[1, 0.4]
    )
    drawn = (
        ("alpha1", "alpha1", "o"),
        ("alpha2", "alpha2", "o"),
        ("alpha2_squared", "alpha2", "s"),
        ("alpha12", "alpha12", "o"),
        ("alpha12_squared", "alpha12", "s"),
    )
    for k, (metric, colour, marker) in enumerate(drawn):
        part = table[table["metric"] == metric]
        y = np.array([names.index(name) for name in part["setting"]]) + 0.14 * (k - 2)
        label = f"{SYMBOLS[colour]}{', squared' if marker == 's' else ''}"
        left.hlines(y, part["low"], part["high"], color=COLOURS[colour], lw=1.4)
        left.plot(part["r"], y, marker, color=COLOURS[colour], ms=6.5, label=label)
    once = table.drop_duplicates("setting")
    places = np.arange(len(once))
    right.hlines(places, once["pearson_samples_low"], once["pearson_samples_high"], color=COLOURS["alpha1"], lw=1.4)
    right.plot(once["pearson_samples"], places, "o", color=COLOURS["alpha1"], ms=6.5)
    for panel, title in ((left, "over source models: accuracy"), (right, r"over images: loss with $\alpha_1(x)$")):
        panel.axvline(0, color=COLOURS["other"], lw=1)
        panel.set(xlim=(-1.05, 1.05), xlabel="Pearson's r", title=title)
    left.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    layout.legend(figure, *left.get_legend_handles_labels(), loc="outside upper center", columns=5)
    return figure


def _median_band(axes: Axes, table: pd.DataFrame, x: str, y: str, colour: str, label: str, style: str = "-") -> None:
    """The median over repetitions with a band that holds the middle 80 percent of them."""
    grouped = table.groupby(x)[y]
    median, low, high = grouped.median(), grouped.quantile(0.1), grouped.quantile(0.9)
    axes.plot(median.index, median, color=colour, ls=style, label=label)
    axes.fill_between(median.index, low, high, color=colour, alpha=0.16, lw=0)
