"""Collecting from zip files in the layouts of Moodle and Canvas, and from zip files that mean harm."""

import json
import os
import shutil
import subprocess
import time
import unicodedata
import zipfile

import pytest

from advtransfer.classroom import archives, collecting, handed_in, layouts
from advtransfer.commands import main as cli
from zipped import archive, notebook

NAME = "1-pgd"
ZIP = shutil.which("zip")


def taken(folder):
    """The text of each submission that is there."""
    return {
        student: json.loads(path.read_bytes())["cells"][0]["source"]
        for student, path in handed_in.found(folder).notebooks.items()
    }


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "class" / NAME


MOODLE = {
    "Ada Lovelace_101_assignsubmission_file/1-pgd.ipynb": notebook("ada"),  # since Moodle 4.1
    "José Ñandú_102_assignsubmission_file_/1-pgd.ipynb": notebook("jose"),  # before
    "OBrien-Smith Zoë_103_assignsubmission_file_1-pgd.ipynb": notebook("zoe"),  # not in folders
    "Jane Doe_104_assignsubmission_file/deep/inside/work.ipynb": notebook("jane 104"),
    "Jane Doe_105_assignsubmission_file/1-pgd.ipynb": notebook("jane 105"),
    "Jane Doe_105_assignsubmission_onlinetext/onlinetext.html": b"<p>hello</p>",
    "Eve_106_assignsubmission_file/Ada Lovelace_101_assignsubmission_file_/1-pgd.ipynb": notebook("eve"),
    "Eve_106_assignsubmission_file/report.pdf": b"%PDF",
    "Mallory_108_assignsubmission_file/report.pdf": b"%PDF",
    "Trent_109_assignsubmission_onlinetext/onlinetext.html": b"<p>",
}


def test_a_zip_of_moodle_is_collected_by_student_and_number(tmp_path, folder):
    done = collecting.collect(folder, archive(tmp_path / "all.zip", MOODLE), NAME)
    assert done.system == "moodle"
    assert taken(folder) == {
        "Ada Lovelace": "ada", "José Ñandú": "jose", "OBrien-Smith Zoë": "zoe", "Eve": "eve",
        "Jane Doe 104": "jane 104", "Jane Doe 105": "jane 105",
    }  # fmt: skip
    assert done.refused == ["'Mallory' handed in no notebook", "'Trent' handed in no notebook"]
    told = "\n".join(done.told)
    assert "onlinetext.html' was passed over" in told
    assert "report.pdf' was passed over" in told
    assert "'Jane Doe' is called 'Jane Doe 104' here" in told
    roster = collecting.read_roster(folder)
    assert roster["Jane Doe 104"]["id"] == "104"
    assert roster["Eve"]["back"] == "Eve_106_assignsubmission_file_/feedback.html"


def test_two_students_of_one_name_stay_apart_when_the_second_comes_later(tmp_path, folder):
    first = dict(list(MOODLE.items())[3:4])
    collecting.collect(folder, archive(tmp_path / "1.zip", first), NAME)
    collecting.collect(folder, archive(tmp_path / "2.zip", dict(list(MOODLE.items())[3:5])), NAME)
    assert taken(folder) == {"Jane Doe": "jane 104", "Jane Doe 105": "jane 105"}


CANVAS = {
    "doejane_LATE_201_9001_1-pgd.ipynb": notebook("jane"),
    "obrienjosé_202_9002_1-pgd.ipynb": notebook("first"),
    "obrienjosé_202_9010_1-pgd-1.ipynb": notebook("second"),
    "obrienjosé_202_9011_notes.ipynb": notebook("notes"),
    "doejane_203_9003_1-pgd-2.ipynb": notebook("another jane"),
    "smith_204_text.html": b"<p>",
    "smith_204_link.html": b"<p>",
    "anon_x1Y2z_9005_1-pgd.ipynb": notebook("anonymous"),
}


