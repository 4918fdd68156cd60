"""The editions of the assignments, the gradebook, the feedback pages and their commands."""

import csv
import json
import re

import nbformat
import pytest
import student_exercise

from advtransfer.classroom import classes, feedback, gradebook, jail, sheets
from advtransfer.classroom.plan import NO_ANSWER, Submitted, plan
from advtransfer.commands import main as cli
from classroom_cases import NAMES, SOURCES, graded_as, original, solved, stubbed, write

INSTALL = """pip install 'it' "from" {here}"""


@pytest.fixture(scope="module")
def editions():
    pytest.importorskip("nbgrader", reason="nbgrader makes the editions; install advtransfer[classroom]")
    return {
        (name, which): sheets.edition(SOURCES / f"{name}.md", which, install=INSTALL)
        for name in NAMES
        for which in sheets.EDITIONS
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_student_edition_holds_no_answer_and_no_hidden_test(name, editions):
    student = editions[name, "student"]
    text = nbformat.writes(student)
    assert sheets.leaks(original(name), student) == []
    assert not re.search("HIDDEN|SOLUTION|For the teacher|{{install}}", text)
    setup = next(cell.source for cell in student.cells if cell.cell_type == "code")
    with pytest.raises(SystemExit, match=re.escape(f"restart the kernel: {INSTALL}")):
        exec(setup.replace('("torch",', '("torch", "no_such_module",'), {})
    assert "YOUR CODE HERE" in text
    # the same by another way: what the answers do not share with what is in the open
    open_lines = {line for cell in student.cells for line in cell.source.splitlines()}
    secret = {line for cell in solved(name).cells for line in cell.source.splitlines()} - open_lines
    assert len(secret) > 10
    assert all(line not in text for line in secret if len(line.strip()) > 5)


@pytest.mark.parametrize("name", NAMES)
def test_the_book_shows_an_exercise_as_its_students_see_it(name, editions):
    """Against nbgrader, which makes their edition."""
    sheet, theirs = original(name), editions[name, "student"].cells
    where = {cell.metadata.nbgrader.grade_id: k for k, cell in enumerate(theirs) if "nbgrader" in cell.metadata}
    for key in [cell.metadata.nbgrader.grade_id for cell in sheet.cells if sheets.role(cell) == "answer"]:
        shown = student_exercise.of_exercise(sheet, key)
        assert shown[0].source.startswith("## ")
        assert [cell.source.startswith("#") for cell in shown if cell.cell_type == "markdown"].count(True) == 1
        for cell in shown:
            if "nbgrader" in cell.metadata and cell.cell_type == "code":
                assert student_exercise.stubbed(cell.source) == theirs[where[cell.metadata.nbgrader.grade_id]].source
    with pytest.raises(ValueError, match="there is no cell 'nothing'; expected one of setup, "):
        student_exercise.of_exercise(sheet, "nothing")


@pytest.mark.parametrize("name", NAMES)
def test_no_line_of_code_is_cut_off_in_a_window_1280_pixels_wide(name, editions):
    """JupyterLab shows about 104 characters there, beside its list of files."""
    cells = [cell for cell in editions[name, "student"].cells if cell.cell_type == "code"]
    assert [line for cell in cells for line in cell.source.splitlines() if len(line) > 100] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_pages_that_a_sheet_names_are_in_the_book(name):
    sheet, root = original(name).cells[0].source, SOURCES.parents[1]
    pages = [*(root / "book").rglob("*.md"), *(root / "notebooks").glob("*.md")]
    titles = {found[1] for page in pages if (found := re.search("^# (.*)", page.read_text(encoding="utf-8"), re.M))}
    named = set(re.findall(r"\*([^*]+)\*", re.search(r"the pages? (\*.*?\*) of the book", sheet)[1]))
    assert named <= titles


@pytest.mark.parametrize("name", NAMES)
def test_every_sheet_says_what_it_wants_and_has_twenty_points(name):
    notebook = original(name)
    first = notebook.cells[0].source
    assert all(word in first for word in ("**Goals.**", "**You need**", "**Time**", "**Points** 20"))
    assert sum(exercise.points for exercise in sheets.exercises(notebook)) == 20
    assert any("teacher" in cell.metadata.get("tags", ()) for cell in notebook.cells)


def test_the_teaching_page_lists_the_sheets_as_they_are():
    page = (SOURCES.parents[1] / "book" / "teaching.md").read_text(encoding="utf-8")
    for name in NAMES:
        first = original(name).cells[0].source
        title = re.search(r"# Assignment \d: (.*)", first)[1]
        time = re.search(r"\*\*Time\*\* (\d+ minutes|two sessions)", first)[1]
        tests = sum(exercise.points for exercise in sheets.exercises(original(name)) if not exercise.written)
        assert re.search(rf"\| `{name}` \| {re.escape(title)} \|.*\| {time} \| {tests} \| {20 - tests} \|", page)


@pytest.mark.parametrize("name", NAMES)
def test_the_editions_are_in_nbgraders_format(name, editions):
    for which in sheets.EDITIONS:
        notebook = editions[name, which]
        nbformat.validate(notebook)
        marks = [cell.metadata.nbgrader for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade")]
        assert sum(mark.points for mark in marks) == 20
        assert all(mark.checksum for mark in marks)
        # nbgrader's own release copies whatever it does not know
        assert not any("exercise" in cell.metadata or "For the teacher" in cell.source for cell in notebook.cells)
    noted = sheets.notes(SOURCES / f"{name}.md")
    assert "For the teacher" in noted
    assert all(f"| `{exercise.key}` |" in noted for exercise in sheets.exercises(sheets.read(SOURCES / f"{name}.md")))
    assert "HIDDEN" in nbformat.writes(editions[name, "instructor"])
    assert "HIDDEN" not in nbformat.writes(editions[name, "solutions"])


def test_a_line_of_an_answer_that_stays_in_the_open_stops_a_release(tmp_path):
    pytest.importorskip("nbgrader")
    text = (SOURCES / "1-pgd.md").read_text(encoding="utf-8")
    path = tmp_path / "leaky.md"
    leaky = text.replace("# Assignment 1", "`delta = torch.zeros_like(x)`\n\n# Assignment 1")
    path.write_text(leaky, encoding="utf-8")
    with pytest.raises(ValueError, match="the student edition would hold"):
        sheets.edition(path, "student", install="")


@pytest.mark.parametrize(("old", "new", "told"), [
    ("withheld: [attacks, balls]", "withheld: [attacks, boxes]", "withheld names boxes; expected modules"),
    ("builds_on: [test-", "builds_on: [tests-", "expected some of test-"),
    ("check.ball(", "check.ball((", "is not Python"),
])  # fmt: skip
def test_a_sheet_that_cannot_be_graded_is_refused_when_it_is_read(tmp_path, old, new, told):
    text = (SOURCES / "1-pgd.md").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "odd.md"
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=told):
        sheets.read(path)


def test_cells_are_put_back_and_locked_ones_replaced():
    sheet = original("1-pgd")
    cells = [
        Submitted(c.metadata.get("nbgrader", {}).get("grade_id"), c.cell_type, c.source) for c in solved("1-pgd").cells
    ]
    honest = plan(sheet, cells)
    assert plan(sheet, cells[::-1]).cells == honest.cells
    assert honest.notes == []
    forged = [cell._replace(source="seed = 0") if cell.key == "setup" else cell for cell in cells]
    assert plan(sheet, forged).cells == [honest.cells[0]._replace(source="seed = 0", kind="extra"), *honest.cells]
    fewer = plan(sheet, [cell for cell in cells if cell.key not in ("setup", "pgd", "written-curve")])
    assert [cell.label for cell in fewer.cells] == [cell.label for cell in honest.cells if cell.label != "pgd"]
    assert fewer.notes == ["The cell 'pgd' is missing.", "The cell 'written-curve' is missing."]


RESULT = {
    "exercises": {"test-effect": {"points": 4.0, "of": 4, "message": ""}},
    "answers": {"written-question": "<script>alert(1)</script> \ud800 {{ 7 * 7 }}"},
    "notes": ["The cell '<b>' ran."],
    "sha256": "abc",
    "graded": "now",
    "seed": 1,
}
EMPTY = RESULT | {
    "exercises": {"test-effect": {"points": 0, "of": 4, "message": "paired_effect: <i>wrong</i>"}},
    "answers": {},
}


@pytest.fixture
def graded(tmp_path):
    """A class that has handed in the fifth assignment: Ada with four points, Bob with none."""
    folder = tmp_path / "5-project"
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({"ada": RESULT, "bob": EMPTY}), encoding="utf-8")
    return folder


