"""Link each word of the glossary to its entry, where a page first uses it.

The glossary is the one source: a word that is added there is linked everywhere, also in the sentences and tables that
notebooks write, and no page needs a link by hand.
"""

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from symbols import inside

LEFT_OUT = re.compile(r"book/(?:notation|references|speed|grading|teaching|api.*)")
"""Pages that use none of the words, or mean something else by them."""
NOT_HERE = {"notebooks/nlp_attacks": {"series", "recipe", "profile"}}
"""Words that a page shows in texts of others, where they have their usual meaning."""
CODE = (nodes.literal, nodes.literal_block, nodes.FixedTextElement, nodes.raw, nodes.math, nodes.math_block)
PASSED = (*CODE, nodes.title, nodes.reference, addnodes.desc, nodes.comment)
"""What a link is not put into."""
WRITTEN = {
    "run": r"(?<=\b[Aa] )run|(?<=\b[Tt]he )run|(?<=\b[Tt]his )run|(?<=[Ss]tored )runs|(?<=[Ww]ithin )runs",
    "T→S and S→T": "T→S|S→T",
}
"""Words that need more than themselves and a plural to be found: a run is meant, and not to run."""


def pattern(word: str) -> re.Pattern[str]:
    """Where a word is used: by itself, in singular or plural.

    >>> [bool(pattern("LEEP").search(text)) for text in ("by LEEP,", "N-LEEP", "LEEPs")]
    [True, False, True]
    """
    first = f"[{word[0].upper()}{word[0].lower()}]" if word[0].isalpha() else re.escape(word[0])
    written = WRITTEN.get(word) or f"{first}{re.escape(word[1:])}s?"
    return re.compile(rf"(?<![\w-])(?:{written})(?![\w-])")


def link(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Turn the first use of each word on a page into a link."""
    if LEFT_OUT.fullmatch(docname):
        return
    entries = glossary(app)
    left = {word: pattern(word) for word in entries if word not in NOT_HERE.get(docname, ())}
    for text in list(doctree.findall(nodes.Text)):
        if not left:
            return
        if inside(text, PASSED):
            continue
        found = {match.start(): (match, word) for word, p in left.items() if (match := p.search(text.astext()))}
        parts, end = [], 0
        for start, (match, word) in sorted(found.items()):
            if start >= end:
                page, anchor = entries[word]
                uri = f"{app.builder.get_relative_uri(docname, page)}#{anchor}"
                linked = nodes.reference("", match[0], internal=True, refuri=uri, classes=["word"])
                parts += [nodes.Text(text.astext()[end:start]), linked]
                end = match.end()
                del left[word]
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(text.astext()[end:])])


def glossary(app: Sphinx) -> dict[str, tuple[str, str]]:
    """The words of the glossary, as they are written there, and the page and anchor of each."""
    objects = app.env.get_domain("std").get_objects()
    return {name: (page, anchor) for name, _, kind, page, anchor, _ in objects if kind == "term"}


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("doctree-resolved", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