def test_a_zip_of_canvas_is_collected_and_the_newest_file_counts(tmp_path, folder):
    done = collecting.collect(folder, archive(tmp_path / "submissions.zip", CANVAS), NAME)
    assert done.system == "canvas"
    assert taken(folder) == {
        "doejane 201": "jane", "doejane 203": "another jane", "obrienjosé": "second", "anon": "anonymous",
    }  # fmt: skip
    assert done.late == ["doejane 201"]
    assert done.refused == ["'smith' handed in no notebook"]
    told = "\n".join(done.told)
    assert "obrienjosé: took '1-pgd-1.ipynb', and not '1-pgd.ipynb', which is older" in told
    assert "obrienjosé: took '1-pgd-1.ipynb', and not 'notes.ipynb'" in told
    assert collecting.read_roster(folder)["obrienjosé"]["back"] == "obrienjosé_202_9010_1-pgd-1.ipynb"


def test_plain_zips_and_unpacked_folders_are_collected(tmp_path, folder):
    plain = {"class/ada.ipynb": notebook("ada"), "class/bob/1-pgd.ipynb": notebook("bob"), "class/x.txt": b""}
    collecting.collect(folder, archive(tmp_path / "plain.zip", plain), NAME)
    assert taken(folder) == {"ada": "ada", "bob": "bob"}
    one = archive(tmp_path / "one.zip", {"cleo/1-pgd.ipynb": notebook("cleo")})
    collecting.collect(folder, one, NAME)
    with zipfile.ZipFile(archive(tmp_path / "moodle.zip", MOODLE)) as made:
        made.extractall(tmp_path / "unpacked")
    (tmp_path / "unpacked" / "Eve_107_assignsubmission_file").mkdir()
    (tmp_path / "unpacked" / "Eve_107_assignsubmission_file" / "x.ipynb").symlink_to("/etc/passwd")
    done = collecting.collect(folder, tmp_path / "unpacked", NAME)
    assert {"ada", "bob", "cleo", "Ada Lovelace", "Jane Doe 105"} < set(taken(folder))
    assert [line for line in done.refused if "is a link" in line] == done.refused[:1]


def test_collecting_again_takes_what_is_newer_keeps_the_earlier_and_says_so(tmp_path, folder):
    def at(day, text):
        files = {"Ada_1_assignsubmission_file/1-pgd.ipynb": (notebook(text), (2026, 3, day, 12, 0, 0))}
        return archive(tmp_path / f"{day}.zip", files)

    assert collecting.collect(folder, at(1, "first"), NAME).new == ["Ada"]
    assert collecting.collect(folder, at(1, "first"), NAME).same == ["Ada"]
    os.utime(folder / "submitted" / "Ada.ipynb", None)  # a copy of the class made now is not newer for that
    done = collecting.collect(folder, at(3, "third"), NAME)
    assert done.newer == ["Ada"]
    kept = folder / "earlier" / "Ada" / "2026-03-01 12-00-00.ipynb"
    assert str(kept) in done.told[0]
    assert kept.read_bytes() == notebook("first")
    done = collecting.collect(folder, at(2, "second"), NAME)
    assert done.newer == []
    assert "is newer than that in the archive, and is kept" in done.told[0]
    assert taken(folder) == {"Ada": "third"}


def test_a_submission_that_was_put_there_by_hand_is_kept_or_replaced_by_its_time(tmp_path, folder):
    by_hand = folder / "submitted" / "ada" / "own.ipynb"
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes(notebook("by hand"))
    os.utime(by_hand, (time.mktime((2026, 2, 1, 0, 0, 0, 0, 0, -1)),) * 2)
    done = collecting.collect(folder, archive(tmp_path / "1.zip", {"ada.ipynb": notebook("newer")}), NAME)
    assert done.newer == ["ada"]
    assert taken(folder) == {"ada": "newer"}
    assert [path.read_bytes() for path in (folder / "earlier" / "ada").iterdir()] == [notebook("by hand")]


