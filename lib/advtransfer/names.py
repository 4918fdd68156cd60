"""Names that somebody types: what is said when one is unknown."""

import difflib
from collections.abc import Iterable


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Say that `name` is unknown, and the name that was probably meant; or all known names, where none is near.

    Examples
    --------
    >>> unknown("parameter", "epsilon", ["eps", "steps"])
    "unknown parameter 'epsilon'; did you mean 'eps'?"
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5) or [n for n in names if name.startswith(n)]
    hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(names) or 'none at all'}"
    return f"unknown {what} {name!r}; {hint}"
