"""What the built pages point at: everything of the book's own is there, and the rest is listed."""

import json
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import place
import pytest
from bs4 import BeautifulSoup

LISTED = Path(__file__).parents[1] / "book" / "external-links.txt"
POINTING = {"a": "href", "link": "href", "img": "src", "script": "src", "iframe": "src", "source": "src", "use": "href"}


@cache
def soup(page: Path) -> BeautifulSoup:
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(page: Path) -> frozenset[str]:
    return frozenset(str(tag.get("id") or tag.get("name")) for tag in soup(page).find_all(id=True)) | {""}


def targets(page: Path) -> set[str]:
    """Where a page points."""
    return {
        str(tag[attribute])
        for name, attribute in POINTING.items()
        for tag in soup(page).find_all(name, **{attribute: True})
    }


@pytest.fixture(scope="module")
def pages(book: Path) -> list[Path]:
    return [page for page in sorted(book.rglob("*.html")) if "_static" not in page.relative_to(book).parts]


def test_nothing_of_the_book_is_missing(book: Path, pages: list[Path]) -> None:
    """Pages, anchors in them, images, scripts, styles and downloads."""
    broken = []
    for page in pages:
        for target in targets(page):
            if urlsplit(target).scheme in ("http", "https", "mailto", "data", "javascript"):
                continue
            path, anchor = urldefrag(target)
            there = (page.parent / unquote(urlsplit(path).path)).resolve() if path else page
            there = there / "index.html" if there.is_dir() else there
            if not there.is_file() or (there.suffix == ".html" and unquote(anchor) not in anchors(there)):
                broken.append(f"{page.relative_to(book)} -> {target}")
    assert not broken


def test_each_page_has_a_description_for_those_who_link_to_it(book: Path, pages: list[Path]) -> None:
    written = [page for page in pages if page.relative_to(book).parts[0] in ("book", "notebooks")]
    assert len(written) > 20
    assert not [page.name for page in written if 'property="og:description"' not in page.read_text("utf-8")]


def test_links_out_of_the_book_are_those_listed(pages: list[Path]) -> None:
    """The list is what ``make links`` asks the network for; the buttons above a page follow from its place."""
    own = (*place.LAUNCHERS, place.code(place.repository() or "OWNER/NAME"))
    found = {urldefrag(target)[0] for page in pages for target in targets(page) if target.startswith("http")}
    found = {target for target in found if not target.startswith(own)}
    assert sorted(found) == LISTED.read_text(encoding="utf-8").splitlines()


def test_each_word_of_the_glossary_is_linked_where_a_page_first_uses_it(book: Path, pages: list[Path]) -> None:
    notation = book / "book" / "notation.html"
    terms = {str(tag["id"]) for tag in soup(notation).select("dl.glossary dt[id]")}
    linked: set[str] = set()
    for page in pages:
        found = [urldefrag(str(link["href"]))[1] for link in soup(page).select("a.word")]
        assert len(found) == len(set(found)), page
        assert page != notation or not found
        linked |= set(found)
    assert len(terms) > 20
    assert linked == terms
    assert not [page for page in pages if soup(page).select("h1 a.word, h2 a.word, h3 a.word, code a.word")]


def test_each_notebook_page_gives_the_executed_notebook(book: Path) -> None:
    for page in sorted((book / "notebooks").glob("*.html")):
        downloads = {target for target in targets(page) if target.endswith(".ipynb")}
        downloads = {target for target in downloads if not target.startswith(place.LAUNCHERS)}
        assert downloads == {f"../_sources/notebooks/{page.stem}.ipynb"}
        assert '"output_type"' in (page.parent / downloads.pop()).read_text(encoding="utf-8")


def test_a_downloaded_notebook_has_no_syntax_that_only_the_book_understands(book: Path) -> None:
    for path in sorted((book / "_sources" / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
        outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", ())]
        texts += ["".join(data["text/markdown"]) for data in outputs if "text/markdown" in data]
        assert len(texts) > 5
        assert not [role for text in texts for role in re.findall(r"\{[\w:]+\}`[^`]*`|^\([\w-]+\)=$", text, re.M)]
        known = {
            name for text in texts for name in re.findall(r"\b(?:erratum|derivation|thm|prop|rem|check)-\w+", text)
        }
        assert not {name for name in known if f"#{name}" not in "".join(texts)}, "a label in place of its title"
