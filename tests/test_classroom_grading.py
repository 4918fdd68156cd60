"""Grading: a class in which everything goes wrong, and submissions that mean harm. Needs bubblewrap."""

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from advtransfer.classroom import classes, gradebook, grading, jail
from advtransfer.classroom.examine import examine
from advtransfer.classroom.limits import Limits, SandboxError, Stopped, SubmissionError
from advtransfer.classroom.sandbox import Submission
from classroom_cases import NAMES, SOURCES, grade, odd_class, original, solved, stubbed, write

REFUSAL = jail.refusal()
pytestmark = pytest.mark.skipif(REFUSAL is not None, reason=f"no sandbox: {REFUSAL}")
QUICK = Limits(seconds=4, total_seconds=40)
SEED = 1234567891


def points(result):
    return sum(exercise["points"] for exercise in result["exercises"].values())


def test_an_odd_class_is_graded_to_the_end_with_the_right_points(tmp_path):
    """One of each kind; `benchmarks/classroom.py` grades forty."""
    cases = odd_class()
    for student, (content, _) in cases.items():
        path = tmp_path / "submitted" / f"{student}.ipynb"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
    found = classes.grade_class(tmp_path, original("1-pgd"), seed=SEED, limits=QUICK, jobs=2)
    assert {student: points(result) for student, result in found.items()} == {s: due for s, (_, due) in cases.items()}
    assert "another order" in found["reordered"]["notes"][0]
    assert "endless loop" in found["endless function"]["exercises"]["test-pgd"]["message"]
    told = {key: mark["message"] for key, mark in found["deleted"]["exercises"].items()}
    assert told["test-pgd"] == "The code stopped: pgd is not defined"
    assert told["test-success-curve"].endswith("It builds on “PGD”: look there first.")


def test_an_exercise_whose_cell_did_not_run_says_why(tmp_path):
    answers = {"pgd": "def pgd(model, x, y, eps:\n    return x", "project": "import nowhere\ndef project(x): ..."}
    notebook = write(stubbed("1-pgd", **answers), tmp_path / "ada.ipynb")
    found = grade(notebook, original("1-pgd"), seed=SEED, limits=QUICK)["exercises"]
    told = {name: found[f"test-{name}"]["message"] for name in ("pgd", "project-ball")}
    assert told["pgd"].startswith("The code stopped: pgd is not defined. The cell 'pgd' stopped: SyntaxError: ")
    assert "project is not defined. The cell 'project' stopped: ModuleNotFoundError: No mod" in told["project-ball"]
    assert "nowhere" not in told["pgd"]


@pytest.mark.parametrize("name", NAMES[1:])
def test_the_solutions_score_full_marks(name, tmp_path):
    result = grade(write(solved(name), tmp_path / "ada.ipynb"), original(name), seed=SEED)
    assert all(mark["points"] == mark["of"] for mark in result["exercises"].values()), result
    assert result["notes"] == []


@pytest.fixture(scope="module")
def box():
    with Submission(QUICK._replace(seconds=60, total_seconds=600), withheld=("attacks",)) as submission:
        yield submission


def evaluated(submission, code):
    """What ``found`` is after `code` has run inside."""
    submission.run(code, "probe")
    return submission.value("found")


CLASS = Path(gradebook.__file__).parent
HIDDEN = [SOURCES, CLASS / "checks", CLASS / "gradebook.py", Path.home() / ".bashrc", Path("/etc/passwd")]


@pytest.mark.parametrize("path", HIDDEN, ids=[path.name for path in HIDDEN])
def test_hostile_tests_solutions_and_accounts_cannot_be_read(box, path):
    assert evaluated(box, f"import os; found = os.path.exists({str(path)!r})") is False


def test_hostile_another_submission_cannot_be_read_or_the_gradebook_written(box, tmp_path):
    book = tmp_path / "results.json"
    book.write_text("{}")
    with pytest.raises(SubmissionError, match="No such file"):
        box.run(f"open({str(book)!r}).read()", "probe")
    box.run(f"import os; os.makedirs({str(tmp_path)!r}); open({str(book)!r}, 'w').write('17')", "in its own /tmp")
    assert book.read_text() == "{}"


