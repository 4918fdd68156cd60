"""What a class has handed in and the points that it has earned, in one folder for each assignment.

``submitted/`` holds the notebooks, ``results.json`` the results of the tests, and ``marks.csv`` the marks that a person
has given by hand. Results and marks are kept apart, so that grading again changes no mark.
"""

import csv
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from nbformat import NotebookNode

from advtransfer.classroom import handed_in, marks
from advtransfer.classroom.marks import Mark
from advtransfer.classroom.plan import content
from advtransfer.classroom.sheets import Exercise, exercises
from advtransfer.records.storage import replacing

GRADES = ("student", "points", "of", "bonus", "penalty", "unmarked", "changed")
WHOLE = Exercise(marks.WHOLE, "The whole sheet", 0, written=True, shows="", tests="")


class Row(NamedTuple):
    """What a student has earned in an exercise."""

    exercise: Exercise
    points: float | None
    """With the bonus and without the penalty. None: not marked yet."""
    message: str
    """What the tests or the teacher said."""
    bonus: float = 0.0
    penalty: float = 0.0
    changed: bool = False
    """Whether the answer was changed after a person had marked it."""
    tested: str = ""
    """What the tests said, where their result counts."""

    @property
    def said(self) -> str:
        """The message; "Right." where there is none, and the tests have given all points."""
        full = self.points is not None and self.points >= self.exercise.points > 0
        return self.message or ("Right." if full and not self.exercise.written else "")


def results(folder: Path) -> dict[str, Any]:
    """The results of the tests, by student; empty if nothing was graded."""
    return noted(folder / "results.json")


def noted(path: Path) -> dict[str, Any]:
    """What this library has noted by student in a file of JSON; empty if there is no such file.

    Raises
    ------
    ValueError
        The file is damaged; the message names it.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); expected it as the library wrote it") from None
    if not isinstance(found, dict) or not all(isinstance(about, dict) for about in found.values()):
        raise ValueError(f"{path} is damaged; expected an entry for each student")
    return found


def check_graded(folder: Path) -> None:
    """Raise a `ValueError` if nothing was graded."""
    if not results(folder):
        raise ValueError(f"{folder} has no results; expected `advtransfer classroom grade` to have run")


class Apart(NamedTuple):
    """Students whose result is not that of what lies in ``submitted`` now."""

    ungraded: list[str]
    """Who has no result."""
    changed: list[str]
    """Who has handed in another file since the result."""
    gone: list[str]
    """Who has a result, but no file any more."""
    unread: list[str]
    """Whose file cannot be read or graded as it is."""


def apart(folder: Path) -> Apart:
    """Compare the checksum of every submission with that of its result."""
    known, there = results(folder), handed_in.found(folder).notebooks
    everything = (folder / "submitted").glob("*")
    names = {handed_in.normal(path.name if path.is_dir() else path.stem) for path in everything}
    changed, unread = [], sorted((set(known) & names) - set(there))
    for student, path in there.items():
        was = known.get(student, {})
        try:
            now = hashlib.sha256(content(path)).hexdigest()
        except ValueError:  # too large, or a link
            now = ""
        except OSError:
            unread.append(student)
            continue
        if was.get("exercises") and was.get("sha256", now) != now:
            changed.append(student)
    ungraded = [student for student in there if not known.get(student, {}).get("exercises")]
    return Apart(ungraded, changed, sorted(set(known) - names), unread)


def marked(folder: Path, original: NotebookNode) -> dict[tuple[str, str], Mark]:
    """The marks given by hand, by (student, exercise).

    A mark for an exercise with tests replaces the result of the tests.

    Raises
    ------
    ValueError
        A line of ``marks.csv`` is not as expected; the message gives its number.
    """
    students = set(results(folder)) | set(handed_in.found(folder).notebooks)
    return marks.read(folder / "marks.csv", exercises(original), students)


def rows(folder: Path, original: NotebookNode) -> dict[str, list[Row]]:
    """What every student has earned, exercise by exercise: the mark given by hand, or else the result of the tests.

    If anybody has a bonus, a penalty or a comment for the whole sheet, everybody's last row is about that.
    """
    given = marked(folder, original)
    old = set(marks.changed(given, versions(folder)))
    listed = exercises(original) + [WHOLE] * any(key == marks.WHOLE for _, key in given)

    def row(student: str, result: Mapping[str, Any], exercise: Exercise) -> Row:
        mark = given.get((student, exercise.key), Mark(None, 0.0, 0.0, "", ""))
        found = result["exercises"].get(exercise.key)
        tested = ""
        if exercise is WHOLE:
            points, message = 0.0, ""
        elif mark.points is not None:
            points, message = mark.points, ""
        elif exercise.written:
            points, message = None, "Not marked yet."
        else:
            points, message = (found["points"], found["message"]) if found else (None, "Grade again.")
            tested = message if found else ""
        extra = [f"{name.capitalize()}: {value:g}." for name, value in _extra(mark) if value]
        message = " ".join([*filter(None, (message, mark.comment)), *extra])
        if points is not None:
            points += mark.bonus - mark.penalty
        return Row(exercise, points, message, mark.bonus, mark.penalty, (student, exercise.key) in old, tested)

    return {
        student: [row(student, result, exercise) for exercise in listed] for student, result in results(folder).items()
    }


def total(earned: Iterable[Row]) -> float:
    """The points so far; penalties never make them negative."""
    return max(0.0, sum(row.points or 0 for row in earned))


def most(earned: Iterable[Row]) -> float:
    """The points that these exercises give at most, without a bonus."""
    return sum(row.exercise.points for row in earned)


def write_grades(folder: Path, original: NotebookNode) -> Path:
    """Write ``grades.csv`` for the registrar: a line for each student, with the columns `GRADES`.

    ``points`` include the bonus and the penalty; ``unmarked`` counts the exercises without a mark, and ``changed`` the
    marks whose answer has changed since.
    """
    with replacing(folder / "grades.csv") as draft, draft.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(GRADES)
        for student, earned in rows(folder, original).items():
            sums = [total(earned), most(earned), sum(row.bonus for row in earned), sum(row.penalty for row in earned)]
            counts = [sum(row.points is None for row in earned), sum(row.changed for row in earned)]
            writer.writerow([student, *(f"{value:g}" for value in [*sums, *counts])])
    return folder / "grades.csv"


def hand_over(folder: Path) -> None:
    """Give what root has written into `folder` to the owner of the folder, who can then change and save it.

    If root has made the folder as well, the owner is that of the nearest folder above that belongs to another user, and
    the folders between them go to that user, too. Does nothing for other users. Links are not followed.
    """
    if os.name != "posix" or os.geteuid() != 0 or not folder.is_dir():
        return
    above = list(takewhile(lambda place: place.stat().st_uid == 0, (folder.resolve(), *folder.resolve().parents)))
    if len(above) > len(folder.resolve().parents):  # all of it is root's
        return
    owner = (above[-1].parent if above else folder).stat()
    inside = [Path(place, name) for place, folders, files in os.walk(folder) for name in [*folders, *files]]
    for path in [*above, *inside]:
        about = path.lstat()
        if about.st_uid == 0 and (stat.S_ISDIR(about.st_mode) or about.st_nlink == 1):  # in no other place, too
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def versions(folder: Path) -> dict[str, dict[str, str]]:
    """The `answers.versions` of the last grading, by student and exercise."""
    return {student: result.get("versions", {}) for student, result in results(folder).items()}


def _extra(mark: Mark) -> tuple[tuple[str, float], ...]:
    return ("bonus", mark.bonus), ("penalty", mark.penalty)
