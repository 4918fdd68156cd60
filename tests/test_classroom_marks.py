"""Names of students, and the marks that a person gives: as people and their spreadsheets write them."""

import csv
import json
import os
import unicodedata

import pytest

from advtransfer.classroom import answers, classes, feedback, gradebook, handed_in, jail, marks, sheets
from advtransfer.classroom.grading import Grader
from advtransfer.commands import main as cli
from classroom_cases import graded_as, original, solved, stubbed, write

SHEET = original("5-project")
EXERCISES = sheets.exercises(SHEET)
QUESTION, *_ = [exercise for exercise in EXERCISES if exercise.written]
MADE = {
    "exercises": {"test-effect": {"points": 4.0, "of": 4, "message": ""}},
    "answers": {}, "notes": [], "sha256": "0" * 64, "graded": "now", "seed": 1,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A class of three whose tests have run; the sandbox is not what is tested here."""
    for student in ("007", "José", "Zoë B"):
        write(solved("5-project"), tmp_path / "5-project" / "submitted" / f"{student}.ipynb")
    graded_as(monkeypatch, dict(MADE))
    classes.grade_class(tmp_path / "5-project", SHEET, seed=1)
    return tmp_path / "5-project"


def fill(folder, *rows, encoding="utf-8", delimiter=",", header=("student", "exercise", "of", "points", "comment")):
    with (folder / "marks.csv").open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])


def edit(folder, student, exercise, **cells):
    """Fill cells of a row in, as a person does in a spreadsheet."""
    table = marks.read_table(folder / "marks.csv")
    for _, row in table.rows:
        if (table.cell(row, "student"), table.cell(row, "exercise")) == (student, exercise):
            for name, text in cells.items():
                row[table.header.index(name)] = text
    marks.write_table(folder / "marks.csv", table)


def of(folder, student, key):
    return next(row for row in gradebook.rows(folder, SHEET)[student] if row.exercise.key == key)


@pytest.mark.parametrize("written", [
    {"encoding": "utf-8-sig", "delimiter": ";"}, {"encoding": "utf-16", "delimiter": "\t"}, {"encoding": "utf-8"},
])  # fmt: skip
def test_marks_are_read_as_spreadsheets_write_them(folder, written):
    fill(folder, ["José", QUESTION.key, "3", "2,5", 'says "why"; and, well'], ["", "", "", "", ""], **written)
    assert of(folder, "José", QUESTION.key)[1:3] == (2.5, 'says "why"; and, well')
    classes.grade_class(folder, SHEET, seed=1)  # adds the missing rows
    table = marks.read_table(folder / "marks.csv")
    assert table.delimiter == written.get("delimiter", ",")
    assert len(table.rows) == 3 * 5
    assert of(folder, "José", QUESTION.key)[1:3] == (2.5, 'says "why"; and, well')


def test_a_name_in_another_normal_form_is_the_same_name(folder):
    fill(folder, [unicodedata.normalize("NFD", "José"), QUESTION.key, "3", "1", ""])
    assert of(folder, "José", QUESTION.key).points == 1


def test_an_empty_file_gets_its_columns_and_rows_again(folder):
    (folder / "marks.csv").write_bytes(b"")
    classes.grade_class(folder, SHEET, seed=1)
    table = marks.read_table(folder / "marks.csv")
    assert tuple(table.header) == marks.COLUMNS
    assert len(table.rows) == 3 * 5
    assert (folder / "marks.csv").read_bytes().startswith(b"\xef\xbb\xbf")  # by which Excel knows the letters


@pytest.mark.parametrize(("row", "told"), [
    (["7", QUESTION.key, "3", "1", ""], "line 2: '7' handed nothing in; expected '007'?"),
    (["Jose", QUESTION.key, "3", "1", ""], "line 2: 'Jose' handed nothing in; expected 'José'?"),
    (["somebody", QUESTION.key, "3", "1", ""], "'somebody' handed nothing in; expected one of 007, José, Zoë B"),
    (["José", QUESTION.key, "3", "25", ""], "and 0 to 3 (more is a bonus)"),
    (["José", QUESTION.key, "3", "1e0", ""], "line 2: '1e0' points"),
    (["José", QUESTION.key, "3", "-1", ""], "line 2: '-1' points"),
    (["José", QUESTION.key, "3", "2", "5", "good"], "line 2: 6 cells in 5 columns; expected quotes"),
    (["José", marks.WHOLE, "", "3", ""], "'3' points for the whole sheet; expected a bonus or a penalty"),
])  # fmt: skip
def test_what_cannot_be_is_told_with_its_line(folder, row, told):
    fill(folder, row)
    with pytest.raises(ValueError, match=r"marks\.csv") as caught:
        gradebook.rows(folder, SHEET)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_mistakes_are_told_at_once_and_before_anything_is_graded(folder, monkeypatch):
    fill(folder, *[[name, QUESTION.key, "3", "1", ""] for name in ("x", "y", "z", "José", "José")])
    monkeypatch.setattr(Grader, "grade", lambda *arguments, **options: pytest.fail("was graded"))
    before = (folder / "marks.csv").read_bytes()
    with pytest.raises(ValueError, match=r"line 2: 'x'.*line 3: 'y'.*line 4: 'z'.*line 6: 'José' has a mark.*line 5"):
        classes.grade_class(folder, SHEET, seed=1)
    assert (folder / "marks.csv").read_bytes() == before


@pytest.mark.parametrize(("content", "told"), [
    ("student,exercise,of,points,comment\nJosé,x,3,1,".encode("cp1252"), "line 2: byte 0xe9 is not UTF-8, but "
     "probably cp1252, as Excel writes “CSV”; expected UTF-8: save it as “CSV UTF-8”"),
    (b"\xff\xfes", "it begins like UTF-16, but is not UTF-16; expected UTF-8"),
    (b"student,exercise,of,points\n", "has the columns student, exercise, of, points, and not comment"),
    (b'student,exercise,of,points,comment\nada,x,3,1,"open\nbob,x,3,1,\n', "expected each quote to be closed"),
    (b"student,exercise,of,points,comment\nada,x,3,1,\x00\n", "marks.csv"),
])  # fmt: skip
def test_a_file_that_cannot_be_read_is_told_by_name_and_stays(folder, content, told, capsys):
    (folder / "marks.csv").write_bytes(content)
    asked = ["classroom", "feedback", "5-project", "--class", str(folder.parent)]
    assert cli.main(asked) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert str(folder / "marks.csv") in said
    assert (folder / "marks.csv").read_bytes() == content


def test_bonus_and_penalty_change_the_points_and_stand_in_the_grades(folder):
    edit(folder, "José", QUESTION.key, points="3", bonus="1,5", comment="beyond the question")
    edit(folder, "Zoë B", QUESTION.key, points="2", penalty="0.5")
    table = marks.read_table(folder / "marks.csv")
    for student, penalty in (("José", "2"), ("007", "30")):
        cells = {"student": student, "exercise": marks.WHOLE, "penalty": penalty, "comment": "A day late."}
        table.rows.append((0, [cells.get(name, "") for name in table.header]))
    cells = {"student": "Zoë B", "exercise": "test-effect", "penalty": "1", "comment": "No seed."}
    table.rows.append((0, [cells.get(name, "") for name in table.header]))
    marks.write_table(folder / "marks.csv", table)
    assert of(folder, "José", QUESTION.key)[1:3] == (4.5, "beyond the question Bonus: 1.5.")
    assert of(folder, "José", marks.WHOLE)[1:3] == (-2, "A day late. Penalty: 2.")
    assert of(folder, "Zoë B", "test-effect")[1:3] == (3, "No seed. Penalty: 1.")
    assert of(folder, "Zoë B", marks.WHOLE)[1:3] == (0, "")  # everybody has the same rows
    with gradebook.write_grades(folder, SHEET).open(newline="", encoding="utf-8-sig") as file:
        assert list(csv.reader(file))[1:] == [
            ["007", "0", "20", "0", "30", "5", "0"],  # never below zero
            ["José", "6.5", "20", "1.5", "2", "4", "0"],
            ["Zoë B", "4.5", "20", "0", "1.5", "4", "0"],
        ]
    found = feedback.overview(gradebook.rows(folder, SHEET))
    assert marks.WHOLE not in [line["exercise"].key for line in found["exercises"]]
    *pages, _ = feedback.write_pages(folder, SHEET, "Project")
    page = next(page for page in pages if page.stem == "José").read_text(encoding="utf-8")
    assert "A day late. Penalty: 2." in page
    assert "6.5 of 20 points" in page
    assert '<td class="number">-2</td>' in page


def test_the_overview_counts_what_the_tests_said_and_no_remark_of_the_teacher(folder, monkeypatch):
    result = {"points": 1.0, "of": 4, "message": "The sign is wrong."}
    graded_as(monkeypatch, MADE | {"exercises": {"test-effect": result}})
    classes.grade_class(folder, SHEET, seed=1)

    def counted():
        return [line[1:] for line in feedback.overview(gradebook.rows(folder, SHEET))["mistakes"]]

    assert counted() == [("The sign is wrong.", 3)]
    fill(
        folder,
        ["José", "test-effect", "4", "2", "I see what you mean."],
        ["007", "test-effect", "4", "", "See me."],
    )
    assert counted() == [("The sign is wrong.", 2)]
    assert of(folder, "007", "test-effect").message == "The sign is wrong. See me."


def test_the_figure_of_the_class_shows_those_whom_a_bonus_leads_beyond_the_most(folder, monkeypatch):
    edit(folder, "José", QUESTION.key, points="3", bonus="30")
    drawn = []
    monkeypatch.setattr(feedback.Figure, "savefig", lambda figure, *rest, **more: drawn.append(figure))
    feedback.write_pages(folder, SHEET, "Project")
    assert sum(bar.get_height() for bar in drawn[0].axes[0].patches) == 3


def resubmit(folder, student, **answers):
    write(stubbed("5-project", **answers), folder / "submitted" / f"{student}.ipynb")
    classes.grade_class(folder, SHEET, seed=1)


def test_a_mark_for_an_answer_that_was_changed_since_is_flagged(folder, capsys):
    edit(folder, "José", QUESTION.key, points="2")
    edit(folder, "Zoë B", QUESTION.key, points="2")
    classes.grade_class(folder, SHEET, seed=1)
    assert not of(folder, "José", QUESTION.key).changed
    resubmit(folder, "José", written_question="Another question.")
    assert of(folder, "José", QUESTION.key).changed
    assert of(folder, "José", QUESTION.key).points == 2  # flagged, and not lost
    assert not of(folder, "Zoë B", QUESTION.key).changed
    asked = ["classroom", "feedback", "5-project", "--class", str(folder.parent)]
    assert cli.main(asked) == 0
    assert f"José: the answer '{QUESTION.key}' was changed after it had been marked" in capsys.readouterr().err
    edit(folder, "José", QUESTION.key, answer="")  # the mark stands
    classes.grade_class(folder, SHEET, seed=1)
    assert not of(folder, "José", QUESTION.key).changed
    resubmit(folder, "José", written_question="A third question.")
    assert of(folder, "José", QUESTION.key).changed


def test_a_row_without_points_follows_the_answer_and_one_added_by_hand_keeps_that_of_its_time(folder, monkeypatch):
    resubmit(folder, "José", written_question="Another question.")
    edit(folder, "José", QUESTION.key, points="1")
    assert not of(folder, "José", QUESTION.key).changed
    table = marks.read_table(folder / "marks.csv")
    cells = {"student": "José", "exercise": "test-effect", "points": "2"}
    table.rows.append((0, [cells.get(name, "") for name in table.header]))
    marks.write_table(folder / "marks.csv", table)
    resubmitted = dict(MADE) | {"sha256": "1" * 64}
    graded_as(monkeypatch, resubmitted)
    classes.grade_class(folder, SHEET, seed=1)
    assert of(folder, "José", "test-effect").changed
    assert not of(folder, "José", QUESTION.key).changed


def test_versions_are_words_that_no_spreadsheet_changes():
    versions = answers.versions({}, SHEET, "0123456789abcdef" * 4)
    assert set(versions) == {"test-effect"}
    assert all(word.isalpha() and not set(word) & set("aeiou") for word in versions.values())


def test_a_student_is_chosen_by_a_name_in_any_normal_form(folder):
    assert set(classes.grade_class(folder, SHEET, seed=1, students=[unicodedata.normalize("NFD", "José")])) == {"José"}


def test_one_unreadable_file_does_not_lose_the_results_of_the_others(folder, monkeypatch):
    (folder / "results.json").unlink()

    def grade(self, path, *arguments, **options):
        if path.stem == "José":
            raise PermissionError(13, "Permission denied", str(path))
        return dict(MADE)

    monkeypatch.setattr(Grader, "grade", grade)
    found = classes.grade_class(folder, SHEET, seed=1)
    assert {student for student, result in found.items() if result["exercises"]} == {"007", "Zoë B"}
    assert "Permission denied" in found["José"]["notes"][0]


NAMES_OF_THE_WORLD = (
    "O'Brien", "O’Brien", "Doe, Jane", "bob (1)", "हिन्दी नाम", "สมชาย ใจดี", "نام‌خانوادگی", "李小龍", "007", "Łukasz",
)  # fmt: skip


def test_names_of_the_world_are_graded_and_all_that_is_not_a_submission_is_told_at_once(tmp_path):
    submitted = tmp_path / "submitted"
    for name in (*NAMES_OF_THE_WORLD, unicodedata.normalize("NFD", "José")):
        write(stubbed("5-project"), submitted / f"{name}.ipynb")
    for name in ("=cmd()", "<b>", "a\nb", "x\u202ey", "+1"):
        write(stubbed("5-project"), submitted / f"{name}.ipynb")
    write(stubbed("5-project"), submitted / "two" / "1.ipynb")
    write(stubbed("5-project"), submitted / "two" / "2.ipynb")
    write(stubbed("5-project"), submitted / "twice" / "2.ipynb")
    write(stubbed("5-project"), submitted / "twice.ipynb")
    (submitted / "empty").mkdir()
    write(stubbed("5-project"), submitted / "bob" / "1.ipynb")
    (submitted / "eve").symlink_to("bob")
    (submitted / "mallory.ipynb").symlink_to("twice.ipynb")
    for name in ("README.txt", "submissions.zip", ".DS_Store", "Thumbs.db"):
        (submitted / name).touch()
    for name in (".ipynb_checkpoints", "__MACOSX"):
        write(stubbed("5-project"), submitted / name / "ada.ipynb")
    found = handed_in.found(tmp_path)
    assert set(found.notebooks) == {*NAMES_OF_THE_WORLD, "José", "bob"}
    told = "\n".join(found.refused)
    for name in ("'=cmd()", "'<b>", r"'a\nb", r"'x\u202ey", "'+1", "'two'", "'twice'", "'empty'", "'eve'", "'mallory"):
        assert name in told
    assert len(found.refused) == 10
    assert [line.partition(" is ")[0] for line in found.passed_over] == ["'README.txt'", "'submissions.zip'"]
    assert told.replace("\n", "").isprintable()


def test_what_is_not_graded_is_told_and_the_rest_is_graded(folder, capsys, monkeypatch):
    monkeypatch.setattr(jail, "refusal", lambda *private: None)
    (folder / "submitted" / "empty").mkdir()
    (folder / "submitted" / "notes.txt").touch()
    asked = ["classroom", "grade", "5-project", "--class", str(folder.parent)]
    assert cli.main(asked) == 1
    said = capsys.readouterr()
    assert "NOT GRADED: 'empty': it holds no notebooks; expected one" in said.err
    assert "passed over: 'notes.txt'" in said.err
    assert said.out.count("by tests") == 3
    assert cli.main(["classroom", "feedback", *asked[2:]]) == 0
    assert "NOT GRADED: 'empty': it holds no notebooks" in capsys.readouterr().err


def test_a_file_without_answers_that_can_be_told_is_named_to_the_teacher(folder, capsys, monkeypatch):
    monkeypatch.setattr(jail, "refusal", lambda *private: None)
    (folder / "submitted" / "José.ipynb").write_text('{"cells": [')
    graded_as(monkeypatch, dict(MADE) | {"notes": ["The file could not be read: it is no notebook.", "Another note."]})
    assert cli.main(["classroom", "grade", "5-project", "--class", str(folder.parent)]) == 0
    said = capsys.readouterr().err
    assert "LOOK AT José: The file could not be read: it is no notebook." in said
    assert "Another note" not in said


def test_only_what_the_tests_found_right_is_called_right(folder):
    for points in ("0", "3"):
        edit(folder, "José", QUESTION.key, points=points)
        assert of(folder, "José", QUESTION.key).said == ""
    full = of(folder, "José", "test-effect")
    assert (full.said, full.points) == ("Right.", full.exercise.points)
    page = next(path for path in feedback.write_pages(folder, SHEET, "Project") if path.stem == "José")
    text = page.read_text(encoding="utf-8")
    right = sum(row.said == "Right." for row in gradebook.rows(folder, SHEET)["José"])
    assert text.count("Right.") == right
    assert "The whole sheet" not in text


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give files away")
def test_what_root_has_written_belongs_to_the_owner_of_the_folder(folder, capsys):
    os.chown(folder, 1234, 1234)
    outside = folder.parent / "outside"
    outside.write_text("of root")
    os.link(outside, folder / "has another place")
    (folder / "a link").symlink_to(outside)
    asked = ["classroom", "feedback", "5-project", "--class", str(folder.parent)]
    assert cli.main(asked) == 0
    for path in ("marks.csv", "results.json", "grades.csv", "overview.html", "feedback", "feedback/007.html"):
        assert (folder / path).stat().st_uid == 1234, path
    assert outside.stat().st_uid == 0  # neither by a link nor by its other name


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give files away")
def test_the_folders_that_root_has_made_for_a_class_are_given_away_too(tmp_path):
    home = tmp_path / "home"
    inside = home / "spring" / "1-pgd"
    inside.mkdir(parents=True)
    os.chown(home, 1234, 1234)
    gradebook.hand_over(inside)
    assert [path.stat().st_uid for path in (inside, inside.parent, home, tmp_path)] == [1234, 1234, 1234, 0]


def test_results_without_versions_from_an_earlier_release_are_read(folder):
    results = gradebook.results(folder)
    for result in results.values():
        result.pop("versions")
    (folder / "results.json").write_text(json.dumps(results))
    edit(folder, "José", QUESTION.key, points="1", answer="")
    assert not of(folder, "José", QUESTION.key).changed
    classes.grade_class(folder, SHEET, seed=1)
    assert of(folder, "José", QUESTION.key).points == 1
