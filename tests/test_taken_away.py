"""Pages to take away: the PDF of the whole, and sources that open as notebooks."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import output
import print_pdf
import pytest
from bs4 import BeautifulSoup
from pypdf import PdfReader

from browser import CHROMIUM


def test_the_pdf_is_linked_to_where_it_is_made() -> None:
    def shown(pdf: str) -> list[str]:
        app = SimpleNamespace(confdir=Path(__file__).parents[1], config=SimpleNamespace(companion_pdf=pdf))
        context = {"header_buttons": [], "pathto": lambda name, resource: f"../{name}"}
        output.add_buttons(app, "book/a", "page.html", context, None)
        return [button["url"] for button in context["header_buttons"]]

    assert shown("") == []  # what make sets where there is no browser
    assert shown("companion.pdf") == ["../companion.pdf"]


PAGE = """<html lang="en"><head><title>A page</title><script src="{root}all.js"></script>
<script src="{own}.js"></script></head><body><article class="bd-article"><h1>{title}</h1>
<h2 id="x">Part of {title}</h2><p><a href="{other}#x">there</a> <a href="#x">here</a> <a href="{other}">on</a>
<a href="https://there.org/">out</a> <a href="data.csv">a file</a> <img src="a.svg" alt="a picture"></p>
</article></body></html>"""


@pytest.fixture
def pages(tmp_path, monkeypatch) -> Path:
    """Two pages in different folders that use the same identifier."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "first.html").write_text(PAGE.format(title="One", other="deep/second.html", root="", own="one"))
    (tmp_path / "deep" / "second.html").write_text(
        PAGE.format(title="Two", other="../first.html", root="../", own="two")
    )
    monkeypatch.setattr(print_pdf, "chapters", lambda: iter([(None, "first"), ("Part", "deep/second")]))
    return tmp_path


def test_all_pages_as_one_keep_their_links_apart(pages) -> None:
    book = BeautifulSoup(print_pdf.whole(pages), "html.parser")
    assert [article["id"] for article in book.select("article")] == ["first", "deep-second"]
    for article, own, other in zip(
        book.select("article"), ("first", "deep-second"), ("deep-second", "first"), strict=True
    ):
        there, here, on, out, file = article.select("a")
        assert article.h2["id"] == f"{own}--x"
        assert (there["href"], here["href"], on["href"]) == (f"#{other}--x", f"#{own}--x", f"#{other}")
        assert out["href"] == "https://there.org/"
        assert "href" not in file.attrs
    assert [script["src"] for script in book.select("script")] == ["all.js", "one.js", "deep/two.js"]
    assert [image["src"] for image in book.select("img")] == ["a.svg", "deep/a.svg"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to print the pages")
def test_the_pdf_has_an_outline_links_that_stay_inside_and_tags(pages) -> None:
    print_pdf.printed(CHROMIUM, pages, pages / "book.pdf")
    book = PdfReader(pages / "book.pdf")
    titles = [entry["/Title"] for entry in book.outline if not isinstance(entry, list)]
    assert titles == ["One", "Two"]
    assert [
        book.get_destination_page_number(book.named_destinations[f"/{name}--x"]) for name in ("first", "deep-second")
    ] == [0, 1]
    root = book.trailer["/Root"]
    assert root["/Lang"] == "en"
    assert root["/MarkInfo"]["/Marked"]
    assert not (pages / "whole.html").exists()


def test_pages_that_are_not_printed_are_told(pages) -> None:
    with pytest.raises(RuntimeError, match="true did not print the pages"):
        print_pdf.printed("true", pages, pages / "book.pdf")
    assert not (pages / "whole.html").exists()


def test_binder_opens_sources_as_notebooks(tmp_path) -> None:
    """`postBuild`, which Binder runs, changes JupyterLab's settings; here it gets a home of its own."""
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("JUPYTER_CONFIG_DIR", None)
    subprocess.run([Path(__file__).parents[1] / "postBuild"], check=True, env=environment, capture_output=True)
    (settings,) = tmp_path.rglob("default_setting_overrides.json*")
    assert "Jupytext Notebook" in settings.read_text()
