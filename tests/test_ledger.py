"""The ledger of claims: verdicts are read from the notebooks, by the rule, and counted, never typed."""

from pathlib import Path

import ledger
import nbformat
import pytest

from advtransfer import pages

ROOT = Path(__file__).parents[1]

TWO = "T→S: 0.96 [0.90,\xa01.00], p = 0.033, n = 5, reproduced; S→T: 0.83 [0.53,\xa01.00], direction only (published)"
DOMAINS = (
    "published: with the animals, r = 0.9 (n = 5): direction only; with the vehicles, r = −0.6 (n = 5): not reproduced."
)


@pytest.mark.parametrize(
    ("text", "how", "expected"),
    [
        ("−0.36 [−1.00,\xa01.00], n = 5, not reproduced", {}, "not reproduced"),
        (TWO, {}, "mixed"),
        (TWO, {"part": "T→S"}, "reproduced"),
        (TWO, {"part": "S→T"}, "direction only"),
        (DOMAINS, {"part": "animals"}, "direction only"),
        (DOMAINS, {"part": "vehicles"}, "not reproduced"),
        ("0.1 to 0.2, 11 of 20 reproduced (in print −0.51)", {}, "mixed"),
        ("0 of 20 reproduced", {}, "not reproduced"),
        ("20 of 20 reproduced", {}, "reproduced"),
        ("−0.82 [−0.94,\xa0−0.47], n = 10", {"negative": True}, "reproduced"),
        ("−0.82 [−0.94,\xa00.47], n = 10", {"negative": True}, "direction only"),
        ("0.82 [0.47,\xa00.94], n = 10", {"negative": True}, "not reproduced"),
        ("not run, the images are missing", {}, "not run"),
    ],
)
def test_a_verdict_is_read_from_what_a_notebook_says(text, how, expected):
    assert ledger.judge(text, **how) == expected


def test_a_changed_notebook_changes_the_count(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / ledger.LEDGER).write_text("{verdict}`holds` {verdict}`/page.ipynb::key, negative`", "utf-8")
    for low, word in (("−0.9", "reproduced"), ("−1.1", "direction only")):
        said = f"−1.0 [{low},\xa0{low if word == 'reproduced' else '0.1'}], n = 10"
        cell = nbformat.v4.new_code_cell(
            outputs=[
                nbformat.v4.new_output(
                    "display_data",
                    {f"{pages.UNSEEN}text/plain": repr(said)},
                    metadata={"scrapbook": {"name": f"{pages.UNSEEN}key"}},
                )
            ]
        )
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "page.ipynb")
        assert ledger.counts(tmp_path) == {"holds": 1, word: 1}


@pytest.mark.parametrize("written", ["proved", "/page.ipynb"])
def test_a_verdict_outside_the_rule_is_refused(written, tmp_path):
    with pytest.raises(ValueError, match=r"expected notebook\.ipynb::key or one of: holds"):
        ledger.verdict(written, tmp_path)


def test_every_row_of_the_ledger_has_one_verdict_and_no_number_is_typed():
    text = (ROOT / ledger.LEDGER).read_text("utf-8").split("## What the paper does not claim")[0]
    rows = text.split("\n* - ")[2:]
    assert len(rows) > 30
    for row in rows:
        cells = row.rstrip("`\n").split("\n  - ")
        assert len(cells) == 5, cells[0]
        assert len(ledger.ROLE.findall(row)) == 1, cells[0]
        written = ledger.ROLE.search(row)[1]
        assert written in ledger.PROVED or "::" in written, cells[0]
