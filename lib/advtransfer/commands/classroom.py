"""``python -m advtransfer classroom release | check | collect | grade | mark | feedback | return``."""

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from advtransfer.classroom import (
    classes,
    collecting,
    feedback,
    gradebook,
    handed_in,
    jail,
    marking,
    returning,
    sheets,
)
from advtransfer.classroom.limits import Limits
from advtransfer.classroom.plan import UNNAMED, UNREAD
from advtransfer.records.storage import replacing

INSTALL = "pip install advtransfer, from the address that your teacher gave you"


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the actions, from ``release`` to ``return``; each sets `func` (namespace to exit code)."""
    actions = parser.add_subparsers(
        required=True, metavar="release | check | collect | grade | mark | feedback | return"
    )
    release = actions.add_parser("release", help="make the student, instructor and solutions editions")
    release.add_argument("names", nargs="*", metavar="NAME", help="name of an assignment (default: all)")
    release.add_argument("--out", type=Path, default=Path("_build/classroom"), metavar="DIR")
    release.add_argument("--install", default=INSTALL, metavar="TEXT", help="how a student installs the library")
    release.add_argument("--execute", action="store_true", help="run the solutions edition, so that it shows results")
    release.set_defaults(func=_release)
    collect = actions.add_parser("collect", help="take the submissions from the zip file of Moodle or Canvas")
    collect.add_argument("name", metavar="NAME", help="name of the assignment")
    collect.add_argument(
        "archives",
        nargs="+",
        type=Path,
        metavar="ZIP",
        help="the file that you downloaded from the system, or its unpacked folder",
    )
    collect.set_defaults(func=_collect)
    check = actions.add_parser("check", help="say whether submissions can be run safely here")
    check.set_defaults(func=_check)
    grade = actions.add_parser("grade", help="run the tests on every submission")
    grade.add_argument("--student", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    grade.add_argument(
        "--jobs", type=int, default=min(4, os.cpu_count() or 1), metavar="N", help="submissions graded at the same time"
    )
    grade.add_argument("--seed", type=int, metavar="N", help="seed of the tests' inputs (default: that of the class)")
    grade.add_argument("--seconds", type=float, default=20.0, help="time limit for one cell or call (default: 20)")
    grade.add_argument("--unsafe", action="store_true", help="run without a sandbox; for code that you have read")
    grade.set_defaults(func=_grade)
    mark = actions.add_parser("mark", help="write the page for marking written answers, or import what it saved")
    mark.add_argument("--take", type=Path, metavar="CSV", help="replace marks.csv with this file")
    mark.set_defaults(func=_mark)
    pages = actions.add_parser("feedback", help="write the pages for students, the overview and grades.csv")
    pages.set_defaults(func=_feedback)
    back = actions.add_parser("return", help="write what goes back: a zip for each student, or for Moodle or Canvas")
    back.add_argument(
        "--for", dest="system", choices=returning.SYSTEMS, help="the system that takes the zip and the points"
    )
    back.add_argument("--table", type=Path, metavar="CSV", help="the system's own table of grades, to be filled in")
    back.add_argument("--column", metavar="TITLE", help="title of the assignment in Canvas (default: NAME)")
    back.set_defaults(func=_return)
    for command in (grade, mark, pages, back):
        command.add_argument("name", metavar="NAME", help="name of the assignment")
    for command in (collect, grade, mark, pages, back):
        command.add_argument(
            "--class", dest="folder", type=Path, required=True, metavar="DIR",
            help="folder of the class; the notebooks are in DIR/NAME/submitted",
        )  # fmt: skip


def _release(arguments: argparse.Namespace) -> int:
    paths = [sheets.source(name) for name in arguments.names or sheets.names()]
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


@contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[tuple[nbformat.NotebookNode, Path]]:
    """The instructor edition and the folder of an assignment; at the end its files go to the owner of the folder.

    If all went well, the students are named whose result or mark is that of another answer than they have handed in.
    """
    original = sheets.read(sheets.source(arguments.name))
    folder = arguments.folder / arguments.name
    try:
        yield original, folder
    finally:
        gradebook.hand_over(folder)
    apart = gradebook.apart(folder)
    for students, what in (
        (apart.ungraded, "not graded yet"),
        (apart.changed, "handed in again after grading; grade again"),
        (apart.unread, "cannot be read"),
        (apart.gone, "graded, but no longer in submitted; the result is kept"),
    ):
        if students:
            print(f"{what}: {', '.join(students)}", file=sys.stderr)
    for student, rows in gradebook.rows(folder, original).items():
        for row in rows:
            if row.changed:
                print(
                    f"{student}: the answer {row.exercise.key!r} was changed after it had been marked; mark it again, "
                    f"or empty its cell in the column answer of {folder / 'marks.csv'} if the mark stands",
                    file=sys.stderr,
                )


def _check(arguments: argparse.Namespace) -> int:
    reason = jail.refusal()
    print(reason or "ok: submissions run in a sandbox here")
    return 1 if reason else 0


def _collect(arguments: argparse.Namespace) -> int:
    sheets.source(arguments.name)  # a mistyped name makes no folder
    folder, refused = arguments.folder / arguments.name, False
    for archive in arguments.archives:
        try:
            done = collecting.collect(folder, archive, arguments.name)
        finally:
            gradebook.hand_over(folder)
        for line in done.told:
            print(f"note: {line}", file=sys.stderr)
        for line in done.refused:
            print(f"NOT TAKEN: {line}", file=sys.stderr)
        counts = {"new": done.new, "newer than before": done.newer, "as before": done.same}
        print(f"{archive} ({done.system}): {', '.join(f'{len(who)} {what}' for what, who in counts.items())}")
        if done.late:
            print(f"late: {', '.join(done.late)}")
        refused |= bool(done.refused)
    return int(refused)


def _grade(arguments: argparse.Namespace) -> int:
    if arguments.seed is not None and not 0 <= arguments.seed < 2**32:
        raise ValueError(f"--seed {arguments.seed}; expected a whole number from 0 to {2**32 - 1}")
    if arguments.jobs < 1 or arguments.seconds <= 0:
        raise ValueError(f"--jobs {arguments.jobs} --seconds {arguments.seconds:g}; expected both above zero")
    if arguments.unsafe:
        print("warning: submissions run without a sandbox and can do what you can do", file=sys.stderr)
    elif reason := jail.refusal(arguments.folder / arguments.name, sheets.SOURCES):
        raise ValueError(f"not graded, because there is no sandbox: {reason}")
    with _opened(arguments) as (original, folder):
        found = handed_in.found(folder)
        for line in found.passed_over:
            print(f"passed over: {line}", file=sys.stderr)
        _name_refused(found)
        done: dict[str, bool] = {}

        def tell(student: str, result: Mapping[str, Any], count: int, total: int) -> None:
            marks = result["exercises"].values()
            earned = f"{sum(m['points'] for m in marks):g} of {sum(m['of'] for m in marks):g} by tests"
            reason = "; ".join(result["notes"])
            done[student] = bool(marks)
            for note in result["notes"] if marks else ():
                if note.startswith((UNREAD, UNNAMED)):
                    print(f"LOOK AT {student}: {note}", file=sys.stderr)
            print(
                f"[{count}/{total}] {student}: {earned if marks else f'NOT GRADED; grade again. {reason}'}", flush=True
            )

        try:
            classes.grade_class(
                folder, original, seed=arguments.seed, students=arguments.student, jobs=arguments.jobs,
                limits=Limits(seconds=arguments.seconds), safe=not arguments.unsafe, tell=tell,
            )  # fmt: skip
        except KeyboardInterrupt:
            print(f"submissions graded: {sum(done.values())}; kept in {folder / 'results.json'}", file=sys.stderr)
            raise
    if missing := [student for student, graded in done.items() if not graded]:
        print(f"NOT GRADED (no points given, none lost): {', '.join(missing)}", file=sys.stderr)
    print(f"{folder / 'results.json'}; written answers are marked in {folder / 'marks.csv'}")
    return 1 if missing or found.refused else 0


def _name_refused(found: handed_in.Found) -> None:
    for line in found.refused:
        print(f"NOT GRADED: {line}", file=sys.stderr)


def _mark(arguments: argparse.Namespace) -> int:
    with _opened(arguments) as (original, folder):
        _name_refused(handed_in.found(folder))
        if arguments.take is None:
            place = shlex.quote(str(arguments.folder))
            take = f"python -m advtransfer classroom mark {arguments.name} --class {place} --take FILE"
            print(marking.write_page(folder, original, _title(original), take))
            return 0
        taken = marking.take(folder, original, arguments.take)
        for student, exercise in taken.gone:
            print(f"gone: the mark of {student} for {exercise}; it is in {taken.kept}", file=sys.stderr)
        kept = f"; the earlier file is {taken.kept}" if taken.kept else ""
        new, other, gone = (len(marks) for marks in (taken.new, taken.other, taken.gone))
        print(f"{folder / 'marks.csv'}: marks: {new} new, {other} changed, {gone} gone{kept}")
    return 0


def _feedback(arguments: argparse.Namespace) -> int:
    with _opened(arguments) as (original, folder):
        pages = feedback.write_pages(folder, original, _title(original))
        grades = gradebook.write_grades(folder, original)
        _name_refused(handed_in.found(folder))
    print(f"pages: {len(pages) - 1}, in {folder / 'feedback'}; {pages[-1]}; {grades}")
    return 0


def _return(arguments: argparse.Namespace) -> int:
    if arguments.system is None and (arguments.table or arguments.column):
        raise ValueError("--table and --column are for a system; expected --for moodle or --for canvas, too")
    with _opened(arguments) as (original, folder):
        feedback.write_pages(folder, original, _title(original))
        done = returning.give_back(
            folder, original, arguments.name, system=arguments.system, table=arguments.table, column=arguments.column
        )
        _name_refused(handed_in.found(folder))
    for line in done.left_out:
        print(f"LEFT OUT: {line}", file=sys.stderr)
    print(f"students: {len(done.students)}; files: {', '.join(map(str, done.written))}")
    return int(bool(done.left_out))


def _title(original: nbformat.NotebookNode) -> str:
    return next(line.removeprefix("# ") for line in original.cells[0].source.splitlines() if line.startswith("# "))
