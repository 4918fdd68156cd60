"""The directive ``notebook-figure``: a figure that a notebook has glued, on another page.

The figure comes from the executed notebook when the book is built, so it has no second copy.
"""

from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from narrow_figures import kept, wrapped
from sphinx.application import Sphinx
from sphinx.directives.patches import Figure

from advtransfer.notebooks.export import narrow_pictures, pictures


class NotebookFigure(Figure):
    """``notebook.ipynb::key``, with the options and the caption of ``figure``."""

    def run(self) -> list[nodes.Node]:
        """Put the picture into the page."""
        page, separator, key = self.arguments[0].partition("::")
        env = self.state.document.settings.env
        path = Path(env.srcdir) / page.lstrip("/")
        if not separator:
            raise self.error(f"notebook-figure {self.arguments[0]!r}; expected notebook.ipynb::key")
        notebook = nbformat.read(path, as_version=4)
        known, narrow = pictures(notebook), narrow_pictures(notebook)
        if key not in known:
            raise self.error(f"{page} glues no picture {key!r}; expected one of: {', '.join(known) or 'none'}")
        env.note_dependency(str(path))
        self.arguments[0] = kept(env, known[key])
        made = super().run()
        if key in narrow:
            for image in (image for node in made for image in node.findall(nodes.image)):
                image.replace_self(wrapped(image.deepcopy(), kept(env, narrow[key])))
        return made


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("notebook-figure", NotebookFigure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
