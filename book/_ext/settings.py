"""The directive ``settings``: the parameters of an experiment with default and meaning, read from its Config."""

import importlib

from docutils import nodes
from measured_speeds import table
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from advtransfer.records import configs


def rows(kind: type[configs.Config]) -> list[list[str]]:
    """The head of the table, and a row per parameter; the last but one column is empty where the profiles agree."""
    quick, paper = configs.meaning(kind), configs.meaning(kind, "paper")
    found = [["setting", "default", "in profile paper", "meaning"]]
    for (name, values, default, meaning), (_, _, larger, _) in zip(quick, paper, strict=True):
        shown = default.replace(",", ", ") or "none"
        found.append([name, shown, larger if larger != default else "", f"{meaning} ({values})"])
    return found


class Settings(SphinxDirective):
    """The name of an experiment, such as ``choosing``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Its table, with the names as code."""
        module = importlib.import_module(f"advtransfer.experiments.{self.arguments[0]}")
        self.env.note_dependency(str(module.__file__))
        found = table(rows(module.Config))
        found["classes"].append("colwidths-auto")  # meanings are longer than names
        for row in list(found.findall(nodes.row))[1:]:
            (name,) = row.children[0].findall(nodes.paragraph)
            name.replace_self(nodes.paragraph("", "", nodes.literal("", name.astext())))
        return [found]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
