"""Points in the tables that learning management systems take: Moodle's grading worksheet and Canvas' gradebook.

What the systems look for was read in their source: Moodle's ``mod/assign/feedback/offline`` and Canvas'
``lib/gradebook_importer.rb``.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from advtransfer.classroom import marks
from advtransfer.records.storage import replacing

MOODLE = ("Identifier", "Full name", "Grade", "Maximum Grade", "Last modified (grade)")
CANVAS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")
POSSIBLE = "Points Possible"
FORMULA = "=+-@ \t"  # with which a name would be a formula in a spreadsheet

Cells = list[list[str]]


def moodle(
    points: Mapping[str, float], names: Mapping[str, str], most: float, table: Path | None
) -> tuple[Cells, set[str]]:
    """The cells of a grading worksheet, and the numbers of those who are not in `table`.

    In a given table, only the column Grade changes, and only for the students in `points`. Without one, the cells have
    no column for comments: an empty one would delete the comments that are in Moodle.

    Parameters
    ----------
    points, names : mapping
        By the student's number in Moodle.
    most : float
        The most points that the assignment gives.
    table : Path or None
        The worksheet from Moodle.

    Raises
    ------
    ValueError
        The table is not a worksheet, or Moodle's maximum is different.
    """
    if table is None:
        rows = [
            [f"Participant {number}", names[number].lstrip(FORMULA), f"{points[number]:g}", f"{most:g}", "-"]
            for number in points
        ]
        return [list(MOODLE), *rows], set()
    cells = _read(table)
    identifier, grade = (_place(table, cells[0], name) for name in ("Identifier", "Grade"))
    maximum = [i for i, name in enumerate(cells[0]) if name.strip().lower() == "maximum grade"]
    left = set(points)
    for row in cells[1:]:
        number = re.findall(r"[0-9]+$", row[identifier].strip())
        if number and number[0] in points:
            _same(table, most, *(row[i] for i in maximum))
            row[grade] = f"{points[number[0]]:g}"
            left.discard(number[0])
    return cells, left


def canvas(
    points: Mapping[str, float], names: Mapping[str, str], most: float, table: Path | None, column: str
) -> tuple[Cells, set[str]]:
    """The cells of a gradebook with the column of one assignment, and the numbers of those who are not in `table`.

    There are rows only for the students in `points`, because Canvas would take an empty cell as an order to delete.

    Parameters
    ----------
    points, names : mapping
        By the student's number in Canvas.
    most : float
        The most points that the assignment gives.
    table : Path or None
        The gradebook from Canvas.
    column : str
        Title of the assignment in Canvas, with or without its number in parentheses.

    Raises
    ------
    ValueError
        The table is not a gradebook, has no such column or several, or Canvas' maximum is different.
    """
    if table is None:
        known = [number for number in points if number.isdecimal()]  # an anonymous student has a code instead
        rows = [[names[number], number, "", "", "", f"{points[number]:g}"] for number in known]
        return [[*CANVAS, column], [f"    {POSSIBLE}", "", "", "", "", f"{most:g}"], *rows], set(points) - set(known)
    cells = _read(table)
    number, section = (_place(table, cells[0], name) for name in ("ID", "Section"))
    titles = {name: re.sub(r" \([0-9]+\)$", "", name) for name in cells[0][section + 1 :]}
    chosen = [name for name, title in titles.items() if column in (name, title)]
    if len(chosen) != 1:
        raise ValueError(
            f"{table} has {len(chosen)} columns {column!r}; expected one: name it with --column "
            f"({', '.join(repr(name) for name in titles)})"
        )
    at, left, kept = cells[0].index(chosen[0]), set(points), [[*cells[0][: section + 1], chosen[0]]]
    for row in cells[1:]:
        if POSSIBLE in row[0]:
            _same(table, most, row[at])
        elif row[number].strip() in points:
            row[at] = f"{points[row[number].strip()]:g}"
            left.discard(row[number].strip())
        elif any(cell.strip() for cell in row[: section + 1]):  # another student; a row about posting has no name
            continue
        kept.append([*row[: section + 1], row[at]])
    return kept, left


def write(path: Path, cells: Sequence[Sequence[str]]) -> Path:
    """Write a table as both systems read it: commas, UTF-8, and no mark before the first column."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(cells)
    with replacing(path) as draft:
        draft.write_text(text.getvalue(), encoding="utf-8", newline="")
    return path


def _read(path: Path) -> Cells:
    """The cells of a table; all rows have as many as the first."""
    text = marks.decoded(path)
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        cells = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    except csv.Error as error:
        raise ValueError(f"{path}: {error}; expected the table as you downloaded it") from None
    if not cells:
        raise ValueError(f"{path} is empty; expected the table as you downloaded it")
    return [[*row, *[""] * len(cells[0])][: len(cells[0])] for row in cells]


def _place(path: Path, header: Sequence[str], name: str) -> int:
    if name not in header:
        raise ValueError(f"{path} has the columns {', '.join(header)}, and not {name}; expected the table in English")
    return header.index(name)


def _same(path: Path, most: float, *maxima: str) -> None:
    """The system's maximum must be ours, for it keeps points and not percentages."""
    for text in maxima:
        try:
            agrees = marks.number(text) in (None, most)
        except ValueError:
            agrees = False
        if not agrees:
            raise ValueError(f"{path}: the assignment gives {text} points at most; expected {most:g}: change it there")
