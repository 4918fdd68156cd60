"""Run a student's code in a sandbox: bubblewrap around the driver, and a time limit on every answer.

Inside there are the system, the Python environment and this library without its grading parts, all read-only, and an
empty folder in memory. There is no network, no other process, and no file of the class.
"""

import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from advtransfer.classroom import wire

LIBRARY = Path(__file__).parents[1]
INSIDE = "/advtransfer-library"
SHOWN = ("__init__.py", "wire.py", "driver.py")  # the only files of this package that a submission sees
START_SECONDS = 120.0
TEXT = 1000  # characters of an error message that are kept
SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")


class Limits(NamedTuple):
    """What a submission may use."""

    seconds: float = 20.0
    """For one cell or one call."""
    total_seconds: float = 180.0
    """For everything together."""
    memory: int = 2**30
    """Bytes for each process, beyond what the imports take."""
    processes: int = 8
    """Processes and threads."""
    disk: int = 2**26
    """Bytes of files."""


class SandboxError(ValueError):
    """There is no sandbox on this machine, or it does not start, so nothing is graded."""


class SubmissionError(Exception):
    """The student's code raised an error, or returned something that is not plain data."""


class Unanswered(SubmissionError):
    """The code raised NotImplementedError, as the cells of a student edition do."""


class Stopped(SubmissionError):
    """The process of the submission has ended or was ended; another one can be started."""


def visible() -> list[Path]:
    """The folders that a submission can read."""
    prefixes = {Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)}
    return [Path(path) for path in SYSTEM if Path(path).exists()] + sorted(prefixes)


def refusal(*private: Path) -> str | None:
    """Why submissions cannot be run safely here, in one line; None if they can.

    Parameters
    ----------
    private
        Files and folders that no submission may see.
    """
    for path in private:
        if seen := next((root for root in visible() if path.resolve().is_relative_to(root.resolve())), None):
            return f"{path} is inside {seen}, which submissions can read; expected it elsewhere"
    if not sys.platform.startswith("linux"):
        return f"bubblewrap needs Linux, and this is {sys.platform}; grade in a Linux container or virtual machine"
    if shutil.which("bwrap") is None:
        return "bwrap was not found; install bubblewrap (Debian, Ubuntu, Fedora: the package `bubblewrap`)"
    tried = subprocess.run([*_command(Limits())[0], "true"], capture_output=True, text=True, timeout=30)
    return None if tried.returncode == 0 else f"bwrap does not work here: {tried.stderr.strip() or tried.returncode}"


