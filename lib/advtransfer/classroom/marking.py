"""A page on which a person marks the written answers, and the import of what it saves.

The page is one file. It loads nothing, and the only script that may run in it is its own.
"""

import base64
import datetime
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from nbformat import NotebookNode

from advtransfer.classroom import answers, gradebook, handed_in, marks
from advtransfer.classroom.feedback import PAGES
from advtransfer.classroom.rendering import figures, rendered
from advtransfer.classroom.sheets import exercises
from advtransfer.records.storage import replacing

SCRIPT = Path(__file__).parent / "templates" / "marking.js"


class Taken(NamedTuple):
    """What `take` has changed: marks as (student, exercise)."""

    new: list[tuple[str, str]]
    other: list[tuple[str, str]]
    """Those that were different before."""
    gone: list[tuple[str, str]]
    """Those that the new file lacks."""
    kept: Path | None
    """Where the earlier ``marks.csv`` is kept; None if there was none, or it was the same."""


def write_page(folder: Path, original: NotebookNode, title: str, command: str) -> Path:
    """Write ``marking.html``: every written answer with its pictures beside boxes for points and a comment.

    Parameters
    ----------
    folder : Path
        The folder of the class and the assignment, after grading.
    original : NotebookNode
        The instructor edition.
    title : str
        Title of the assignment.
    command : str
        What to run with the file that the page saves.

    Raises
    ------
    ValueError
        Nothing has been graded yet, or ``marks.csv`` is not as expected.
    """
    gradebook.check_graded(folder)
    results = gradebook.results(folder)
    old = set(marks.changed(gradebook.marked(folder, original), gradebook.versions(folder)))
    notebooks = handed_in.found(folder).notebooks
    read = {student: answers.read(notebooks[student], original) if student in notebooks else {} for student in results}
    sections: list[Any] = []
    for exercise in exercises(original):
        if exercise.written:
            lines = []
            for student, result in results.items():
                shown = read[student].get(exercise.key, answers.Answer("", {}, []))
                version = result.get("versions", {}).get(exercise.key, "")
                text = rendered(shown) or "<p><em>There is no answer.</em></p>"
                lines.append((student, text, figures(shown), version, (student, exercise.key) in old))
            sections.append((exercise, lines))
    sections.append((gradebook.WHOLE, [(student, "", "", "", False) for student in results]))
    table = marks.read_table(folder / "marks.csv")
    cells = {"header": table.header, "rows": [row for _, row in table.rows]}
    key = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()
    data = json.dumps(cells | {"key": f"marks-{key[:16]}"}).replace("<", "\\u003c")  # no tag can end the script
    script = SCRIPT.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values = {
        "title": title,
        "sections": sections,
        "data": data,
        "script": script,
        "digest": digest,
        "command": command,
    }
    path = folder / "marking.html"
    with replacing(path) as draft:
        text = PAGES.get_template("marking.html").render(values)
        draft.write_text(text, encoding="utf-8", errors="xmlcharrefreplace", newline="\n")
    return path


def take(folder: Path, original: NotebookNode, file: Path) -> Taken:
    """Put a file of marks in the place of ``marks.csv``, which is kept in ``earlier``.

    Parameters
    ----------
    folder : Path
        The folder of the class and the assignment.
    original : NotebookNode
        The instructor edition.
    file : Path
        What the page has saved, or a spreadsheet.

    Raises
    ------
    ValueError
        The file is missing or not as expected; then nothing is changed.
    """
    if not file.is_file():
        raise ValueError(f"there is no file {file}; expected the marks.csv that the page has saved")
    students = set(gradebook.results(folder)) | set(handed_in.found(folder).notebooks)
    new = marks.read(file, exercises(original), students)
    path, content, kept = folder / "marks.csv", file.read_bytes(), None
    try:
        old = gradebook.marked(folder, original)
    except ValueError:  # what is replaced may be broken; it is kept all the same
        old = {}
    if path.is_file() and path.read_bytes() != content:
        now = datetime.datetime.now()
        kept = folder / "earlier" / f"marks {now:%Y-%m-%d %H-%M-%S-%f}.csv"
        with replacing(kept) as draft:
            draft.write_bytes(path.read_bytes())
    with replacing(path) as draft:
        draft.write_bytes(content)
    return Taken(
        new=[key for key in new if key not in old],
        other=[key for key in new if key in old and new[key] != old[key]],
        gone=[key for key in old if key not in new],
        kept=kept,
    )
