"""An executed notebook as one HTML file, without the book around it."""

import ast
import base64
import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from advtransfer.pages import layout
from advtransfer.pages.verdicts import MIME
from advtransfer.records import storage

HIDDEN = {"remove-input", "hide-input", "hide-cell", "remove-cell"}
UNSEEN = "application/papermill.record/"  # prefix that myst-nb gives to values that are glued but not displayed
KEY = re.compile(r"\s*([a-z]+)([0-9]{4}[a-z]?)\s*")
LINK = re.compile(r"(.*?)\s*<([^>]*)>")
PICTURES = ("image/svg+xml", "image/png", "image/jpeg")


def write_html(notebook: Path, target: Path) -> None:
    """Render an executed notebook, with the numbers that its text quotes, and figures with captions and alt texts.

    References to other pages, which only the book can resolve, become plain text. Formulas need MathJax, which is
    loaded from the network when the page is read.
    """
    from nbconvert import HTMLExporter  # imported here, because it is slow
    from traitlets.config import Config

    node = nbformat.read(notebook, as_version=4)
    resolve(node)
    tagged = [set(cell.metadata.get("tags", ())) for cell in node.cells]
    unseen = any("parameters" in tags and tags & HIDDEN for tags in tagged)
    hidden = HIDDEN | ({"injected-parameters"} if unseen else set())
    captions = [_caption(cell) for cell in node.cells]
    for cell, tags in zip(node.cells, tagged, strict=True):
        if cell.cell_type != "markdown":
            cell.outputs = [_described(output, _about(cell)) for output in cell.outputs if not _glue_name(output)]
        cell.metadata["tags"] = sorted(tags | ({"remove-input"} if tags & hidden else set()))
    node.cells = [shown for cell, below in zip(node.cells, captions, strict=True) for shown in (cell, *below)]
    if said := _settings(node.metadata.get("advtransfer", {}).get("differs", {})):
        node.cells.insert(1, nbformat.v4.new_markdown_cell(said))
    options = {
        "TagRemovePreprocessor": {"remove_input_tags": {"remove-input"}, "enabled": True},
        "HTMLExporter": {"exclude_input_prompt": True, "exclude_output_prompt": True},
    }
    body, _ = HTMLExporter(config=Config(options)).from_notebook_node(node, {"metadata": {"name": notebook.stem}})
    with storage.replacing(target) as draft:
        draft.write_text(body, encoding="utf-8")


def _settings(differs: Mapping[str, Any]) -> str:
    """Which parameters of a run are not the defaults, in Markdown; its text is written for the defaults."""
    if not differs:
        return ""
    shown = ", ".join(f"`{name} = {value}`" for name, value in differs.items())
    small = " This size is for tests; its numbers say nothing about the claims." * (differs.get("profile") == "smoke")
    return f"*Run with {shown}; the other parameters have their defaults.*{small}"


def resolve(node: nbformat.NotebookNode, links: Mapping[tuple[str, str], tuple[str, str]] = {}) -> None:
    """Take the syntax that only MyST understands out of all texts of an executed notebook, in place (see `resolved`).

    These are the text cells, what cells show as Markdown, and the captions of figures.
    """
    values = glued(node)
    for cell in node.cells:
        if cell.cell_type == "markdown":
            cell.source = resolved(cell.source, values, links)
        for output in cell.get("outputs", ()):
            if said := output.get("data", {}).get("text/markdown"):
                output.data["text/markdown"] = resolved(said, values, links)
        if caption := _about(cell).get("figure", {}).get("caption"):
            cell.metadata["mystnb"]["figure"]["caption"] = resolved(caption, values, links)


def glued(node: nbformat.NotebookNode) -> dict[str, Any]:
    """The values that cells have glued, by name; a value that is not a plain literal is given as its `repr`."""
    values: dict[str, Any] = {}
    for output in (output for cell in node.cells for output in cell.get("outputs", ())):
        for kind, value in output.get("data", {}).items():
            if (name := _glue_name(output)) and kind.endswith("text/plain"):
                try:
                    values[name] = ast.literal_eval(value)
                except (ValueError, SyntaxError):
                    values[name] = value
    return values


