"""Grade a submission: its cells run in the sandbox; the tests run outside, on the values that come back."""

import ast
import builtins
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nbformat import NotebookNode

from advtransfer.classroom import sheets
from advtransfer.classroom.checks import Mistake
from advtransfer.classroom.sandbox import Limits, SandboxError, Stopped, Submission, SubmissionError, Unanswered

FILE_BYTES = 2**25
STARTS = 6  # of one submission: the first one, and those after it has killed its process
NOTES = 20  # number of notes that are kept
ANSWER = 20_000  # characters of a written answer that are kept

LIMITS = Limits()


class Cell(NamedTuple):
    """A cell to run."""

    label: str
    source: str
    kind: str
    """``locked``, ``answer`` or ``extra``."""


class Plan(NamedTuple):
    """What a submission holds, put into the order of the sheet."""

    cells: list[Cell]
    answers: dict[str, str]
    """The written answers, by `grade_id`."""
    notes: list[str]
    """What was out of order, in words for the student."""


def grade(
    path: Path, original: NotebookNode, *, seed: int, limits: Limits = LIMITS, safe: bool = True
) -> dict[str, Any]:
    """Grade one submission; the result says whatever is wrong with it.

    Parameters
    ----------
    path : Path
        The notebook handed in.
    original : NotebookNode
        The instructor edition, from which the points, the tests and all locked cells are taken.
    seed : int
        Seed from which the tests draw their inputs.
    limits, safe
        As for `sandbox.Submission`.

    Returns
    -------
    dict
        Plain data: ``exercises`` (by key: ``points``, ``of``, ``message``), ``answers``, ``notes``, ``sha256``.
        There are no exercises if the sandbox did not start.
    """
    result: dict[str, Any] = {"sha256": "", "answers": {}, "notes": []}
    tested = [exercise for exercise in sheets.exercises(original) if not exercise.written]
    try:
        cells, result["sha256"] = _read(path)
    except ValueError as error:
        result["notes"] = [f"The file could not be read: {error}."]
        result["exercises"] = {e.key: _mark(0, e, "There was no notebook to grade.") for e in tested}
        return result
    plan = _plan(original, cells)
    runner = _Runner(plan.cells, limits, safe=safe, withheld=sheets.withheld(original))
    try:
        result["exercises"] = {exercise.key: _test(exercise, runner, seed) for exercise in tested}
    except SandboxError as error:
        return result | {"exercises": {}, "notes": [f"Not graded, because {error}."]}
    finally:
        runner.close()
    _point_back(result["exercises"], tested)
    return result | {"answers": plan.answers, "notes": (plan.notes + runner.notes)[:NOTES]}


def _mark(points: float, exercise: sheets.Exercise, message: str) -> dict[str, Any]:
    return {"points": points, "of": exercise.points, "message": message}


