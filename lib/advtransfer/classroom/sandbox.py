"""Run a student's code in a sandbox: bubblewrap around the driver, and a time limit on every answer."""

import json
import os
import secrets
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from advtransfer.classroom import clock, jail, wire
from advtransfer.classroom.limits import (
    LONGER,
    START_SECONDS,
    Limits,
    Missing,
    SandboxError,
    Stopped,
    SubmissionError,
    Unanswered,
)
from advtransfer.classroom.processes import end
from advtransfer.classroom.texts import in_one_line

TEXT = 1000  # characters of an error message that are kept


class _Turn:
    """The time that a process has for one answer. It is longer by the time in which others had its processor."""

    def __init__(self, pid: int, seconds: float) -> None:
        self._pid, self._seconds, self._before = pid, seconds, clock.spent(pid)
        self._start = time.monotonic()
        self._end = self._start + seconds

    @property
    def rest(self) -> float:
        """Seconds to the end as it is now."""
        return self._end - time.monotonic()

    def used(self) -> float:
        """Seconds that it has taken, without those in which others had the processor."""
        spent = clock.spent(self._pid)
        waited = max(0.0, spent.waiting - self._before.waiting)
        return max(spent.computing - self._before.computing, time.monotonic() - self._start - waited)

    def goes_on(self) -> bool:
        """Whether there is time left after all: it was kept waiting, and has not computed for all of its time."""
        spent = clock.spent(self._pid)
        waited = min(spent.waiting - self._before.waiting, (LONGER - 1) * self._seconds)
        self._end = self._start + self._seconds + waited
        return spent.computing - self._before.computing < self._seconds and self.rest > 0


class Submission(AbstractContextManager["Submission"]):
    """A running submission, as a context manager that leaves nothing behind.

    Parameters
    ----------
    limits : Limits
        What the submission may use. Only the time in which its code runs counts towards `total_seconds`.
    safe : bool
        False runs the code without a sandbox, with the rights of the user who grades. Use it only for code that you
        have read.
    withheld
        Modules of this library that are empty inside the sandbox.

    Raises
    ------
    SandboxError
        It could not be started; also if this machine has no memory, process or file left for it.
    """

    def __init__(self, limits: Limits, *, safe: bool = True, withheld: Sequence[str] = ()) -> None:
        self._limits = limits
        self.used = 0.0
        """Seconds in which its code has run."""
        self._home = None if safe else tempfile.TemporaryDirectory(prefix="submission-")
        try:
            self._process = self._start(withheld)
        except OSError as error:
            raise SandboxError(f"a submission could not be started: {error}") from None
        for pipe in (self._process.stdin, self._process.stdout):
            os.set_blocking(pipe.fileno(), False)  # type: ignore[union-attr]
        self._turn = _Turn(self._process.pid, START_SECONDS)
        try:
            self._read_answer("")
        except Stopped as error:
            self.close()
            raise SandboxError(f"a submission could not be started: {error}") from None

    def _start(self, withheld: Sequence[str]) -> "subprocess.Popen[bytes]":
        with ExitStack() as opened:
            command: list[str] = []
            uid, rules = None, []
            if self._home is None:
                rules.append(opened.enter_context(jail.system_calls()))
                command, uid = jail.arguments(disk=self._limits.disk, rules=rules[0], withheld=withheld)
            settings = json.dumps(self._limits._asdict() | {"uid": uid})
            return subprocess.Popen(
                [*command, jail.python(), "-m", "advtransfer.classroom.driver", settings],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=None if self._home is None else jail.environment(self._home.name, str(jail.LIBRARY.parent)),
                cwd=None if self._home is None else self._home.name,
                pass_fds=[file.fileno() for file in rules],
                start_new_session=True,
            )

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ended(self) -> bool:
        """Whether its process has ended."""
        return self._process.poll() is not None

    def close(self) -> None:
        """End the process and everything that it has started."""
        end(self._process)
        if self._home is not None:
            self._home.cleanup()

    def run(self, source: str, label: str) -> None:
        """Run a cell.

        Raises
        ------
        SubmissionError
            The cell raised an error; `Stopped` if the process did not survive it.
        """
        self._ask({"cell": source, "label": f"cell {label}"})

    def value(self, name: str) -> Any:
        """The value of a variable, or a function that calls the student's function in the sandbox."""
        answer = self._ask({"name": name})
        if "function" not in answer:
            return answer.get("value")

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._ask({"name": name, "args": args, "kwargs": kwargs}).get("value")

        return call

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if self.ended:
            raise Stopped("the code had already ended the process")
        ticket = secrets.token_hex(8)  # an answer that was written before it was asked for does not carry it
        try:
            frame = wire.encode({"ticket": ticket, **request})
        except wire.WireError as error:
            told = str(error).replace("the value", "the cell") if "cell" in request else str(error)
            raise SubmissionError(told) from None
        self._turn = _Turn(
            self._process.pid, max(0.0, min(self._limits.seconds, self._limits.total_seconds - self.used))
        )
        try:
            self._write(frame)
            answer = self._read_answer(ticket)
        finally:
            self.used += self._turn.used()
        if "missing" in answer:
            raise Missing(f"{request['name']} is not defined")
        if "error" in answer:
            kind = Unanswered if answer.get("unanswered") is True else SubmissionError
            raise kind(in_one_line(str(answer["error"])[:TEXT]))
        return answer

    def _read_answer(self, ticket: str) -> dict[str, Any]:
        try:
            answer = wire.decode(self._read)
        except wire.WireError:
            answer = None
        if not isinstance(answer, dict) or repr(answer.get("ticket")) != repr(ticket):
            self._process.kill()
            raise Stopped("the code wrote into the grader's pipe")
        return answer

    def _read(self, count: int) -> bytes:
        pipe = self._process.stdout
        parts: list[bytes] = []
        while count:
            self._wait([pipe], [])
            part = os.read(pipe.fileno(), min(count, 2**20))  # type: ignore[union-attr]
            if not part:
                raise Stopped("the code ended the process, or took more than its limit of memory or time")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _write(self, data: bytes) -> None:
        pipe, rest = self._process.stdin, memoryview(data)
        while rest:
            self._wait([], [pipe])
            try:
                rest = rest[os.write(pipe.fileno(), rest[:65536]) :]  # type: ignore[union-attr]
            except BrokenPipeError:
                raise Stopped("the code ended the process") from None

    def _wait(self, readable: Sequence[Any], writable: Sequence[Any]) -> None:
        while not any(select.select(readable, writable, [], max(0.0, self._turn.rest))[:2]):
            if self._turn.goes_on():
                continue
            self._process.kill()
            if self.used + self._limits.seconds > self._limits.total_seconds:
                raise Stopped("the time of the whole submission was used up")
            raise Stopped(f"the time was up after {self._limits.seconds:g} s (an endless loop?)")
