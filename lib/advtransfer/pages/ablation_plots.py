"""Figures of the ablations."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from advtransfer.pages import layout
from advtransfer.pages.layout import two_widths
from advtransfer.pages.plots import COLOURS, KINDS, MARKERS, SYMBOLS


@two_widths
def curves(tables: dict[str, pd.DataFrame], labels: dict[str, str]) -> Figure:
    """α1 of each source against what a study varies, one panel per study, with a band where the table has intervals.

    `tables` maps the label of the horizontal axis to rows with value, setting, architecture, alpha1, alpha1_low and
    alpha1_high.
    """
    figure, panels = layout.panels(1, len(tables), size=(7.8, 3.9), sharey=True)
    shades = dict(zip(labels, cycle(KINDS), strict=False))
    for panel, (name, table) in zip(panels[0], tables.items(), strict=True):
        for (architecture, label), marker in zip(labels.items(), cycle(MARKERS), strict=False):
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
        for k, (label, marker) in enumerate(zip(labels, cycle(MARKERS), strict=False)):
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
