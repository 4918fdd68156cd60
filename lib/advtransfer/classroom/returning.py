"""Give marks and feedback back: a zip file for each student, or one that a learning management system takes."""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from nbformat import NotebookNode

from advtransfer.classroom import collecting, gradebook, handed_in, uploads
from advtransfer.classroom.gradebook import Row
from advtransfer.classroom.layouts import PAGE
from advtransfer.records.storage import replacing

SYSTEMS = ("moodle", "canvas")
SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>$~&])")  # what Markdown may take for something else than text


class Returned(NamedTuple):
    """What a call of `give_back` has done."""

    written: list[Path]
    students: list[str]
    """Who gets something back."""
    left_out: list[str]
    """One line for each student who gets nothing or not everything, with the reason."""


def give_back(
    folder: Path,
    original: NotebookNode,
    assignment: str,
    *,
    system: str | None = None,
    table: Path | None = None,
    column: str | None = None,
) -> Returned:
    """Write what goes back to the students.

    A student with an answer that is not marked yet, or was changed after it had been marked, is left out, and so is
    one who has handed in a file that is not graded yet.

    Without a system, ``returned/STUDENT.zip`` holds the page of feedback and the notebook. For Moodle,
    ``return-moodle.zip`` holds the pages in folders by which Moodle knows the students. Canvas gives a returned file
    the name of the one handed in, so ``return-canvas.zip`` holds a notebook with the feedback for each.
    ``grades-SYSTEM.csv`` has the points in the system's own columns.

    Parameters
    ----------
    folder : Path
        The folder of the class and the assignment, in which the pages of feedback are.
    original : NotebookNode
        The instructor edition.
    assignment : str
        Name of the assignment.
    system : {"moodle", "canvas"}, optional
        The system from which the submissions were collected.
    table : Path, optional
        The system's table, as you downloaded it: Moodle's grading worksheet, or Canvas' gradebook. The points
        are filled in.
    column : str, optional
        The title of the assignment in Canvas, if it has another name there.

    Raises
    ------
    ValueError
        Nothing was graded, nobody is marked completely, nobody was collected from the system, or the table is not as
        expected.
    """
    gradebook.check_graded(folder)
    earned, roster = gradebook.rows(folder, original), collecting.read_roster(folder)
    if system and not any(about.get("system") == system for about in roster.values()):
        raise ValueError(
            f"{folder}: nobody was collected from {system.capitalize()}; expected `advtransfer classroom collect` to "
            "have read its zip file, or no --for"
        )
    apart = gradebook.apart(folder)
    ready, left_out = {}, [f"{student}: not graded yet" for student in apart.ungraded]
    for student, rows in earned.items():
        unmarked = [row.exercise.key for row in rows if row.points is None]
        old = [row.exercise.key for row in rows if row.changed]
        about = roster.get(student, {})
        if student in apart.changed:
            left_out.append(f"{student}: handed in again after grading")
        elif student in apart.unread:
            left_out.append(f"{student}: the file handed in cannot be read")
        elif unmarked:
            left_out.append(f"{student}: no mark for {', '.join(unmarked)}")
        elif old:
            left_out.append(f"{student}: the mark for {', '.join(old)} is that of an earlier answer")
        elif system and about.get("system") != system:
            left_out.append(f"{student}: was not collected from {system.capitalize()}")
        else:
            ready[student] = rows
    if not ready:
        raise ValueError(f"nothing can go back from {folder}: {'; '.join(left_out)}")
    if system is None:
        return Returned([_for_students(folder, ready, assignment)], list(ready), left_out)
    most = gradebook.most(next(iter(ready.values())))
    points = {roster[student]["id"]: gradebook.total(rows) for student, rows in ready.items()}
    names = {roster[student]["id"]: roster[student]["name"] for student in ready}
    if system == "moodle":
        cells, strangers = uploads.moodle(points, names, most, table)
    else:
        cells, strangers = uploads.canvas(points, names, most, table, column or assignment)
    grades = uploads.write(folder / f"grades-{system}.csv", cells)
    with replacing(folder / f"return-{system}.zip") as draft, _zip(draft) as zip_:
        for student, rows in ready.items():
            page = folder / "feedback" / f"{student}.html"
            content = page.read_bytes() if system == "moodle" else _as_notebook(assignment, student, rows)
            zip_.writestr(roster[student]["back"], content)
    for student, rows in ready.items():
        if roster[student]["id"] in strangers:
            left_out.append(f"{student}: no points in {grades}: is not in {table or 'a gradebook under a number'}")
        elif system == "moodle" and gradebook.total(rows) > most:
            left_out.append(f"{student}: Moodle takes at most {most:g} points, and not {gradebook.total(rows):g}")
    return Returned([folder / f"return-{system}.zip", grades], list(ready), left_out)


def _zip(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False)  # some files are dated before 1980


def _for_students(folder: Path, ready: Mapping[str, list[Row]], assignment: str) -> Path:
    """A folder with a zip file for each student."""
    notebooks = handed_in.found(folder).notebooks
    with replacing(folder / "returned") as draft:
        draft.mkdir()
        for student in ready:
            with _zip(draft / f"{student}.zip") as zip_:
                zip_.write(folder / "feedback" / f"{student}.html", f"{assignment}/{PAGE}")
                if student in notebooks:
                    zip_.write(notebooks[student], f"{assignment}/{assignment}.ipynb")
    return folder / "returned"


def _as_notebook(assignment: str, student: str, rows: list[Row]) -> bytes:
    """The feedback as a notebook of one Markdown cell, in which all words are shown as text."""
    earned = f"{gradebook.total(rows):g} of {gradebook.most(rows):g} points"
    lines = [f"# {_text(assignment)}: {_text(student)}", f"**{earned}**"]
    for row in rows:
        points = f"{row.points:g} of {row.exercise.points:g}" if row.exercise.points else f"{row.points:+g}"
        lines.append(f"- **{_text(row.exercise.title)}**: {points}. {_text(row.said)}".strip())
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("\n\n".join(lines), id="feedback")])
    return nbformat.writes(notebook).encode("utf-8", errors="replace")


def _text(words: Any) -> str:
    return SPECIAL.sub(r"\\\1", " ".join(str(words).split()))
