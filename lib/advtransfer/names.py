"""The words of error messages: for an unknown name that a user has typed, and for what went wrong below."""

import difflib
from collections.abc import Iterable
from functools import partial


def unknown(what: str, name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Say that `name` is unknown, and which name was probably meant; if none is similar, `otherwise` or all that exist.

    Examples
    --------
    >>> unknown("parameter", "epsilon", ["eps", "steps"])
    "unknown parameter 'epsilon'; did you mean 'eps'?"
    """
    names = list(known)
    close = partial(difflib.get_close_matches, name, names, n=1)
    near = close(cutoff=0.8) or _sharing_a_word(name, names) or close(cutoff=0.6)
    expected = otherwise or f"one of {', '.join(names) or '(there are none)'}"
    hint = f"did you mean {near[0]!r}?" if near else f"expected {expected}"
    return f"unknown {what} {name!r}; {hint}"


def _sharing_a_word(name: str, names: list[str]) -> list[str]:
    """The names that begin the typed one, longest first; else those with its last word among theirs, shortest first."""
    begun = [known for known in names if len(known) > 2 and name.startswith(known)]
    word = name.rpartition("_")[2]
    return sorted(begun, key=len, reverse=True) or sorted((n for n in names if word in n.split("_")), key=len)


def first_line(error: BaseException) -> str:
    """The first line of what an error says, for errors of other libraries that go on; its type if it says nothing.

    Examples
    --------
    >>> first_line(ValueError("two\\nlines")), first_line(KeyboardInterrupt())
    ('two', 'KeyboardInterrupt')
    """
    return str(error).partition("\n")[0] or type(error).__name__


def one_line(error: BaseException) -> str:
    """What an error says, in one line; the name of its type if it says nothing.

    Examples
    --------
    >>> one_line(ValueError("two\\nlines")), one_line(KeyboardInterrupt())
    ('two lines', 'KeyboardInterrupt')
    """
    return " ".join(str(error).split()) or type(error).__name__