def test_paths_that_lead_out_links_and_litter_are_not_taken(tmp_path, folder):
    link = zipfile.ZipInfo("eve.ipynb")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    device = zipfile.ZipInfo("mallory.ipynb")
    device.create_system, device.external_attr = 3, 0o020666 << 16
    path = archive(tmp_path / "bad.zip", {
        "../../ada.ipynb": notebook("a"), "/etc/bob.ipynb": notebook("b"), "..\\cleo.ipynb": notebook("c"),
        "C:/dan.ipynb": notebook("d"), "good.ipynb": notebook("good"), "__MACOSX/._good.ipynb": b"x",
        ".ipynb_checkpoints/good.ipynb": b"x", ".hidden.ipynb": b"x",
        "x\x1b[2J\u202ey/1.ipynb": notebook("odd"), "=cmd|calc.ipynb": notebook("formula"),
    })  # fmt: skip
    with zipfile.ZipFile(path, "a") as made:
        made.writestr(link, "/etc/passwd")
        made.writestr(device, "")
    before = set(tmp_path.rglob("*"))
    done = collecting.collect(folder, path, NAME)
    assert taken(folder) == {"good": "good", "x--2J-y": "odd", "cmd-calc": "formula"}
    assert len(done.refused) == 6
    assert all(line.isprintable() for line in [*done.refused, *done.told])
    assert {file.name for file in set(tmp_path.rglob("*")) - before if file.is_file()} == {
        "collected.json", "good.ipynb", "x--2J-y.ipynb", "cmd-calc.ipynb",
    }  # fmt: skip


def test_a_bomb_and_a_damaged_member_are_refused_and_the_rest_is_taken(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(archives, "FILE_BYTES", 2**20)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("bomb.ipynb", b"0" * (2**20 + 1))
        made.writestr("good.ipynb", notebook("good"))
        made.writestr(zipfile.ZipInfo("torn.ipynb"), notebook("to be torn"))
    path.write_bytes(path.read_bytes().replace(b"to be torn", b"to be TORN"))
    done = collecting.collect(folder, path, NAME)
    assert taken(folder) == {"good": "good"}
    assert "bomb: 'bomb.ipynb' was not taken: it has more than 1 MiB" in done.refused[0]
    assert "torn: 'torn.ipynb' was not taken: it cannot be unpacked (Bad CRC-32" in done.refused[1]
    monkeypatch.setattr(collecting, "TOTAL", 10)
    told = collecting.collect(folder / "x", path, NAME).refused
    assert any("good: 'good.ipynb' was not taken: the archive holds more than" in line for line in told)


def test_names_are_read_in_the_encodings_that_programs_write(tmp_path, folder):
    def renamed(path, placeholder, name):
        archive(path, {f"{placeholder}.ipynb": notebook(placeholder)})
        path.write_bytes(path.read_bytes().replace(f"{placeholder}.ipynb".encode(), name + b".ipynb"))
        return path

    decomposed = unicodedata.normalize("NFD", "Zoë")
    for path in (
        renamed(tmp_path / "1.zip", "utf88", "José".encode()),  # without the flag, as a Mac writes it
        renamed(tmp_path / "2.zip", "dosn", b"Ren\x82"),  # code page 437
        archive(tmp_path / "3.zip", {f"{decomposed}.ipynb": notebook("nfd")}),
    ):
        collecting.collect(folder, path, NAME)
    assert taken(folder) == {"José": "utf88", "René": "dosn", "Zoë": "nfd"}


@pytest.mark.skipif(ZIP is None, reason="no program zip here")
def test_zips_of_info_zip_with_a_password_and_with_links(tmp_path, folder):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("José", "李小龍"):
        (source / f"{name}.ipynb").write_bytes(notebook(name))
    (source / "eve.ipynb").symlink_to("/etc/passwd")
    subprocess.run([ZIP, "-qry", tmp_path / "plain.zip", "."], cwd=source, check=True)
    done = collecting.collect(folder, tmp_path / "plain.zip", NAME)
    assert taken(folder) == {"José": "José", "李小龍": "李小龍"}
    assert len(done.refused) == 1
    subprocess.run([ZIP, "-qr", "-P", "secret", tmp_path / "locked.zip", "."], cwd=source, check=True)
    done = collecting.collect(folder / "locked", tmp_path / "locked.zip", NAME)
    assert "without a password" in done.refused[0]
    assert taken(folder / "locked") == {}


@pytest.mark.parametrize(("content", "told"), [
    (b"no zip", "is not a zip file; expected one, or a folder"),
    (None, "there is no file"),
    ({"x.pdf": b"%PDF"}, "holds no submitted notebook; expected .ipynb files (there are: 'x.pdf')"),
])  # fmt: skip
def test_what_cannot_be_collected_is_told_in_a_line_and_writes_nothing(tmp_path, content, told, capsys):
    path = tmp_path / "all.zip"
    if isinstance(content, dict):
        archive(path, content)
    elif content:
        path.write_bytes(content)
    asked = ["classroom", "collect", NAME, str(path), "--class", str(tmp_path / "class")]
    assert cli.main(asked) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "class").exists()


