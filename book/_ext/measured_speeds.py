"""The directives ``speed`` and ``speed-growth``: what `make bench` measured, read from its records.

A workload without a record says "not measured".
"""

import io
import json
from pathlib import Path
from typing import Any, ClassVar

import matplotlib as mpl
from docutils import nodes
from docutils.parsers.rst import directives
from matplotlib.figure import Figure
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from advtransfer.pages import plots

SHORT = {"adversarial-robustness-toolbox": "ART"}
"""What the tables call a library, where it is not its name."""
RESULTS = Path(__file__).parents[2] / "data" / "results" / "bench"


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


def table(rows: list[list[str]]) -> nodes.table:
    """A table whose first row is its head."""
    width = len(rows[0])
    group = nodes.tgroup(cols=width)
    group += [nodes.colspec(colwidth=1) for _ in range(width)]
    head, body = nodes.thead(), nodes.tbody()
    for number, row in enumerate(rows):
        line = nodes.row()
        line += [nodes.entry("", nodes.paragraph("", text)) for text in row]
        (body if number else head).append(line)
    group += [head, body]
    found = nodes.table()
    found += group
    return found


def parts(record: dict[str, Any]) -> list[nodes.Node]:
    """The tables and sentences of one workload."""
    rows = [["", "seconds", f"ratio to {record['baseline']}"]]
    rows += [[row["name"], f"{row['seconds']:.3g}", ratio(row)] for row in record["rows"]]
    found: list[nodes.Node] = [nodes.paragraph("", circumstances(record)), table(rows)]
    said = [
        f"{s['name']}: {s['rate'] / 1e9:.0f} GFLOP/s, {s['share']:.0%} of the fastest {s['of']}."
        for s in record.get("shares", [])
    ]
    said += [f"Peak memory, {name}: {held / 2**20:.0f} MiB." for name, held in record.get("peak_memory", {}).items()]
    said += [f"{name}: not measured, for {reason}." for name, reason in record.get("left_out", {}).items()]
    return [*found, *(nodes.paragraph("", sentence) for sentence in said)]


def growth_figure(growth: list[dict[str, Any]]) -> str:
    """Seconds against each size, both logarithmic, as SVG."""
    with mpl.rc_context():
        plots.use_style()
        figure = Figure(figsize=(8, 3.6))
        axes = figure.subplots()
        for line, marker, colour in zip(growth, plots.MARKERS, plots.COLOURS.values(), strict=False):
            start = [value / line["values"][0] for value in line["values"]]
            axes.loglog(start, line["seconds"], marker=marker, color=colour, label=line["axis"])
        axes.set(xlabel="size, in units of the smallest", ylabel="seconds")
        figure.legend(loc="outside right upper")
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()[drawn.getvalue().index("<svg") :]


class Speed(SphinxDirective):
    """``cpu`` or ``cuda`` and a workload of `make bench`; ``machine``: a folder with another machine's records."""

    required_arguments = 2
    option_spec: ClassVar = {"machine": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """Its table, or that it was not measured."""
        path = place(*self.arguments, RESULTS / self.options.get("machine", ""))
        self.env.note_dependency(str(path))
        record = read(path)
        return parts(record) if record else [nodes.paragraph("", "", nodes.strong("", "Not measured."))]


class SpeedGrowth(SphinxDirective):
    """How time grows on ``cpu`` or ``cuda``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """A figure, and its slopes as a table."""
        path = place(self.arguments[0], "growth")
        self.env.note_dependency(str(path))
        record = read(path)
        if record is None:
            return [nodes.paragraph("", "", nodes.strong("", "Not measured."))]
        rows = [["size", "from", "to", "slope at the end"]]
        rows += [[g["axis"], str(g["values"][0]), str(g["values"][-1]), f"{g['slope']:.2f}"] for g in record["growth"]]
        label = "Lines of seconds against size, both logarithmic; the table below has their slopes."
        drawn = f'<div role="img" aria-label="{label}">{growth_figure(record["growth"])}</div>'
        found = [nodes.paragraph("", circumstances(record)), nodes.raw("", drawn, format="html"), table(rows)]
        if held := record.get("memory"):
            sizes = [["samples", "peak memory"]]
            sizes += [[f"{n:,}", f"{b / 2**20:.1f} MiB"] for n, b in zip(held["values"], held["bytes"], strict=True)]
            found += [nodes.paragraph("", "Memory of the metrics when samples come in batches of 256:"), table(sizes)]
        return found


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.add_directive("speed", Speed)
    app.add_directive("speed-growth", SpeedGrowth)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
