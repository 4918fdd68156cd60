"""The runner: strict before, clean after, and nothing done twice."""

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import trials
from advtransfer.commands.main import main
from advtransfer.notebooks.execute import Outcome, RunError, run
from advtransfer.notebooks.find import in_toc_order
from advtransfer.notebooks.read import NotebookError, read
from advtransfer.records.configs import ConfigError
from advtransfer.records.record import Record

REPOSITORY = Path(__file__).parents[1]
DONE = Outcome(Path("a.ipynb"), True, (), None)
PARAMETERS = "# a line for each parameter is put here when the page is run\n"
NOTEBOOK = (
    trials.HEADER.format(experiment="toys.echo", title="Powers", parameters=PARAMETERS)
    + """
```{code-cell} ipython3
from toys import echo
from advtransfer.records import storage
config = echo.Config.from_cell(globals())
record = echo.run(config)
print(record.tables["powers"])
```

```{code-cell} ipython3
import os, sys
print(sys.executable, os.getcwd(), file=sys.stderr)
LAST
```
"""
)


@pytest.fixture
def notebook(toys: Path, tmp_path: Path) -> Path:
    path = tmp_path / "notebooks" / "powers.md"
    path.parent.mkdir()
    path.write_text(NOTEBOOK.replace("LAST", "record.digest"), encoding="utf-8")
    return path


def outputs(path: Path) -> str:
    return json.dumps([cell.get("outputs") for cell in json.loads(path.read_text())["cells"]])


def test_executed_once_for_each_thing_it_depends_on(notebook, cache, tmp_path):
    first = run(notebook, {"eps": "1/2", "steps": "3"})
    assert (first.path, first.executed) == (notebook.with_suffix(".ipynb"), True)
    assert "0.125" in outputs(first.path)
    assert str(notebook.parent) in outputs(first.path)
    assert sys.executable in outputs(first.path)
    assert not run(notebook, {"eps": 0.5, "steps": "3"}).executed, "the same values, written differently"

    text = first.path.read_bytes()
    first.path.write_text("{half")
    assert run(notebook, {"eps": "1/2", "steps": "3"}).executed
    assert first.path.read_bytes() == text, "the same run gives the same file, byte for byte"

    def key() -> str:
        return read(notebook).resolve({"eps": "1/2", "steps": "3"}).key

    keys = [key()]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "numbers.txt").write_text("data that was missing before")
    keys.append(key())
    notebook.write_text(notebook.read_text().replace("# Powers", "# Powers of eps"))
    keys.append(key())
    assert len(set(keys)) == 3
    assert not list(notebook.parent.glob(".writing-*"))


def test_a_change_in_the_source_it_imports_changes_the_key(notebook, toys, tmp_path):
    """Asked of a new process each time, as sources are read once in a process."""

    def key() -> str:
        script = "import sys, pathlib; from advtransfer.notebooks import read as n; sys.path.insert(0, sys.argv[2])\n"
        script += "print(n.read(pathlib.Path(sys.argv[1])).resolve({}).key)"
        command = [sys.executable, "-c", script, str(notebook), str(tmp_path)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    before = key()
    (toys / "other.py").write_text("unrelated = 1")
    assert key() == before
    (toys / "__init__.py").write_text("seen = 1")
    assert key() != before


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"epsilon": "1"}, "unknown parameter 'epsilon'; did you mean 'eps'"),
        ({"eps": "-1"}, "eps: got '-1'; expected greater than 0"),
        ({"steps": "1e-3"}, "steps: got '1e-3'; expected a valid integer"),
        ({"profile": "papr"}, "profile: got 'papr'"),
    ],
)
def test_bad_parameters_are_told_before_a_kernel_starts(notebook, parameters, message, monkeypatch):
    monkeypatch.setattr("advtransfer.notebooks.execute.execute", lambda *_: pytest.fail("started"))
    with pytest.raises(ConfigError, match=message):
        run(notebook, parameters)


def test_a_failing_cell_is_named_and_the_old_result_kept(notebook):
    notebook.with_suffix(".ipynb").write_text("old")
    notebook.write_text(notebook.read_text().replace("record.digest", "1 / (seed - seed)"))
    with pytest.raises(RunError, match=r"powers.md, cell 4 \(In \[\d\]\): ZeroDivisionError(.|\n)*1 / \(seed - seed\)"):
        run(notebook)
    assert notebook.with_suffix(".ipynb").read_text() == "old"
    assert "ZeroDivisionError" in notebook.with_suffix(".failed.ipynb").read_text()


def test_a_dead_kernel_is_told(notebook):
    notebook.write_text(notebook.read_text().replace("record.digest", "os._exit(1)"))
    with pytest.raises(RunError, match="kernel died"):
        run(notebook)
    assert not notebook.with_suffix(".ipynb").exists()


