"""The directives ``speed`` and ``speed-growth``: what `make bench` measured, read from its records.

A workload without a record says "not measured".
"""

import io
import json
from pathlib import Path
from typing import Any, ClassVar

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from docutils import nodes
from docutils.parsers.rst import directives
from matplotlib.figure import Figure
from narrow_figures import image
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from advtransfer.pages import layout, plots, tables

SHORT = {"adversarial-robustness-toolbox": "ART"}
"""What the tables call a library, where it is not its name."""
RESULTS = Path(__file__).parents[2] / "data" / "results" / "bench"
NOT_MEASURED = "**Not measured.**"
SIZES = ["samples", "peak memory"]


def place(kind: str, workload: str, results: Path | None = None) -> Path:
    """The file of the record of a workload on ``cpu`` or ``cuda``."""
    return (results or RESULTS) / f"{kind}-{workload}.json"


def read(path: Path) -> dict[str, Any] | None:
    """A record, if there is one."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def circumstances(record: dict[str, Any]) -> str:
    """On what machine and how a record was made, in one line."""
    machine, settings = record["machine"], record.get("settings", {})
    about = settings.get("what") or ", ".join(f"{name} {value}" for name, value in settings.items())
    threads = machine["threads"]
    timed = {"torch", *(row["name"] for row in record.get("rows", []))}
    versions = ", ".join(
        f"{name} {version}" for name, version in machine["versions"].items() if SHORT.get(name, name) in timed
    )
    instructions = f", {machine['instructions']}" if "instructions" in machine else ""
    where = f"{machine['device']}{instructions}, {threads} {'thread' if threads == 1 else 'threads'}"
    return f"{about.rstrip('.')}. {where}; {record['repeats']} interleaved repeats; {versions}.".lstrip(". ")


def ratio(row: dict[str, Any]) -> str:
    """A ratio with the least and most of its rounds; 1 where it is the baseline."""
    if row["ratio"] == row["least"] == row["most"] == 1:
        return "1"
    return f"{row['ratio']:.3g} ({row['least']:.3g} to {row['most']:.3g})"


def parts(record: dict[str, Any]) -> str:
    """The table and sentences of one workload, in Markdown."""
    rows = [[row["name"], f"{row['seconds']:.3g}", ratio(row)] for row in record["rows"]]
    said = [circumstances(record), written(rows, ["library", "seconds", f"ratio to {record['baseline']}"])]
    said += [
        f"{s['name']}: {s['rate'] / 1e9:.0f} GFLOP/s, {s['share']:.0%} of the fastest {s['of']}."
        for s in record.get("shares", [])
    ]
    said += [f"Peak memory, {name}: {held / 2**20:.0f} MiB." for name, held in record.get("peak_memory", {}).items()]
    said += [f"{name}: not measured, for {reason}." for name, reason in record.get("left_out", {}).items()]
    return "\n\n".join(said)


def written(rows: list[list[str]], columns: list[str]) -> str:
    """A table in Markdown."""
    return tables.show(pd.DataFrame(rows, columns=columns)).data


@layout.two_widths
def growth_figure(growth: list[dict[str, Any]]) -> Figure:
    """Seconds against each size, both logarithmic."""
    figure, ((axis,),) = layout.panels(size=(7.8, 3.6))
    for line, marker, colour in zip(growth, plots.MARKERS, plots.COLOURS.values(), strict=False):
        start = [value / line["values"][0] for value in line["values"]]
        axis.loglog(start, line["seconds"], marker=marker, color=colour, label=line["axis"])
    axis.set(xlabel="size, in units of the smallest", ylabel="seconds")
    layout.legend(figure, *axis.get_legend_handles_labels(), loc="outside upper center", columns=3)
    return figure


def drawn(growth: list[dict[str, Any]]) -> tuple[str, str]:
    """The figure as SVG, wide and narrow."""
    with mpl.rc_context():
        plots.use_style()
        figure, wide = growth_figure(growth), io.StringIO()
        figure.savefig(wide, format="svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
        return wide.getvalue(), layout.narrow(figure)


class Speed(SphinxDirective):
    """``cpu`` or ``cuda`` and a workload of `make bench`; ``machine``: a folder with another machine's records."""

    required_arguments = 2
    option_spec: ClassVar = {"machine": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """Its table, or that it was not measured."""
        path = place(*self.arguments, RESULTS / self.options.get("machine", ""))
        self.env.note_dependency(str(path))
        record = read(path)
        return self.parse_text_to_nodes(parts(record) if record else NOT_MEASURED)


class SpeedGrowth(SphinxDirective):
    """How time grows on ``cpu`` or ``cuda``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """A figure, and its slopes as a table."""
        path = place(self.arguments[0], "growth")
        self.env.note_dependency(str(path))
        record = read(path)
        if record is None:
            return self.parse_text_to_nodes(NOT_MEASURED)
        rows = [[g["axis"], str(g["values"][0]), str(g["values"][-1]), f"{g['slope']:.2f}"] for g in record["growth"]]
        below = [written(rows, ["size", "from", "to", "slope at the end"])]
        if held := record.get("memory"):
            sizes = [[f"{n:,}", f"{b / 2**20:.1f} MiB"] for n, b in zip(held["values"], held["bytes"], strict=True)]
            below += ["Memory of the metrics when samples come in batches of 256:", written(sizes, SIZES)]
        label = "Lines of seconds against size, both logarithmic; the table below has their slopes."
        caption = nodes.caption("", "How the time grows with each size.")
        figure = nodes.figure("", image(self.env, *drawn(record["growth"]), alt=label), caption)
        self.state.document.note_implicit_target(figure)
        above = self.parse_text_to_nodes(circumstances(record))
        return [*above, figure, *self.parse_text_to_nodes("\n\n".join(below))]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.add_directive("speed", Speed)
    app.add_directive("speed-growth", SpeedGrowth)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
