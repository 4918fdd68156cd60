"""Grade a submission in a process of its own, which is ended when it takes more than its share of time or memory."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import IO, Any

import nbformat
from nbformat import NotebookNode

from advtransfer.classroom import sheets
from advtransfer.classroom.jail import LIBRARY
from advtransfer.classroom.limits import LONGER, START_SECONDS, STARTS, Limits
from advtransfer.classroom.plan import NO_ANSWER, NO_NOTEBOOK, UNREAD, mark
from advtransfer.classroom.processes import ONE_THREAD, end

LIMITS = Limits()
TICK = 0.2  # seconds between two looks at whether grading was stopped


class Interrupted(Exception):
    """Grading was stopped; the submission has no result."""


class _Ended(Exception):
    """The process has ended before its work was done, or was ended; the text says why."""

    def __init__(self, text: str, *, by_us: bool) -> None:
        super().__init__(text)
        self.by_us = by_us
        """Whether a limit was reached, so that the submission is to blame."""


class Grader(AbstractContextManager["Grader"]):
    """Grades one submission after another, as a context manager that leaves no process behind.

    Parameters
    ----------
    core : int, optional
        The processor core on which the submissions run, so that they take no time from other submissions.
    stop : threading.Event, optional
        Ends the work when it is set; `Interrupted` is raised then.
    """

    def __init__(self, *, core: int | None = None, stop: threading.Event | None = None) -> None:
        self._core, self._stop = core, stop or threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, and with it the sandbox."""
        if self._process is not None:
            end(self._process)
        self._process = None

    def grade(
        self, path: Path, original: NotebookNode, *, seed: int, limits: Limits = LIMITS, safe: bool = True
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
            Plain data: ``exercises`` (by key: ``points``, ``of``, ``message``), ``answers`` and their ``versions``,
            ``notes``, ``sha256``.
            There are no exercises if this machine could not grade it; the notes say why.
        """
        tested = {exercise.key: exercise for exercise in sheets.exercises(original) if not exercise.written}
        result: dict[str, Any] = {"sha256": "", "answers": {}, "versions": {}, "notes": []}
        marks: dict[str, dict[str, Any]] = {}
        job = {"path": str(path), "original": nbformat.writes(original), "seed": seed, "safe": safe}
        used, kills = 0.0, _out_of_memory()
        for _ in range(STARTS):
            limits = limits._replace(total_seconds=limits.total_seconds - used)
            testing, used = None, 0.0
            try:
                for message in self._messages(job | {"limits": limits._asdict(), "done": marks}):
                    result |= message.get("about", {})
                    testing = message.get("testing")
                    used = message.get("used", used)
                    if "mark" in message:
                        marks[message["mark"][0]] = message["mark"][1]
                    if "refused" in message:
                        self.close()  # it may have no memory left
                        return result | not_graded(message["refused"])
                    result["notes"] += message.get("notes", [])
                break
            except OSError as error:
                return result | not_graded(f"this machine has no room left: {error}")
            except _Ended as error:
                if not error.by_us:
                    return result | not_graded(str(error))
                if testing is None:
                    result["notes"] = [f"{UNREAD}: {error}."]
                    break
                marks[testing] = mark(0, tested[testing], f"The answer could not be checked: {error}.")
        for key, exercise in tested.items():
            marks.setdefault(key, mark(0, exercise, "The limits were used up, or there was nothing to grade."))
        if _out_of_memory() != kills and any(found["message"] for found in marks.values()):
            return result | not_graded("this machine ran out of memory meanwhile; use fewer --jobs")
        return result | {"exercises": _pointing_back(marks, tested)}

    def _messages(self, job: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """What the process says about a job, up to its last words."""
        if self._process is None or self._process.poll() is not None:  # none yet, or the system has ended it
            self.close()
            self._process = self._start()
        line = json.dumps(job).encode() + b"\n"
        limits = Limits(**job["limits"])
        most = LONGER * (
            limits.total_seconds + START_SECONDS + limits.check_seconds
        )  # it may wait for a busy processor
        self._send(line)
        while True:
            message = json.loads(self._next_line(time.monotonic() + most))
            yield message
            if "notes" in message or "refused" in message:
                return

    def _start(self) -> "subprocess.Popen[bytes]":
        path = os.pathsep.join(filter(None, (str(LIBRARY.parent), os.environ.get("PYTHONPATH"))))
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "advtransfer.classroom.examine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | ONE_THREAD | {"PYTHONPATH": path},
            start_new_session=True,
        )
        if self._core is not None and hasattr(os, "sched_setaffinity"):
            with suppress(OSError):  # it has ended already, or this system does not allow it
                os.sched_setaffinity(process.pid, {self._core})
        self._lines = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(process.stdout, self._lines), daemon=True).start()
        return process

    def _send(self, line: bytes) -> None:
        with suppress(OSError, ValueError):  # that the process has ended is found when it is read
            self._process.stdin.write(line)  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]

    def _read(self, pipe: IO[bytes], lines: "queue.SimpleQueue[bytes]") -> None:
        with suppress(OSError, ValueError):  # closed
            for line in pipe:
                lines.put(line)
        lines.put(b"")

    def _next_line(self, end: float) -> bytes:
        while True:
            try:
                line = self._lines.get(timeout=TICK)
                break
            except queue.Empty:
                if self._stop.is_set():
                    self.close()
                    raise Interrupted from None
                if time.monotonic() > end:
                    self.close()
                    raise _Ended("it took too long", by_us=True) from None
        if line.endswith(b"\n"):
            return line
        code = self._process.wait()  # type: ignore[union-attr]
        self.close()
        if code == -signal.SIGXCPU:
            raise _Ended("it took more than its share of computing", by_us=True)
        raise _Ended(f"the grader's process ended with code {code}", by_us=False)


def not_graded(reason: str) -> dict[str, Any]:
    """The result of a submission that this machine could not grade: no exercises, and so no points, not even zero."""
    return {"sha256": "", "answers": {}, "versions": {}, "exercises": {}, "notes": [f"Not graded, because {reason}."]}


def _out_of_memory() -> int:
    """How many processes the system has ended so far because it had no memory left (Linux)."""
    with suppress(OSError), open("/proc/vmstat", encoding="ascii") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    return 0


def _pointing_back(marks: Mapping[str, dict[str, Any]], tested: Mapping[str, sheets.Exercise]) -> dict[str, Any]:
    """The marks in order. If a wrong answer builds on another one, its message says that the mistake may be there."""
    found = {}
    for key, exercise in tested.items():
        points, of, message = (marks[key][name] for name in ("points", "of", "message"))
        wrong = [tested[other].title for other in exercise.builds_on if marks[other]["message"]]
        if wrong and message and message not in (NO_NOTEBOOK, NO_ANSWER):
            message = f"{message.removesuffix('.')}. It builds on “{wrong[0]}”: look there first."
        found[key] = {"points": points, "of": of, "message": message}
    return found
