"""What this book changes in every page that Sphinx writes.

Formulas are typeset by the copy of MathJax in ``_static``, if the build fetched one; entries of the bibliography lose a
role that ARIA deprecates; Thebe's scripts, which Jupyter Book adds whether or not code can be run, are left out; and
the header offers to run a notebook elsewhere or to print the book, where this build can stand for it.
"""

import hashlib
import html
import os
import re
from pathlib import Path
from typing import Any

import place
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError
from sphinx.writers.html5 import HTML5Translator

DESCRIPTION = re.compile(r'<meta content="([^"]*)"[^>]* name="description"')
MATHJAX = "mathjax/es5/tex-mml-chtml.js"
PLACE = "https://github.com/OWNER/NAME"  # as pages write the address of the repository


def use_local_mathjax(app: Sphinx, config: Config) -> None:
    """Point ``mathjax_path`` at the local copy, if there is one; else formulas come from the CDN."""
    for folder in config.html_static_path:
        if Path(app.confdir, folder, MATHJAX).is_file():
            config.mathjax_path = MATHJAX


def check_place(app: Sphinx, config: Config) -> None:
    """Refuse a place of publication that cannot be one, before any page is read."""
    try:
        place.repository(Path(app.confdir))
    except place.PlaceError as error:
        raise ConfigError(str(error)) from None


def visit_citation(self: HTML5Translator, node: nodes.citation) -> None:
    """Open an entry of the bibliography, without the role ``doc-biblioentry``."""
    self.body.append(self.starttag(node, "div", CLASS="citation"))


def depart_citation(self: HTML5Translator, node: nodes.citation) -> None:
    """Close it."""
    self.body.append("</div>\n")


def leave_thebe_out(app: Sphinx, config: Config) -> None:
    """Keep Thebe from adding scripts and styles to the pages."""
    app.registry.css_files = [(name, about) for name, about in app.registry.css_files if "thebe" not in name]
    for listeners in app.events.listeners.values():
        for listener in list(listeners):
            if listener.handler.__module__ == "sphinx_thebe":
                app.disconnect(listener.id)


def code_of_pages(root: Path) -> str:
    """A digest of the code that writes into pages, after a change of which all are read again."""
    content = hashlib.sha256()
    library = root / "lib" / "advtransfer"
    for folder in (root / "book" / "_ext", *(library / name for name in ("notebooks", "pages", "records"))):
        for path in sorted(folder.glob("*.py")):
            content.update(path.read_bytes())
    return content.hexdigest()


def add_buttons(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Add the buttons of a page to its header.

    The first ones lead to the place of publication (see `place`). The PDF is linked to where the build goes on to make
    it (``COMPANION_PDF``, its name).
    """
    published, pdf = place.repository(Path(app.confdir)), app.config.companion_pdf
    ways = []
    if published and page.startswith("notebooks/"):
        ways.append(("Run on Colab", "fas fa-rocket", place.colab(published, page)))
        ways.append(("Run on Binder", "fas fa-cloud", place.binder(published, page)))
    if published:
        ways.append(("The repository", "fab fa-github", place.code(published)))
    if pdf:
        ways.append(("The whole book as PDF", "fas fa-file-pdf", context["pathto"](pdf, resource=True)))
    context["header_buttons"] += [
        {"type": "link", "text": "", "tooltip": tooltip, "icon": icon, "url": url} for tooltip, icon, url in ways
    ]


def add_card(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Add what a site shows of a page to which somebody links: its title and its description, if it has one."""
    if found := DESCRIPTION.search(context.get("metatags", "")):
        title = html.escape(re.sub("<[^>]+>", "", html.unescape(context["title"])))
        shown = {"type": "article", "site_name": app.config.html_title, "title": title, "description": found[1]}
        tags = (f'<meta property="og:{name}" content="{value}" />\n' for name, value in shown.items())
        context["metatags"] += "".join(tags)


def note_notebooks(app: Sphinx, page: str, source: list[str]) -> None:
    """Note on which notebooks a page depends that quotes their numbers, so that it is read again after them."""
    if "{glue:" in source[0] or "{verdict}" in source[0]:
        for name in app.env.found_docs:
            path = app.env.doc2path(name)
            if path.endswith(".ipynb"):
                app.env.dependencies[page].add(os.path.relpath(path, app.srcdir))


def write_place(app: Sphinx, page: str, source: list[str]) -> None:
    """Write the place of publication where a page names the repository; `PLACE` stays where there is none."""
    if PLACE in source[0]:
        app.env.dependencies[page].add("_config.yml")
        published = place.repository(Path(app.confdir))
        source[0] = source[0].replace(PLACE, place.code(published) if published else PLACE)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.add_node(nodes.citation, override=True, html=(visit_citation, depart_citation))
    app.add_config_value("companion_pdf", os.environ.get("COMPANION_PDF", ""), "html", [str])
    app.add_config_value("companion_code", code_of_pages(place.ROOT), "env", [str])
    app.connect("config-inited", check_place)
    app.connect("config-inited", leave_thebe_out)
    app.connect("config-inited", use_local_mathjax)
    app.connect("source-read", note_notebooks)
    app.connect("source-read", write_place)
    app.connect("html-page-context", add_buttons, priority=800)
    app.connect("html-page-context", add_card)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
