"""What goes back: read here by the rules of Moodle and Canvas, as their source states them."""

import csv
import io
import json
import os
import re
import zipfile

import nbformat
import pytest

from advtransfer.classroom import classes, collecting, feedback, gradebook, marks, returning, uploads
from advtransfer.commands import main as cli
from classroom_cases import graded_as, original, solved
from zipped import archive

NAME = "5-project"
SHEET = original(NAME)
MADE = {
    "exercises": {"test-effect": {"points": 3.5, "of": 4, "message": "<b>no</b> `effect` $x$ [here](javascript:1)"}},
    "answers": {}, "notes": [], "sha256": "0" * 64, "graded": "now", "seed": 1,
}  # fmt: skip
NOTEBOOK = nbformat.writes(solved(NAME)).encode()


def graded(folder, zipped, monkeypatch, *, unmarked=()):
    """Collect a zip file, and mark every written answer but those of `unmarked` with all points but one."""
    collecting.collect(folder, zipped, NAME)
    graded_as(monkeypatch, dict(MADE))
    classes.grade_class(folder, SHEET, seed=1)
    table = marks.read_table(folder / "marks.csv")
    for _, row in table.rows:
        if table.cell(row, "student") not in unmarked:
            row[table.header.index("points")] = f"{float(table.cell(row, 'of')) - 1:g}"
    marks.write_table(folder / "marks.csv", table)
    feedback.write_pages(folder, SHEET, "Project")


def denied(read, who):
    """`read`, but for the file of one student."""

    def opened(path):
        if path.stem == who:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    return opened


