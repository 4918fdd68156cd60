"""The directive ``settings``: the parameters of an experiment with default and meaning, read from its Config."""

import importlib

import pandas as pd
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from advtransfer.pages import tables
from advtransfer.records import configs


def rows(kind: type[configs.Config]) -> pd.DataFrame:
    """A row per parameter; the last but one column is empty where the profiles agree."""
    quick, paper = configs.meaning(kind), configs.meaning(kind, "paper")
    found = []
    for (name, values, default, meaning), (_, _, larger, _) in zip(quick, paper, strict=True):
        shown = default.replace(",", ", ") or "none"
        found.append([f"`{name}`", shown, larger if larger != default else "", f"{meaning} ({values})"])
    return pd.DataFrame(found, columns=["setting", "default", "in profile paper", "meaning"])


class Settings(SphinxDirective):
    """The name of an experiment, such as ``choosing``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Its table."""
        module = importlib.import_module(f"advtransfer.experiments.{self.arguments[0]}")
        self.env.note_dependency(str(module.__file__))
        return self.parse_text_to_nodes(tables.show(rows(module.Config)).data)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
