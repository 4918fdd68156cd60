"""The marks that a person gives by hand: ``marks.csv``, as spreadsheets and the marking page write it."""

import csv
import difflib
import io
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from advtransfer.classroom.handed_in import normal
from advtransfer.classroom.sheets import Exercise
from advtransfer.records.storage import replacing

COLUMNS = ("student", "exercise", "of", "points", "comment", "bonus", "penalty", "answer")
NEEDED = ("student", "exercise", "points", "comment")
WHOLE = "whole sheet"  # stands in the column `exercise` for what concerns no single one, such as being late
NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+")
TOLD = 5  # number of mistakes that one message lists


class Mark(NamedTuple):
    """What a person has noted for an exercise of a student."""

    points: float | None
    """None: the result of the tests counts, and a written answer is not marked yet."""
    bonus: float
    """Points that are added, even beyond the maximum of the exercise."""
    penalty: float
    """Points that are subtracted."""
    comment: str
    answer: str
    """Which answer was marked: its `version`; empty if that is not known."""


class Table(NamedTuple):
    """The cells of ``marks.csv``, and how they are written."""

    header: list[str]
    rows: list[tuple[int, list[str]]]
    """For each row its line in the file, and its cells, one for each column."""
    delimiter: str = ","
    newline: str = "\n"

    def cell(self, row: list[str], column: str) -> str:
        """The text in one of the `COLUMNS`."""
        return row[self.header.index(column)].strip()


