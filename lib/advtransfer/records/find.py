"""Find a run by the name that a user types."""

from pathlib import Path

from advtransfer.names import unknown
from advtransfer.records import storage
from advtransfer.records.published import NO_RUNS, RESULTS


def find(name: str, results: Path = RESULTS) -> Path:
    """The folder of a record, given its path, its published name, or the start of its key.

    Raises
    ------
    ValueError
        No record has that name, or more than one does.
    """
    path = Path(name)
    if (path / "record.json").is_file():
        return path
    published = [head.parent for head in sorted(results.glob("*/*/record.json"))]
    matches = [folder for folder in published if name in (folder.name, f"{folder.parent.name}/{folder.name}")]
    if not matches and len(name) >= 4 and set(name) <= set("0123456789abcdef"):
        matches = sorted((storage.cache_root() / "records").glob(f"*/{name[:2]}/{name}*"))
    if len(matches) == 1:
        return matches[0]
    if matches:
        several = ", ".join(f.name if f not in published else f"{f.parent.name}/{f.name}" for f in matches)
        raise ValueError(f"{name!r} may be {several}; expected one of them")
    names = [f"{folder.parent.name}/{folder.name}" for folder in published]
    others = "a notebook's .ipynb, a record's folder, or at least the first 4 digits of its key"
    if not names:
        raise ValueError(f"unknown run {name!r}; expected {others}. {NO_RUNS}")
    expected = f"one of the {len(names)} stored runs that `list` prints"
    raise ValueError(f"{unknown('run', name, names, expected)} (or {others})")
