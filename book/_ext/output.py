"""What this book changes in every page that Sphinx writes.

Formulas are typeset by the copy of MathJax in ``_static``, if the build fetched one; entries of the bibliography lose a
role that ARIA deprecates; Thebe's scripts, which Jupyter Book adds whether or not code can be run, are left out; and
the header offers to run a notebook elsewhere or to print the book, where this build can stand for it.
"""

import os
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.writers.html5 import HTML5Translator

MATHJAX = "mathjax/es5/tex-mml-chtml.js"
PAGES = "gh-pages"  # the branch of the built pages, with the executed notebooks among their sources


def use_local_mathjax(app: Sphinx, config: Config) -> None:
    """Point ``mathjax_path`` at the local copy, if there is one; else formulas come from the CDN."""
    for folder in config.html_static_path:
        if Path(app.confdir, folder, MATHJAX).is_file():
            config.mathjax_path = MATHJAX


def visit_citation(self: HTML5Translator, node: nodes.citation) -> None:
    """Open an entry of the bibliography, without the role ``doc-biblioentry``."""
    self.body.append(self.starttag(node, "div", CLASS="citation"))


def depart_citation(self: HTML5Translator, node: nodes.citation) -> None:
    """Close it."""
    self.body.append("</div>\n")


def leave_thebe_out(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Take Thebe's scripts and styles from what a page loads."""
    for kind in ("script_files", "css_files"):
        context[kind] = [
            file for file in context[kind] if "thebe" not in f"{file.filename} {file.attributes.get('body', '')}"
        ]


def add_buttons(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Add the buttons of a page to its header.

    Where the book is published is known only there: a build on GitHub (``GITHUB_REPOSITORY``, e.g. "owner/name") has
    the first two. The PDF is linked to where the build goes on to make it (``COMPANION_PDF``, its name).
    """
    repository, pdf = os.environ.get("GITHUB_REPOSITORY"), os.environ.get("COMPANION_PDF")
    colab = f"https://colab.research.google.com/github/{repository}/blob/{PAGES}/_sources/{page}.ipynb"
    binder = f"https://mybinder.org/v2/gh/{repository}/HEAD?urlpath=lab/tree/{page}.md"
    ways = []
    if repository and page.startswith("notebooks/"):
        ways += [("Run on Colab", "fas fa-rocket", colab), ("Run on Binder", "fas fa-cloud", binder)]
    if pdf:
        ways.append(("The whole book as PDF", "fas fa-file-pdf", context["pathto"](pdf, resource=True)))
    context["header_buttons"] += [
        {"type": "link", "text": "", "tooltip": tooltip, "icon": icon, "url": url} for tooltip, icon, url in ways
    ]


def note_notebooks(app: Sphinx, page: str, source: list[str]) -> None:
    """Note on which notebooks a page depends that quotes their numbers, so that it is read again after them."""
    if "{glue:" in source[0] or "{verdict}" in source[0]:
        for name in app.env.found_docs:
            path = app.env.doc2path(name)
            if path.endswith(".ipynb"):
                app.env.dependencies[page].add(os.path.relpath(path, app.srcdir))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.add_node(nodes.citation, override=True, html=(visit_citation, depart_citation))
    app.connect("config-inited", use_local_mathjax)
    app.connect("source-read", note_notebooks)
    app.connect("html-page-context", add_buttons, priority=800)
    app.connect("html-page-context", leave_thebe_out, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
