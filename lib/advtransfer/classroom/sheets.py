"""Assignments: their sources, and the editions that are made from them."""

import ast
import re
from pathlib import Path
from typing import Literal, NamedTuple

import jupytext
import nbformat
from nbformat import NotebookNode

from advtransfer.extras import require
from advtransfer.records import shipped

SOURCES = shipped.assignments()
LIBRARY = Path(__file__).parents[1]
EDITIONS = ("student", "instructor", "solutions")
Role = Literal["locked", "answer", "test", "written"]
HIDDEN = re.compile(r"^[ \t]*### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS[^\n]*\n?", re.S | re.M)
SOLUTION = re.compile(r"^[ \t]*### BEGIN SOLUTION.*?### END SOLUTION[^\n]*\n?", re.S | re.M)
MARKER = re.compile(r"^[ \t]*### (?:BEGIN|END) SOLUTION[^\n]*\n?", re.M)
INSTALL = '"{{install}}"'  # stands in the first cell for the command that installs the library


class Exercise(NamedTuple):
    """An exercise, which gives points."""

    key: str
    """The nbgrader `grade_id`."""
    title: str
    points: float
    written: bool
    """Whether a person marks it; otherwise tests do."""
    shows: str
    """What a full answer shows."""
    tests: str
    """The source of the test cell; empty for a written answer."""
    builds_on: tuple[str, ...] = ()
    """Keys of exercises whose answers this one may call."""


def source(name: str) -> Path:
    """The instructor source of an assignment.

    Raises
    ------
    ValueError
        There is no assignment of that name; the message lists all.
    """
    path = SOURCES / f"{name}.md"
    if not path.is_file():
        raise ValueError(f"there is no assignment {name!r} in {SOURCES}; expected one of {', '.join(names())}")
    return path


def names() -> list[str]:
    """The names of all assignments, in order."""
    return sorted(path.stem for path in SOURCES.glob("*.md"))


def read(path: Path) -> NotebookNode:
    """The instructor edition of a source.

    Raises
    ------
    ValueError
        A graded cell without points, title or what a full answer shows; a `grade_id` that is used twice; a test that
        is not Python; or an exercise or a module of the library that is named and does not exist.
    """
    notebook = jupytext.read(path)
    keys = [cell.metadata.nbgrader.grade_id for cell in notebook.cells if "nbgrader" in cell.metadata]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise ValueError(
            f"{path}: the grade_id {', '.join(sorted(twice))} is used twice; expected a name for each cell"
        )
    for cell in notebook.cells:
        about = cell.metadata.get("exercise", {})
        if role(cell) in ("test", "written") and not (about.get("title") and about.get("shows")):
            raise ValueError(
                f"{path}: {cell.metadata.nbgrader.grade_id} lacks `title` or `shows` in its exercise; expected both"
            )
    tested = [exercise for exercise in exercises(notebook) if not exercise.written]
    for exercise in tested:
        try:
            ast.parse(exercise.tests)
        except SyntaxError as error:
            raise ValueError(f"{path}: the test {exercise.key} is not Python ({error})") from None
        if unknown := set(exercise.builds_on) - {other.key for other in tested}:
            known = ", ".join(other.key for other in tested)
            raise ValueError(f"{path}: {exercise.key} builds on {', '.join(sorted(unknown))}; expected some of {known}")
    if missing := [name for name in withheld(notebook) if not (LIBRARY / f"{name}.py").is_file()]:
        raise ValueError(f"{path}: withheld names {', '.join(missing)}; expected modules of the library")
    return notebook


def role(cell: NotebookNode) -> Role:
    """What a cell of an instructor edition is for."""
    about = cell.metadata.get("nbgrader", {})
    if about.get("grade"):
        return "written" if about.get("solution") else "test"
    return "answer" if about.get("solution") else "locked"


def exercises(notebook: NotebookNode) -> list[Exercise]:
    """The exercises of an instructor edition, in order."""
    found = []
    for cell in notebook.cells:
        if (kind := role(cell)) in ("test", "written"):
            about, more = cell.metadata.nbgrader, cell.metadata.exercise
            found.append(
                Exercise(
                    key=about.grade_id,
                    title=more.title,
                    points=about.points,
                    written=kind == "written",
                    shows=" ".join(more.shows.split()),
                    tests=cell.source if kind == "test" else "",
                    builds_on=tuple(more.get("builds_on", ())),
                )
            )
    return found