def _read(path: Path) -> tuple[list[tuple[str | None, str, str]], str]:
    """The cells of a notebook as (grade_id, type, source), and the checksum of the file."""
    if path.is_symlink() or not path.is_file():
        raise ValueError("it is not a plain file")
    if path.stat().st_size > FILE_BYTES:
        raise ValueError(f"it has {path.stat().st_size} bytes, and at most {FILE_BYTES} are read")
    content = path.read_bytes()
    try:
        cells = [_cell(cell) for cell in json.loads(content)["cells"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("it is not a Jupyter notebook of format 4") from None
    return cells, hashlib.sha256(content).hexdigest()


def _cell(cell: Mapping[str, Any]) -> tuple[str | None, str, str]:
    about = cell.get("metadata", {}).get("nbgrader", {})
    key = about.get("grade_id") if isinstance(about, dict) else None
    source = cell.get("source", "")
    text = source if isinstance(source, str) else "".join(source)
    return (key if isinstance(key, str) else None), str(cell.get("cell_type")), text


def _plan(original: NotebookNode, submitted: list[tuple[str | None, str, str]]) -> Plan:
    roles = {
        cell.metadata.nbgrader.grade_id: sheets.role(cell) for cell in original.cells if "nbgrader" in cell.metadata
    }
    given = {cell.source for cell in original.cells if cell.cell_type == "code" and "nbgrader" not in cell.metadata}
    own: dict[str, str] = {}
    extras: dict[str | None, list[str]] = {}
    last: str | None = None
    notes = []
    for key, kind, source in submitted:
        if key is not None and key in roles and key not in own:
            own[key] = source
            last = key
            continue
        if kind == "code" and source not in given and source.strip():
            extras.setdefault(last, []).append(source)
        if key is not None:
            notes.append(f"The cell {key[:60]!r} is not from the sheet or is there twice; it ran as one of your own.")
    if list(own) != [key for key in roles if key in own]:
        notes.append("The cells were in another order; they were graded in the order of the sheet.")
    cells = [Cell("of your own", source, "extra") for source in extras.get(None, [])]
    for cell in original.cells:
        key = cell.metadata.get("nbgrader", {}).get("grade_id")
        if key is None:
            continue
        if roles[key] in ("answer", "written") and key not in own:
            notes.append(f"The cell {key!r} is missing.")
        if roles[key] == "locked" and cell.cell_type == "code":
            cells.append(Cell(key, cell.source, "locked"))
        elif roles[key] == "answer" and key in own:
            cells.append(Cell(key, own[key], "answer"))
        cells += [Cell("of your own", source, "extra") for source in extras.get(key, [])]
    written = {key: own[key][:ANSWER] for key in roles if roles[key] == "written" and key in own}
    return Plan(cells, written, notes)


class _Runner:
    """The submission's process. If a cell kills it, it is started again without that cell."""

    def __init__(self, cells: list[Cell], limits: Limits, **options: Any) -> None:
        self._cells, self._limits, self._options = cells, limits, options
        self._end = time.monotonic() + limits.total_seconds
        self._starts = 0
        self._left_out: set[int] = set()
        self._submission: Submission | None = None
        self.errors: dict[int, SubmissionError] = {}

    @property
    def notes(self) -> list[str]:
        """The errors of the cells, one line per cell."""
        reported = {i: error for i, error in self.errors.items() if not isinstance(error, Unanswered)}
        return [f"The cell {self._cells[i].label!r} stopped: {error}" for i, error in reported.items()]

    def submission(self) -> Submission:
        """A submission whose cells have run."""
        while self._submission is None:
            rest = self._end - time.monotonic()
            if rest <= 1 or self._starts == STARTS:
                raise Stopped("the time limit of the submission was used up before this test")
            self._starts += 1
            self._submission = Submission(self._limits._replace(total_seconds=rest), **self._options)
            for i, cell in enumerate(self._cells):
                if i in self._left_out:
                    continue
                try:
                    self._submission.run(cell.source, cell.label)
                except Stopped as error:
                    self.errors[i] = error
                    self._left_out.add(i)
                    self.close()
                    break
                except SubmissionError as error:
                    self.errors[i] = error
        return self._submission

    def close(self) -> None:
        """End the process, if there is one."""
        if self._submission is not None:
            self._submission.close()
        self._submission = None


def _test(exercise: sheets.Exercise, runner: _Runner, seed: int) -> dict[str, Any]:
    try:
        names: dict[str, Any] = {"seed": seed}
        tree = ast.parse(exercise.tests)
        for name in _asked(tree):
            names[name] = runner.submission().value(name)
        exec(compile(tree, exercise.key, "exec"), names)
    except Mistake as mistake:
        return _mark(0, exercise, str(mistake))
    except SubmissionError as error:
        if isinstance(error, Stopped):
            runner.close()
        reason = "There is no answer yet" if isinstance(error, Unanswered) else "The code stopped"
        return _mark(0, exercise, f"{reason}: {error}")
    except SandboxError:
        raise
    except Exception as error:  # the answer was of a kind that the test does not know
        return _mark(0, exercise, f"The test could not use the answer ({type(error).__name__}).")
    return _mark(exercise.points, exercise, "")


def _point_back(marks: dict[str, dict[str, Any]], tested: list[sheets.Exercise]) -> None:
    """If a wrong answer builds on another wrong answer, say so in its message: the mistake may be there."""
    for exercise in tested:
        wrong = [e.title for e in tested if e.key in exercise.builds_on and marks[e.key]["message"]]
        if wrong and marks[exercise.key]["message"]:
            message = marks[exercise.key]["message"].removesuffix(".")
            marks[exercise.key]["message"] = f"{message}. It builds on “{wrong[0]}”: look there first."


def _asked(tree: ast.Module) -> list[str]:
    """The names that a test uses without defining them; they are those of the submission."""
    nodes = list(ast.walk(tree))
    made = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            made |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    loaded = dict.fromkeys(node.id for node in nodes if isinstance(node, ast.Name))
    return [name for name in loaded if name not in made | {"seed"} and not hasattr(builtins, name)]
