"""The role ``verdict`` and the directive ``ledger-summary``: what the ledger of claims says, and how often.

A verdict on a theorem is one of `PROVED`; on a number it is read from what a notebook glued, ``page.ipynb::key``, so it
has no second copy. ``page.ipynb::key, part`` reads the one part of that text with these words in it, and
``page.ipynb::key, negative`` judges a bare interval by the book's rule, the claim being a negative correlation.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

from advtransfer import tables
from advtransfer.pages import glued

PROVED = ("holds", "holds, amended", "depends", "fails in general", "read, not tested", "not examined")
RULED = ("reproduced", "direction only", "mixed", "not reproduced", "not run")
LEDGER = "book/claims.md"
ROLE = re.compile(r"\{verdict\}`([^`]+)`")
WORDS = re.compile(r"not reproduced|direction only|reproduced")
SHARE = re.compile(r"(\d+) of (\d+) reproduced")
INTERVAL = re.compile(r"(−?[\d.]+) \[(−?[\d.]+),\s(−?[\d.]+)\]")


def judge(text: str, *, part: str = "", negative: bool = False) -> str:
    """The verdict in a text: the one word it has, "mixed" if it has several, "not run" if it has none."""
    pieces = [piece for piece in re.split(r";|\. ", text) if part in piece]
    text = "; ".join(pieces)
    if share := SHARE.search(text):
        told, of = map(int, share.groups())
        return "reproduced" if told == of else "mixed" if told else "not reproduced"
    if negative and (found := INTERVAL.search(text)):
        return tables.verdict(*(float(number.replace("−", "-")) for number in found.groups()), claimed=-1)
    words = set(WORDS.findall(text))
    return words.pop() if len(words) == 1 else "mixed" if words else "not run"


def verdict(written: str, root: Path) -> str:
    """What a role says: a word of `PROVED`, or the verdict on a glued text."""
    if written in PROVED:
        return written
    if "::" not in written:
        raise ValueError(f"verdict {written!r}; expected notebook.ipynb::key or one of: {'; '.join(PROVED)}")
    target, _, rest = written.partition(", ")
    page, _, key = target.partition("::")
    values = glued(nbformat.read(root / page.lstrip("/"), as_version=4))
    if key not in values:
        raise ValueError(f"{page} glues nothing named {key}")
    negative = rest == "negative"
    return judge(str(values[key]), part="" if negative else rest, negative=negative)


def counts(root: Path) -> dict[str, int]:
    """How often each verdict stands in the ledger."""
    found = Counter(verdict(written, root) for written in ROLE.findall((root / LEDGER).read_text("utf-8")))
    return {word: found[word] for word in (*PROVED, *RULED) if found[word]}


class VerdictRole(SphinxRole):
    """A verdict, in bold."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Read it and write it."""
        try:
            word = verdict(self.text, Path(self.env.srcdir))
        except ValueError as error:
            return [], [self.inliner.reporter.error(str(error), line=self.lineno)]
        return [nodes.strong(word, word)], []


class LedgerSummary(SphinxDirective):
    """One sentence: how many claims there are, and how many have each verdict."""

    def run(self) -> list[nodes.Node]:
        """Count and write."""
        found = counts(Path(self.env.srcdir))
        told = [f"{word}: {n}" for word, n in found.items()]
        paragraph = nodes.paragraph("", f"The ledger has {sum(found.values())} claims. ")
        for k, words in enumerate(told):
            paragraph += nodes.Text(" · " if k else "")
            paragraph += nodes.strong(words, words)
        return [paragraph]


def outdated(app: Sphinx, env: Any, *changes: set[str]) -> list[str]:
    """Pages with verdicts are read anew in every build: Sphinx does not see that a notebook has changed them."""
    paths = {name: Path(env.doc2path(name)) for name in env.found_docs}
    words = ("{verdict}", "{ledger-summary}")
    return [n for n, p in paths.items() if p.suffix == ".md" and any(w in p.read_text("utf-8") for w in words)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_role("verdict", VerdictRole())
    app.add_directive("ledger-summary", LedgerSummary)
    app.connect("env-get-outdated", outdated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