def test_grading_again_keeps_the_marks_made_by_hand(graded, monkeypatch):
    sheet = original("5-project")
    for student in ("ada", "bob"):
        write(stubbed("5-project"), graded / "submitted" / f"{student}.ipynb")
    graded_as(monkeypatch, dict(RESULT))
    classes.grade_class(graded, sheet, seed=0)
    lines = (graded / "marks.csv").read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) == 1 + 2 * 5
    lines[1] = 'ada,written-question,3,2.5,"good, but why?"'
    lines.append("ada,test-effect,4,3,late")
    (graded / "marks.csv").write_text("\n".join(lines))
    graded_as(monkeypatch, dict(EMPTY))
    classes.grade_class(graded, sheet, seed=0)
    kept = (graded / "marks.csv").read_text(encoding="utf-8-sig").splitlines()
    assert [cells[:5] for cells in csv.reader(kept)] == [cells[:5] for cells in csv.reader(lines)]
    rows = {student: {r.exercise.key: r for r in rs} for student, rs in gradebook.rows(graded, sheet).items()}
    assert rows["ada"]["written-question"][1:3] == (2.5, "good, but why?")
    assert rows["ada"]["test-effect"][1:3] == (3, "late")
    assert rows["bob"]["test-effect"].points == 0
    classes.grade_class(graded, sheet, seed=0, students=["bob"])
    assert set(gradebook.results(graded)) == {"ada", "bob"}
    assert classes.seed_of(graded / "another") != classes.seed_of(graded / "a third")
    with gradebook.write_grades(graded, sheet).open(newline="", encoding="utf-8-sig") as file:
        assert list(csv.reader(file)) == [
            list(gradebook.GRADES), ["ada", "5.5", "20", "0", "0", "4", "0"], ["bob", "0", "20", "0", "0", "5", "0"],
        ]  # fmt: skip


