"""Pages from the gradebook: one for each student, and one about the class. Students' words appear as plain text."""

import base64
import io
from collections import Counter
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from nbformat import NotebookNode

from advtransfer.classroom import gradebook
from advtransfer.classroom.gradebook import Row
from advtransfer.classroom.plan import NO_ANSWER, NO_NOTEBOOK
from advtransfer.pages.plots import COLOURS, use_style
from advtransfer.records.storage import replacing

PAGES = Environment(
    loader=PackageLoader("advtransfer.classroom"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


def write_pages(folder: Path, original: NotebookNode, title: str) -> list[Path]:
    """Write ``feedback/STUDENT.html`` for every student, and ``overview.html``.

    Parameters
    ----------
    folder : Path
        The folder of the class and the assignment, after grading.
    original : NotebookNode
        The instructor edition.
    title : str
        Title of the assignment.

    Returns
    -------
    list of Path
        The files that were written, the overview last.

    Raises
    ------
    ValueError
        Nothing has been graded yet.
    """
    gradebook.check_graded(folder)
    earned, results = gradebook.rows(folder, original), gradebook.results(folder)
    written = []
    for student, rows in earned.items():
        path = folder / "feedback" / f"{student}.html"
        about = {"title": title, "student": student, "rows": rows, "result": results[student]}
        _write(path, "feedback.html", about | _sums(rows))
        written.append(path)
    path = folder / "overview.html"
    _write(path, "overview.html", {"title": title, "figure": _figure(earned), **overview(earned)})
    return [*written, path]


def overview(earned: dict[str, list[Row]]) -> dict[str, Any]:
    """The class in numbers: ``students``, ``most``, ``exercises`` (hardest first), ``mistakes`` (commonest first)."""
    solved = []
    for column in zip(*earned.values(), strict=True):
        if not column[0].exercise.points:  # the row about the whole sheet
            continue
        marked = [row.points / row.exercise.points for row in column if row.points is not None and row.exercise.points]
        share = sum(marked) / len(marked) if marked else None
        solved.append({"exercise": column[0].exercise, "share": share, "marked": len(marked)})
    messages = Counter(
        (row.exercise.title, row.tested)
        for rows in earned.values()
        for row in rows
        if row.tested not in ("", NO_NOTEBOOK, NO_ANSWER)
    )
    return {
        "students": len(earned),
        "exercises": sorted(solved, key=lambda line: (line["share"] is None, line["share"])),
        "mistakes": [(title, message, count) for (title, message), count in messages.most_common(10)],
        "most": gradebook.most(next(iter(earned.values()))),
    }


def _sums(rows: list[Row]) -> dict[str, Any]:
    return {
        "points": gradebook.total(rows),
        "most": gradebook.most(rows),
        "unmarked": sum(row.points is None for row in rows),
    }


def _figure(earned: dict[str, list[Row]]) -> str:
    """A histogram of the totals, as the text of an SVG image in base64."""
    use_style()
    figure = Figure(figsize=(7, 2.6))
    axes = figure.subplots()
    most = gradebook.most(next(iter(earned.values())))
    totals = [gradebook.total(rows) for rows in earned.values()]
    axes.hist(totals, bins=10, range=(0, max(most, *totals)), color=COLOURS["alpha1"])  # a bonus may lead beyond
    axes.set_xlabel("points")
    axes.set_ylabel("students")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    image = io.BytesIO()
    figure.savefig(image, format="svg", metadata={"Date": None})
    return base64.b64encode(image.getvalue()).decode()


def _write(path: Path, template: str, values: dict[str, Any]) -> None:
    with replacing(path) as draft:
        text = PAGES.get_template(template).render(values)
        draft.write_text(text, encoding="utf-8", errors="xmlcharrefreplace")  # a text may hold half a character
