"""The ledger of claims: verdicts are values that notebooks glue, and are counted, never typed."""

import math
import re
from dataclasses import replace
from pathlib import Path

import ledger
import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.formatters import format_display_data

from advtransfer.notebooks import export
from advtransfer.pages.verdicts import Finding, Verdict, judge, judge_correlation, tally
from advtransfer.statistics import Correlation

ROOT = Path(__file__).parents[1]
ROLE = re.compile(r"\{verdict\}`([^`]+)`")
ELSEWHERE = re.compile(r"(?:^|- )(?:The same|So does|This)\b|\bthe row\b|row above|next table")

REPRODUCED = Verdict("a rises with b", "reproduced", 0.9, 0.5, 1.0, 5, 0.03, "stored")
DIRECTION = Verdict("a rises with c", "right sign only", 0.5, -0.2, 0.9, 5)


def notebook(**values: object) -> nbformat.NotebookNode:
    """A notebook whose one cell glues `values`, as myst-nb does it."""
    outputs = []
    for name, value in values.items():
        bundle, metadata = format_display_data(value)
        data = {f"{export.UNSEEN}{kind}": content for kind, content in bundle.items()}
        about = {**metadata, "scrapbook": {"name": f"{export.UNSEEN}{name}"}}
        outputs.append(nbformat.v4.new_output("display_data", data, metadata=about))
    node = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=outputs)])
    nbformat.validate(node)
    return node


@pytest.mark.parametrize(
    ("verdicts", "word"),
    [((REPRODUCED,), "reproduced"), ((REPRODUCED, REPRODUCED), "reproduced"), ((REPRODUCED, DIRECTION), "mixed"),
     ((replace(REPRODUCED, run="paper"),), "supported by its own numbers"),
     ((replace(REPRODUCED, claimed=False),), "found"), ((replace(DIRECTION, claimed=False),), "right sign only"),
     ((), "not run at this size")],
)  # fmt: skip
def test_a_finding_is_glued_as_data_and_as_the_text_that_quotes_it(verdicts, word, tmp_path):
    finding = Finding("0.90 [0.50, 1.00], and so on", verdicts, "width 32 (released: 64)")
    node = notebook(key=finding, number=0.25)
    assert export.glued(node) == {"key": finding.text, "number": 0.25}
    data = export.findings(node)["key"]
    assert data["word"] == finding.word == word
    assert [verdict["n"] for verdict in data["verdicts"]] == [5] * len(verdicts)
    assert all(verdict["p"] is None or math.isfinite(verdict["p"]) for verdict in data["verdicts"])
    nbformat.write(node, tmp_path / "page.ipynb")
    assert ledger.verdict("/page.ipynb::key", tmp_path) == (word, "width 32 (released: 64)")
    with pytest.raises(ValueError, match="glues no finding 'number'; expected one of key"):
        ledger.verdict("/page.ipynb::number", tmp_path)


@pytest.mark.parametrize(
    ("interval", "word"),
    [
        ((0.5, 0.1, 0.9), "reproduced"),
        ((0.5, -0.1, 0.9), "right sign only"),
        ((0.86, -0.61, 1.0), "right sign only"),
        ((0.01, -0.9, 0.9), "cannot tell"),  # the claim and its opposite
        ((0.5, -0.5, 0.9), "cannot tell"),
        ((-0.36, -1.0, 1.0), "cannot tell"),
        ((-0.5, -0.9, 0.1), "wrong sign only"),
        ((-0.5, -0.9, -0.1), "reversed"),
        ((0.0, 0.0, 0.0), "cannot tell"),
        ((math.nan, math.nan, math.nan), "cannot tell"),
    ],
)
def test_the_rule(interval, word):
    r, low, high = interval
    assert judge(*interval) == judge(-r, -high, -low, claimed=-1) == word
    weaker = {"reproduced": "right sign only", "reversed": "wrong sign only"}.get(word, word)
    for p, after in ((0.05, word), (0.051, weaker), (math.nan, weaker)):
        assert judge_correlation(Correlation(r, low, high, p, 5), claimed=1) == after
        assert judge_correlation(Correlation(-r, -high, -low, p, 300), claimed=-1) == after


@given(st.tuples(*[st.floats(-1, 1)] * 3).map(sorted))
def test_a_claim_and_its_opposite_are_never_both_supported(interval):
    low, r, high = interval
    for_it, against = judge(r, low, high, claimed=1), judge(r, low, high, claimed=-1)
    opposite = {"reproduced": "reversed", "right sign only": "wrong sign only", "cannot tell": "cannot tell"}
    assert opposite.get(for_it) == against or opposite.get(against) == for_it


def test_a_tally_has_every_word_once():
    assert tally([REPRODUCED, DIRECTION, DIRECTION]) == "1 reproduced, 2 right sign only (of 3)"
    assert tally([]) == "none"


@pytest.mark.parametrize("written", ["proved", "/page.ipynb"])
def test_a_verdict_outside_the_rule_is_refused(written, tmp_path):
    with pytest.raises(ValueError, match=r"expected notebook\.ipynb::key or one of: holds"):
        ledger.verdict(written, tmp_path)


def test_the_first_page_counts_what_stands_in_the_ledger(book):
    """Also a check that the summary is written after the ledger is read, whichever page comes first."""
    shown = ROLE.findall((ROOT / f"{ledger.LEDGER}.md").read_text("utf-8"))
    text = re.sub(r"<[^>]+>", "", (book / "book" / "index.html").read_text("utf-8"))
    assert f"The ledger has {len(shown)} claims." in text
    for word in ledger.PROVED:
        assert (f"{word}: {shown.count(word)}" in text) == (word in shown)


def test_every_row_of_the_ledger_can_be_read_alone_has_one_verdict_and_no_typed_number():
    text = (ROOT / f"{ledger.LEDGER}.md").read_text("utf-8").split("## What the paper does not claim")[0]
    rows = text.split("\n* - ")[2:]
    assert len(rows) > 30
    for row in rows:
        cells = row.rstrip("`\n").split("\n  - ")
        assert len(cells) == 5, cells[0]
        assert len(ROLE.findall(row)) == 1, cells[0]
        assert not ELSEWHERE.search(row), cells[0]
        written = ROLE.search(row)[1]
        assert written in ledger.PROVED or "::" in written, cells[0]
