"""Students' words, made fit to be shown: nothing in them moves a cursor, turns a line round, or breaks a file."""

import unicodedata

DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def in_one_line(text: str) -> str:
    """The text in one line, with escapes for what cannot be seen in it.

    >>> in_one_line("a\\n  b\\x1b[31m")
    'a b\\\\x1b[31m'
    """
    return visible(" ".join(text.split()))


def visible(text: str) -> str:
    """The text with its lines, with escapes for controls, halves of characters and changes of direction."""
    return "".join(c if c in "\n\t" or not _hidden(c) else ascii(c)[1:-1] for c in text)


def _hidden(character: str) -> bool:
    return character in DIRECTIONS or unicodedata.category(character) in ("Cc", "Cs")
