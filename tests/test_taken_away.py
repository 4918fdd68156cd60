"""Pages to take away: the PDF of the whole, and sources that open as notebooks."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import output
import print_pdf
import pytest
from pypdf import PdfWriter

from browser import CHROMIUM


def test_the_pdf_is_linked_to_where_it_is_made() -> None:
    def shown(pdf: str) -> list[str]:
        app = SimpleNamespace(confdir=Path(__file__).parents[1], config=SimpleNamespace(companion_pdf=pdf))
        context = {"header_buttons": [], "pathto": lambda name, resource: f"../{name}"}
        output.add_buttons(app, "book/a", "page.html", context, None)
        return [button["url"] for button in context["header_buttons"]]

    assert shown("") == []  # what make sets where there is no browser
    assert shown("companion.pdf") == ["../companion.pdf"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to print the pages")
def test_the_pdf_has_every_page_an_outline_and_links_that_stay_inside(tmp_path, monkeypatch) -> None:
    page = "<html><body><h1>{title}<a>#</a></h1><a href='{other}.html#x'>on</a> <a href='https://there.org/'>out</a></body></html>"
    for name, other in (("first", "second"), ("second", "first")):
        (tmp_path / f"{name}.html").write_text(page.format(title=f"The {name}", other=other))
    monkeypatch.setattr(print_pdf, "chapters", lambda: iter([(None, "first"), ("Part", "second")]))
    book: PdfWriter = print_pdf.whole(CHROMIUM, tmp_path)
    assert len(book.pages) == 2
    assert book.root_object["/Lang"] == "en"
    assert [entry["/Title"] for entry in book.outline if not isinstance(entry, list)] == ["The first", "Part"]
    assert book.outline[-1][0]["/Title"] == "The second"
    for own, other in ((0, 1), (1, 0)):
        inside, out = (link.get_object()["/A"] for link in book.pages[own]["/Annots"])
        assert inside["/D"][0] == book.pages[other].indirect_reference
        assert out["/URI"] == "https://there.org/"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to print the pages")
def test_a_page_that_is_not_printed_ends_the_pdf(tmp_path, monkeypatch) -> None:
    (tmp_path / "first.html").write_text("<html><body><h1>The first</h1></body></html>")
    monkeypatch.setattr(print_pdf, "chapters", lambda: iter([(None, "first")]))
    with pytest.raises(RuntimeError, match="true did not print first"):
        print_pdf.whole("true", tmp_path)


def test_binder_opens_sources_as_notebooks(tmp_path) -> None:
    """`postBuild`, which Binder runs, changes JupyterLab's settings; here it gets a home of its own."""
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("JUPYTER_CONFIG_DIR", None)
    subprocess.run([Path(__file__).parents[1] / "postBuild"], check=True, env=environment, capture_output=True)
    (settings,) = tmp_path.rglob("default_setting_overrides.json*")
    assert "Jupytext Notebook" in settings.read_text()
