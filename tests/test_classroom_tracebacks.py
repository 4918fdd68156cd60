"""What a student sees when a visible test fails: the message, the own code, and no line of the test."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from advtransfer.classroom import checks, sheets
from classroom_cases import NAMES, functions, original
from classroom_wrong import WRONG

SECRET = {
    line.strip() for path in Path(checks.__file__).parent.glob("*.py") for line in path.read_text("utf-8").splitlines()
} - {line.strip() for name in NAMES for cell in original(name).cells for line in cell.source.splitlines()}
STUBS = {
    "another kind": "lambda *given: {'a': object()}",
    "ragged": "lambda *given: [[1, 2], [3]]",
    "endless, interrupted": "lambda *given: (_ for _ in ()).throw(KeyboardInterrupt('by hand'))",
    "its own error": "lambda *given: 1 / 0  # the student's own line",
    "of the wrong shape": "lambda *given: torch.zeros(2, 3, 4)",
    "three tensors of the wrong shape": "lambda *given: (torch.zeros(2, 3), torch.zeros(3), torch.zeros(1))",
}


def visible_tests():
    """The visible test cells with the names of the functions that they test."""
    for name in NAMES:
        for exercise in sheets.exercises(original(name)):
            if not exercise.written:
                source = sheets.HIDDEN.sub("", exercise.tests)
                yield source, re.findall(r"check\.\w+\((\w+)", source)


def shown(cell):
    return "".join("\n".join(output.get("traceback", [output.get("text", "")])) for output in cell.outputs)


@pytest.mark.parametrize("mode", ["Context", "Verbose", "Plain", "Minimal"])
def test_no_line_of_a_test_is_shown_in_a_notebook(mode):
    """The kernel is that of JupyterLab and VS Code, which show what it sends."""
    notebook = nbformat.v4.new_notebook()
    cells = [f"%xmode {mode}\nimport torch\n\nseed = 1"]
    for source, names in visible_tests():
        for stub in STUBS.values():
            cells += ["\n".join(f"{name} = {stub}" for name in names), source]
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in cells]
    NotebookClient(notebook, timeout=300, kernel_name="python3", allow_errors=True).execute()
    failed = [shown(cell) for cell in notebook.cells[2::2]]
    assert len(failed) == len(STUBS) * len(list(visible_tests()))
    for told in failed:
        told = re.sub(r"\x1b\[[\d;]*m", "", told)
        assert told.strip()
        assert [line for line in SECRET if len(line) > 12 and line in told] == []
    if mode != "Minimal":  # which never shows a line
        assert sum("the student's own line" in told for told in failed) == len(failed) / len(STUBS)


def test_no_line_of_a_test_is_shown_in_plain_ipython(tmp_path):
    *_, answer, message = next(wrong for wrong in WRONG if wrong[1] == "project")
    tested = next(source for source, names in visible_tests() if names == ["project"] and "box" in source)
    lines = f"import torch\nseed = 1\n{answer}\n{tested}"
    script = tmp_path / "sheet.ipy"
    script.write_text(lines, encoding="utf-8")
    found = subprocess.run(
        [sys.executable, "-m", "IPython", "--colors=NoColor", str(script)],
        capture_output=True, text=True, env=dict(os.environ, IPYTHONDIR=str(tmp_path)),
    )  # fmt: skip
    told = found.stdout + found.stderr
    assert message in told
    assert [line for line in SECRET if len(line) > 12 and line in told] == []


def test_an_error_of_the_student_comes_with_the_students_frames_alone():
    names = functions("1-pgd", project="def project(x, delta, eps):\n    raise ValueError('mine') from KeyError('why')")
    with pytest.raises(ValueError, match="mine") as caught:
        exec(next(source for source, tested in visible_tests() if tested == ["project"]), names)
    assert [frame.name for frame in caught.traceback][-2:] == ["quiet", "project"]
    assert isinstance(caught.value.__cause__, KeyError)