def test_what_is_wrong_with_a_notebook_is_told(notebook):
    with pytest.raises(NotebookError, match="unknown notebook 'power'; did you mean 'powers'"):
        run(notebook.with_stem("power"))
    text = notebook.read_text()
    for cell, message in (("step = 3", "unknown parameter 'step'; did you mean 'steps'?"),
                          ("steps = 1 + 2", "a default that is not a literal; expected a plain value")):  # fmt: skip
        notebook.write_text(text.replace(PARAMETERS, f"{cell}\n"))
        with pytest.raises(ValueError, match=re.escape(message)):
            run(notebook)
    notebook.write_text(text.replace(":tags: [parameters]", ":tags: [other]"))
    with pytest.raises(NotebookError, match="no cell has the tag 'parameters'; expected one"):
        run(notebook)
    notebook.write_text(text.replace("experiment: toys", "experimental: toys"))
    with pytest.raises(NotebookError, match="expected a module there"):
        run(notebook)


def test_order_of_the_book(tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.md").touch()
    (tmp_path / "_toc.yml").write_text("root: x\nparts:\n- chapters:\n  - file: notebooks/c\n  - file: notebooks/b\n")
    assert [path.stem for path in in_toc_order(folder)] == ["c", "b", "a"]


def test_the_command_line(notebook, monkeypatch, capsys):
    monkeypatch.chdir(notebook.parents[1])
    assert main(["run", "powers", "--profile", "smoke", "--out", "elsewhere"]) == 0
    assert "executed in" in capsys.readouterr().out
    assert Path("elsewhere/powers-smoke.ipynb").exists()
    assert not notebook.with_suffix(".ipynb").exists()
    for wrong in (["powers", "-p", "epz", "1"], ["pwers"], [], ["powers", "--all"], ["--all", "-p", "eps", "1"]):
        assert main(["run", *wrong]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
    Path("file").touch()
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(Path("file").absolute()))
    assert main(["run", "powers"]) == 2
    assert "ADVTRANSFER_CACHE" in capsys.readouterr().err


def test_parameters_and_device_as_options(notebook, monkeypatch, capsys):
    monkeypatch.chdir(notebook.parents[1])
    monkeypatch.setenv("ADVTRANSFER_DEVICE", "")
    assert main(["run", "powers", "--profile", "smoke", "--device", "cpu", "--eps", "4/255", "--steps=3"]) == 0
    assert os.environ["ADVTRANSFER_DEVICE"] == "cpu"
    path = notebook.with_suffix(".ipynb")
    made = json.loads(path.read_text())["metadata"]["advtransfer"]["parameters"]
    assert made == {"profile": "smoke", "eps": 4 / 255, "steps": 3}
    for wrong, told in (
        (["--epz", "1"], "did you mean 'eps'"),
        (["--eps"], "expected parameters as --NAME VALUE"),
        (["--eps", "1", "-p", "eps", "2"], "eps was set twice"),
        (["-p", "eps=1", "-p", "eps", "2"], "eps was set twice"),
        (["-p", "eps=-1e-3"], "eps: got '-1e-3'; expected greater than 0"),
        (["-p", "eps", "-1e-3"], "eps: got '-1e-3'; expected greater than 0"),
        (["-p", "eps"], "-p eps has no value; expected -p NAME=VALUE or -p NAME VALUE"),
        (["-p"], "-p has no value; expected -p NAME=VALUE or -p NAME VALUE"),
        (["-p", "=3"], "-p has the name ''; expected -p NAME=VALUE"),
        (["--device", "abacus"], "device is 'abacus'; expected cpu, or a GPU"),
    ):
        assert main(["run", "powers", *wrong]) == 2
        assert told in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["data", "list", "--eps", "1"])
    assert main(["publish", "powers", "--name", "powers-seed0"]) == 2
    assert "no per-sample data to publish" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.yaml", "profile: smoke  # small\neps: 4/255\nsteps: 3\n"),
     ("a.toml", 'profile = "smoke"\neps = "4/255"\nsteps = 3\n')],
)  # fmt: skip
def test_a_file_of_parameters_is_read_and_what_is_typed_overrides_it(notebook, monkeypatch, name, text):
    monkeypatch.chdir(notebook.parents[1])
    Path(name).write_text(text)
    asked = []
    monkeypatch.setattr("advtransfer.notebooks.execute.run", lambda path, given, **_: asked.append(given) or DONE)
    monkeypatch.setattr("advtransfer.sweeps.plan.check", lambda path, given, *_: asked.append(given))
    Path("b.yaml").write_text("steps: 4")
    for words in (["-f", name], ["--parameters-file", name, "-p", "steps=5", "--seed", "1", "--profile", "quick"],
                  ["-f", name, "-f", "b.yaml"]):  # fmt: skip
        assert main(["run", "powers", *words]) == 0
    assert main(["sweep", "powers", "-f", name, "--grid", "seed=0:2", "--dry-run"]) == 0
    file = {"profile": "smoke", "eps": "4/255", "steps": 3}
    typed = {"profile": "quick", "steps": "5", "seed": "1"}
    assert asked[:4] == [file, file | typed, file | {"steps": 4}, file]
    assert read(notebook).resolve(file).parameters == {"profile": "smoke", "eps": 4 / 255, "steps": 3}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "a.yaml cannot be read (No such file or directory); expected lines NAME: VALUE of YAML"),
        (b"eps = 1", "a.yaml holds 'eps = 1'; expected lines NAME: VALUE"),
        (b"- eps", "a.yaml holds ['eps']; expected"),
        (b"1: 2", "a.yaml holds {1: 2}; expected"),
        (b"eps: [", "a.yaml cannot be read (while parsing"),
        (b"\xff\xfe", "a.yaml cannot be read ('utf-8' codec"),
        (b"epz: 1", "unknown parameter 'epz'; did you mean 'eps'?"),
        (b"steps: no", "steps: got False; expected a value that is not true or false"),
        (b"eps: {low: 1}", "eps: got {'low': 1}; expected"),
    ],
)
def test_a_file_that_holds_no_parameters_is_told_in_one_line(notebook, monkeypatch, capsys, content, told):
    monkeypatch.chdir(notebook.parents[1])
    if content is not None:
        Path("a.yaml").write_bytes(content)
    assert main(["run", "powers", "-f", "a.yaml"]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert main(["run", "--all", "-f", os.devnull]) == 2
    assert "-f sets parameters of one notebook; expected NOTEBOOK instead of --all" in capsys.readouterr().err


def test_a_word_is_taken_for_the_notebook_only_where_a_parameter_comes_before_it(notebook, monkeypatch, capsys):
    monkeypatch.chdir(notebook.parents[1])
    note = "is taken for the notebook, which comes before --NAME VALUE"
    assert main(["run", "--seed", "1", "powers", "--eps", "2"]) == 2
    assert f"note: '1' {note}" in capsys.readouterr().err
    for words in (["run", "pwers", "--seed", "1"], ["run", "pwers", "-p", "seed=1"], ["run", "--out", "x", "pwers"],
                  ["publish", "pwers", "--name", "x-seed1", "--seed", "1"],
                  ["publish", "--name", "x-seed1", "pwers", "--seed", "1"]):  # fmt: skip
        assert main(words) == 2
        told = capsys.readouterr().err
        assert note not in told
        assert "unknown notebook 'pwers'; did you mean 'powers'?" in told


def test_finding_everything_fresh_is_quick_and_imports_nothing_slow(notebook):
    command = [sys.executable, "-X", "importtime", "-m", "advtransfer", "run", "--all"]
    environment = dict(os.environ)
    here = notebook.parents[1]
    subprocess.run(command, cwd=here, env=environment, check=True, capture_output=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    again = subprocess.run(command, cwd=here, env=environment, check=True, capture_output=True, text=True)
    assert again.stdout == "notebooks/powers.md: fresh in notebooks/powers.ipynb\n"
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 3
    imported = {line.rpartition("|")[2].strip() for line in again.stderr.splitlines()}
    assert "advtransfer.notebooks.execute" in imported
    assert not imported & {"torch", "transformers", "papermill", "nbclient", "nbconvert", "matplotlib", "seaborn"}


def test_the_parameters_cell_is_made_from_the_config_and_keeps_what_differs(notebook):
    text = notebook.read_text()
    notebook.write_text(text.replace(PARAMETERS, "steps: int = 3\n"))
    lines = [
        'profile: str = "quick"  # size of the run: smoke, quick or paper',
        "seed: int = 0  # seed of everything random",
        "eps: float = None  # radius",
        "steps: int = 3  # steps",
    ]
    executed = json.loads(run(notebook, {"eps": "1/2"}).path.read_text())
    sources = ["".join(cell["source"]) for cell in executed["cells"] if cell["cell_type"] == "code"]
    assert sources[0].splitlines() == lines
    assert "eps = 0.5" in sources[1]
    record = Record.load(read(notebook).resolve({"eps": "1/2"}).record)
    assert (record.config["steps"], record.config["eps"]) == (3, 0.5)
    assert run(notebook, {"eps": "1/2", "steps": "2"}).executed
    assert Record.load(read(notebook).resolve({"eps": "1/2", "steps": "2"}).record).config["steps"] == 2


def test_only_the_files_that_an_experiment_reads_are_looked_at(notebook, tmp_path, monkeypatch):
    """A data root with much else in it costs nothing, and a change there changes nothing."""
    (tmp_path / "data" / "else").mkdir(parents=True)
    (tmp_path / "cache").mkdir(exist_ok=True)
    (tmp_path / "data" / "numbers.txt").write_text("1")
    key = read(notebook).resolve({}).key
    (tmp_path / "data" / "else" / "other.txt").write_text("2")
    monkeypatch.setattr("advtransfer.notebooks.read.Notebook.config", lambda *_: pytest.fail("asked again"))
    assert read(notebook).resolve({}).key == key
    (tmp_path / "data" / "beside.txt").write_text("2")  # the experiment may read it, too, so it is asked
    with pytest.raises(pytest.fail.Exception, match="asked again"):
        read(notebook).resolve({})
    monkeypatch.undo()
    monkeypatch.setenv("ADVTRANSFER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "data" / "numbers.txt").write_text("3, of another size")
    assert read(notebook).resolve({}).key != key
