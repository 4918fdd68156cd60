"""Grade a class: each result is kept as it comes, whatever happens to the others."""

import datetime
import json
import os
import queue
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from advtransfer.classroom import gradebook, handed_in, marks
from advtransfer.classroom.grading import LIMITS, Grader, Interrupted, Limits, not_graded
from advtransfer.classroom.sheets import exercises
from advtransfer.records.storage import Busy, locked, replacing

Tell = Callable[[str, Mapping[str, Any], int, int], None]


def grade_class(
    folder: Path,
    original: NotebookNode,
    *,
    seed: int | None = None,
    students: Iterable[str] = (),
    jobs: int = 1,
    limits: Limits = LIMITS,
    safe: bool = True,
    tell: Tell = lambda *_: None,
) -> dict[str, Any]:
    """Grade the submissions in `folder`: write ``results.json``, and list what needs a mark in ``marks.csv``.

    Each result is written as soon as it is ready. A submission that this machine could not grade keeps the result that
    it had before, if any.

    Parameters
    ----------
    folder : Path
        The folder of the class and the assignment.
    original : NotebookNode
        The instructor edition.
    seed : int, optional
        Seed of the tests' inputs, the same for all students; by default that of the class (`seed_of`).
    students
        Grade only these; the results of the others stay. By default all are graded.
    jobs : int
        Number of submissions at a time, each on a processor core of its own as long as there are enough.
    limits, safe
        As for `sandbox.Submission`.
    tell
        Is called with each student, the result, how many are done, and how many there are.

    Returns
    -------
    dict
        The results of this call, by student; without exercises if this machine could not grade the submission.

    Raises
    ------
    ValueError
        Nothing was handed in, or nothing by one of `students`, or ``marks.csv`` is not as expected, or another process
        grades this class.
    OSError
        A result could not be written.
    KeyboardInterrupt
        Grading was stopped. What was done before is written, and no process is left.
    """
    paths, *odd = handed_in.found(folder)
    if not paths:
        there = "".join(f"; {line}" for lines in odd for line in lines)
        raise ValueError(f"nothing is in {folder / 'submitted'}; expected STUDENT.ipynb or STUDENT/NAME.ipynb{there}")
    chosen = [handed_in.normal(student) for student in students] or list(paths)
    if strangers := [student for student in chosen if student not in paths]:
        raise ValueError(f"{', '.join(strangers)} handed nothing in; expected one of {', '.join(paths)}")
    gradebook.marked(folder, original)  # a mistake in the file is reported before the long work
    try:
        with locked(folder / "results.json", wait=False):
            used = seed_of(folder) if seed is None else seed
            todo = {student: paths[student] for student in chosen}
            return _grade(folder, original, todo, jobs, tell, seed=used, limits=limits, safe=safe)
    except Busy:
        raise ValueError(f"{folder} is being graded by another process; expected one at a time") from None


def _grade(
    folder: Path, original: NotebookNode, paths: Mapping[str, Path], jobs: int, tell: Tell, **options: Any
) -> dict[str, Any]:
    versions, kept, new = gradebook.versions(folder), gradebook.results(folder), {}
    stop = threading.Event()
    free: queue.SimpleQueue[Grader] = queue.SimpleQueue()

    def one(path: Path) -> dict[str, Any]:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        grader = free.get()
        about = {"graded": now, "seed": options["seed"]}
        try:
            return about | grader.grade(path, original, **options)
        except Interrupted:
            raise
        except Exception as error:  # whatever it is, the class goes on
            return about | not_graded(f"the grader failed ({type(error).__name__}: {error})")
        finally:
            free.put(grader)

    with ExitStack() as at_the_end:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [None]
        for i in range(min(jobs, len(paths))):
            free.put(at_the_end.enter_context(Grader(core=cores[i % len(cores)], stop=stop)))
        pool = at_the_end.enter_context(ThreadPoolExecutor(jobs))
        waiting = {pool.submit(one, path): student for student, path in paths.items()}
        try:
            for done in as_completed(waiting):
                student, result = waiting[done], done.result()
                new[student] = result
                if result["exercises"] or not kept.get(student, {}).get("exercises"):
                    kept[student] = result
                    _write(folder, kept)
                tell(student, result, len(new), len(waiting))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            marks.prepare(folder / "marks.csv", exercises(original), versions, gradebook.versions(folder))
    return new


def _write(folder: Path, results: Mapping[str, Any]) -> None:
    with replacing(folder / "results.json") as draft:
        draft.write_text(json.dumps(results, indent=1, ensure_ascii=True, sort_keys=True), encoding="utf-8")


def seed_of(folder: Path) -> int:
    """The seed of a class, known to nobody: made once and kept in ``seed.txt``, so that grading again is fair."""
    path = folder / "seed.txt"
    if path.is_file():
        try:
            return int(path.read_bytes())
        except ValueError:
            raise ValueError(f"{path} is damaged; expected the number that the library wrote") from None
    seed = secrets.randbits(32)
    with replacing(path) as draft:
        draft.write_text(f"{seed}\n", encoding="ascii")
    return seed
