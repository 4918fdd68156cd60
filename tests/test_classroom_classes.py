"""A class is never stopped by one of its members or by the machine, and what is done is kept."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import nbformat
import pytest

from advtransfer.classroom import classes, gradebook, jail
from advtransfer.classroom.examine import examine
from advtransfer.classroom.grading import Grader
from advtransfer.classroom.limits import Limits, SandboxError
from advtransfer.records.storage import locked
from classroom_cases import PGD, grade, graded_as, original, solved, stubbed, write

REFUSAL = jail.refusal()
sandboxed = pytest.mark.skipif(REFUSAL is not None, reason=f"no sandbox: {REFUSAL}")
SHEET = original("5-project")
MADE = {
    "exercises": {"test-effect": {"points": 4.0, "of": 4, "message": ""}},
    "answers": {}, "notes": [], "sha256": "0" * 64,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for student in ("ada", "bob", "eve"):
        write(stubbed("5-project"), tmp_path / "5-project" / "submitted" / f"{student}.ipynb")
    return tmp_path / "5-project"


def test_each_result_is_written_as_it_comes_and_a_full_disk_loses_only_the_next(folder, monkeypatch):
    graded_as(monkeypatch, MADE)
    written, seen = classes._write, []

    def write_twice(place, results):
        if len(seen) == 2:
            raise OSError(28, "No space left on device", str(place))
        written(place, results)

    monkeypatch.setattr(classes, "_write", write_twice)
    with pytest.raises(OSError, match="No space left"):
        classes.grade_class(
            folder, SHEET, tell=lambda student, *_: seen.append((student, len(gradebook.results(folder))))
        )
    assert [count for _, count in seen] == [1, 2]
    assert set(gradebook.results(folder)) == {student for student, _ in seen}


def test_a_failure_of_the_machine_takes_no_points_that_were_there(folder, monkeypatch):
    graded_as(monkeypatch, MADE)
    classes.grade_class(folder, SHEET)
    before = gradebook.results(folder)

    def fail(self, path, *given, **options):
        raise RuntimeError("broken")

    monkeypatch.setattr(Grader, "grade", fail)
    found = classes.grade_class(folder, SHEET, jobs=2)
    assert all(result["exercises"] == {} and "broken" in result["notes"][0] for result in found.values())
    assert gradebook.results(folder) == before


def test_one_grader_at_a_time(folder, monkeypatch):
    graded_as(monkeypatch, MADE)
    with locked(folder / "results.json"), pytest.raises(ValueError, match="is being graded by another process"):
        classes.grade_class(folder, SHEET)
    classes.grade_class(folder, SHEET)


def test_the_seed_of_a_class_is_made_once(folder, monkeypatch):
    graded_as(monkeypatch, MADE)
    classes.grade_class(folder, SHEET, students=["ada"])
    (seed,) = {result["seed"] for result in gradebook.results(folder).values()}
    (folder / "results.json").unlink()
    classes.grade_class(folder, SHEET)
    assert {result["seed"] for result in gradebook.results(folder).values()} == {seed}
    classes.grade_class(folder, SHEET, seed=5, students=["bob"])
    assert classes.seed_of(folder) == seed


def test_what_cannot_be_read_is_not_graded_and_not_zero(tmp_path, monkeypatch):
    path = write(solved("5-project"), tmp_path / "ada.ipynb")

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(SandboxError, match="the file could not be read: Permission denied"):
        list(examine(path, SHEET, seed=1, limits=Limits()))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_told_and_the_rest_is_graded(folder):
    (folder / "submitted" / "bob.ipynb").chmod(0)
    found = classes.grade_class(folder, SHEET)
    assert {student for student, result in found.items() if not result["exercises"]} == {"bob"}


def run_command(folder, **options):
    mark = f"ADVTRANSFER_TEST={uuid.uuid4()}"
    name, value = mark.split("=")
    command = [sys.executable, "-m", "advtransfer", "classroom", "grade", folder.name, "--class", str(folder.parent)]
    process = subprocess.Popen(
        [*command, "--jobs", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {name: value}, start_new_session=True, **options,
    )  # fmt: skip
    return process, mark


def left(mark):
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            found += [path.parent.name] * (mark.encode() in path.read_bytes())
        except OSError:
            continue
    return found


@sandboxed
def test_ctrl_c_ends_within_two_seconds_keeps_what_is_done_and_leaves_no_process(tmp_path):
    folder = tmp_path / "1-pgd"
    write(solved("1-pgd"), folder / "submitted" / "ada.ipynb")
    for student in ("bob", "eve", "mallory"):
        endless = PGD.format(first="while True: pass")
        write(
            stubbed("1-pgd", pgd=endless, project=endless.replace("pgd", "project")),
            folder / "submitted" / f"{student}.ipynb",
        )
    process, mark = run_command(folder)
    while "ada" not in gradebook.results(folder):
        time.sleep(0.1)
        assert process.poll() is None
    time.sleep(1)
    start = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)
    assert time.monotonic() - start < 2
    assert process.returncode == 130
    assert "[1/4] ada: 17 of 17 by tests" in said[0]
    assert "submissions graded: 1; kept in" in said[1]
    assert set(gradebook.results(folder)) == {"ada"}
    deadline = time.monotonic() + 5
    while left(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left(mark) == []
    assert json.loads((folder / "results.json").read_text())["ada"]["exercises"]["test-pgd"]["points"] == 3


@sandboxed
@pytest.mark.parametrize("files", [9, 14, 20])
def test_a_machine_without_room_gives_no_zero(files, folder):
    """So few open files that a grader or a sandbox cannot be started."""

    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    process, _ = run_command(folder, preexec_fn=limit)
    out, err = process.communicate(timeout=300)
    marked = [result["exercises"] for result in gradebook.results(folder).values()]
    assert process.returncode in (1, 2)
    assert "by tests" not in out
    assert "NOT GRADED" in out + err or "Too many open files" in err
    assert all(found == {} for found in marked)


@sandboxed
def test_an_answer_that_keeps_the_grader_busy_costs_that_exercise_alone(tmp_path, monkeypatch):
    """The grader's own process is ended by its limit, and a new one goes on with the next exercise."""
    sheet = original("5-project")
    slow = sheet.copy()
    slow.cells = [cell.copy() for cell in sheet.cells]
    for cell in slow.cells:
        if cell.metadata.get("nbgrader", {}).get("grade_id") == "test-effect":
            cell.source = "while paired_effect: pass"
            again = cell.copy()
            again.metadata = json.loads(json.dumps(cell.metadata))
            again.metadata["nbgrader"]["grade_id"] = "test-again"
            again.source = "assert paired_effect"
    slow.cells.append(again)
    slow = json.loads(json.dumps(slow))
    path = write(solved("5-project"), tmp_path / "ada.ipynb")
    result = grade(path, nbformat.from_dict(slow), seed=1, limits=Limits(check_seconds=2))
    assert result["exercises"]["test-effect"]["points"] == 0
    assert (
        "could not be checked: it took more than its share of computing"
        in result["exercises"]["test-effect"]["message"]
    )
    assert result["exercises"]["test-again"]["points"] == 4
