"""Typeset formulas with the copy of MathJax in ``_static/mathjax``, when the build fetched one; else from the CDN."""

from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

ENTRY = "mathjax/es5/tex-mml-chtml.js"


def use_local_copy(app: Sphinx, config: Config) -> None:
    """Point ``mathjax_path`` at the local copy, if there is one."""
    for folder in config.html_static_path:
        if Path(app.confdir, folder, ENTRY).is_file():
            config.mathjax_path = ENTRY


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.connect("config-inited", use_local_copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
