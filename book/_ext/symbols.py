"""Link each symbol to its row in the notation table, where a page first uses it by itself.

The table is the one source: its first column is read from the Markdown, each row gets an anchor, and no page needs a
link by hand. The symbols that a derivation uses only inside longer formulas are listed at its end.
"""

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

NOTATION = "book/notation"
DERIVATIONS = "book/derivations/"
LOCAL = "## Letters that stay on their page"
LONGEST = 40  # characters of a formula that is a link as a whole
ROW = re.compile(r"^\| (\$.+?) \|", re.MULTILINE)
ARGUMENT = re.compile(r"\((?:x|u|x_1,x_2)\)")
SPACES = re.compile(r"(?:\\[,;! ]|\s)+")
RELATION = r"(?:$|=|:|>|<|\\(?:in|to|ge|le|succeq|succ|sim|approx)(?![A-Za-z]))"


def plain(tex: str) -> str:
    """A formula without spaces, arguments and the number of an attack, so that equal symbols are equal."""
    tight = re.sub(r"(?<![A-Za-z0-9]) | (?![A-Za-z])", "", SPACES.sub(" ", tex))  # \hat u needs its space, P K too
    return re.sub(r"\^\{\([1-9ijk]\)\}", "^{(i)}", ARGUMENT.sub("", tight))


def table(text: str) -> dict[str, str]:
    """Each symbol of the notation table, in the order of its rows: plain form -> anchor of the row."""
    found: dict[str, str] = {}
    for cell in ROW.findall(text.partition(LOCAL)[0]):
        tex = ",".join(re.findall(r"\$([^$]+)\$", cell))
        parts = re.split(r",(?![^(]*\))", plain(tex).partition("=")[0])
        parts = [part.removesuffix(r"\\") for part in parts if part]
        anchor = "symbol-" + re.sub(r"[^A-Za-z0-9]+", "-", parts[0]).strip("-")
        for part in parts:
            found.setdefault(part, anchor)
    return found


def uses(symbol: str, tex: str) -> bool:
    """Whether a formula, in plain form, contains a symbol as more than a part of another one."""
    after = r"(?![A-Za-z0-9_'])" if symbol[-1].isalnum() else r"(?![_'])"
    power = "" if "^" in symbol else r"(?!\^\{\(|\^\\star|\^\*)"
    return bool(
        re.search(
            r"(?<![A-Za-z\\_])(?<!_\{)(?<!\\mathbb )(?<!\\mathcal )(?<!\\hat )" + re.escape(symbol) + after + power, tex
        )
    )


def alone(symbol: str, tex: str) -> bool:
    """Whether a formula, in plain form, is a symbol, or says of it what it is."""
    return len(tex) <= LONGEST and bool(re.match(re.escape(symbol) + RELATION, tex))


def _read(app: Sphinx) -> dict[str, str]:
    return table((Path(app.srcdir) / f"{NOTATION}.md").read_text("utf-8"))


def anchor_rows(app: Sphinx, doctree: nodes.document) -> None:
    """Give the rows of the table their anchors; other pages are read anew when the table has changed."""
    if app.env.docname != NOTATION:
        app.env.note_dependency(f"{NOTATION}.md")
        return
    symbols = _read(app)
    for row in doctree.findall(nodes.row):
        first = next(iter(row.children[0].findall(nodes.math)), None)
        key = re.split(r",(?![^(]*\))", plain(first.astext()).partition("=")[0])[0] if first else ""
        if key in symbols and not isinstance(row.parent, nodes.thead):
            row["ids"].append(symbols[key])


def link(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Wrap the first lone use of each symbol on a page into a link."""
    if docname == NOTATION:
        return
    page = app.builder.get_relative_uri(docname, NOTATION)
    left = _read(app)
    for math in list(doctree.findall(nodes.math)):
        if inside(math, (nodes.title, nodes.reference, nodes.caption)):
            continue
        tex = plain(math.astext())
        symbol = next((s for s in left if alone(s, tex)), None)
        if symbol:
            math.replace_self(_reference(f"{page}#{left.pop(symbol)}", math.deepcopy()))
    if not docname.startswith(DERIVATIONS):
        return
    every = [plain(m.astext()) for m in doctree.findall(lambda n: isinstance(n, (nodes.math, nodes.math_block)))]
    rest = [symbol for symbol in left if any(uses(symbol, tex) for tex in every)]
    page_section = next(iter(doctree.findall(nodes.section)), None)
    if rest and page_section is not None:
        line = nodes.paragraph("", "Other symbols in the formulas of this page: ", classes=["symbols"])
        for k, symbol in enumerate(rest):
            line += nodes.Text(", " if k else "")
            line += _reference(f"{page}#{left[symbol]}", nodes.math("", symbol))
        line += nodes.Text(".")
        page_section += line


def inside(node: nodes.Node, kinds: tuple[type, ...]) -> bool:
    """Whether a node, or one that holds it, is of one of these kinds."""
    while node is not None:
        if isinstance(node, kinds):
            return True
        node = node.parent
    return False


def _reference(uri: str, math: nodes.math) -> nodes.reference:
    return nodes.reference(
        "", "", math, internal=True, refuri=uri, reftitle="In the notation table", classes=["symbol"]
    )


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("doctree-read", anchor_rows)
    app.connect("doctree-resolved", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