def cells(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def moodle_reads(zipped, participants):
    """Participant and name of file for each member: mod/assign/feedback/file/importziplib.php."""
    found = {}
    for name in zipfile.ZipFile(zipped).namelist():
        parts = name.split("/")
        while parts:
            info = parts.pop(0).split("_", 4)
            if len(info) < 4 or not info[1].isdecimal() or int(info[1]) not in participants:
                continue
            assert info[2:4] == ["assignsubmission", "file"]  # a plug-in of the assignment
            rest = [*info[4:5], *parts] if len(info) > 4 else ["", *parts]
            found[int(info[1])] = "/".join(rest).lstrip("/")
            break
    return found


def canvas_reads(zipped):
    """User and attachment for each member: infer_comment_context_from_filename in app/models/abstract_assignment.rb."""
    found = {}
    for name in zipfile.ZipFile(zipped).namelist():
        words = [word for word in name.split("_") if word != "LATE"]
        ids = words[1:3] if words[0] == "anon" else [word for word in words if re.fullmatch(r"\d+", word)][:2]
        found[tuple(ids)] = name
    return found


MOODLE = {
    "Ada Lovelace_101_assignsubmission_file/work.ipynb": NOTEBOOK,
    "Zoë_102_assignsubmission_file_work.ipynb": NOTEBOOK,
    "Bob_103_assignsubmission_file_/deep/work.ipynb": NOTEBOOK,
}
WORKSHEET = (
    "\ufeffIdentifier,Full name,Email address,Status,Grade,Maximum Grade,Grade can be changed,"
    "Last modified (submission),Online text,Last modified (grade),Feedback comments\r\n"
    'Participant 101,Ada Lovelace,ada@x.org,Submitted for grading,,20.00,Yes,"Monday, 2 March 2026, 9:00 AM",,-,"Good, '
    'see me"\r\n'
    "Participant 102,Zoë,zoe@x.org,Submitted for grading,,20.00,Yes,-,,-,\r\n"
    "Participant 199,Nobody,no@x.org,No submission,7.00,20.00,Yes,-,,-,keep\r\n"
)


def test_moodle_takes_the_zip_and_the_points(tmp_path, monkeypatch):
    graded(tmp_path, archive(tmp_path / "m.zip", MOODLE), monkeypatch, unmarked=["Bob"])
    done = returning.give_back(tmp_path, SHEET, NAME, system="moodle")
    assert moodle_reads(tmp_path / "return-moodle.zip", {101, 102, 103}) == dict.fromkeys((101, 102), "feedback.html")
    page = zipfile.ZipFile(tmp_path / "return-moodle.zip").read("Zoë_102_assignsubmission_file_/feedback.html")
    assert page == (tmp_path / "feedback" / "Zoë.html").read_bytes()
    assert [line.partition(": ")[0] for line in done.left_out] == ["Bob"]
    header, *rows = cells(tmp_path / "grades-moodle.csv")
    assert {"Identifier", "Grade", "Last modified (grade)"} <= set(header)
    assert "Feedback comments" not in header  # an empty one would delete what is in Moodle
    assert {row[header.index("Identifier")]: row[header.index("Grade")] for row in rows} == {
        "Participant 101": "14.5", "Participant 102": "14.5",
    }  # fmt: skip


def test_moodles_worksheet_is_filled_in_and_nothing_else_in_it_changes(tmp_path, monkeypatch):
    graded(tmp_path, archive(tmp_path / "m.zip", MOODLE), monkeypatch)
    table = tmp_path / "worksheet.csv"
    table.write_text(WORKSHEET, encoding="utf-8", newline="")
    done = returning.give_back(tmp_path, SHEET, NAME, system="moodle", table=table)
    before = list(csv.reader(io.StringIO(WORKSHEET.removeprefix("\ufeff"), newline="")))
    after = cells(tmp_path / "grades-moodle.csv")
    assert [row[4] for row in after] == ["Grade", "14.5", "14.5", "7.00"]
    assert [row[:4] + row[5:] for row in after] == [row[:4] + row[5:] for row in before]
    assert ["Bob" in line and "is not in" in line for line in done.left_out] == [True]
    table.write_text(WORKSHEET.replace("20.00", "100,00".join('""')), encoding="utf-8")
    with pytest.raises(ValueError, match=r"gives 100,00 points at most; expected 20"):
        returning.give_back(tmp_path, SHEET, NAME, system="moodle", table=table)
    table.write_text("Bezeichner,Bewertung\nTeilnehmer/in101,\n", encoding="utf-8")
    with pytest.raises(ValueError, match="and not Identifier; expected the table in English"):
        returning.give_back(tmp_path, SHEET, NAME, system="moodle", table=table)


def test_a_bonus_beyond_what_moodle_takes_is_told(tmp_path, monkeypatch):
    graded(tmp_path, archive(tmp_path / "m.zip", MOODLE), monkeypatch)
    table = marks.read_table(tmp_path / "marks.csv")
    table.rows[0][1][table.header.index("bonus")] = "9"
    marks.write_table(tmp_path / "marks.csv", table)
    done = returning.give_back(tmp_path, SHEET, NAME, system="moodle")
    assert done.left_out == ["Ada Lovelace: Moodle takes at most 20 points, and not 23.5"]


CANVAS = {
    "doejane_LATE_201_9001_work.ipynb": NOTEBOOK,
    "zoë_202_9002_work-1.ipynb": NOTEBOOK,
    "anon_x1Y2z_9005_work.ipynb": NOTEBOOK,
}
GRADEBOOK = (
    "Student,ID,SIS User ID,SIS Login ID,Section,Other (11),Project (12),Assignments Current Score\n"
    ",,,,,Manual Posting,,\n"
    '"    Points Possible",,,,,5.00,20.00,(read only)\n'
    '"Doe, Jane",201,A1,jane,S1,4,,80\n'
    '"Smith, Zoë",202,A2,zoe,S1,5,3,100\n'
    '"Student, Nobody",299,A9,no,S1,1,2,3\n'
)


def test_canvas_takes_the_zip_and_the_points(tmp_path, monkeypatch):
    graded(tmp_path, archive(tmp_path / "c.zip", CANVAS), monkeypatch)
    done = returning.give_back(tmp_path, SHEET, NAME, system="canvas")
    assert set(canvas_reads(tmp_path / "return-canvas.zip")) == {("201", "9001"), ("202", "9002"), ("x1Y2z", "9005")}
    notebook = nbformat.reads(zipfile.ZipFile(tmp_path / "return-canvas.zip").read("zoë_202_9002_work-1.ipynb"), 4)
    nbformat.validate(notebook)
    (cell,) = notebook.cells
    assert "14.5 of 20 points" in cell.source
    assert r"\<b\>no\</b\> \`effect\` \$x\$ \[here\]\(javascript:1\)" in cell.source
    header, possible, *rows = cells(tmp_path / "grades-canvas.csv")
    # header?, row_has_student_headers? and last_student_info_column in lib/gradebook_importer.rb
    assert header[:5] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    assert "Points Possible" in possible[0]
    assert possible[5] == "20"
    assert [(row[1], row[5]) for row in rows] == [("201", "14.5"), ("202", "14.5")]
    assert "anon: no points in" in done.left_out[0]


def test_of_canvas_gradebook_only_the_column_and_the_rows_that_change_come_back(tmp_path, monkeypatch):
    graded(tmp_path, archive(tmp_path / "c.zip", CANVAS), monkeypatch, unmarked=["doejane"])
    table = tmp_path / "gradebook.csv"
    table.write_text(GRADEBOOK, encoding="utf-8")
    returning.give_back(tmp_path, SHEET, NAME, system="canvas", table=table, column="Project")
    assert cells(tmp_path / "grades-canvas.csv") == [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Project (12)"],
        ["", "", "", "", "", ""],
        ["    Points Possible", "", "", "", "", "20.00"],
        ["Smith, Zoë", "202", "A2", "zoe", "S1", "14.5"],
    ]
    for column, told in [(None, "has 0 columns '5-project'; expected one: name it with --column"),
                         ("Other (11)", "gives 5.00 points at most; expected 20")]:  # fmt: skip
        with pytest.raises(ValueError, match=re.escape(told)):
            returning.give_back(tmp_path, SHEET, NAME, system="canvas", table=table, column=column)


def test_students_get_a_zip_each_with_their_page_and_notebook(tmp_path, monkeypatch, capsys):
    folder = tmp_path / NAME
    plain = {"ada.ipynb": NOTEBOOK, "Zoë/x.ipynb": NOTEBOOK, "bob.ipynb": NOTEBOOK}
    graded(folder, archive(tmp_path / "p.zip", plain), monkeypatch, unmarked=["bob"])
    asked = ["classroom", "return", NAME, "--class", str(tmp_path)]
    assert cli.main(asked) == 1
    assert "LEFT OUT: bob: no mark for written-question" in capsys.readouterr().err
    assert {path.name for path in (folder / "returned").iterdir()} == {"ada.zip", "Zoë.zip"}
    back = zipfile.ZipFile(folder / "returned" / "Zoë.zip")
    assert back.namelist() == [f"{NAME}/feedback.html", f"{NAME}/{NAME}.ipynb"]
    assert back.read(f"{NAME}/{NAME}.ipynb") == NOTEBOOK
    assert cli.main([*asked, "--for", "moodle"]) == 2
    assert "nobody was collected from Moodle; expected `advtransfer classroom collect`" in capsys.readouterr().err
    assert cli.main([*asked, "--table", "x.csv"]) == 2
    assert "expected --for moodle or --for canvas" in capsys.readouterr().err


def test_who_has_handed_in_again_or_was_never_graded_gets_nothing_and_is_named(tmp_path, monkeypatch, capsys):
    folder = tmp_path / NAME
    plain = {f"{who}.ipynb": NOTEBOOK for who in ("ada", "bob", "eve", "old")}
    graded(folder, archive(tmp_path / "p.zip", plain), monkeypatch)
    (folder / "submitted" / "ada.ipynb").write_bytes(NOTEBOOK + b" ")
    (folder / "submitted" / "bob.ipynb").unlink()
    (folder / "submitted" / "zoe.ipynb").write_bytes(NOTEBOOK)
    os.utime(folder / "submitted" / "old.ipynb", (0, 0))  # zip files know no year before 1980
    assert cli.main(["classroom", "return", NAME, "--class", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "LEFT OUT: ada: handed in again after grading\n" in said
    assert "LEFT OUT: zoe: not graded yet\n" in said
    assert {path.stem for path in (folder / "returned").iterdir()} == {"bob", "eve", "old"}
    for action in ("mark", "feedback"):
        assert cli.main(["classroom", action, NAME, "--class", str(tmp_path)]) == 0
        said = capsys.readouterr().err.splitlines()
        assert said[0] == "not graded yet: zoe"
        assert said[1] == "handed in again after grading; grade again: ada"
        assert said[2] == "graded, but no longer in submitted; the result is kept: bob"


def test_the_mark_of_an_earlier_answer_goes_back_only_if_the_teacher_lets_it_stand(tmp_path, monkeypatch, capsys):
    folder = tmp_path / NAME
    made = MADE | {"versions": {"written-question": "the first"}}
    graded(folder, archive(tmp_path / "p.zip", {f"{who}.ipynb": NOTEBOOK for who in ("ada", "bob")}), monkeypatch)
    graded_as(monkeypatch, made)
    classes.grade_class(folder, SHEET, seed=1)
    table = marks.read_table(folder / "marks.csv")
    for _, row in table.rows:
        first = (table.cell(row, "student"), table.cell(row, "exercise")) == ("ada", "written-question")
        row[table.header.index("answer")] = "the second" if first else ""
    marks.write_table(folder / "marks.csv", table)
    asked = ["classroom", "return", NAME, "--class", str(tmp_path)]
    assert cli.main(asked) == 1
    assert "LEFT OUT: ada: the mark for written-question is that of an earlier answer" in capsys.readouterr().err
    assert [path.stem for path in (folder / "returned").iterdir()] == ["bob"]
    for _, row in table.rows:
        row[table.header.index("answer")] = ""
    marks.write_table(folder / "marks.csv", table)
    assert cli.main(asked) == 0
    assert {path.stem for path in (folder / "returned").iterdir()} == {"ada", "bob"}


def test_a_file_that_could_not_be_read_when_it_was_graded_counts_as_another_one(tmp_path, monkeypatch):
    folder = tmp_path / NAME
    graded(folder, archive(tmp_path / "p.zip", {f"{who}.ipynb": NOTEBOOK for who in ("ada", "bob")}), monkeypatch)
    known = gradebook.results(folder)
    known["ada"]["sha256"] = ""
    (folder / "results.json").write_text(json.dumps(known))
    (folder / "submitted" / "bob").mkdir()
    (folder / "submitted" / "bob" / "x.ipynb").write_bytes(NOTEBOOK)  # two for one student
    assert gradebook.apart(folder) == ([], ["ada"], [], ["bob"])


def test_a_file_that_cannot_be_read_any_more_is_named_and_the_others_go_back(tmp_path, monkeypatch, capsys):
    folder = tmp_path / NAME
    graded(folder, archive(tmp_path / "p.zip", {f"{who}.ipynb": NOTEBOOK for who in ("ada", "bob")}), monkeypatch)
    monkeypatch.setattr(gradebook, "content", denied(gradebook.content, "ada"))
    assert cli.main(["classroom", "return", NAME, "--class", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "LEFT OUT: ada: the file handed in cannot be read\n" in said
    assert "cannot be read: ada\n" in said
    assert [path.stem for path in (folder / "returned").iterdir()] == ["bob"]


@pytest.mark.parametrize("content", [b"", b"\xff", b'{"s": 3}'])
@pytest.mark.parametrize("name", ["results.json", "collected.json"])
def test_a_damaged_file_of_the_library_is_named(tmp_path, monkeypatch, capsys, name, content):
    folder = tmp_path / NAME
    graded(folder, archive(tmp_path / "p.zip", {"ada.ipynb": NOTEBOOK}), monkeypatch)
    (folder / name).write_bytes(content)
    assert cli.main(["classroom", "return", NAME, "--class", str(tmp_path)]) == 2
    assert f"{folder / name} is damaged" in capsys.readouterr().err


def test_a_name_is_no_formula_in_the_points_for_moodle():
    cells, _ = uploads.moodle({"1": 3.0}, {"1": "=1+1"}, 20, None)
    assert cells[1][:2] == ["Participant 1", "1+1"]


def test_a_table_that_is_none_is_told(tmp_path):
    table = tmp_path / "t.csv"
    for content, told in [(b"", "is empty"), (b"a,b\n", "and not Identifier"), (b"\xe9", "is not UTF-8")]:
        table.write_bytes(content)
        with pytest.raises(ValueError, match=told):
            uploads.moodle({"1": 1.0}, {"1": "ada"}, 20, table)