@pytest.mark.parametrize(("line", "told"), [
    ("ada,written-question,3,4,", "line 2: '4' points for 'written-question'; expected an exercise of the assignment, "
     "and 0 to 3"),
    ("ada,written-question,3,many,", "line 2: 'many' points"),
    ("ada,written-question,3,nan,", "line 2: 'nan' points"),
    ("ada,unheard-of,3,1,", "'unheard-of'"),
])  # fmt: skip
def test_a_mark_that_cannot_be_is_told_with_its_line(graded, line, told):
    (graded / "marks.csv").write_text("student,exercise,of,points,comment\n" + line + "\n")
    with pytest.raises(ValueError, match=re.escape(told)) as caught:
        gradebook.rows(graded, original("5-project"))
    assert "\n" not in str(caught.value)


def test_pages_show_what_students_wrote_as_text(graded):
    *students, overview = feedback.write_pages(graded, original("5-project"), "Sheet & co")
    page = students[0].read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &#55296; {{ 7 * 7 }}" in page
    assert "<script" not in page
    assert "<b>" not in page
    assert "<strong>4 of 20 points</strong>, and 5 not marked yet" in page
    assert "Differences are taken within a seed" in page
    text = overview.read_text(encoding="utf-8")
    assert "&lt;i&gt;wrong&lt;/i&gt;" in text
    assert "50 %" in text


def test_the_overview_puts_the_hardest_first_and_counts_mistakes():
    exercises = [sheets.Exercise(key, key, 2, False, "", "") for key in "abc"]
    points = {"ada": (2, 0, None), "bob": (1, 0, None), "eve": (0, 2, None)}
    rows = {
        s: [
            gradebook.Row(e, p, "See me.", tested={0: "no", 1: "half"}.get(p, ""))
            for e, p in zip(exercises, ps, strict=True)
        ]
        for s, ps in points.items()
    }
    found = feedback.overview(rows)
    assert [(line["exercise"].key, line["share"]) for line in found["exercises"]] == [
        ("b", 1 / 3),
        ("a", 0.5),
        ("c", None),
    ]
    assert found["mistakes"][0] == ("b", "no", 2)
    unanswered = [row._replace(tested=NO_ANSWER, points=0.0) for row in next(iter(rows.values()))]
    assert feedback.overview({"ada": unanswered})["mistakes"] == []
    assert (found["students"], found["most"]) == (3, 6)


@pytest.mark.parametrize(("arguments", "told"), [
    (["grade", "unheard", "--class", "."], "there is no assignment 'unheard'"),
    (["grade", "1-pgd", "--class", "{tmp}"], "nothing is in"),
    (["grade", "1-pgd", "--class", "{tmp}", "--jobs", "0"], "expected both above zero"),
    (["grade", "1-pgd", "--class", "{tmp}", "--seed", str(2**64)], "expected a whole number from 0 to 4294967295"),
    (["feedback", "1-pgd", "--class", "{tmp}"], "expected `advtransfer classroom grade` to have run"),
])  # fmt: skip
def test_what_cannot_be_done_is_told_in_a_line(arguments, told, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jail, "refusal", lambda *private: None)
    given = [argument.format(tmp=tmp_path) for argument in arguments]
    assert cli.main(["classroom", *given]) == 2
    assert told in capsys.readouterr().err


def test_without_a_sandbox_nothing_is_graded_unless_asked_for(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    write(stubbed("5-project"), tmp_path / "5-project" / "submitted" / "ada.ipynb")
    asked = ["classroom", "grade", "5-project", "--class", str(tmp_path), "--jobs", "1"]
    assert cli.main(asked) == 2
    assert "install bubblewrap" in capsys.readouterr().err
    assert not (tmp_path / "5-project" / "results.json").exists()
    assert cli.main([*asked, "--unsafe"]) == 0
    said = capsys.readouterr()
    assert "warning: submissions run without a sandbox" in said.err
    assert "ada: 0 of 4 by tests" in said.out


def test_a_class_folder_that_submissions_could_read_is_refused():
    inside = next(path for path in jail.visible() if path.is_dir()) / "class"
    assert "which submissions can read" in jail.refusal(inside)
