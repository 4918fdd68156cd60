"""Style, types, imports, and an environment that is written down the same everywhere."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from advtransfer.records.provenance import installed

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HOOKS = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
PINS = dict(line.split("==") for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines())


def call(command: list[str]) -> subprocess.CompletedProcess:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(command, cwd=REPOSITORY, env=os.environ | {"PATH": path}, capture_output=True, text=True)


@pytest.mark.parametrize("hook", HOOKS, ids=[hook["id"] for hook in HOOKS])
def test_the_checks_of_a_commit_pass(hook):
    found = call(hook["entry"].split())
    assert found.returncode == 0, found.stdout + found.stderr


def test_torchvision_and_transformers_can_be_imported_beside_any_build_of_torch():
    script = (
        "import advtransfer.models, torchvision; from transformers import BertModel; import advtransfer.models.text"
    )
    found = call([sys.executable, "-c", script])
    assert found.returncode == 0, found.stderr


def test_operators_are_declared_only_for_a_cuda_wheel_without_cuda(tmp_path):
    """In a process of its own, with a torchvision that is nothing but its version file."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").touch()
    script = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
import torch
from advtransfer.models.torchvision_ops import declare_missing_operators
for torch.version.cuda, build in [("13.0", "+cu130"), (None, "+cpu"), (None, "+cu130"), (None, "+cu130")]:
    pathlib.Path(sys.argv[1], "torchvision", "version.py").write_text(f"__version__ = '0.28.0{build}'")
    declare_missing_operators()
    print(*(hasattr(torch.ops.torchvision, name) for name in ("nms", "qnms")))
"""
    found = call([sys.executable, "-c", script, str(tmp_path)])
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == ["False False", "False False", "True True", "True True"]


def test_no_other_program_of_the_environment_notices_the_package():
    assert not [point for point in entry_points(group="torch.backends") if point.value.startswith("advtransfer")]
    script = "import sys, torch; assert not [name for name in sys.modules if name.startswith('advtransfer')]"
    assert call([sys.executable, "-c", script]).returncode == 0


def test_constraints_pin_what_pyproject_asks_for_and_what_is_installed():
    pins = {normal(name): pin for name, pin in PINS.items()}
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for requirement in (Requirement(text) for group in groups for text in group):
        if requirement.name == PROJECT["name"]:  # an extra that builds on another
            continue
        assert pins[normal(requirement.name)] in requirement.specifier, requirement.name
    assert list(PINS) == sorted(PINS, key=str.lower)
    for name, pin in pins.items():
        assert (installed(name) or "").partition("+")[0] in ("", pin), name


def test_environment_yml_is_the_same_environment():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text(encoding="utf-8"))
    *packages, pip = environment["dependencies"]
    python = next(name.removeprefix("python=") for name in packages if name.startswith("python="))
    assert python in SpecifierSet(PROJECT["requires-python"])
    assert environment["name"] == PROJECT["name"]
    assert pip["pip"] == ["-c constraints.txt", f"-e .[{','.join(PROJECT['optional-dependencies'])}]"]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
