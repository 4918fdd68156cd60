"""How learning management systems name what students have handed in, and what goes back to them."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from advtransfer.classroom.archives import Member

# Moodle: a folder for each student and kind of submission; or, if the teacher has chosen so, a flat file.
MOODLE = re.compile(r"(?P<name>[^_]+)_(?P<id>[0-9]+)_assignsubmission_(?P<kind>[a-z]+)(?:_(?P<rest>.*))?")
# Canvas: a flat file with the numbers of the user and of the file; both must be there when it goes back.
CANVAS = re.compile(r"(?P<name>.+?)(?P<late>_LATE)?_(?P<id>[0-9]+)_(?P<file>[0-9]+)_(?P<rest>.+)")
TYPED = re.compile(r"(?P<name>.+?)(?:_LATE)?_(?P<id>[0-9]+)_(?:text|link)\.html")  # typed into Canvas: no file
ANONYMOUS = re.compile(r"(?P<late>LATE_)?anon_(?P<id>[0-9A-Za-z]+)_(?P<file>[0-9]+)_(?P<rest>.+)")
PAGE = "feedback.html"


class HandedIn(NamedTuple):
    """A file in an archive, and whose it is."""

    name: str
    """The student's name, as the system writes it."""
    identifier: str
    """The student's number in the system; empty if there is none."""
    file: str
    """The name of the file; empty if it is a text that was typed into the system."""
    number: int
    """Grows with the time at which the file was handed in, where the system counts its files; else 0."""
    late: bool
    back: str
    """The path under which the system takes feedback for it; empty without a system."""
    member: Member


class Layout(NamedTuple):
    """What was found in an archive."""

    system: str
    """``moodle``, ``canvas``, or ``plain`` for STUDENT.ipynb and STUDENT/NAME.ipynb."""
    notebooks: list[HandedIn]
    without: list[str]
    """The names of students who have handed in something, but no notebook."""
    passed_over: list[str]
    """The other files, by their paths."""


def recognised(members: Sequence[Member]) -> Layout:
    """The notebooks in an archive, by the layout that its names follow."""
    notebooks = sum(is_notebook(member.parts[-1]) for member in members)
    for system, read in (("moodle", _moodle), ("canvas", _canvas)):
        found = [read(member) for member in members]
        follow = sum(one is not None and is_notebook(one.file) for one in found)
        if follow and 2 * follow >= notebooks:  # one student's name for a file says nothing about the others
            return _layout(system, members, found)
    return _layout("plain", members, _plain(members))


def _layout(system: str, members: Sequence[Member], found: Sequence[HandedIn | None]) -> Layout:
    notebooks = [one for one in found if one and is_notebook(one.file)]
    there = {one.identifier for one in notebooks}
    without = {one.identifier: one.name for one in found if one and one.identifier not in there}
    others = [member for member, one in zip(members, found, strict=True) if not (one and is_notebook(one.file))]
    return Layout(system, notebooks, list(without.values()), ["/".join(member.parts) for member in others])


def _moodle(member: Member) -> HandedIn | None:
    for part in member.parts:
        if match := MOODLE.fullmatch(part):
            file = match["rest"] if part is member.parts[-1] else member.parts[-1]
            back = f"{match['name']}_{match['id']}_assignsubmission_file_/{PAGE}"
            file = file if match["kind"] == "file" else ""
            return HandedIn(match["name"], match["id"], file or "", 0, False, back, member)
    return None


def _canvas(member: Member) -> HandedIn | None:
    file = member.parts[-1]
    if match := ANONYMOUS.fullmatch(file) or CANVAS.fullmatch(file):
        name = match.groupdict().get("name") or "anon"
        return HandedIn(name, match["id"], match["rest"], int(match["file"]), bool(match["late"]), file, member)
    if match := TYPED.fullmatch(file):
        return HandedIn(match["name"], match["id"], "", 0, False, "", member)
    return None


def _plain(members: Sequence[Member]) -> list[HandedIn | None]:
    """One folder around everything does not count, unless it holds a single notebook: then it is a student's."""
    notebooks = [member.parts for member in members if is_notebook(member.parts[-1])]
    tops = Counter(parts[0] for parts in notebooks if len(parts) > 1)
    skip = int(len(tops) == 1 and tops.total() == len(notebooks) > 1)
    return [_of_student(member, member.parts[skip:]) for member in members]


def _of_student(member: Member, parts: tuple[str, ...]) -> HandedIn | None:
    if len(parts) not in (1, 2) or not is_notebook(parts[-1]):
        return None
    name = parts[0] if len(parts) == 2 else parts[0].rpartition(".")[0]
    return HandedIn(name, "", parts[-1], 0, False, "", member)


def is_notebook(name: str) -> bool:
    """Whether a file is a notebook by its name."""
    return name.lower().endswith(".ipynb")
