"""The notebooks that the pages offer: each can be read without the book, and installs what it needs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import place
from pybtex.database import parse_file
from sphinx.application import Sphinx

from advtransfer.notebooks import executed, export
from advtransfer.notebooks.read import NotebookError
from advtransfer.records.storage import replacing

INSTALL = """# Installs what this notebook needs, with the published runs, unless it is there already.
try:
    import advtransfer.notebooks
except ImportError:
    !git clone --quiet --depth 1 {url} companion
    %pip install --quiet --editable "./companion[notebooks]"
    import site; site.main()  # so that it is found without a restart
"""


def install_cell(published: str) -> str:
    """The source of a cell that installs the library from the repository ``owner/name``, unless it is there."""
    return INSTALL.format(url=place.code(published)).rstrip()


def make_whole(app: Sphinx, error: Exception | None) -> None:
    """Write out what only this book understands (numbers, links, citations), and install the library first.

    Jupyter and Colab would show ``{ref}`…```. Links lead to the published pages; without these only their text is left,
    and nothing is installed.
    """
    if error:
        return
    published, links = place.repository(Path(app.confdir)), _links(app)
    for path in Path(app.outdir, "_sources", "notebooks").glob("*.ipynb"):
        with rewritten(path) as node:
            export.resolve(node, links)
            if published:
                install_first(node, published)


def install_first(node: nbformat.NotebookNode, published: str) -> None:
    """Put a cell that installs the library first, or replace it."""
    others = node.cells[1:] if node.cells[0].get("id") == "install" else node.cells
    node.cells = [nbformat.v4.new_code_cell(install_cell(published), id="install"), *others]


def _links(app: Sphinx) -> dict[tuple[str, str], tuple[str, str]]:
    """For each role and target that a notebook may name: the text that is shown, and the address where it leads."""
    env, published = app.env, place.repository(Path(app.confdir))

    def address(page: str, anchor: str) -> str:
        return f"{place.pages(published)}{page}.html{'#' * bool(anchor)}{anchor}" if published else ""

    labels = env.get_domain("std").labels.items()
    links = {("ref", name): (title, address(page, anchor)) for name, (page, anchor, title) in labels}
    for name, about in getattr(env, "proof_list", {}).items():
        links["prf:ref", name] = about["name"], address(about["docname"], name)
    for page, title in env.titles.items():
        links["doc", os.path.relpath(page, "notebooks")] = title.astext(), address(page, "")
    for file in app.config.bibtex_bibfiles:
        for name, entry in parse_file(str(Path(app.confdir, file))).entries.items():
            who = [str(person.rich_last_names[-1]) for person in entry.persons["author"]]
            authors = f"{who[0]} et al." if len(who) > 2 else " and ".join(who)
            links["cite:p", name] = f"[{authors}, {entry.fields['year']}]", ""
            links["cite:t", name] = f"{authors} [{entry.fields['year']}]", ""
    return links


@contextmanager
def rewritten(path: Path) -> Iterator[nbformat.NotebookNode]:
    """A notebook to change; if a run wrote it, it is marked again, so that it can still be shown and verified."""
    node = nbformat.read(path, as_version=4)
    try:
        about = executed.about(path)
    except NotebookError:
        about = None
    yield node
    if about is not None:
        executed.mark(node, about)
    with replacing(path) as draft:
        nbformat.write(node, draft)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.connect("build-finished", make_whole)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
