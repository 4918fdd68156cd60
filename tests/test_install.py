"""The wheel in environments of its own, each with exactly the packages that its metadata ask for.

The packages are linked from the environment of the tests, so that nothing is fetched; what an install of the wheel
would bring is decided by the metadata of the wheel and of these packages alone.
"""

import os
import shutil
import subprocess
import sys
import venv
from collections import Counter
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from advtransfer.datasets.sources import sources
from advtransfer.experiments import printed

ROOT = Path(__file__).parents[1]
CORE = 15  # packages of the core environment, at most

Python = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution, as a release does it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    (wheel,) = folder.glob("*.whl")
    return wheel


def needs(requirement: str, known: dict[str, set[str]]) -> dict[str, set[str]]:
    """The packages that a requirement brings, each with the extras that are asked of it."""
    parsed = Requirement(requirement)
    name, extras = parsed.name.lower().replace("_", "-"), set(parsed.extras)
    if name in known and extras <= known[name]:
        return known
    known.setdefault(name, set()).update(extras)
    for text in distribution(name).requires or ():
        other = Requirement(text)
        wanted = [""] if not extras else sorted(extras)
        if other.marker is None or any(other.marker.evaluate({"extra": extra}) for extra in wanted):
            needs(f"{other.name}[{','.join(other.extras)}]", known)
    return known


