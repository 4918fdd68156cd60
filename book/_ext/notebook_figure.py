"""The directive ``notebook-figure``: a figure that a notebook has glued, on another page.

The figure comes from the executed notebook when the book is built, so it has no second copy.
"""

import base64
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.directives.patches import Figure

from advtransfer.notebooks.export import pictures


class NotebookFigure(Figure):
    """``notebook.ipynb::key``, with the options and the caption of ``figure``."""

    def run(self) -> list[nodes.Node]:
        """Put the picture into the page."""
        page, separator, key = self.arguments[0].partition("::")
        env = self.state.document.settings.env
        path = Path(env.srcdir) / page.lstrip("/")
        if not separator:
            raise self.error(f"notebook-figure {self.arguments[0]!r}; expected notebook.ipynb::key")
        known = pictures(nbformat.read(path, as_version=4))
        if key not in known:
            raise self.error(f"{page} glues no picture {key!r}; expected one of: {', '.join(known) or 'none'}")
        env.note_dependency(str(path))
        data = base64.b64encode(known[key].encode("utf-8")).decode("ascii")
        self.arguments[0] = f"data:image/svg+xml;base64,{data}"
        return super().run()


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("notebook-figure", NotebookFigure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
