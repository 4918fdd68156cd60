"""Each work in the bibliography can be found, and is cited somewhere in the book."""

import re
from pathlib import Path

import pytest
from pybtex.database import parse_file

ROOT = Path(__file__).parents[1]
WORKS = parse_file(ROOT / "book" / "references.bib").entries
CITED = {
    key
    for folder in ("book", "notebooks")
    for page in (ROOT / folder).rglob("*.md")
    for keys in re.findall(r"\{cite:[pt]\}`([^`]+)`", page.read_text("utf-8"))
    for key in keys.split(",")
}


@pytest.mark.parametrize("key", WORKS)
def test_a_work_can_be_found_and_is_cited(key):
    assert key in CITED
    fields = WORKS[key].fields
    assert "doi" in fields or "url" in fields or r"\url{" in fields.get("howpublished", "")
