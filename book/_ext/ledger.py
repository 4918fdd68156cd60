"""The role ``verdict`` and the directive ``ledger-summary``: what the ledger of claims says, and how often.

A verdict on a theorem is one of `PROVED`. A verdict on a number is that of a finding which a notebook glued,
``page.ipynb::key``, so it has no second copy.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective, SphinxRole

from advtransfer.notebooks.export import findings

PROVED = ("holds", "holds, amended", "depends", "fails in general", "read, not tested", "not examined")
LEDGER = "book/claims"
RULED = (
    "reproduced",
    "supported by its own numbers",
    "right sign only",
    "mixed",
    "cannot tell",
    "wrong sign only",
    "reversed",
    "not run at this size",
)


class summary(nodes.General, nodes.Element):
    """The place of the sentence that counts; it is written when all pages have been read."""


def verdict(written: str, root: Path) -> tuple[str, str]:
    """What a role stands for: one of `PROVED`, or the word of a glued finding and the size of the runs behind it.

    Raises
    ------
    ValueError
        It is neither, or the notebook glues no such finding.
    """
    if written in PROVED:
        return written, ""
    page, separator, key = written.partition("::")
    if not separator:
        raise ValueError(f"verdict {written!r}; expected notebook.ipynb::key or one of: {'; '.join(PROVED)}")
    known = findings(nbformat.read(root / page.lstrip("/"), as_version=4))
    if key not in known:
        raise ValueError(f"{page} glues no finding {key!r}; expected one of {', '.join(known)}")
    return known[key]["word"], known[key]["size"]


class VerdictRole(SphinxRole):
    """A verdict, in bold; in the ledger also the size of the runs behind it."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Read it and write it."""
        try:
            word, size = verdict(self.text, Path(self.env.srcdir))
        except ValueError as error:
            return [], [self.inliner.reporter.error(str(error), line=self.lineno)]
        self.env.metadata[self.env.docname].setdefault("verdicts", []).append(word)
        strong = nodes.strong(word, word)
        if not size or self.env.docname != LEDGER:
            return [strong], []
        return [strong, nodes.Text(" "), nodes.inline(size, size, classes=["size"])], []


class LedgerSummary(SphinxDirective):
    """One sentence: how many claims there are, and how many have each verdict."""

    def run(self) -> list[nodes.Node]:
        """Leave a place for it."""
        self.env.metadata[self.env.docname]["counts"] = True
        return [summary()]


def counts(env: BuildEnvironment) -> dict[str, int]:
    """How often each verdict is in the ledger, in the order of `PROVED` and `RULED`; others follow."""
    words = Counter(env.metadata[LEDGER].get("verdicts", ()))
    return {word: words[word] for word in dict.fromkeys((*PROVED, *RULED, *words)) if words[word]}


def write_summaries(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Write the sentence."""
    for place in list(doctree.findall(summary)):
        number = counts(app.env)
        paragraph = nodes.paragraph("", f"The ledger has {sum(number.values())} claims. ")
        for k, (word, n) in enumerate(number.items()):
            paragraph += nodes.Text(" · " if k else "")
            paragraph += nodes.strong("", f"{word}: {n}")
        place.replace_self(paragraph)


def counting_pages(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """The pages that are to be written again when another page has been read."""
    return [page for page, about in env.metadata.items() if "counts" in about]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_node(summary)
    app.add_role("verdict", VerdictRole())
    app.add_directive("ledger-summary", LedgerSummary)
    app.connect("doctree-resolved", write_summaries)
    app.connect("env-updated", counting_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
