"""Every notebook of the book runs at smoke size, twice to the same bytes, and says what the first page quotes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from markdown_it import MarkdownIt

from advtransfer.experiments import vision
from advtransfer.notebooks import execute
from advtransfer.notebooks.export import glued
from advtransfer.notebooks.read import read
from advtransfer.pages import layout
from advtransfer.records.record import Record

ROOT = Path(__file__).parents[1]
SVG = "image/svg+xml"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.md"))
QUOTED = re.compile(r"\{glue:text\}`/notebooks/(\w+)\.ipynb::(\w+):([^`]*)`")
PAGES = [path for path in sorted((ROOT / "book").rglob("*.md")) if "_build" not in path.parts]


@pytest.fixture(autouse=True)
def _bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data, no cache, one thread: what a notebook shows then is what the code alone makes of it."""
    monkeypatch.setenv("ADVTRANSFER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_reads_as_a_lesson(path: Path) -> None:
    """At most twelve lines are hidden in a cell; at least a third of the code is visible, as wide as the column."""
    lines = {True: 0, False: 0}
    for cell in read(path).node.cells:
        tags = set(cell.metadata.get("tags", ()))
        if cell.cell_type == "code" and "parameters" not in tags:
            own = sum(bool(line.strip()) for line in cell.source.splitlines())
            hidden = bool(tags & {"remove-input", "hide-input", "remove-cell"})
            assert not hidden or own <= 12, cell.source
            assert hidden or max(map(len, cell.source.splitlines())) <= 83, cell.source
            lines[hidden] += own
    assert lines[False] >= sum(lines.values()) / 3, lines


@pytest.mark.parametrize("path", [*PAGES, ROOT / "README.md"], ids=lambda path: path.stem)
def test_code_beside_prose_is_as_wide_as_its_column(path: Path) -> None:
    for token in MarkdownIt().parse(path.read_text("utf-8")):
        if token.type == "fence" and not token.info.startswith("{"):
            widest = max(token.content.splitlines(), key=len, default="")
            assert len(widest) <= (105 if path.name == "README.md" else 83), widest


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_says_in_a_line_what_it_is_about(path: Path) -> None:
    (description,) = re.findall(r'"description lang=en": "([^"]+)"', path.read_text("utf-8").split("\n---\n")[0])
    assert 40 < len(description) < 170


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_at_smoke_size(path: Path, executed: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first = executed(path)
    node = nbformat.read(first, as_version=4)
    outputs = [output for cell in node.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]
    figures = [
        cell
        for cell in node.cells
        if cell.cell_type == "code" and any(k.startswith("image/") for o in cell.outputs for k in o.get("data", {}))
    ]
    for cell in figures:
        about = cell.metadata.get("mystnb", {})
        assert about.get("figure", {}).get("caption"), f"a figure of {path.name} has no caption"
        assert about.get("image", {}).get("alt"), f"a figure of {path.name} has no alt text"
        assert all(layout.MIME in o.data for o in cell.outputs if SVG in o.get("data", {})), f"{path.name}, on a phone"
    values = glued(node)
    own = {key for page in PAGES for name, key, _ in QUOTED.findall(page.read_text()) if name == path.stem}
    assert own <= set(values), f"quoted on a page, but not glued: {own - set(values)}"
    # From the record kept by the first run the page comes out the same, byte for byte.
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(first.parent / "cache"))
    second = execute.run(path, {"profile": "smoke"}, out=first.parent / "again")
    assert second.executed
    assert second.path.read_bytes() == first.read_bytes()


@pytest.mark.parametrize("name", ["cifar_to_stl", "nlp"])
def test_what_a_page_computes_from_scratch_is_what_the_library_gives(
    name: str, executed: Callable[[Path], Path]
) -> None:
    node = nbformat.read(executed(ROOT / "notebooks" / f"{name}.md"), as_version=4)
    printed = "".join(
        output.text for cell in node.cells for output in cell.get("outputs", ()) if output.output_type == "stream"
    )
    scratch, library = (re.findall(rf"α1 {by} +([\d.]+)", printed) for by in ("from scratch", "by the library"))
    assert scratch == library
    assert float(scratch[0]) > 0


def test_an_unknown_parameter_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'networks'") as refused:
        execute.run(ROOT / "notebooks" / "theory_checks.md", {"network": 3}, out=tmp_path)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("*.ipynb"))


def test_without_data_the_image_page_says_so_and_still_builds(tmp_path: Path) -> None:
    page = execute.run(ROOT / "notebooks" / "cifar_to_stl.md", {"profile": "quick"}, out=tmp_path)
    text = json.dumps(json.loads(page.path.read_text())["cells"])
    assert "admonition" in text
    assert "advtransfer data fetch" in text
    assert '"output_type": "error"' not in text


def test_killed_at_any_moment_and_typed_again_it_ends_in_the_same_record(tmp_path: Path) -> None:
    """Killed twice, each time a little later, then left alone: the record is that of a run that nobody stopped."""
    sizes = {"architectures": "lenet,resnet18", "epochs": "12", "target_epochs": "12"}
    command = [sys.executable, "-m", "advtransfer", "run", "cifar_to_stl", "--profile", "smoke", "--out", str(tmp_path)]
    command += [part for name, value in sizes.items() for part in (f"--{name}", value)]
    cache, halfway = tmp_path / "cache", 0
    for kept in (1, 2):  # the states or weights that are there when the kill comes
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(list(cache.glob("weights/*/*"))) < kept and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        halfway += bool(list(cache.glob("weights/*/*.checkpoint")))
        assert not list(cache.glob("records/*/*/*/record.json"))
    assert halfway  # a state in mid-training was left, and read by the next
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (head,) = cache.glob("records/vision/*/*/record.json")
    config = vision.Config.from_profile("smoke", **sizes)
    os.environ["ADVTRANSFER_CACHE"] = str(tmp_path / "another")  # put back by the fixture
    assert Record.load(head.parent).digest == vision.run(config).digest
