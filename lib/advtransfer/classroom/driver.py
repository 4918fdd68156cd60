"""The part of the grader that works inside the sandbox: it runs a student's cells and answers requests about them.

It drops its privileges and sets the limits, and then serves requests until its input ends. The student's code can see
everything that this process knows, so it is given no test, no solution and no result.
"""

import ctypes
import getopt
import json
import os
import resource
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable
from typing import Any, ClassVar

from advtransfer.classroom import wire

PDEATHSIG = 1  # PR_SET_PDEATHSIG of prctl(2)
TEXT = 500  # characters of an error message that are passed on


def main(arguments: list[str]) -> None:
    """Serve until the input ends; the one argument is JSON: ``uid`` (or null) and the limits of `sandbox.Limits`."""
    given = json.loads(arguments[0])
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    if given["uid"] is not None:
        os.setgroups([])
        os.setgid(given["uid"])
        os.setuid(given["uid"])
    if sys.platform == "linux":  # without a sandbox, nothing else would end an endless loop when the grader has ended
        ctypes.CDLL(None).prctl(PDEATHSIG, signal.SIGKILL)
    _limit(given)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # whatever the student's code prints is discarded
        os.dup2(nothing, stream)
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    notebook = Notebook(module.__dict__)
    module.__dict__.update(display=lambda *shown, **options: None, get_ipython=lambda: notebook)
    _send(answers, {"value": "ready"}, "")
    while head := requests.read(8):
        request = wire.decode(_after(head, requests.read), models=True)
        _send(answers, _answer(module.__dict__, request), request["ticket"])


def address_space() -> int:
    """The bytes that this process takes already; 0 on systems that do not say."""
    if sys.platform != "linux":
        return 0
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _limit(given: dict[str, Any]) -> None:
    """Set hard limits, which cannot be raised again. The memory limit comes on top of what the imports take."""
    taken = address_space()
    for name, value in (
        (resource.RLIMIT_AS, taken + given["memory"]),
        (resource.RLIMIT_NPROC, given["processes"]),
        (resource.RLIMIT_FSIZE, given["disk"]),
        (resource.RLIMIT_CPU, int(time.process_time() + given["total_seconds"]) + 1),
        (resource.RLIMIT_NOFILE, 128),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(name, (value, value))


def _after(head: bytes, read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """A function like `read` that returns `head` first."""
    parts = [head]
    return lambda n: parts.pop() if parts else read(n)


def _send(stream: Any, answer: dict[str, Any], ticket: str) -> None:
    try:
        frame = wire.encode(answer | {"ticket": ticket})
    except Exception as error:  # nested too deeply, a sparse tensor, an odd class
        told = str(error)[:TEXT] if isinstance(error, wire.WireError) else _message(error)
        frame = wire.encode({"error": told, "ticket": ticket})
    stream.write(frame)
    stream.flush()


def _answer(names: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    try:
        if "cell" in request:
            exec(_compiled(request["cell"], request["label"]), names)
            return {"value": None}
        if request["name"] not in names:
            return {"missing": True}
        value = names[request["name"]]
        if "args" in request:
            return {"value": value(*request["args"], **request["kwargs"])}
        return {"function": True} if callable(value) else {"value": value}
    except BaseException as error:  # SystemExit and KeyboardInterrupt too
        return {"error": _message(error), "unanswered": isinstance(error, NotImplementedError)}


def _compiled(source: str, label: str) -> types.CodeType:
    """The code of a cell. What only IPython understands becomes calls of `Notebook`, as IPython itself does it."""
    try:
        return compile(source, label, "exec")
    except SyntaxError:
        from IPython.core.inputtransformer2 import TransformerManager

        return compile(TransformerManager().transform_cell(source), label, "exec")


class Notebook:
    """What is left of IPython: it runs what a magic is asked to time or to capture, and nothing else."""

    OPTIONS: ClassVar = {"time": "", "timeit": "n:r:p:tcqov", "prun": "l:s:T:D:rqy", "capture": ""}  # as for getopt

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names

    def run_line_magic(self, name: str, line: str, *_: Any, **options: Any) -> Any:
        """``%name line``; the value of the line for ``%time``."""
        if name not in self.OPTIONS:
            return None
        local, code = sys._getframe(1).f_locals, self._without_options(name, line)
        try:
            compiled = compile(code, "cell", "eval")
        except SyntaxError:
            compiled = compile(code, "cell", "exec")  # a statement, whose value is None
        value = eval(compiled, self._names, local)
        return value if name == "time" else None

    def run_cell_magic(self, name: str, line: str, cell: str) -> None:
        """``%%name line``, and the rest of the cell; the line is what ``%%timeit`` runs first."""
        if name not in self.OPTIONS:
            return
        rest = self._without_options(name, line)
        if name == "timeit":
            exec(compile(rest, "cell", "exec"), self._names)
        exec(_compiled(cell, "cell"), self._names)
        if name == "capture" and rest.isidentifier():
            self._names[rest] = types.SimpleNamespace(show=lambda: None, stdout="", stderr="", outputs=[])

    def _without_options(self, name: str, line: str) -> str:
        try:
            _, words = getopt.getopt(line.split(), self.OPTIONS[name], ["no-stderr", "no-stdout", "no-display"])
        except getopt.GetoptError:
            return line
        return line.split(maxsplit=len(line.split()) - len(words))[-1] if words else ""

    def system(self, command: str) -> None:
        """``!command``."""

    def getoutput(self, command: str, *_: Any, **options: Any) -> list[str]:
        """``lines = !command``."""
        return []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *given, **options: None


def _message(error: BaseException) -> str:
    """The error as one line, with the number of the line of the student's cell in which it arose."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith("cell ")]
    place = f" (line {lines[-1]} of the cell)" if lines else ""
    hint = "; define or import it in a cell of your answers" if isinstance(error, NameError) else ""
    return ": ".join(filter(None, (type(error).__name__, str(error))))[:TEXT] + hint + place


if __name__ == "__main__":
    main(sys.argv[1:])
