"""Read what was handed in, and put it into the order of the sheet."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from nbformat import NotebookNode

from advtransfer.classroom import sheets

FILE_BYTES = 2**25
UNREAD, UNNAMED = "The file could not be read", "No cell has its name from the sheet"
"""How the notes begin that concern a whole notebook: its points say nothing about its answers."""
NO_NOTEBOOK, NO_ANSWER = "There was no notebook to grade.", "There is no answer yet."
"""Messages that do not depend on another exercise."""


class Cell(NamedTuple):
    """A cell to run, or the place of a test."""

    label: str
    source: str
    kind: Literal["locked", "answer", "extra", "test"]


class Plan(NamedTuple):
    """What a submission holds, put into the order of the sheet."""

    cells: list[Cell]
    notes: list[str]
    """What was out of order, in words for the student."""


class Submitted(NamedTuple):
    """A cell as it was handed in."""

    key: str | None
    """The nbgrader `grade_id`."""
    kind: str
    source: str


def content(path: Path) -> bytes:
    """What is in a file that was handed in.

    Raises
    ------
    ValueError
        It is no plain file, or too large.
    OSError
        The file cannot be read.
    """
    if path.is_symlink() or not path.is_file():
        raise ValueError("it is not a plain file")
    if path.stat().st_size > FILE_BYTES:
        raise ValueError(f"it has {path.stat().st_size} bytes, and at most {FILE_BYTES} are read")
    return path.read_bytes()


def read(notebook: bytes) -> list[Submitted]:
    """The cells of a notebook, given what is in its file.

    Raises
    ------
    ValueError
        It is not a notebook.
    """
    try:
        return [_cell(cell) for cell in json.loads(notebook)["cells"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("it is not a Jupyter notebook of format 4") from None


def _cell(cell: Mapping[str, Any]) -> Submitted:
    about = cell.get("metadata", {}).get("nbgrader", {})
    key = about.get("grade_id") if isinstance(about, dict) else None
    source = cell.get("source", "")
    text = source if isinstance(source, str) else "".join(source)
    return Submitted(key if isinstance(key, str) else None, str(cell.get("cell_type")), text)


def texts_of(original: NotebookNode) -> frozenset[str]:
    """The texts of those cells of a sheet that have no nbgrader name; the rest of a submission is the student's."""
    return frozenset(cell.source.strip() for cell in original.cells if "nbgrader" not in cell.metadata)


def plan(original: NotebookNode, submitted: list[Submitted]) -> Plan:
    """What is run, and where the tests are.

    Points, tests and locked cells are those of `original`. A locked cell that the student has changed runs first as it
    was handed in, and then as the sheet has it.
    """
    roles = {
        cell.metadata.nbgrader.grade_id: sheets.role(cell) for cell in original.cells if "nbgrader" in cell.metadata
    }
    given = texts_of(original)
    own: dict[str, str] = {}
    extras: dict[str | None, list[str]] = {}
    last: str | None = None
    notes = []
    for key, kind, source in submitted:
        if key is not None and key in roles and key not in own:
            own[key] = source
            last = key
            continue
        if key is not None:
            notes.append(f"The cell {key[:60]!r} is not from the sheet or occurs twice; it ran as one of your own.")
        if source.strip() in given | {""}:
            continue
        if kind == "code":
            extras.setdefault(last, []).append(source)
    if list(own) != [key for key in roles if key in own]:
        notes.append("The cells were in another order; they were graded in the order of the sheet.")
    if submitted and not own:
        notes.append(f"{UNNAMED}, so all ran as cells of your own: work in the sheet itself.")
    cells = [Cell("of your own", source, "extra") for source in extras.get(None, [])]
    for cell in original.cells:
        key = cell.metadata.get("nbgrader", {}).get("grade_id")
        if key is None:
            continue
        if roles[key] in ("answer", "written") and key not in own:
            notes.append(f"The cell {key!r} is missing.")
        if roles[key] == "locked" and cell.cell_type == "code":
            if own.get(key, cell.source) != cell.source:
                cells.append(Cell(key, own[key], "extra"))
            cells.append(Cell(key, cell.source, "locked"))
        elif roles[key] == "answer" and key in own:
            cells.append(Cell(key, own[key], "answer"))
        elif roles[key] == "test":
            cells.append(Cell(key, "", "test"))
        cells += [Cell("of your own", source, "extra") for source in extras.get(key, [])]
    return Plan(cells, notes)


def mark(points: float, exercise: sheets.Exercise, message: str) -> dict[str, Any]:
    """The mark of an exercise as plain data; no message means that all is right."""
    return {"points": points, "of": exercise.points, "message": message}
