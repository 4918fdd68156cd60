"""Take what students have handed in from the zip file of a learning management system."""

import datetime
import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import dropwhile
from pathlib import Path
from typing import Any, NamedTuple

from advtransfer.classroom import archives, gradebook, handed_in, layouts
from advtransfer.classroom.layouts import HandedIn
from advtransfer.records.storage import replacing

SPACE = re.compile(r"\s+")
TOTAL = 2**32  # bytes that are taken from an archive, at most


class Collected(NamedTuple):
    """What a call of `collect` has done."""

    system: str
    new: list[str]
    """Students who had handed nothing in before."""
    newer: list[str]
    """Students whose submission was replaced by a newer one."""
    same: list[str]
    """Students whose submission was there already."""
    late: list[str]
    """Students who handed in late, where the system says so."""
    told: list[str]
    """One line for each choice between submissions, and for each name or file that was not taken as it is."""
    refused: list[str]
    """One line for each submission that was not taken and should be looked at."""


def collect(folder: Path, archive: Path, assignment: str) -> Collected:
    """Put the notebooks of an archive into ``submitted``, one for each student; ``collected.json`` says whose.

    If a student has several notebooks, the newest is taken; those with the name of the assignment come first.
    A submission that is replaced is kept in ``earlier``.

    Parameters
    ----------
    folder : Path
        The folder of the class and the assignment; it is made if it is missing.
    archive : Path
        A zip file of Moodle or Canvas, or one with STUDENT.ipynb or STUDENT/NAME.ipynb; or a folder with the same.
    assignment : str
        Name of the assignment.

    Raises
    ------
    ValueError
        The archive cannot be read, or holds no notebook.
    """
    with archives.opened(archive) as (members, refused):
        layout = layouts.recognised(members)
        if not layout.notebooks:
            there = ", ".join(repr("/".join(member.parts)) for member in members[:5])
            raise ValueError(
                f"{archive} holds no submitted notebook; expected .ipynb files (there are: {there or '-'})"
            )
        roster = read_roster(folder)
        done = Collected(layout.system, [], [], [], [], [], list(refused))
        for path in layout.passed_over:
            lines = done.refused if layouts.is_notebook(path) else done.told
            lines.append(f"{path!r} was passed over: it is not a student's notebook by its path")
        done.refused.extend(f"{name!r} handed in no notebook" for name in layout.without)
        here, room = handed_in.found(folder).notebooks, TOTAL
        for student, versions in _by_student(layout.notebooks, layout.system, roster, done.told).items():
            best = max(versions, key=lambda one: _order(one, assignment))
            for other in versions:
                if other is not best:
                    done.told.append(
                        f"{student}: took {best.file!r}, and not {other.file!r}, which is {_than(other, best)}"
                    )
            try:
                content = best.member.read()
                room -= len(content)
                if room < 0:
                    raise ValueError(f"the archive holds more than {TOTAL >> 30} GiB; expected no more")
                is_there = _put(folder, student, best, content, here.get(student), roster.get(student, {}), done)
            except (ValueError, OSError) as error:
                done.refused.append(f"{student}: {best.file!r} was not taken: {error}")
                continue
            if best.late:
                done.late.append(student)
            if is_there or student not in roster:
                roster[student] = {
                    "system": layout.system, "name": best.name, "id": best.identifier, "late": best.late,
                    "file": best.file, "back": best.back, "time": best.member.time, "sha256": _sha256(content),
                }  # fmt: skip
    with replacing(folder / "collected.json") as draft:
        draft.write_text(json.dumps(roster, indent=1, ensure_ascii=True, sort_keys=True), encoding="utf-8")
    return done


def read_roster(folder: Path) -> dict[str, dict[str, Any]]:
    """What the system says about each student whose submission was collected, such as the path for feedback."""
    return gradebook.noted(folder / "collected.json")


def _by_student(
    notebooks: Sequence[HandedIn], system: str, roster: dict[str, dict[str, Any]], told: list[str]
) -> dict[str, list[HandedIn]]:
    """The notebooks of each student, whose name here is the one in the system, with the number where two share it."""
    known = {(about["system"], about["id"]): student for student, about in roster.items() if about["id"]}
    numbers = defaultdict(set)
    for one in notebooks:
        numbers[tidy(one.name)].add(one.identifier)
    for student, about in roster.items():
        if about["system"] == system:
            numbers[student].add(about["id"])
    found: dict[str, list[HandedIn]] = {}
    for one in notebooks:
        name = tidy(one.name)
        shared = len(numbers[name]) > 1 or not handed_in.is_proper(name)
        student = known.get((system, one.identifier)) or (f"{name or 'student'} {one.identifier}" if shared else name)
        if student not in found and student != handed_in.normal(one.name):
            told.append(f"{one.name!r} is called {student!r} here")
        found.setdefault(student, []).append(one)
    return found


def tidy(name: str) -> str:
    """A name with single spaces, and a hyphen for each letter that a name may not have here; a long one is cut.

    Examples
    --------
    >>> tidy(" Jane  <Doe>/x")
    'Jane -Doe--x'
    """
    name = SPACE.sub(" ", handed_in.normal(name))[: handed_in.LONGEST - 20]
    name = name.encode(errors="replace")[: handed_in.LONGEST_BYTES - 20].decode(errors="ignore")
    name = "".join(letter if handed_in.is_proper_letter(letter) else "-" for letter in name)
    return "".join(dropwhile(lambda letter: not letter.isalnum(), name)).strip(" .")


def _order(one: HandedIn, assignment: str) -> tuple[bool, int, float, bool, str]:
    exact = one.file == f"{assignment}.ipynb"
    return one.file.startswith(assignment), one.number, one.member.time, exact, one.file


def _than(other: HandedIn, best: HandedIn) -> str:
    is_older = (other.number, other.member.time) < (best.number, best.member.time)
    return "older" if is_older else "not newer or has another name"


def _put(
    folder: Path,
    student: str,
    one: HandedIn,
    content: bytes,
    before: Path | None,
    about: dict[str, Any],
    done: Collected,
) -> bool:
    """Write a submission unless a newer one is there, and keep what it replaces; whether it is there now."""
    target = before or folder / "submitted" / f"{student}.ipynb"
    if not handed_in.is_proper(student):
        raise ValueError(f"the student would be called {student!r}; expected {handed_in.PROPER}")
    if before is None and os.path.lexists(target):
        raise ValueError(f"{target} is there, but is not a submission; expected nothing or a notebook")
    if before is not None:
        old = before.read_bytes()
        if old == content:
            done.same.append(student)
            return True
        was_collected = about.get("sha256") == _sha256(old)
        changed = about["time"] if was_collected else before.stat().st_mtime
        if one.member.time and one.member.time < int(changed):
            done.told.append(f"{student}: the one in {before} is newer than that in the archive, and is kept")
            done.same.append(student)
            return False
        kept = _free(folder / "earlier" / student, datetime.datetime.fromtimestamp(changed))
        with replacing(kept) as draft:
            draft.write_bytes(old)
        done.told.append(f"{student}: {before} was replaced by a newer one, and is kept as {kept}")
    with replacing(target) as draft:
        draft.write_bytes(content)
    (done.new if before is None else done.newer).append(student)
    return True


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _free(folder: Path, changed: datetime.datetime) -> Path:
    """A path in `folder` that is not taken."""
    stem = f"{changed:%Y-%m-%d %H-%M-%S}"
    paths = (folder / f"{stem}{f' {i}' if i else ''}.ipynb" for i in range(1_000_000))
    return next(path for path in paths if not path.exists())