def test_the_command_says_what_it_took_and_fails_where_something_was_refused(tmp_path, capsys):
    good = archive(tmp_path / "canvas.zip", CANVAS)
    bad = archive(tmp_path / "bad.zip", {"../x.ipynb": b"", "ada.ipynb": notebook("ada")})
    asked = ["classroom", "collect", NAME, str(good), "--class", str(tmp_path / "c")]
    assert cli.main(asked) == 1
    said = capsys.readouterr()
    assert "NOT TAKEN: 'smith' handed in no notebook" in said.err
    assert "(canvas): 4 new, 0 newer than before, 0 as before" in said.out
    assert "late: doejane 201" in said.out
    asked[3] = str(bad)
    assert cli.main(asked) == 1
    assert "NOT TAKEN: '../x.ipynb' leads out of the archive" in capsys.readouterr().err
    assert cli.main(["classroom", "collect", "unheard", *asked[3:]]) == 2


def test_one_file_named_as_a_system_does_says_nothing_about_the_others(tmp_path, folder):
    plain = {f"class/{who}/1-pgd.ipynb": notebook(who) for who in ("ada", "eve")}
    plain["class/bob/doejane_123_4567_1-pgd.ipynb"] = notebook("bob")
    done = collecting.collect(folder, archive(tmp_path / "plain.zip", plain), NAME)
    assert (done.system, taken(folder)) == ("plain", {"ada": "ada", "bob": "bob", "eve": "eve"})


def test_a_notebook_that_is_passed_over_counts_as_not_taken(tmp_path, folder):
    canvas = {f"{who}_{i}_{i}_1-pgd.ipynb": notebook(who) for i, who in enumerate(("ada", "bob"), 1)}
    done = collecting.collect(folder, archive(tmp_path / "canvas.zip", {**canvas, "eve.ipynb": notebook("eve")}), NAME)
    assert set(taken(folder)) == {"ada", "bob"}
    assert done.refused == ["'eve.ipynb' was passed over: it is not a student's notebook by its path"]


def test_of_two_notebooks_of_one_time_that_with_the_name_of_the_sheet_is_taken(tmp_path, folder):
    files = {
        f"Ada_1_assignsubmission_file/{name}.ipynb": notebook(name) for name in ("1-pgd", "1-pgd_old", "1-pgd (1)")
    }
    collecting.collect(folder, archive(tmp_path / "moodle.zip", files), NAME)
    assert taken(folder) == {"Ada": "1-pgd"}


def test_a_name_of_many_bytes_is_cut_so_that_every_file_of_it_can_be_written(tmp_path, folder):
    name = "น" * 78  # three bytes each
    done = collecting.collect(folder, archive(tmp_path / "z.zip", {f"{name}_1_2_1-pgd.ipynb": notebook("x")}), NAME)
    ((student, _),) = taken(folder).items()
    assert done.new == [student]
    assert len(student.encode()) <= handed_in.LONGEST_BYTES
    assert not handed_in.is_proper(name)


def test_names_of_files_are_recognised_in_both_layouts():
    def read(*parts):
        return layouts.recognised([archives.Member(parts, 0.0, bytes)])

    for parts, system, name, number in [
        (("A B_1_assignsubmission_file", "x.ipynb"), "moodle", "A B", "1"),
        (("wrapped", "A_1_assignsubmission_file_", "x.ipynb"), "moodle", "A", "1"),
        (("ab_12_34_my_own_56_78_x.ipynb",), "canvas", "ab", "12"),
        (("van_der_berg_LATE_12_34_x.ipynb",), "canvas", "van_der_berg", "12"),
        (("LATE_anon_aB3dE_34_x.ipynb",), "canvas", "anon", "aB3dE"),
        (("ada.ipynb",), "plain", "ada", ""),
    ]:
        layout = read(*parts)
        assert (layout.system, layout.notebooks[0].name, layout.notebooks[0].identifier) == (system, name, number)
