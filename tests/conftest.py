"""Fixtures that every test may use."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache as once
from pathlib import Path

import pytest
from filelock import FileLock
from xdist.scheduler import LoadScopeScheduling

import advtransfer.models  # noqa: F401 - and with it torchvision, which tests and peers import, beside any torch
from advtransfer.modes import one_thread
from advtransfer.notebooks import execute
from advtransfer.records import provenance
from browser import CHROMIUM, Browser
from cases import settings  # noqa: F401 - of Hypothesis, for all tests

ROOT = Path(__file__).parents[1]
BUILT = (
    "test_ledger.py",
    "test_links.py",
    "test_pages.py",
    "test_quoted.py",
)  # the modules that use the fixture `book`


@pytest.hookimpl(optionalhook=True)  # xdist can be switched off
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Of several processes (``make test``) each takes whole modules, and one of them all that read the built pages."""

    class ByModule(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            return "the built pages" if module.endswith(BUILT) else module

    return ByModule(config, log)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Tests are small: one thread is faster, and a sum then has one order on every machine. Child processes follow."""
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """An open browser."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here to open a page in")
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache root of the test's own: no test reads or leaves results anywhere else."""
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """A notebook of the book as executed at smoke size: once, without data, and on one thread."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "executed"  # one for all processes
    folder.mkdir(exist_ok=True)

    @once
    def executed_once(path: Path) -> Path:
        with pytest.MonkeyPatch.context() as patch, FileLock(folder / f"{path.name}.lock"):
            patch.setenv("ADVTRANSFER_DATA", str(folder / "data"))
            patch.setenv("ADVTRANSFER_CACHE", str(folder / "cache"))
            return execute.run(path, {"profile": "smoke"}, out=folder).path

    return executed_once


@pytest.fixture(scope="session")
def book(tmp_path_factory: pytest.TempPathFactory, executed: Callable[[Path], Path]) -> Path:
    """The folder of the book's pages, built from its notebooks at smoke size, as `make book` builds them.

    Or that of pages which were built before (``COMPANION_HTML``, see `make check`).
    """
    if built_before := os.environ.get("COMPANION_HTML"):
        return ROOT / built_before
    folder = tmp_path_factory.mktemp("book")
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "book", folder / "book", ignore=shutil.ignore_patterns("_build", "__pycache__"))
    (folder / "notebooks").mkdir()
    for path in sorted((ROOT / "notebooks").glob("*.md")):
        shutil.copy(executed(path), folder / "notebooks")
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(folder), "-W", "-n", "--keep-going"]
    without_pdf = {name: value for name, value in os.environ.items() if name != "COMPANION_PDF"}
    built = subprocess.run(command, capture_output=True, text=True, env=without_pdf)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    return folder / "_build" / "html"


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An importable folder with a package ``toys`` and in it an experiment, ``toys.echo``, that counts its calls."""
    package = tmp_path / "toys"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "echo.py").write_text(ECHO, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)  # for the kernels of notebooks
    monkeypatch.setenv("ADVTRANSFER_DATA", str(tmp_path / "data"))
    provenance._import_graph.cache_clear()  # of another test's toys
    yield package
    for name in ("toys", "toys.echo"):
        sys.modules.pop(name, None)


ECHO = '''
"""A tiny experiment."""
import os
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from advtransfer.records.configs import Config as Base
from advtransfer.records.configs import Epsilon
from advtransfer.records.runs import recorded


class Config(Base):
    """Its parameters."""
    PROFILES = {"smoke": {"steps": 1}, "quick": {"steps": 10}, "paper": {"steps": 100}}
    eps: Epsilon = Field(4 / 255, description="radius")
    steps: int = Field(1, ge=1, description="steps")


def files(config):
    """Its data: a file that may be there or not."""
    return {"numbers": Path(os.environ["ADVTRANSFER_DATA"]) / "numbers.txt"}


calls = []


@recorded
def run(config):
    """Eps to the powers 1 to steps."""
    calls.append(config)
    powers = config.eps ** np.arange(1.0, config.steps + 1)
    return {"powers": pd.DataFrame({"power": powers})}, {"powers": powers}
'''
