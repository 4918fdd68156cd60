"""``python -m advtransfer classroom release | check | grade | feedback``."""

import argparse
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from advtransfer.classroom import feedback, gradebook, jail, sandbox, sheets
from advtransfer.records.storage import replacing

INSTALL = "pip install advtransfer, from the address that your teacher has given"


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add ``release``, ``check``, ``grade`` and ``feedback``; each sets `func` (namespace to exit code)."""
    actions = parser.add_subparsers(required=True, metavar="release | check | grade | feedback")
    release = actions.add_parser("release", help="make the student, instructor and solutions editions")
    release.add_argument("names", nargs="*", metavar="NAME", help="name of an assignment (default: all)")
    release.add_argument("--out", type=Path, default=Path("_build/classroom"), metavar="DIR")
    release.add_argument("--install", default=INSTALL, metavar="TEXT", help="how a student installs the library")
    release.add_argument("--execute", action="store_true", help="run the solutions edition, so that it shows results")
    release.set_defaults(func=_release)
    check = actions.add_parser("check", help="say whether submissions can be run safely here")
    check.set_defaults(func=_check)
    grade = actions.add_parser("grade", help="run the tests on every submission")
    grade.add_argument("--student", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    grade.add_argument(
        "--jobs", type=int, default=min(4, os.cpu_count() or 1), metavar="N", help="submissions graded at the same time"
    )
    grade.add_argument(
        "--seed", type=int, default=None, help="seed of the tests' inputs (default: a secret seed, which is kept)"
    )
    grade.add_argument("--seconds", type=float, default=20.0, help="time limit for one cell or call (default: 20)")
    grade.add_argument("--unsafe", action="store_true", help="run without a sandbox; for code that you have read")
    grade.set_defaults(func=_grade)
    pages = actions.add_parser("feedback", help="write the pages for students, the overview and grades.csv")
    pages.set_defaults(func=_feedback)
    for command in (grade, pages):
        command.add_argument("name", metavar="NAME", help="name of the assignment")
        command.add_argument(
            "--class", dest="folder", type=Path, required=True, metavar="DIR",
            help="folder of the class; the notebooks are in DIR/NAME/submitted",
        )  # fmt: skip
    for command in (release, grade, pages):
        command.add_argument("--sources", type=Path, default=sheets.SOURCES, metavar="DIR", help=argparse.SUPPRESS)


def _release(arguments: argparse.Namespace) -> int:
    paths = [sheets.source(name, arguments.sources) for name in arguments.names or sheets.names(arguments.sources)]
    editions = {
        arguments.out / which / f"{path.stem}.ipynb": sheets.edition(path, which, install=arguments.install)
        for path in paths
        for which in sheets.EDITIONS
    }
    for target, notebook in editions.items():
        if arguments.execute and target.parent.name == "solutions":
            NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
        with replacing(target) as draft:
            nbformat.write(notebook, draft)
        print(target)
    for path in paths:
        target = arguments.out / "instructor" / f"{path.stem}-notes.md"
        with replacing(target) as draft:
            draft.write_text(sheets.notes(path), encoding="utf-8")
        print(target)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    reason = jail.refusal()
    print(reason or "ok: submissions run in a sandbox here")
    return 1 if reason else 0


def _grade(arguments: argparse.Namespace) -> int:
    original = sheets.read(sheets.source(arguments.name, arguments.sources))
    folder = arguments.folder / arguments.name
    if arguments.jobs < 1 or arguments.seconds <= 0:
        raise ValueError(f"--jobs {arguments.jobs} --seconds {arguments.seconds:g}; expected both above zero")
    if arguments.unsafe:
        print("warning: submissions run without a sandbox and can do what you can do", file=sys.stderr)
    elif reason := jail.refusal(folder, arguments.sources):
        raise ValueError(f"not graded, because there is no sandbox: {reason}")
    seed = gradebook.seed_of(folder) if arguments.seed is None else arguments.seed
    limits = sandbox.Limits(seconds=arguments.seconds)
    new = gradebook.grade_class(
        folder, original, seed=seed, students=arguments.student, jobs=arguments.jobs, limits=limits,
        safe=not arguments.unsafe,
    )  # fmt: skip
    for student, result in new.items():
        marks = result["exercises"].values()
        earned = f"{sum(m['points'] for m in marks):g} of {sum(m['of'] for m in marks):g} by tests"
        print(f"{student}: {earned if marks else 'NOT GRADED; grade again'}")
    print(f"{folder / 'results.json'}; written answers are marked in {folder / 'marks.csv'}")
    return 0 if all(result["exercises"] for result in new.values()) else 1


def _feedback(arguments: argparse.Namespace) -> int:
    original = sheets.read(sheets.source(arguments.name, arguments.sources))
    folder = arguments.folder / arguments.name
    title = next(line.removeprefix("# ") for line in original.cells[0].source.splitlines() if line.startswith("# "))
    pages = feedback.write_pages(folder, original, title)
    print(f"{len(pages) - 1} pages in {folder / 'feedback'}; {pages[-1]}; {gradebook.write_grades(folder, original)}")
    return 0
