"""The error message for an unknown name that a user has typed."""

import difflib
from collections.abc import Iterable


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Say that `name` is unknown, and which name was probably meant; if none is similar, list all known names.

    Examples
    --------
    >>> unknown("parameter", "epsilon", ["eps", "steps"])
    "unknown parameter 'epsilon'; did you mean 'eps'?"
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5) or [n for n in names if name.startswith(n)]
    hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(names) or '(there are none)'}"
    return f"unknown {what} {name!r}; {hint}"
