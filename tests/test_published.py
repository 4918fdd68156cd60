"""What publishes the project: workflows, containers, the place of publication and all that follows from it."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import check_links
import nbformat
import offered_notebooks
import output
import place
import pytest
import yaml
from packaging.specifiers import SpecifierSet

import advtransfer
from advtransfer.notebooks.executed import about
from advtransfer.records.provenance import installed

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.md"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
STEPS = [
    (path.stem, step)
    for path in WORKFLOWS
    for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
    for step in job["steps"]
]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CORE_TESTS = (ROOT / "tests" / "core.txt").read_text(encoding="utf-8").split()


# What `make test` passes on to a make that it starts would change what that one does.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("ARGS", "MAKEFLAGS", "MAKEOVERRIDES")}


def made(*words: str) -> list[str]:
    """The commands of a target of the Makefile, without running them."""
    command = ["make", "--dry-run", "--no-print-directory", *words]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


# Workflows.


@pytest.mark.parametrize(
    ("schema", "files"), [("github-workflows", WORKFLOWS), ("citation-file-format", [ROOT / "CITATION.cff"])]
)
def test_files_that_others_read_follow_their_published_schema(schema: str, files: list[Path]) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    found = subprocess.run([*command, *map(str, files)], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_each_step_is_a_target_of_the_makefile_or_a_pinned_action() -> None:
    targets = set(re.findall(r"^([\w-]+):.*  ## ", MAKEFILE, re.MULTILINE))
    others = []
    for name, step in STEPS:
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", step["uses"]), step["uses"]
        elif step["run"].startswith("make "):
            assert set(step["run"].split()[1:]) <= targets, step["run"]
        else:
            others.append((name, step["run"].split()[0]))
    assert sorted(others) == [
        ("release", "ls"), ("tests", "python"), ("tests", "python"), ("tests", "sudo"), ("tests", "sudo")
    ]  # fmt: skip


def test_the_core_is_tested_on_three_systems_by_the_command_of_the_makefile() -> None:
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))["jobs"]["core"]
    pythons = job["strategy"]["matrix"]["python"]
    assert PROJECT["project"]["requires-python"] == f">={pythons[0]}"
    assert [int(python.removeprefix("3.")) for python in pythons] == list(range(11, 15))
    systems = {system.partition("-")[0] for system in job["strategy"]["matrix"]["system"]}
    assert systems == {"ubuntu", "macos", "windows"}
    install, test = (step["run"].partition("  #")[0] for step in job["steps"] if "run" in step)
    assert made("test-core", "PYTHON=python") == [f"{test} "]
    brought = {"pytest", "hypothesis", "torch", "numpy", "scipy", "threadpoolctl", "advtransfer"}
    sources = "".join((ROOT / path).read_text(encoding="utf-8") for path in CORE_TESTS)
    imports = set(re.findall(r"^(?:from|import) (\w+)", sources, re.MULTILINE))
    assert imports - sys.stdlib_module_names <= brought | {"cases"}
    assert install == "python -m pip install . hypothesis pytest"


def test_every_module_of_the_core_that_has_tests_is_among_them() -> None:
    (strict,) = (part for part in PROJECT["tool"]["mypy"]["overrides"] if part.get("disallow_untyped_defs"))
    modules = {name.split(".")[1] for name in strict["module"]}
    tests = {f"tests/test_{name}.py" for name in modules if (ROOT / "tests" / f"test_{name}.py").is_file()}
    assert tests <= set(CORE_TESTS)
    assert all((ROOT / path).is_file() for path in CORE_TESTS)


def test_pages_are_put_on_their_branch_and_nothing_else_changes(tmp_path: Path) -> None:
    clone, remote = tmp_path / "clone", tmp_path / "remote.git"
    (clone / "_build" / "html" / "_sources").mkdir(parents=True)
    (clone / "Makefile").write_text(MAKEFILE, encoding="utf-8")
    (clone / ".gitignore").write_text("_build/\n", encoding="utf-8")
    person = {"NAME": "a", "EMAIL": "a@b.org"}
    own = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in person.items()}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=clone, env=ENVIRONMENT | own, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("git", "init", "--quiet", "--initial-branch=main")
    run("git", "init", "--quiet", "--bare", str(remote))
    run("git", "remote", "add", "origin", str(remote))
    run("git", "add", ".")
    run("git", "commit", "--quiet", "-m", "first")
    for text in ("first", "second"):
        (clone / "_build" / "html" / "index.html").write_text(text, encoding="utf-8")
        (clone / "_build" / "html" / "_sources" / f"{text}.ipynb").write_text("{}", encoding="utf-8")
        run("make", "deploy")
    there = ("git", "--git-dir", str(remote))
    names = run(*there, "ls-tree", "-r", "--name-only", "gh-pages").split()
    assert names == [".nojekyll", "_sources/first.ipynb", "_sources/second.ipynb", "index.html"]
    assert run(*there, "show", "gh-pages:index.html") == "second"
    assert run(*there, "rev-list", "--count", "gh-pages").strip() == "1"
    assert run("git", "status", "--porcelain") == ""
    assert run("git", "branch", "--all", "--format=%(refname:short)").split() == ["main", "origin/gh-pages"]


def test_links_are_checked_weekly_and_with_them_what_the_buttons_open(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = check_links.LISTED.read_text(encoding="utf-8").splitlines()
    monkeypatch.setattr(place, "repository", lambda: "")
    assert check_links.addresses() == listed
    monkeypatch.setattr(place, "repository", lambda: "a/b")
    others = [address for address in check_links.addresses() if address not in listed]
    opened = [f"https://github.com/a/b/blob/gh-pages/_sources/notebooks/{path.stem}.ipynb" for path in NOTEBOOKS]
    assert others == [*opened, "https://github.com/a/b", "https://a.github.io/b/"]


# The place of publication.


@pytest.fixture
def published(tmp_path: Path) -> Callable[[str], Path]:
    """A folder whose ``_config.yml`` names a place of publication."""

    def publish(url: str) -> Path:
        config = (ROOT / "_config.yml").read_text(encoding="utf-8")
        changed = re.sub(r"^  url: .*$", f'  url: "{url}"', config, flags=re.MULTILINE)
        (tmp_path / "_config.yml").write_text(changed, encoding="utf-8")
        assert yaml.safe_load(changed)["repository"]["url"] == url
        return tmp_path

    return publish


def test_the_place_is_the_address_of_a_repository(published: Callable[[str], Path]) -> None:
    for url in ("https://github.com/A-b/c.d_e", "https://github.com/A-b/c.d_e/", "https://github.com/A-b/c.d_e.git"):
        assert place.repository(published(url)) == "A-b/c.d_e"
    assert place.repository(published("")) == ""
    assert place.pages("A-b/c.d_e") == "https://a-b.github.io/c.d_e/"
    assert place.pages("a/A.github.io") == "https://a.github.io/"
    for url in ("A-b/c", "http://github.com/a/b", "https://github.com/a", "https://github.com/a/b/tree/main"):
        with pytest.raises(place.PlaceError, match=re.escape(f"{url!r} as repository: url; expected https://github")):
            place.repository(published(url))


def test_the_files_of_this_checkout_agree_with_the_setting() -> None:
    for name, written in place.WRITTEN.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        assert written(text, place.repository()) == text, f"run make place: {name}"


def test_all_that_names_the_place_follows_from_it_and_goes_again() -> None:
    for name, written in place.WRITTEN.items():
        text = written((ROOT / name).read_text(encoding="utf-8"), "")
        for moved in ("a/b", "longer-owner/another_name"):
            there = written(written(text, "first/place"), moved)
            assert there.count(f"https://github.com/{moved}") >= 1
            assert place.pages(moved) in there
            assert "first" not in there.replace(text, "").partition("first/place")[1]
            assert written(there, moved) == there
            assert written(there, "") == text
    code, pages = "https://github.com/a/b", "https://a.github.io/b/"
    cited = yaml.safe_load(place.citation((ROOT / "CITATION.cff").read_text(encoding="utf-8"), "a/b"))
    assert (cited["repository-code"], cited["url"]) == (code, pages)
    project = tomllib.loads(place.project((ROOT / "pyproject.toml").read_text(encoding="utf-8"), "a/b"))
    assert project["project"]["urls"] == {"Documentation": pages, "Repository": code}
    assert {**project["project"], "urls": None} == {**PROJECT["project"], "urls": None}
    readme = place.readme((ROOT / "README.md").read_text(encoding="utf-8"), "a/b").split("\n\n")
    assert [line.count("](https://") for line in readme[1].splitlines()] == [2] * 4


@pytest.mark.parametrize("page", ["notebooks/nlp", "book/notation"])
def test_launch_buttons_lead_to_the_place_of_publication(page: str, published: Callable[[str], Path]) -> None:
    def shown(url: str) -> list[str]:
        context: dict[str, Any] = {"header_buttons": []}
        app = SimpleNamespace(confdir=published(url), config=SimpleNamespace(companion_pdf=""))
        output.add_buttons(app, page, "page.html", context, None)
        return [button["url"] for button in context["header_buttons"]]

    assert shown("") == []
    colab = "https://colab.research.google.com/github/a/b/blob/gh-pages/_sources/notebooks/nlp.ipynb"
    binder = "https://mybinder.org/v2/gh/a/b/HEAD?urlpath=lab/tree/notebooks/nlp.md"
    code = "https://github.com/a/b"
    assert shown(code) == ([colab, binder, code] if page == "notebooks/nlp" else [code])


@pytest.mark.parametrize(("url", "cloned"), [("", output.PLACE), ("https://github.com/a/b", "https://github.com/a/b")])
def test_a_page_names_the_repository_of_the_setting(url: str, cloned: str, published: Callable[[str], Path]) -> None:
    env = SimpleNamespace(dependencies={"book/rerun": set()})
    source = [(ROOT / "book" / "rerun.md").read_text(encoding="utf-8")]
    output.write_place(SimpleNamespace(confdir=published(url), env=env), "book/rerun", source)
    assert source[0].count(f"git clone {cloned} companion") == 2
    assert env.dependencies == {"book/rerun": {"_config.yml"}}


# Notebooks that are run elsewhere.


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_published_notebook_first_installs_what_it_needs(path, tmp_path, executed) -> None:
    copy, was = tmp_path / "copy.ipynb", executed(path).read_bytes()
    copy.write_bytes(was)
    for published in ("a/b", "moved/here"):  # a page that is not built again, too
        with offered_notebooks.rewritten(copy) as node:
            offered_notebooks.install_first(node, published)
        first, *others = nbformat.read(copy, as_version=4).cells
        assert f"git clone --quiet --depth 1 https://github.com/{published} companion\n" in first.source
        assert others == nbformat.reads(was.decode(), as_version=4).cells
        assert about(copy)["experiment"].startswith("advtransfer.experiments.")  # it still counts as the run


CELL = """
import sys
from IPython.core.interactiveshell import InteractiveShell
import offered_notebooks
ran = []
shell = InteractiveShell.instance()
shell.system = lambda command: ran.append(command.split()[0])
shell.register_magic_function(lambda line: ran.append(line.split()[-1]), magic_name="pip")
if sys.argv[1] == "missing":
    sys.modules["advtransfer.notebooks"] = None
