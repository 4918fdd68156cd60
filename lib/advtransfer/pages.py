"""An executed notebook as one HTML file, without the book around it."""

import ast
import re
from pathlib import Path

import nbformat

from advtransfer import storage

HIDDEN = {"remove-input", "hide-input"}
LINK = re.compile(r"(.*?)\s*<[^>]*>")


def write_html(notebook: Path, target: Path) -> None:
    """Render an executed notebook: numbers that its text quotes are filled in, captions stand under their figures.

    What only the book can resolve, a reference to another page, is left as its text. Formulas need MathJax from the
    network when the page is read.
    """
    from nbconvert import HTMLExporter  # here, as it takes a while
    from traitlets.config import Config

    node = nbformat.read(notebook, as_version=4)
    values = _glued(node)
    for cell in node.cells:
        if cell.cell_type == "markdown":
            cell.source = _resolved(cell.source, values)
        tags = set(cell.metadata.get("tags", ()))
        cell.metadata["tags"] = sorted(tags | ({"remove-input"} if tags & HIDDEN else set()))
    node.cells = [shown for cell in node.cells for shown in (cell, *_caption(cell))]
    remove = {"TagRemovePreprocessor": {"remove_input_tags": {"remove-input"}, "enabled": True}}
    body, _ = HTMLExporter(config=Config(remove)).from_notebook_node(node, {"metadata": {"name": notebook.stem}})
    with storage.replacing(target) as draft:
        draft.write_text(body, encoding="utf-8")


def _glued(node: nbformat.NotebookNode) -> dict[str, str]:
    """The values that cells have glued, by name, as Python writes them."""
    outputs = [output for cell in node.cells for output in cell.get("outputs", ())]
    found = {}
    for output in outputs:
        name = output.get("metadata", {}).get("scrapbook", {}).get("name")
        for kind, value in output.get("data", {}).items():
            if name and kind.endswith("text/plain"):
                found[name] = value
    return found


def _resolved(text: str, values: dict[str, str]) -> str:
    """Markdown without what only MyST understands."""
    text = re.sub(r"^\([\w-]+\)=\n", "", text, flags=re.MULTILINE)
    return re.sub(r"\{([\w:]+)\}`([^`]*)`", lambda role: _role(role[1], role[2], values), text)


def _role(name: str, told: str, values: dict[str, str]) -> str:
    if name == "glue:text":
        key, _, form = told.partition(":")
        return _formatted(values.get(key, "?"), form)
    if link := LINK.fullmatch(told):
        return link[1]
    return told.removeprefix("~").rpartition(".")[2] if name.startswith("py:") else told


def _formatted(value: str, form: str) -> str:
    try:
        return format(ast.literal_eval(value), form)
    except (ValueError, SyntaxError):
        return value


def _caption(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    caption = cell.metadata.get("mystnb", {}).get("figure", {}).get("caption")
    return [nbformat.v4.new_markdown_cell(caption, id=f"{cell['id']}-caption")] if caption else []
