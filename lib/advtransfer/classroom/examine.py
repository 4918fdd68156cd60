"""Examine submissions: their cells run in the sandbox; the tests run here, on the values that come back.

``python -m advtransfer.classroom.examine`` reads one job per line and writes what it finds, as lines of JSON. It is
a process of its own with limits of its own (see `grading`), because it handles what a submission has answered.
"""

import ast
import builtins
import hashlib
import json
import os
import re
import resource
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from advtransfer.classroom import answers, sheets
from advtransfer.classroom.checks import Mistake
from advtransfer.classroom.driver import address_space
from advtransfer.classroom.limits import (
    STARTS,
    Limits,
    Missing,
    SandboxError,
    Stopped,
    SubmissionError,
    Unanswered,
)
from advtransfer.classroom.plan import NO_ANSWER, NO_NOTEBOOK, UNREAD, Cell, Plan, content, mark, plan, read
from advtransfer.classroom.sandbox import Submission
from advtransfer.classroom.texts import visible

NOTES = 20  # number of notes that are kept
ANSWER = 20_000  # characters of a written answer that are kept
CHECK_MEMORY = 2**30  # bytes, beyond what the imports take

Found = dict[str, Any]


def main() -> None:
    """Serve until the input ends."""
    jobs, found = os.fdopen(os.dup(0), encoding="ascii"), os.fdopen(os.dup(1), "w", encoding="ascii")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    if taken := address_space():
        _limit(resource.RLIMIT_AS, taken + CHECK_MEMORY)
    for line in jobs:
        job = json.loads(line)
        original = nbformat.reads(job.pop("original"), as_version=4)
        job["limits"] = Limits(**job["limits"])
        seconds = job["limits"].check_seconds
        try:
            _limit(resource.RLIMIT_CPU, int(time.process_time() + seconds) + 1)
            for message in examine(Path(job.pop("path")), original, **job):
                if "testing" in message:
                    _limit(resource.RLIMIT_CPU, int(time.process_time() + seconds) + 1)
                print(json.dumps(message), file=found, flush=True)
        except Exception as error:  # the machine or the grader has failed, and the submission is not to pay for it
            text = str(error) if isinstance(error, SandboxError) else f"the grader failed ({_named(error)})"
            print(json.dumps({"refused": text}), file=found, flush=True)


def _named(error: Exception) -> str:
    return ": ".join(filter(None, (type(error).__name__, str(error))))


def _limit(what: int, value: int) -> None:
    """Set the soft limit, which a submission's own process replaces by its own."""
    resource.setrlimit(what, (value, resource.getrlimit(what)[1]))


def examine(
    path: Path,
    original: NotebookNode,
    *,
    seed: int,
    limits: Limits,
    safe: bool = True,
    done: Mapping[str, Found] | None = None,
) -> Iterator[Found]:
    """Examine one submission, exercise by exercise, each where its test is in the notebook.

    Parameters
    ----------
    path, original, seed, limits, safe
        As for `grading.Grader.grade`.
    done
        Marks of exercises that are not examined again.

    Yields
    ------
    dict
        ``about`` (answers, their versions and the checksum), ``testing`` (a key) before and ``mark`` (key and mark)
        after each exercise, with the seconds ``used`` so far, and in the end the ``notes``.

    Raises
    ------
    SandboxError, OSError, MemoryError
        This machine cannot examine it.
    """
    marks = dict(done or {})
    tested = {exercise.key: exercise for exercise in sheets.exercises(original) if not exercise.written}
    checksum = ""
    try:
        notebook = content(path)
        checksum = hashlib.sha256(notebook).hexdigest()
        submitted = read(notebook)
    except ValueError as error:
        yield {"about": {"sha256": checksum, "answers": {}, "versions": {}}}
        for key, exercise in tested.items():
            yield {"mark": [key, mark(0, exercise, NO_NOTEBOOK)], "used": 0}
        yield {"notes": [f"{UNREAD}: {error}."]}
        return
    except OSError as error:
        raise SandboxError(f"the file could not be read: {error.strerror}") from None
    planned = plan(original, submitted)
    given = answers.written(notebook, original)
    written = {key: visible(answer.text)[:ANSWER] for key, answer in given.items()}
    versions = answers.versions(given, original, checksum)
    yield {"about": {"sha256": checksum, "answers": written, "versions": versions}}
    runner = Runner(planned.cells, limits, safe=safe, withheld=sheets.withheld(original))
    notes = list(planned.notes)
    try:
        for key, position, again in _order(planned, tested, marks):
            yield {"testing": key}
            found = _test(tested[key], runner, position, seed)
            if again and not found["message"]:
                notes.append(f"“{tested[key].title}” has its points for what a later cell of your own defines.")
            if not again or not found["message"]:
                marks[key] = found
            yield {"mark": [key, marks[key]], "used": runner.used}
    finally:
        runner.close()
    yield {"notes": (notes + runner.notes)[:NOTES]}