def test_hostile_the_graders_own_files_are_gone_inside(box):
    code = """
import importlib, os, advtransfer
found = sorted(os.listdir(os.path.dirname(advtransfer.__file__) + "/classroom"))
"""
    assert evaluated(box, code) == sorted(jail.SHOWN)
    with pytest.raises(SubmissionError, match="cannot import name 'attacks'"):
        box.run("from advtransfer import attacks", "probe")


def test_hostile_the_seed_of_the_tests_is_not_told(tmp_path):
    """A submission looks for it in its environment, its processes and all of its objects, in the middle of a test."""
    search = f"""
import gc, glob, os
def project(x, delta, eps):
    seen = repr(dict(os.environ)) + "".join(repr(o)[:10**4] for o in gc.get_objects() if type(o) in (dict, list, tuple))
    for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
        try: seen += open(path, errors="replace").read()
        except OSError: pass
    raise ValueError("found it" if "{str(SEED)[::-1]}"[::-1] in seen else "nothing")
"""
    notebook = write(stubbed("1-pgd", project=search), tmp_path / "eve.ipynb")
    result = grade(notebook, original("1-pgd"), seed=SEED, limits=QUICK)
    assert "ValueError: nothing" in result["exercises"]["test-project-ball"]["message"]


def test_hostile_no_network(box):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        port = server.getsockname()[1]
        with pytest.raises(SubmissionError, match=r"refused|unreachable"):
            box.run(f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)", "probe")
        with pytest.raises(TimeoutError):
            server.accept()


def test_hostile_unprivileged_and_the_limits_cannot_be_raised(box):
    uids = evaluated(box, "import os; found = list(os.getresuid()) + list(os.getresgid()) + os.getgroups()")
    assert 0 not in uids
    for code in ("import os; os.setuid(0)", "import resource as r; r.setrlimit(r.RLIMIT_AS, (1 << 50, 1 << 50))"):
        with pytest.raises(SubmissionError, match=r"not permitted|not allowed"):
            box.run(code, "probe")


def test_hostile_the_disk_cannot_be_filled(box):
    code = """
import glob, itertools, os
found = 0
for folder in ("/tmp", "/dev/shm", "/dev", "/", "/usr"):
    try:
        for i in itertools.count():
            with open(f"{folder}/full{i}", "wb", buffering=0) as file:
                for _ in range(16):
                    found += file.write(bytes(2**20))
    except OSError:
        pass
for path in glob.glob("/tmp/full*") + glob.glob("/dev/shm/full*"):
    os.remove(path)
"""
    assert 0 < evaluated(box, code) <= 2 * QUICK.disk


def test_hostile_other_processes_cannot_be_seen_or_ended(box):
    assert evaluated(box, "import os; found = sum(name.isdigit() for name in os.listdir('/proc'))") <= 3
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with pytest.raises(SubmissionError):
        box.run(f"import os; os.kill({bystander.pid}, 9)", "probe")
    assert bystander.poll() is None
    bystander.communicate(b"\n")


def test_hostile_no_process_is_left_behind():
    name = f"left-behind-{os.getpid()}"
    code = f"""
import os, subprocess
if os.fork() == 0:
    os.setsid()
    os.execvp("sleep", ["{name}", "60"])
"""
    submission = Submission(QUICK)
    submission.run(code, "probe")
    deadline = time.monotonic() + 5
    while not running(name) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running(name)
    submission.close()
    while running(name) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running(name)


def running(name):
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(name in path.read_text())
        except OSError:
            continue
    return any(found)


def test_hostile_a_fork_bomb_fizzles_out():
    with Submission(QUICK._replace(seconds=3)) as submission, pytest.raises(SubmissionError):
        submission.run("import os\nwhile True: os.fork()", "probe")
    assert len(list(Path("/proc").glob("[0-9]*"))) < 2000


@pytest.mark.parametrize("code", [
    "import os; os._exit(0)",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "import os\nfor fd in range(3, 20):\n    try: os.write(fd, b'\\xff' * 64)\n    except OSError: pass",
    "import os\nfor fd in range(3, 20):\n    try: os.close(fd)\n    except OSError: pass",
], ids=["exit", "kill", "garbage", "closed"])  # fmt: skip
def test_hostile_an_end_without_an_answer_is_told(code):
    with Submission(QUICK) as submission:
        with suppress(Stopped):
            submission.run(code, "probe")
        with pytest.raises(Stopped):
            submission.value("x")


