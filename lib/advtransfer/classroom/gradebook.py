"""What a class has handed in and the points that it has earned, in one folder for each assignment.

``submitted/`` holds the notebooks, ``results.json`` the results of the tests, and ``marks.csv`` the marks that a person
has given by hand. Results and marks are kept apart, so that grading again changes no mark.
"""

import csv
import datetime
import io
import json
import math
import re
import secrets
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from nbformat import NotebookNode

from advtransfer.classroom.grading import LIMITS, Limits, grade
from advtransfer.classroom.sheets import Exercise, exercises
from advtransfer.records.storage import replacing

COLUMNS = ("student", "exercise", "of", "points", "comment")
STUDENT = re.compile(r"\w[\w.@+ -]*")


class Row(NamedTuple):
    """What a student has earned in an exercise."""

    exercise: Exercise
    points: float | None
    """None: not marked yet."""
    message: str
    """What the tests or the teacher said."""


def submissions(folder: Path) -> dict[str, Path]:
    """The notebooks handed in, by student: ``submitted/STUDENT.ipynb``, or ``submitted/STUDENT/NAME.ipynb``.

    Raises
    ------
    ValueError
        There are none, or a name is not safe in tables and file names, or a student has two.
    """
    by_student: dict[str, Path] = {}
    for path in sorted((folder / "submitted").glob("*")):
        notebooks = sorted(path.glob("*.ipynb")) if path.is_dir() else [path]
        student = path.name if path.is_dir() else path.stem
        if not STUDENT.fullmatch(student):
            raise ValueError(f"{path}: the student is {student!r}; expected letters, digits, spaces and . @ + - _")
        if len(notebooks) != 1 or student in by_student:
            raise ValueError(f"{path}: {len(notebooks)} notebooks for {student}; expected one file or folder with one")
        by_student[student] = notebooks[0]
    if not by_student:
        raise ValueError(f"nothing is in {folder / 'submitted'}; expected STUDENT.ipynb or STUDENT/NAME.ipynb")
    return by_student


def grade_class(
    folder: Path,
    original: NotebookNode,
    *,
    seed: int,
    students: Iterable[str] = (),
    jobs: int = 1,
    limits: Limits = LIMITS,
    safe: bool = True,
) -> dict[str, Any]:
    """Grade the submissions in `folder`: write ``results.json``, and list what needs a mark in ``marks.csv``.

    Parameters
    ----------
    folder : Path
        The folder of the class and the assignment.
    original : NotebookNode
        The instructor edition.
    seed : int
        Seed of the tests' inputs, the same for all students.
    students
        Grade only these; the results of the others stay. By default all are graded.
    jobs : int
        Number of submissions at a time.
    limits, safe
        As for `sandbox.Submission`.

    Returns
    -------
    dict
        The results of this call, by student.

    Raises
    ------
    ValueError
        The submissions are not as described, or a student has none.
    """
    paths = submissions(folder)
    chosen = list(students) or list(paths)
    if strangers := [student for student in chosen if student not in paths]:
        raise ValueError(f"{', '.join(strangers)} handed nothing in; expected one of {', '.join(paths)}")
    marks(folder, original)  # a mistake in the file is reported before the long work

    def one(student: str) -> dict[str, Any]:
        graded = {"graded": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "seed": seed}
        return graded | grade(paths[student], original, seed=seed, limits=limits, safe=safe)

    with ThreadPoolExecutor(jobs) as pool:
        new = dict(zip(chosen, pool.map(one, chosen), strict=True))
    with replacing(folder / "results.json") as draft:
        text = json.dumps(results(folder) | new, indent=1, ensure_ascii=True, sort_keys=True)
        draft.write_text(text, encoding="utf-8")
    _invite(folder, original)
    return new


def seed_of(folder: Path) -> int:
    """The seed with which the class was graded before, so that grading again is fair; or a new one, known to nobody."""
    before = [result["seed"] for result in results(folder).values()]
    return before[0] if before else secrets.randbits(32)


def results(folder: Path) -> dict[str, Any]:
    """The results of the tests, by student; empty if nothing was graded."""
    path = folder / "results.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def marks(folder: Path, original: NotebookNode) -> dict[tuple[str, str], tuple[float, str]]:
    """The marks given by hand, by (student, exercise): points and a comment. Rows without points are not marked yet.

    A mark for an exercise with tests replaces the result of the tests.

    Raises
    ------
    ValueError
        A line of ``marks.csv`` is not as expected; the message gives its number.
    """
    path, given = folder / "marks.csv", {}
    most = {exercise.key: exercise.points for exercise in exercises(original)}
    if not path.is_file():
        return {}
    for number, row in enumerate(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))), 2):
        if set(COLUMNS) - set(row):
            raise ValueError(f"{path}: the columns are {', '.join(row)}; expected {', '.join(COLUMNS)}")
        if not (row["points"] or "").strip():
            continue
        try:
            points = float(row["points"].replace(",", "."))
        except ValueError:
            points = math.nan
        if row["exercise"] not in most or not 0 <= points <= most[row["exercise"]]:
            raise ValueError(
                f"{path}, line {number}: {row['points']!r} points for {row['exercise']!r}; expected an exercise of the "
                f"assignment, and 0 to {most.get(row['exercise'], 0):g}"
            )
        given[row["student"], row["exercise"]] = points, row["comment"] or ""
    return given


def _invite(folder: Path, original: NotebookNode) -> None:
    """Add an empty row to ``marks.csv`` for each written answer that has none; existing rows stay."""
    path = folder / "marks.csv"
    old = path.read_text(encoding="utf-8-sig") if path.is_file() else ",".join(COLUMNS) + "\n"
    there = {(row["student"], row["exercise"]) for row in csv.DictReader(io.StringIO(old))}
    text = io.StringIO()
    text.write(old if old.endswith("\n") else old + "\n")
    writer = csv.writer(text, lineterminator="\n")
    for student in results(folder):
        for exercise in exercises(original):
            if exercise.written and (student, exercise.key) not in there:
                writer.writerow([student, exercise.key, f"{exercise.points:g}", "", ""])
    with replacing(path) as draft:
        draft.write_text(text.getvalue(), encoding="utf-8")


def rows(folder: Path, original: NotebookNode) -> dict[str, list[Row]]:
    """What every student has earned, exercise by exercise: the mark given by hand, or else the result of the tests."""
    marked = marks(folder, original)

    def row(student: str, result: Mapping[str, Any], exercise: Exercise) -> Row:
        if (student, exercise.key) in marked:
            return Row(exercise, *marked[student, exercise.key])
        if exercise.written:
            return Row(exercise, None, "Not marked yet.")
        found = result["exercises"].get(exercise.key)
        return Row(exercise, found["points"], found["message"]) if found else Row(exercise, None, "Grade again.")

    return {
        student: [row(student, result, exercise) for exercise in exercises(original)]
        for student, result in results(folder).items()
    }


def total(earned: Iterable[Row]) -> float:
    """The points so far."""
    return sum(row.points or 0 for row in earned)


def write_grades(folder: Path, original: NotebookNode) -> Path:
    """Write ``grades.csv`` for the registrar: student, points, most possible points, and number of missing marks."""
    with replacing(folder / "grades.csv") as draft, draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["student", "points", "of", "unmarked"])
        for student, earned in rows(folder, original).items():
            most = sum(row.exercise.points for row in earned)
            open_ = sum(row.points is None for row in earned)
            writer.writerow([student, f"{total(earned):g}", f"{most:g}", open_])
    return folder / "grades.csv"