def _order(planned: Plan, tested: Mapping[str, Any], marks: Mapping[str, Found]) -> Iterator[tuple[str, int, bool]]:
    """The exercises with the number of cells before them: each at its place, and then those that failed, at the end.

    At the end, because students also correct a function in a later cell. `marks` grows between the steps.
    """
    places = {cell.label: i for i, cell in enumerate(planned.cells) if cell.kind == "test" and cell.label in tested}
    before = set(marks)
    for key, position in places.items():
        if key not in before:
            yield key, position, False
    for key, position in places.items():
        own = any(cell.kind == "extra" for cell in planned.cells[position:])
        if own and key not in before and marks[key]["message"] and not marks[key].get("stopped"):
            yield key, len(planned.cells), True


class Runner:
    """The submission's process. If a cell kills it, it is started again without that cell."""

    def __init__(self, cells: list[Cell], limits: Limits, **options: Any) -> None:
        self._cells, self._limits, self._options = cells, limits, options
        self._starts = self._ran = 0
        self._used = 0.0
        self._left_out: set[int] = set()
        self._submission: Submission | None = None
        self.errors: dict[int, SubmissionError] = {}

    @property
    def notes(self) -> list[str]:
        """The errors of the cells, one line per cell."""
        return list(self._notes().values())

    def last_note_on(self, name: str, position: int) -> list[str]:
        """The note on the last cell before `position` that stopped and in which a name stands, if there is one."""
        word = re.compile(rf"\b{re.escape(name)}\b")
        return [n for i, n in sorted(self._notes().items()) if i < position and word.search(self._cells[i].source)][-1:]

    def _notes(self) -> dict[int, str]:
        reported = {i: error for i, error in self.errors.items() if not isinstance(error, Unanswered)}
        return {i: f"The cell {self._cells[i].label!r} stopped: {error}" for i, error in reported.items()}

    @property
    def used(self) -> float:
        """Seconds in which the submission's code has run."""
        return self._used + (self._submission.used if self._submission else 0.0)

    def at(self, position: int) -> Submission:
        """A submission in which the first `position` cells have run."""
        if self._submission is not None and self._submission.ended:
            self.close()
        while self._submission is None or self._ran < position:
            if self._submission is None:
                self._start()
            elif self._ran in self._left_out or self._cells[self._ran].kind == "test":
                self._ran += 1
            else:
                self._run_next()
        return self._submission

    def _start(self) -> None:
        rest = self._limits.total_seconds - self._used
        if rest <= 1:
            raise Stopped("the time limit of the submission was used up before this test")
        if self._starts == STARTS:
            raise Stopped(f"the submission had ended its process {STARTS} times before this test")
        self._starts += 1
        self._ran = 0
        self._submission = Submission(self._limits._replace(total_seconds=rest), **self._options)

    def _run_next(self) -> None:
        cell, i = self._cells[self._ran], self._ran
        try:
            self._submission.run(cell.source, cell.label)  # type: ignore[union-attr]
        except SubmissionError as error:
            self.errors[i] = error
            if isinstance(error, Stopped):
                self._left_out.add(i)
                self.close()
        self._ran += 1

    def close(self) -> None:
        """End the process, if there is one."""
        if self._submission is not None:
            self._used += self._submission.used
            self._submission.close()
        self._submission = None


def _test(exercise: sheets.Exercise, runner: Runner, position: int, seed: int) -> Found:
    try:
        names: dict[str, Any] = {"seed": seed}
        tree = ast.parse(exercise.tests)
        for name in _asked(tree):
            names[name] = _value(name, runner, position)
        exec(compile(tree, exercise.key, "exec"), names)
    except Mistake as mistake:
        return mark(0, exercise, str(mistake))
    except SubmissionError as error:
        if isinstance(error, Stopped):
            runner.close()
            return mark(0, exercise, f"The code stopped: {error}") | {"stopped": True}
        return mark(0, exercise, NO_ANSWER if isinstance(error, Unanswered) else f"The code stopped: {error}")
    except (SandboxError, OSError, MemoryError):
        raise
    except Exception as error:  # the answer was of a kind that the test does not know
        if "allocate memory" in str(error):  # torch's own words for a MemoryError
            raise MemoryError(str(error)) from None
        return mark(0, exercise, f"The test could not use the answer ({type(error).__name__}).")
    return mark(exercise.points, exercise, "")


def _value(name: str, runner: Runner, position: int) -> Any:
    try:
        return runner.at(position).value(name)
    except Stopped:  # after its last answer, and this exercise is not to blame
        runner.close()
        return runner.at(position).value(name)
    except Missing as error:
        raise Missing(". ".join([str(error), *runner.last_note_on(name, position)])) from None


def _asked(tree: ast.Module) -> list[str]:
    """The names that a test uses without defining them; they are those of the submission."""
    nodes = list(ast.walk(tree))
    made = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            made |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    loaded = dict.fromkeys(node.id for node in nodes if isinstance(node, ast.Name))
    return [name for name in loaded if name not in made | {"seed"} and not hasattr(builtins, name)]


if __name__ == "__main__":
    main()