def for_teacher(cell: NotebookNode) -> bool:
    """Whether a cell is only for the teacher, and so in no edition."""
    return "teacher" in cell.metadata.get("tags", ())


def withheld(notebook: NotebookNode) -> tuple[str, ...]:
    """The modules of the library that do what the sheet asks for; they are hidden while answers are graded."""
    return tuple(notebook.metadata.get("advtransfer", {}).get("withheld", ()))


def edition(path: Path, which: str, *, install: str) -> NotebookNode:
    """An edition of a source.

    Parameters
    ----------
    path : Path
        The instructor source.
    which : {"student", "instructor", "solutions"}
        The student edition has stubs in place of solutions, no hidden tests, and locked cells. The instructor edition
        has all solutions and tests; nbgrader calls it a source. The solutions edition only lacks the hidden tests.
        Cells for the teacher are in no edition, but in `notes`.
    install : str
        What the first cell tells a student to run where the library is missing.

    Raises
    ------
    MissingExtraError
        nbgrader is not installed.
    ValueError
        A line of a solution or of a hidden test is left in the student edition.
    """
    require("classroom", "nbgrader")
    from nbgrader.preprocessors import (
        CheckCellMetadata,
        ClearHiddenTests,
        ClearOutput,
        ClearSolutions,
        ComputeChecksums,
        LockCells,
    )

    original = read(path)
    notebook = nbformat.from_dict(original)
    for cell in notebook.cells:
        cell.source = cell.source.replace(INSTALL, repr(install))
    notebook.metadata = {"kernelspec": original.metadata.kernelspec, "language_info": {"name": "python"}}
    notebook.cells = [cell for cell in notebook.cells if not for_teacher(cell)]
    steps = [CheckCellMetadata, ClearOutput]
    if which != "instructor":
        steps.append(ClearHiddenTests)
    if which == "student":
        steps += [ClearSolutions, LockCells]
    for step in [*steps, ComputeChecksums]:
        notebook, _ = step().preprocess(notebook, {})
    for cell in notebook.cells:
        cell.metadata.pop("exercise", None)
        if which == "solutions":
            cell.source = MARKER.sub("", cell.source)
    if which == "student" and (left := leaks(original, notebook)):
        raise ValueError(f"{path}: the student edition would hold {left[0]!r}; expected no line of an answer or test")
    return notebook


def notes(path: Path) -> str:
    """What is for the teacher alone, in Markdown: the notes of a source, and a table of its exercises."""
    notebook = read(path)
    texts = [cell.source for cell in notebook.cells if for_teacher(cell)]
    lines = ["| exercise | in `marks.csv` | points | marked by | a full answer shows |", "|---|---|---|---|---|"]
    for exercise in exercises(notebook):
        by, shows = "you" if exercise.written else "tests", exercise.shows.replace("|", "\\|")
        lines.append(f"| {exercise.title} | `{exercise.key}` | {exercise.points:g} | {by} | {shows} |")
    return "\n\n".join([f"# {path.stem}", *texts, "\n".join(lines)]) + "\n"


def leaks(original: NotebookNode, student: NotebookNode) -> list[str]:
    """Lines of solutions, hidden tests and teacher's notes that are found in the student edition.

    Lines that the source also shows openly, and lines of fewer than six characters, do not count.
    """
    secret, open_ = set(), set()
    for cell in original.cells:
        if for_teacher(cell) or role(cell) == "written":
            secret |= _lines(cell.source)
            continue
        for pattern in (HIDDEN, SOLUTION):
            secret |= {line for part in pattern.findall(cell.source) for line in _lines(part)}
        open_ |= _lines(SOLUTION.sub("", HIDDEN.sub("", cell.source)))
    secret |= {line for exercise in exercises(original) for line in _lines(exercise.shows)}
    text = nbformat.writes(student)
    return sorted(line for line in secret - open_ if line in text or repr(line)[1:-1] in text)


def _lines(text: str) -> set[str]:
    return {line.strip() for line in text.splitlines() if len(line.strip()) > 5 and not line.strip().startswith("###")}
