"""The answers in a submitted notebook, with their pictures, read without running anything."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nbformat import NotebookNode

from advtransfer.classroom.plan import content, texts_of
from advtransfer.classroom.sheets import exercises

PICTURES = ("image/png", "image/jpeg", "image/gif", "image/svg+xml")
LETTERS = str.maketrans("0123456789abcdef", "bcdfghjklmnpqrst")


class Answer(NamedTuple):
    """A Markdown cell, and what belongs to it."""

    text: str
    attachments: dict[str, tuple[str, str]]
    """The pictures pasted into the cell, by name: type and content in base64."""
    figures: list[tuple[str, str]]
    """The pictures that the code cells above it show, back to the previous answer: type and content in base64."""


def read(path: Path, original: NotebookNode) -> dict[str, Answer]:
    """The written answers in a file, by name (see `written`); none if it cannot be read."""
    try:
        return written(content(path), original)
    except (OSError, ValueError):
        return {}


def written(notebook: bytes, original: NotebookNode) -> dict[str, Answer]:
    """The written answers of a notebook, by name, given what is in its file; none if it is not a notebook.

    Of two cells with one name the first counts. A Markdown cell of the student's own below an answer belongs to it, up
    to the next cell that has a name from the sheet; elsewhere it belongs to the next answer.
    """
    try:
        cells = json.loads(notebook)["cells"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    found: dict[str, Answer] = {}
    figures: list[tuple[str, str]] = []
    names = {cell.metadata.nbgrader.grade_id for cell in original.cells if "nbgrader" in cell.metadata}
    asked = {exercise.key for exercise in exercises(original) if exercise.written}
    given, last = texts_of(original), None
    before = Answer("", {}, [])  # what stands above an answer
    for cell in _dicts(cells):
        key = _dict(_dict(cell.get("metadata")).get("nbgrader")).get("grade_id")
        source = _text(cell.get("source"))
        named = isinstance(key, str) and key in names
        if named:
            names.remove(key)
            last = None
        if cell.get("cell_type") == "code" and not (named and key in asked):
            shown = [_dict(output.get("data")) for output in _dicts(cell.get("outputs"))]
            figures += [picture for data in shown if (picture := _picture(data))]
            continue
        pasted = {name: _picture(_dict(data)) for name, data in _dict(cell.get("attachments")).items()}
        pictures = {name: picture for name, picture in pasted.items() if picture}
        if named:
            if key in asked:
                found[key], last = _joined(before, Answer(source, pictures, figures)), key
                before = Answer("", {}, [])
            figures = []
        elif source.strip() not in given | {""}:
            own = Answer(source, pictures, [])
            if last is None:
                before = _joined(before, own)
            else:
                found[last] = _joined(found[last], own)
    return found


def _joined(first: Answer, second: Answer) -> Answer:
    """Two cells as one; of two pictures with one name, that of the second gets another."""
    text, pictures = second.text, dict(second.attachments)
    for name in set(pictures) & set(first.attachments):
        new = f"{len(first.attachments)}-{name}"
        pictures[new] = pictures.pop(name)
        text = text.replace(f"attachment:{name}", f"attachment:{new}")
    both = "\n\n".join(filter(None, (first.text, text)))
    return Answer(both, first.attachments | pictures, first.figures + second.figures)


def versions(answers: Mapping[str, Answer], original: NotebookNode, sha256: str) -> dict[str, str]:
    """A short name for each answer of a notebook, by exercise; it changes when the answer changes.

    A written answer is its text and its pictures; an answer with tests is the whole notebook, because its
    functions may use each other. The names are letters only, so that no spreadsheet takes them for numbers or dates.

    Parameters
    ----------
    answers
        The written answers of the notebook, as `read` gives them.
    original : NotebookNode
        The instructor edition.
    sha256 : str
        Checksum of the file.
    """
    found = {}
    for exercise in exercises(original):
        if exercise.written and exercise.key in answers:
            answer = answers[exercise.key]
            text = json.dumps([answer.text, answer.attachments], sort_keys=True)
            found[exercise.key] = _short(hashlib.sha256(text.encode()).hexdigest())
        elif not exercise.written:
            found[exercise.key] = _short(sha256)
    return found


def _short(checksum: str) -> str:
    return checksum[:8].translate(LETTERS)


def _picture(data: Mapping[str, Any]) -> tuple[str, str] | None:
    for kind in PICTURES:
        if picture := _text(data.get(kind)):
            return kind, picture
    return None


def _text(value: Any) -> str:
    """A text of a notebook, which may be split into lines."""
    parts = value if isinstance(value, list) else [value]
    return "".join(part for part in parts if isinstance(part, str))


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    return (member for member in value if isinstance(member, dict)) if isinstance(value, list) else iter(())