def findings(node: nbformat.NotebookNode) -> dict[str, dict[str, Any]]:
    """The findings that cells have glued as data (see `pages.verdicts.Finding`), by name."""
    return _glued_as(node, MIME)


def pictures(node: nbformat.NotebookNode) -> dict[str, str]:
    """The figures that cells have glued, by name, as SVG."""
    return _glued_as(node, "image/svg+xml")


def narrow_pictures(node: nbformat.NotebookNode) -> dict[str, str]:
    """The narrow drawings of the figures that cells have glued, by name, as SVG (see `pages.layout`)."""
    return _glued_as(node, layout.MIME)


def _glued_as(node: nbformat.NotebookNode, wanted: str) -> dict[str, Any]:
    """What cells have glued in one format."""
    return {
        name: value
        for cell in node.cells
        for output in cell.get("outputs", ())
        for kind, value in output.get("data", {}).items()
        if (name := _glue_name(output)) and kind.endswith(wanted)
    }


def _glue_name(output: nbformat.NotebookNode) -> str:
    """The name under which an output was glued; empty for other outputs."""
    return output.get("metadata", {}).get("scrapbook", {}).get("name", "").removeprefix(UNSEEN)


def resolved(text: str, values: Mapping[str, Any], links: Mapping[tuple[str, str], tuple[str, str]] = {}) -> str:
    """Markdown without the syntax that only MyST understands.

    Parameters
    ----------
    values
        What ``{glue:text}`` quotes, by name.
    links
        For a role and its target the text that is shown, and an address or an empty string.
    """
    text = re.sub(r"^\([\w-]+\)=\n", "", text, flags=re.MULTILINE)
    return re.sub(r"\{([\w:]+)\}`([^`]*)`", lambda role: _role(role[1], role[2], values, links), text)


def _formatted(value: Any, form: str) -> str:
    try:
        return format(value, form)
    except ValueError:  # a NaN is glued as a word
        return str(value)


def _role(name: str, content: str, values: Mapping[str, Any], links: Mapping[tuple[str, str], tuple[str, str]]) -> str:
    if name == "glue:text":
        key, _, form = content.partition(":")
        return _formatted(values[key], form) if key in values else "?"
    link = LINK.fullmatch(content)
    title, address = links.get((name, link[2] if link else content), ("", ""))
    plain = content.removeprefix("~").rpartition(".")[2] if name.startswith("py:") else content
    if name.startswith("cite:"):  # by keys such as doe2020
        works = ", ".join(KEY.sub(lambda key: f"{key[1].capitalize()} {key[2]}", key) for key in content.split(","))
        plain = f"[{works}]" if name == "cite:p" else works
    shown = link[1] if link else title or plain
    return f"[{shown}]({address})" if address else shown


def _described(output: nbformat.NotebookNode, about: dict[str, Any]) -> nbformat.NotebookNode:
    """A picture as an HTML element with its alt text, which nbconvert does not write; other outputs as they are."""
    kind = next((kind for kind in PICTURES if kind in output.get("data", {})), None)
    if kind is None or not (alt := about.get("image", {}).get("alt")):
        return output
    held = output.data[kind]
    coded = base64.b64encode(held.encode()).decode() if kind.endswith("xml") else "".join(held.split())
    element = f'<img src="data:{kind};base64,{coded}" alt="{html.escape(alt)}">'
    return nbformat.v4.new_output("display_data", {"text/html": element})


def _about(cell: nbformat.NotebookNode) -> dict[str, Any]:
    """What myst-nb is told of a cell's figure."""
    return dict(cell.metadata.get("mystnb", {}))


def _caption(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The caption of a cell's figure as a cell of its own; none where the cell has drawn no figure."""
    caption = _about(cell).get("figure", {}).get("caption")
    drawn = any(kind in output.get("data", {}) for output in cell.get("outputs", ()) for kind in PICTURES)
    return [nbformat.v4.new_markdown_cell(caption, id=f"{cell['id']}-caption")] if caption and drawn else []
