"""Leave out the scripts of Thebe, which Jupyter Book adds to every page whether or not code can be run there."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def leave_out(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Take Thebe's scripts and styles from what a page loads."""
    for kind in ("script_files", "css_files"):
        context[kind] = [
            file for file in context[kind] if "thebe" not in f"{file.filename} {file.attributes.get('body', '')}"
        ]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.connect("html-page-context", leave_out, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
