"""Submissions for the tests of the classroom: solved sheets, and what can be wrong with them."""

import copy
import hashlib
from functools import cache
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from advtransfer.classroom import answers, sheets
from advtransfer.classroom.grading import Grader

SOURCES = Path(__file__).parents[1] / "notebooks" / "assignments"
NAMES = sheets.names()


@cache
def original(name: str) -> NotebookNode:
    """The instructor edition of an assignment, which nobody changes."""
    return sheets.read(SOURCES / f"{name}.md")


def solved(name: str, **answers: str) -> NotebookNode:
    """The sheet with all answers, of which those in `answers` (`grade_id` with _ for -) are replaced."""
    notebook = copy.deepcopy(original(name))
    for cell in notebook.cells:
        key = cell.metadata.get("nbgrader", {}).get("grade_id", "").replace("-", "_")
        cell.source = answers.pop(key, sheets.MARKER.sub("", cell.source))
    assert not answers, f"no such cells: {answers}"
    return notebook


def functions(name: str, **answers: str) -> dict:
    """The names that the locked cells and the answers of a solved sheet define, in this process."""
    names: dict = {}
    for cell in solved(name, **answers).cells:
        if cell.cell_type == "code" and "nbgrader" in cell.metadata and sheets.role(cell) in ("locked", "answer"):
            exec(cell.source, names)
    return names


def write(notebook: NotebookNode, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def grade(*arguments, **options) -> dict:
    """The result of one submission."""
    with Grader() as grader:
        return grader.grade(*arguments, **options)


def graded_as(monkeypatch, made: dict) -> None:
    """Let every submission get the result `made`, without being run."""

    def made_up(self, path, sheet, **options):
        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
        versions = answers.versions(answers.read(path, sheet), sheet, made["sha256"])
        return made | {"versions": versions, "sha256": checksum}

    monkeypatch.setattr(Grader, "grade", made_up)


def stubbed(name: str, **answers: str) -> NotebookNode:
    """The sheet with every answer empty but those given."""
    empty = {
        cell.metadata.nbgrader.grade_id.replace("-", "_"): ""
        for cell in original(name).cells
        if sheets.role(cell) == "answer"
    }
    return solved(name, **empty | answers)


def _changed(change) -> str:
    notebook = solved("1-pgd")
    cells = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in notebook.cells}
    change(notebook, cells)
    return nbformat.writes(notebook)


PGD = """
def pgd(model, x, y, eps, steps, step_size):
    {first}
    delta = torch.zeros_like(x)
    for _ in range(steps):
        delta = project(x, delta + step_size * input_gradient(model, x + delta, y).sign(), eps)
    return delta
"""


def odd_class() -> dict[str, tuple[str, float]]:
    """Submissions to the first assignment that are odd in a way of their own: content, and the points due (of 17)."""

    def solution(**answers: str) -> str:
        return nbformat.writes(solved("1-pgd", **answers))

    def extra(code: str) -> str:
        return _changed(lambda notebook, cells: notebook.cells.insert(3, nbformat.v4.new_code_cell(code)))

    return {
        "perfect": (solution(), 17),
        "empty file": ("", 0),
        "not a notebook": ("%PDF-1.7\x00 ...", 0),
        "another JSON": ('{"cells": [1, {"metadata": []}]}', 0),
        "nothing answered": (nbformat.writes(stubbed("1-pgd")), 0),
        "no projection": (solution(project="raise NotImplementedError()"), 7),
        "no gradient": (solution(input_gradient=""), 3),
        "no pgd": (solution(pgd=""), 10),
        "no l2": (solution(pgd_l2=""), 13),
        "no curve": (solution(success_curve=""), 14),
        "syntax error": (solution(project="def project(x, delta, eps)\n    return delta"), 7),
        "endless cell": (solution(pgd="while True: pass"), 10),
        "endless function": (solution(pgd=PGD.format(first="while True: pass")), 10),
        "memory bomb": (solution(pgd=PGD.format(first="hoard = bytearray(1 << 33)")), 10),
        "memory bomb beside": (extra("hoard = bytearray(1 << 33)"), 17),
        "1 GB of output": (solution(pgd="for _ in range(1000):\n    print('x' * 10**6)\n" + PGD.format(first="")), 17),
        "magics": (extra("%matplotlib inline\n!pip list"), 17),
        "renamed": (_changed(lambda nb, cells: cells["pgd"].metadata.nbgrader.update(grade_id="mine")), 17),
        "deleted": (_changed(lambda nb, cells: nb.cells.remove(cells["pgd"])), 10),
        "reordered": (_changed(lambda nb, cells: nb.cells.reverse()), 17),
        "twice": (_changed(lambda nb, cells: nb.cells.append(nbformat.from_dict(cells["pgd"] | {"id": "again"}))), 17),
    }