def link(packages: set[str], site: Path) -> None:
    """Put these packages into a folder: a link for each of their own folders, or for each file of a shared one."""
    files = {package: distribution(package).files or [] for package in packages}
    owners = Counter(top for own in files.values() for top in {file.parts[0] for file in own})
    for file in (file for own in files.values() for file in own if "bin" not in file.parts):
        whole = owners[file.parts[0]] == 1 and file.parts[0] != ".."
        part = Path(file.parts[0]) if whole else Path(file)
        target, place = Path(os.path.normpath(site / part)), Path(os.path.normpath(str(file.locate())))
        place = place if not whole else place.parents[len(file.parts) - 2] if len(file.parts) > 1 else place
        if place.exists() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(place)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Python]:
    """A Python in which the wheel is installed with an extra, run in another folder, without the checkout."""
    made: dict[str, Path] = {}

    def make(extra: str) -> Python:
        if extra not in made:
            made[extra] = folder = tmp_path_factory.mktemp("env") / (extra or "core")
            venv.create(folder, with_pip=False, symlinks=True)
            (site,) = folder.glob("lib/python*/site-packages")
            link({*needs(f"advtransfer[{extra}]", {})} - {"advtransfer"}, site)
            command = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
            subprocess.run([*command, "--no-deps", "--no-index", str(wheel)], check=True)
            (folder / "elsewhere").mkdir()
        folder = made[extra]
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ADVTRANSFER"))
        }
        own = {"ADVTRANSFER_CACHE": str(folder / "cache"), "ADVTRANSFER_DATA": str(folder / "data")}

        def run(*words: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
            done = subprocess.run(
                [str(folder / "bin" / "python"), *words], cwd=folder / "elsewhere", env=inherited | own,
                capture_output=True, text=True,
            )  # fmt: skip
            assert (done.returncode == 0) == ok, done.stdout + done.stderr
            return done

        return run

    return make


def test_the_core_is_small_and_attacks_import_what_torch_does(installed):
    python = installed("")
    packages = needs("advtransfer", {})
    assert len(packages) <= CORE, sorted(packages)
    script = """
import torch
from advtransfer import attacks, certificates, concentration, intervals, matching, metrics, prepare, scores, spectral
from advtransfer import statistics
model = torch.nn.Linear(4, 3)
x = torch.full((2, 4), 0.5)
print(attacks.pgd(model, x, eps=0.125).abs().max().item() <= 0.125)
"""
    assert python("-c", script).stdout == "True\n"
    imported = python("-X", "importtime", "-c", "import advtransfer.attacks").stderr
    assert "torch" in imported
    assert "scipy" not in imported


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (["run", "synthetic"], "notebooks"),
        (["sweep", "synthetic", "--grid", "seed=0:2"], "notebooks"),
        (["data", "list"], "experiments"),
        (["rank", "pool.toml"], "rank"),
        (["list"], "notebooks"),
        (["classroom", "check"], "classroom"),
        (["publish", "cifar_to_stl", "--name", "a"], "notebooks"),
    ],
)
def test_a_command_without_its_extra_says_in_one_line_how_to_get_it(installed, words, extra):
    done = installed("")("-m", "advtransfer", *words, ok=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert f"with: python -m pip install 'advtransfer[{extra}] @ file://" in done.stderr


@pytest.mark.parametrize(
    ("module", "extra"),
    [("datasets", "experiments"), ("models.text", "experiments"), ("experiments.vision", "experiments"),
     ("training.images", "experiments"), ("notebooks.execute", "notebooks"), ("pages.cifar_to_stl", "notebooks")],
)  # fmt: skip
def test_a_module_without_its_extra_says_so(installed, module, extra):
    done = installed("")("-c", f"import advtransfer.{module}", ok=False)
    assert f"with: python -m pip install 'advtransfer[{extra}] @ file://" in done.stderr.splitlines()[-1]


def test_the_wheel_has_its_data_and_says_which_runs_are_not_there(installed):
    python = installed("experiments")
    listed = python("-m", "advtransfer", "data", "list").stdout
    assert all(name in listed for name in sources())
    script = """
from advtransfer.experiments import printed
print([len(printed.table(k)) for k in range(1, 6)], len(printed.known_accuracies()))
from advtransfer.records.published import published
print(dict(published('vision')))
"""
    told = python("-c", script).stdout.splitlines()
    lengths = [len(printed.table(k)) for k in range(1, 6)]
    assert told[0] == f"{lengths} {len(printed.known_accuracies())}"
    assert told[1] == "{}"
    failed = python("-m", "advtransfer", "data", "fetch", "cifar", ok=False)
    assert "unknown data set 'cifar'; did you mean 'cifar10'?" in failed.stderr


def test_a_notebook_runs_from_another_folder_and_what_is_missing_is_told(installed, tmp_path):
    python = installed("notebooks")
    assert "there is no folder notebooks here" in python("-m", "advtransfer", "run", "synthetic", ok=False).stderr
    shutil.copy(ROOT / "notebooks" / "cifar_to_stl.md", tmp_path)
    words = ["run", str(tmp_path / "cifar_to_stl.md"), "--profile", "smoke"]
    made = tmp_path / "cifar_to_stl"
    assert f"written to {made}.ipynb, {made}.html" in python("-m", "advtransfer", *words).stdout
    assert "the stored runs come with the repository" in (tmp_path / "cifar_to_stl.html").read_text("utf-8")


@pytest.mark.parametrize("words", [["run", "forecast.md"], ["run", "study.md"], ["show", "vision/trained-seed0"]])
def test_what_needs_stored_runs_is_refused_where_there_are_none(installed, words):
    words = [str(ROOT / "notebooks" / word) if word.endswith(".md") else word for word in words]
    refused = installed("notebooks")("-m", "advtransfer", *words, ok=False).stderr
    assert "the stored runs come with the repository" in refused
    assert "Traceback" not in refused


def test_a_sheet_is_released_from_the_wheel(installed):
    python = installed("classroom")
    made = python("-m", "advtransfer", "classroom", "release", "1-pgd", "--out", "sheets").stdout.splitlines()
    assert made[0] == str(Path("sheets/student/1-pgd.ipynb"))


@pytest.mark.parametrize("extra", ["dask", "slurm"])
def test_a_cluster_can_be_used_with_its_extra_and_no_other(installed, extra):
    script = {
        "dask": "from distributed import Client, LocalCluster\n"
        "from advtransfer.sweeps import workers\n"
        "if __name__ == '__main__':\n"
        "    with LocalCluster(1, threads_per_worker=1, dashboard_address=None) as cluster:\n"
        "        engine = workers.dask(cluster.scheduler_address)\n"
        "        print(engine.start().submit(int, '7').result()); engine.close()\n",
        "slurm": "from advtransfer.sweeps import workers\n"
        "engine = workers.slurm(1, cluster='debug')\n"
        "pool = engine.start(); print(pool.submit(int, '7').result()); pool.shutdown()\n",
    }[extra]
    assert installed(extra)("-c", script).stdout.splitlines()[-1] == "7"