assert shell.run_cell(offered_notebooks.install_cell("a/b")).success
print(ran)
"""


@pytest.mark.parametrize(("there", "ran"), [("there", []), ("missing", ["git", '"./companion[notebooks]"'])])
def test_the_install_cell_does_nothing_where_the_library_is(there: str, ran: list[str], tmp_path: Path) -> None:
    path = os.pathsep.join(str(ROOT / name) for name in ("book/_ext", "lib"))
    environment = os.environ | {"PYTHONPATH": path, "HOME": str(tmp_path)}
    command = [sys.executable, "-c", CELL, there]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == str(ran)


# Containers, and what is cited.


def test_the_containers_have_what_a_bare_debian_needs() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    needed = re.search(r"for command in (.*); do", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))[1].split()
    needed = {*needed, "python3-venv", "bubblewrap", "ca-certificates"} - {"bwrap"}
    assert set(re.search(r"--no-install-recommends \\\n(.*?) \\\n", dockerfile)[1].split()) == needed
    about = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    folder = ROOT / ".devcontainer"
    assert (folder / about["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert (folder / about["build"]["context"]).resolve() == ROOT
    assert f" AS {about['build']['target']}\n" in dockerfile
    assert f"RUN {about['postCreateCommand']}\n" in dockerfile


def test_every_pinned_package_works_with_the_oldest_python_that_is_promised() -> None:
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=") + ".0"
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    refused = {
        found.name: needs
        for found in map(distribution, filter(installed, pins))
        if (needs := found.metadata.get("Requires-Python")) and oldest not in SpecifierSet(needs)
    }
    assert not refused


def test_the_version_is_the_same_wherever_it_is_named() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == advtransfer.__version__
    for path in ("CHANGELOG.md", "book/changes.md"):
        newest = re.search(r"^## .*?(\d+\.\d+\.\d+)", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
        assert newest[1] == advtransfer.__version__, path
