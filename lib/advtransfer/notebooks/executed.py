"""An executed notebook: what it says of itself, checked against what it holds."""

from pathlib import Path
from typing import Any

import nbformat

from advtransfer.names import first_line
from advtransfer.notebooks.read import NotebookError
from advtransfer.records.provenance import digest

HELD = ("output_type", "name", "text", "data", "ename", "evalue")  # of an output; Jupyter may change the rest


class RecordLost(NotebookError):
    """An executed notebook whose record is not to be found."""


def content(node: nbformat.NotebookNode) -> str:
    """A digest of the cells: their kinds, their sources and their outputs."""
    cells = [
        [cell.cell_type, cell.source, [{n: o[n] for n in HELD if n in o} for o in cell.get("outputs", ())]]
        for cell in node.cells
    ]
    return digest(cells)


def mark(node: nbformat.NotebookNode, about: dict[str, Any]) -> None:
    """Note in the metadata what a run is about, and the digest of what its cells have made."""
    node.metadata["advtransfer"] = {**about, "content": content(node)}


def about(path: Path) -> dict[str, Any]:
    """What an executed notebook says of itself: ``experiment, parameters, key, record, digest, content``.

    Raises
    ------
    NotebookError
        It was not written by `execute.run`, or its cells or outputs have changed since: it was edited, or another tool
        has executed it again.
    """
    try:
        node = nbformat.read(path, as_version=4)
        noted = dict(node.metadata["advtransfer"])
        held = content(node)
    except Exception as error:  # a damaged file may raise anything
        raise NotebookError(
            f"{path} was not executed by `advtransfer run`, or is damaged ({first_line(error)})"
        ) from None
    if noted.get("content") != held:
        given = ", ".join(f"{name}={value}" for name, value in noted.get("parameters", {}).items()) or "the defaults"
        raise NotebookError(
            f"{path} is no longer what `advtransfer run` wrote (a run with {given}): it was edited, or executed by "
            "another tool; expected the notebook as it was written"
        )
    return noted


def record_of(path: Path) -> Path:
    """The folder of the record that the cells of an executed notebook made.

    Raises
    ------
    NotebookError
        The notebook has changed since, or made no record.
    RecordLost
        Its record is not to be found.
    """
    from advtransfer.records.runs import place  # imported here, because it is slow

    noted = about(path)
    if not noted["digest"]:
        raise NotebookError(f"{path} has no record: its cells made none, and the page says why")
    beside = path.with_suffix(".record")
    cached = place(noted["experiment"].rpartition(".")[2], noted["record"])
    for folder in (beside, cached):
        if _digest(folder) == noted["digest"]:
            return folder
    raise RecordLost(f"the record of {path} is neither beside it nor in the cache; expected it in {beside} or {cached}")


def is_record(folder: Path, path: Path) -> bool:
    """Whether a folder has the record of an executed notebook, unbroken."""
    return _digest(folder) == about(path)["digest"]


def _digest(folder: Path) -> str | None:
    """The digest of the record in a folder; None if there is none, or a broken one."""
    from advtransfer.records.record import Record, RecordError  # imported here, because it is slow

    try:
        return Record.load(folder).digest
    except RecordError:
        return None
