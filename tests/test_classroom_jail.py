"""The limits of the sandbox that `book/grading.md` states. Needs bubblewrap."""

import platform
import subprocess
from pathlib import Path

import pytest

from advtransfer.classroom import jail
from advtransfer.classroom.limits import Limits, SubmissionError
from advtransfer.classroom.sandbox import Submission

REFUSAL = jail.refusal()
sandboxed = pytest.mark.skipif(REFUSAL is not None, reason=f"no sandbox: {REFUSAL}")
PAGE = Path(__file__).parents[1] / "book" / "grading.md"


@pytest.fixture(scope="module")
def box():
    with Submission(Limits(seconds=60, total_seconds=600), withheld=("attacks", "models/mlp")) as submission:
        yield submission


CALL = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nfound = [{call}, ctypes.get_errno()]"


@sandboxed
@pytest.mark.parametrize("call", [
    "libc.memfd_create(b'x', 0)", "libc.shmget(0, 2**20, 0o1600)", "libc.msgget(0, 0o1600)",
    "libc.semget(0, 1, 0o1600)",
    "libc.unshare(0x10000000)", "libc.syscall(56, 0x10000011, 0, 0, 0, 0)", "libc.setns(3, 0)",
    "libc.mount(b'tmpfs', b'/tmp', b'tmpfs', 0, None)", "libc.sched_setaffinity(0, 8, b'\\xff' * 8)",
    "libc.setpriority(0, 0, 1)", "libc.ptrace(0, 0, 0, 0)", "libc.personality(0x0040000)", "libc.syscall(425, 1, 0)",
], ids=["memfd", "shm", "queue", "semaphore", "unshare", "clone", "setns", "mount", "core", "priority", "ptrace",
        "personality", "io_uring"])  # fmt: skip
def test_hostile_system_calls_are_refused(call, box):
    """Memory that belongs to no process, namespaces with rights of their own, other cores. (The numbers: x86-64.)"""
    if "syscall" in call and platform.machine() != "x86_64":
        pytest.skip("the number of the call is that of x86-64")
    box.run(CALL.format(call=call), "probe")
    assert box.value("found") == [-1, 1]


@sandboxed
def test_what_honest_code_needs_is_there(box):
    box.run(
        """
import concurrent.futures, multiprocessing, subprocess, tempfile, threading
import numpy, scipy.linalg, torch
with concurrent.futures.ThreadPoolExecutor(2) as pool: found = sum(pool.map(int, "12"))
with multiprocessing.get_context("fork").Pool(2) as pool: found += sum(pool.map(int, "34"))
found += int(subprocess.run(["echo", "5"], capture_output=True, text=True).stdout)
with tempfile.TemporaryFile() as file: file.write(b"x" * 2**20)
found += round(torch.linalg.svdvals(torch.eye(6)).sum().item() + scipy.linalg.norm(numpy.eye(1)))
""",
        "probe",
    )
    assert box.value("found") == 22


@sandboxed
def test_hostile_no_byte_code_of_what_is_withheld(box):
    for folder in ("", "/models"):
        (jail.LIBRARY / f".{folder}" / "__pycache__").mkdir(exist_ok=True)
    box.run(
        """
import advtransfer, glob, os
root = list(advtransfer.__path__)[0]
found = glob.glob(root + "/__pycache__/*") + glob.glob(root + "/models/__pycache__/*")
found += [os.path.getsize(f"{root}/{name}.py") for name in ("attacks", "models/mlp")]
""",
        "probe",
    )
    assert box.value("found") == [0, 0]
    with pytest.raises(SubmissionError):
        box.run("from advtransfer.models.mlp import tanh_network", "probe")


def test_an_old_bubblewrap_or_no_libseccomp_is_told(monkeypatch):
    monkeypatch.setattr(jail.shutil, "which", lambda name: f"/usr/bin/{name}")
    old = subprocess.CompletedProcess([], 0, stdout="bubblewrap 0.6.1\n", stderr="")
    with monkeypatch.context() as patch:
        patch.setattr(jail.subprocess, "run", lambda *given, **options: old)
        assert jail.refusal() == "bwrap says that it is 'bubblewrap 0.6.1'; expected version 0.8.0 or later"
    jail._program.cache_clear()
    new = subprocess.CompletedProcess([], 0, stdout="bubblewrap 0.11.0\n", stderr="")
    monkeypatch.setattr(jail.subprocess, "run", lambda *given, **options: new)
    monkeypatch.setattr(jail.ctypes.util, "find_library", lambda name: "no-such-library.so")
    assert "libseccomp was not found; install it" in jail.refusal()
    jail._program.cache_clear()


def test_the_page_states_the_limits_that_hold():
    page = PAGE.read_text(encoding="utf-8")
    limits = Limits()
    for line in (
        f"| one cell or one call | {limits.seconds:g} s (`--seconds`) |",
        f"| everything together | {limits.total_seconds:g} s",
        f"| processes and threads | {limits.processes} |",
        f"| files | {limits.disk >> 20} MiB in each",
        f"| the grader's own work on one exercise | {limits.check_seconds:g} s",
    ):
        assert line in page
    assert f"bubblewrap {'.'.join(map(str, jail.OLDEST[:2]))}" in page
