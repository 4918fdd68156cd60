"""The directive ``moving-figure``: a figure that a script draws, with its data in the page and a text where none runs.

The data are read from the published records and the palette when the page is built, so neither has a second copy.
Scripts and data need no server: a page works from a file, too.
"""

import json
from typing import Any

import pandas as pd
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

from advtransfer.experiments import pool
from advtransfer.experiments.pool import PREDICTORS
from advtransfer.pages import plots
from advtransfer.records.published import published, rows_of

SCRIPTS = {
    "two-models": ("dom", "jacobians", "two-models"),
    "sources": ("dom", "ranks", "sources"),
}
SHOWN = ["label", "width", "epochs", "seed", "transfer_accuracy", *PREDICTORS]


class moving(nodes.General, nodes.Element):
    """A figure's place; its children are shown until the script replaces them."""


def sources() -> dict[str, Any] | None:
    """The sources of the largest published run on the first target in which every predictor is known."""
    records = published("vision")
    known = pool.image_sources(records).dropna() if records else pd.DataFrame()
    if known.empty:
        return None
    known = known[known["domain"] == known["domain"].iloc[0]]
    run = known[known["run"] == known["run"].mode()[0]]
    table = rows_of({name: records[name] for name in dict.fromkeys(run["series"] + "-seed" + run["seed"].astype(str))})
    return {
        "rows": table[SHOWN].to_dict("records"),
        "target": run["domain"].iloc[0].removeprefix("images, "),
        "markers": dict(zip(dict.fromkeys(table["label"]), plots.MARKERS, strict=False)),
        "predictors": list(PREDICTORS),
    }


class MovingFigure(SphinxDirective):
    """``two-models`` or ``sources``; the content says what to read where no script runs."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Put the place of the figure into the page."""
        name = self.arguments[0]
        if name not in SCRIPTS:
            raise self.error(f"moving-figure {name!r}; expected one of {', '.join(SCRIPTS)}")
        if name == "sources":
            self.env.note_reread()  # there may be a new run
        node = moving("", name=name, data=sources() if name == "sources" else None)
        node += self.parse_content_to_nodes()
        return [node]


def visit(translator: HTML5Translator, node: moving) -> None:
    """Open the figure, with the colours of the quantities."""
    colours = "; ".join(f"--{name}: {value}" for name, value in plots.COLOURS.items())
    figure = node["name"] if node["name"] == "two-models" or node["data"] else "none"
    translator.body.append(f'<div class="move" data-figure="{figure}" style="{colours}">\n')


def depart(translator: HTML5Translator, node: moving) -> None:
    """Close the figure, with its data."""
    if node["data"]:
        data = json.dumps(node["data"], ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
        translator.body.append(f'<script type="application/json">{data}</script>\n')
    translator.body.append("</div>\n")


def add_files(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Give a page the scripts of its figures, and no other page."""
    found = [node["name"] for node in doctree.findall(moving)] if doctree else []
    for script in dict.fromkeys(script for name in found for script in SCRIPTS[name]):
        app.add_js_file(f"move/{script}.js", loading_method="defer")
    if found:
        app.add_css_file("move/move.css")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.add_node(moving, html=(visit, depart))
    app.add_directive("moving-figure", MovingFigure)
    app.connect("html-page-context", add_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