def _command(limits: Limits, withheld: Sequence[str] = ()) -> tuple[list[str], int | None]:
    """The start of a bwrap command, and the user id to switch to inside (None if bwrap itself does this)."""
    command = ["bwrap", "--die-with-parent", "--new-session", "--unshare-ipc", "--unshare-pid", "--unshare-net"]
    command += ["--unshare-uts", "--unshare-cgroup-try", "--cap-drop", "ALL", "--clearenv", "--proc", "/proc"]
    uid = None
    if os.getuid() == 0:  # a user id of its own, which owns nothing here
        uid = 2**30 + secrets.randbelow(2**20)
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534"]
    disk = str(limits.disk)
    command += ["--dev", "/dev", "--perms", "1777", "--size", disk, "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
    command += ["--perms", "1777", "--size", disk, "--tmpfs", "/tmp"]
    package = f"{INSIDE}/advtransfer"
    parents = {parent for path in [*visible(), Path(package)] for parent in path.parents}
    for parent in sorted(parents - {Path("/"), Path("/tmp")}):  # bwrap itself would make them readable for root only
        command += ["--perms", "0755", "--dir", str(parent)]
    for path in visible():
        command += ["--symlink", os.readlink(path), str(path)] if path.is_symlink() else ["--ro-bind", *[str(path)] * 2]
    if any(LIBRARY.is_relative_to(path) for path in visible()):  # an installed copy would show what is hidden below
        command += ["--tmpfs", str(LIBRARY)]
    command += ["--ro-bind", str(LIBRARY), package, "--perms", "0755", "--tmpfs", f"{package}/classroom"]
    for name in SHOWN:
        command += ["--ro-bind", str(LIBRARY / "classroom" / name), f"{package}/classroom/{name}"]
    for name in withheld:
        command += ["--ro-bind", "/dev/null", f"{package}/{name}.py"]
    command += ["--remount-ro", f"{package}/classroom", "--remount-ro", "/", "--chdir", "/tmp"]
    for name, value in _environment("/tmp", INSIDE).items():
        command += ["--setenv", name, value]
    return command, uid


def _environment(home: str, library: str) -> dict[str, str]:
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return one_thread | {
        "HOME": home, "TMPDIR": home, "USER": "student", "LOGNAME": "student", "LANG": "C.UTF-8",
        "PATH": "/usr/bin:/bin", "PYTHONPATH": library, "PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "agg",
        "ADVTRANSFER_CACHE": f"{home}/cache", "ADVTRANSFER_DATA": f"{home}/data",
    }  # fmt: skip


class Submission:
    """A running submission, as a context manager that leaves nothing of it behind.

    Parameters
    ----------
    limits : Limits
        What the submission may use; `total_seconds` are counted from when it has started.
    safe : bool
        False runs the code without a sandbox, with the rights of the user who grades. Use it only for code that you
        have read.
    withheld
        Modules of this library that are empty inside the sandbox.
    """

    def __init__(self, limits: Limits, *, safe: bool = True, withheld: Sequence[str] = ()) -> None:
        self._limits = limits
        self._home = None if safe else tempfile.TemporaryDirectory(prefix="submission-")
        command, uid = _command(limits, withheld) if safe else ([], None)
        settings = json.dumps(limits._asdict() | {"uid": uid})
        self._process = subprocess.Popen(
            [*command, sys.executable, "-m", "advtransfer.classroom.driver", settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=None if self._home is None else _environment(self._home.name, str(LIBRARY.parent)),
            cwd=None if self._home is None else self._home.name,
            start_new_session=True,
        )
        for pipe in (self._process.stdin, self._process.stdout):
            os.set_blocking(pipe.fileno(), False)  # type: ignore[union-attr]
        try:
            self._read_answer(START_SECONDS)
        except Stopped as error:
            self.close()
            raise SandboxError(f"a submission could not be started: {error}") from None
        self._end = time.monotonic() + limits.total_seconds

    def __enter__(self) -> "Submission":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process and everything that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            pipe.close()  # type: ignore[union-attr]
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
        if self._process.poll() is not None:
            raise Stopped("the code had already ended the process")
        end = min(self._end, time.monotonic() + self._limits.seconds)
        try:
            frame = wire.encode(request)
        except wire.WireError as error:
            raise SubmissionError(str(error)) from None
        self._write(frame, end)
        answer = self._read_answer(end - time.monotonic())
        if "missing" in answer:
            raise SubmissionError(f"{request['name']} is not defined")
        if "error" in answer:
            kind = Unanswered if answer.get("unanswered") is True else SubmissionError
            raise kind(str(answer["error"])[:TEXT])
        return answer

    def _read_answer(self, seconds: float) -> dict[str, Any]:
        end = time.monotonic() + seconds
        try:
            answer = wire.decode(lambda n: self._read(n, end))
        except wire.WireError:
            answer = None
        if not isinstance(answer, dict):
            self._process.kill()
            raise Stopped("the code wrote into the grader's pipe")
        return answer

    def _read(self, count: int, end: float) -> bytes:
        pipe = self._process.stdout
        parts: list[bytes] = []
        while count:
            self._wait([pipe], [], end)
            part = os.read(pipe.fileno(), min(count, 2**20))  # type: ignore[union-attr]
            if not part:
                raise Stopped("the code ended the process, or took more than its limit of memory or time")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _write(self, data: bytes, end: float) -> None:
        pipe, rest = self._process.stdin, memoryview(data)
        while rest:
            self._wait([], [pipe], end)
            try:
                rest = rest[os.write(pipe.fileno(), rest[:65536]) :]  # type: ignore[union-attr]
            except BrokenPipeError:
                raise Stopped("the code ended the process") from None

    def _wait(self, readable: Sequence[Any], writable: Sequence[Any], end: float) -> None:
        if not any(select.select(readable, writable, [], max(0.0, end - time.monotonic()))[:2]):
            self._process.kill()
            raise Stopped(f"the time was up after {self._limits.seconds:g} s (an endless loop?)")