def read_table(path: Path) -> Table:
    """The cells of a table as spreadsheets write them: with commas, semicolons or tabs, in UTF-8 or UTF-16.

    A file that is missing or empty is a table without rows. Columns that it may lack are added, empty.

    Raises
    ------
    ValueError
        The file has another encoding, lacks a column, or has a row with more cells than columns or an open quote. The
        message gives the file and the line.
    """
    text = decoded(path) if path.is_file() else ""
    if not text.strip():
        return Table(list(COLUMNS), [])
    skipped = 1 if re.match(r"sep=.\r?\n", text, re.I) else 0  # Excel reads its delimiter there
    first = next((line for line in text.splitlines()[skipped:] if line.strip()), "")
    delimiter = max(",;\t", key=lambda mark: len(set(_names(first.split(mark))) & set(COLUMNS)))
    reader = csv.reader(io.StringIO(text.split("\n", skipped)[-1], newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    rows = []
    try:
        for cells in reader:
            line = reader.line_num + skipped
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = _names(cells)
                if missing := [name for name in NEEDED if name not in header]:
                    raise ValueError(
                        f"{path} has the columns {', '.join(header)}, and not {', '.join(missing)}; "
                        f"expected {', '.join(COLUMNS)}"
                    )
                continue
            if any(cell.strip() for cell in cells[len(header) :]):
                raise ValueError(
                    f"{path}, line {line}: {len(cells)} cells in {len(header)} columns; expected quotes around a "
                    f'cell that holds a {delimiter!r}, such as "2{delimiter}5"'
                )
            rows.append((line, [*cells, *[""] * len(header)][: len(header)]))
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {reader.line_num + skipped}: {error}; expected each quote to be closed"
        ) from None
    more = [name for name in COLUMNS if name not in header]
    rows = [(line, [*cells, *[""] * len(more)]) for line, cells in rows]
    return Table([*header, *more], rows, delimiter, "\r\n" if "\r\n" in text else "\n")


def write_table(path: Path, table: Table) -> None:
    """Write a table, beginning with the mark by which spreadsheets recognise UTF-8."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=table.delimiter, lineterminator=table.newline)
    writer.writerow(table.header)
    writer.writerows(cells for _, cells in table.rows)
    with replacing(path) as draft:
        draft.write_text(text.getvalue(), encoding="utf-8-sig", newline="")


def read(path: Path, exercises: Sequence[Exercise], students: Collection[str]) -> dict[tuple[str, str], Mark]:
    """The marks by (student, exercise), checked; rows in which nothing was filled in are left out.

    Parameters
    ----------
    path : Path
        The file, which may be missing.
    exercises : sequence of Exercise
        The exercises of the sheet.
    students : collection of str
        All who have handed something in.

    Raises
    ------
    ValueError
        The table cannot be read, or rows hold impossible values: a student who handed nothing in, an exercise that the
        sheet lacks, points that are not a number from 0 to the maximum, a negative bonus or penalty, or two marks for
        one answer. The message is one line that gives the lines of the first few.
    """
    table, given, mistakes = read_table(path), {}, []
    most = {exercise.key: exercise.points for exercise in exercises}
    lines: dict[tuple[str, str], int] = {}
    for line, row in table.rows:
        student, key = normal(table.cell(row, "student")), table.cell(row, "exercise")
        if not any(table.cell(row, name) for name in ("points", "bonus", "penalty", "comment")):
            continue
        try:
            mark = _mark(table, row, most.get(key), key)
            if student not in students:
                raise ValueError(f"{student!r} handed nothing in; expected {_expected(student, students)}")
            if (student, key) in given:
                raise ValueError(f"{student!r} has a mark for {key!r} in line {lines[student, key]}, too; expected one")
        except ValueError as error:
            mistakes.append(f"line {line}: {error}")
            continue
        given[student, key], lines[student, key] = mark, line
    if mistakes:
        more = f"; and {len(mistakes) - TOLD} more lines" if len(mistakes) > TOLD else ""
        raise ValueError(f"{path}, {'; '.join(mistakes[:TOLD])}{more}")
    return given


def prepare(
    path: Path,
    exercises: Sequence[Exercise],
    before: Mapping[str, Mapping[str, str]],
    now: Mapping[str, Mapping[str, str]],
) -> None:
    """Add an empty row for each written answer without one, and note which answer each row is about.

    Only the column ``answer`` of existing rows is written. A row without points is about the present answer. A row
    with points keeps what it says; if it says nothing, a person has added it since, having seen the earlier answer.

    Parameters
    ----------
    path : Path
        The file, which may be missing.
    exercises : sequence of Exercise
        The exercises of the sheet.
    before, now : mapping
        The `version` of each answer, by student and exercise, at the last grading and at this one.
    """
    table = read_table(path)
    rows = [cells for _, cells in table.rows]
    at, there = table.header.index("answer"), set()
    for cells in rows:
        student, key = normal(table.cell(cells, "student")), table.cell(cells, "exercise")
        there.add((student, key))
        if not table.cell(cells, "points"):
            cells[at] = now.get(student, {}).get(key, "")
        elif not cells[at].strip():
            cells[at] = before.get(student, {}).get(key, "")
    for student, answers in now.items():
        for exercise in exercises:
            if exercise.written and (student, exercise.key) not in there:
                filled = {"student": student, "exercise": exercise.key, "of": f"{exercise.points:g}"}
                filled["answer"] = answers.get(exercise.key, "")
                rows.append([filled.get(name, "") for name in table.header])
    write_table(path, table._replace(rows=list(enumerate(rows, 2))))


def changed(given: Mapping[tuple[str, str], Mark], now: Mapping[str, Mapping[str, str]]) -> list[tuple[str, str]]:
    """Those marks, by (student, exercise), that were given for an answer that the student has changed since."""
    return [
        (student, key)
        for (student, key), mark in given.items()
        if mark.points is not None and mark.answer and mark.answer != now.get(student, {}).get(key, "")
    ]


def number(text: str) -> float | None:
    """A number as people write it, with a point or a comma; None for an empty text.

    Raises
    ------
    ValueError
        It is not a number, or is negative.

    Examples
    --------
    >>> number("2,5"), number(" 3 "), number("")
    (2.5, 3.0, None)
    """
    text = text.strip().replace("\u00a0", "")
    if not text:
        return None
    if not NUMBER.fullmatch(text):
        raise ValueError(f"{text!r}")
    return float(text.replace(",", "."))


def _mark(table: Table, row: list[str], most: float | None, key: str) -> Mark:
    cells = {name: table.cell(row, name) for name in ("points", "bonus", "penalty")}
    if key == WHOLE and cells["points"]:
        raise ValueError(f"{cells['points']!r} points for the {WHOLE}; expected a bonus or a penalty")
    try:
        points = number(cells["points"])
    except ValueError:
        points = -1.0
    if key != WHOLE and (most is None or (points is not None and not 0 <= points <= most)):
        raise ValueError(
            f"{cells['points']!r} points for {key!r}; expected an exercise of the assignment, and 0 to {most or 0:g}"
            f"{' (more is a bonus)' if most and points and points > most else ''}"
        )
    extra = {}
    for name in ("bonus", "penalty"):
        try:
            extra[name] = number(cells[name]) or 0.0
        except ValueError:
            raise ValueError(f"a {name} of {cells[name]!r}; expected a number of points, without a sign") from None
    return Mark(points, **extra, comment=table.cell(row, "comment"), answer=table.cell(row, "answer"))


def _expected(student: str, students: Collection[str]) -> str:
    """Who is meant by a name that a spreadsheet or a person has changed; else all names, or as many as can be read."""
    short = [name for name in students if name.lstrip("0") == student.lstrip("0")]
    near = short or difflib.get_close_matches(student, students, n=1)
    return f"{near[0]!r}?" if near else f"one of {', '.join(sorted(students)[:10])}{', …' * (len(students) > 10)}"


def decoded(path: Path) -> str:
    """The text of a table, in UTF-8 or UTF-16.

    Raises
    ------
    ValueError
        It has another encoding; the message gives the line.
    """
    data = path.read_bytes()
    is_utf_16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return data.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        if is_utf_16:
            raise ValueError(f"{path}: it begins like UTF-16, but is not UTF-16; expected UTF-8") from None
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8, but probably cp1252, as Excel writes "
            "“CSV”; expected UTF-8: save it as “CSV UTF-8”"
        ) from None


def _names(cells: Iterable[str]) -> list[str]:
    return [cell.strip().strip('"').strip().lower() for cell in cells]