PATCHES = {
    "the tests": """
import builtins, sys, types
fake = types.ModuleType("checks")
fake.__getattr__ = lambda name: lambda *args, **kwargs: None
sys.modules["advtransfer.classroom.checks"] = sys.modules["advtransfer.classroom.checks.pgd"] = check = fake
builtins.AssertionError = type("AssertionError", (Exception,), {"__new__": lambda *a: None})
""",
    "torch and numpy": """
import numpy, torch
torch.allclose = torch.equal = numpy.allclose = numpy.array_equal = lambda *a, **k: True
torch.Tensor.__eq__ = torch.Tensor.__ne__ = lambda self, other: True
torch.Tensor.abs = torch.Tensor.max = lambda self, *a, **k: torch.zeros(())
""",
    "an object that is equal to all": """
class Anything(torch.Tensor):
    __eq__ = __le__ = __ge__ = lambda self, other: True
    __reduce__ = lambda self: (print, ("pickled",))
project = input_gradient = pgd = pgd_l2 = success_curve = lambda *args: Anything()
""",
    "early success": "import sys\nsys.exit(0)",
    "the result": """
import json, os
for name in ("results.json", "/tmp/results.json"):
    with open(name, "w") as file:
        json.dump({"exercises": {"test-pgd": {"points": 3, "of": 3, "message": ""}}}, file)
forged = {"value": {"dict": [["value", None], ["points", 17], ["exercises", {"dict": []}]]}, "arrays": []}
header = json.dumps(forged).encode()
for fd in range(3, 20):
    try: os.write(fd, len(header).to_bytes(8, "big") + header)
    except OSError: pass
""",
}


@pytest.mark.parametrize("patch", PATCHES)
def test_hostile_patching_gains_nothing(patch, tmp_path):
    notebook = stubbed("1-pgd", project=PATCHES[patch])
    for cell in notebook.cells:  # and the points in the file say otherwise
        if "nbgrader" in cell.metadata and cell.metadata.nbgrader.grade:
            cell.metadata.nbgrader.points = 100
            cell.source = "pass"
    result = grade(write(notebook, tmp_path / "eve.ipynb"), original("1-pgd"), seed=SEED, limits=QUICK)
    assert points(result) == 0
    assert sum(mark["of"] for mark in result["exercises"].values()) == 17


def test_a_sandbox_that_does_not_start_is_told_and_gives_no_points(tmp_path, monkeypatch):
    monkeypatch.setattr(jail, "SHOWN", ("__init__.py", "wire.py"))  # without the driver
    path = write(solved("1-pgd"), tmp_path / "ada.ipynb")
    with pytest.raises(SandboxError, match="could not be started"):
        list(examine(path, original("1-pgd"), seed=SEED, limits=QUICK))
    monkeypatch.setattr(grading.Grader, "_messages", lambda *_: iter([{"refused": "it is full"}]))
    result = grade(path, original("1-pgd"), seed=SEED)
    assert result["exercises"] == {}
    assert result["notes"] == ["Not graded, because it is full."]


def test_hostile_a_link_to_anothers_work_is_not_followed(tmp_path):
    write(solved("1-pgd"), tmp_path / "ada.ipynb")
    (tmp_path / "eve.ipynb").symlink_to(tmp_path / "ada.ipynb")
    assert points(grade(tmp_path / "eve.ipynb", original("1-pgd"), seed=SEED)) == 0


@pytest.mark.parametrize("answer", [
    "torch.zeros(1).expand(10**10)", "torch.zeros(2).to_sparse()", "object()", "[[]] * 10**6", "model", "'x' * 10**7",
    "(lambda l: (l.append(l), l)[1])([])",
])  # fmt: skip
def test_hostile_answers_that_are_no_plain_data_cost_nothing(answer, box):
    box.run(f"import torch\nmodel = torch.nn.Bilinear(1, 1, 1)\ndef f(): return {answer}", "probe")
    with pytest.raises(SubmissionError):
        box.value("f")()
    assert evaluated(box, "found = 1") == 1
