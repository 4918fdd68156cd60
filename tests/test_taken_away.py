"""Pages to take away: the PDF of the whole, and buttons that lead nowhere unless they lead somewhere."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import output
import print_pdf
import pytest
from pypdf import PdfWriter

from advtransfer.notebooks.executed import about
from browser import CHROMIUM


@pytest.mark.parametrize("page", ["notebooks/nlp", "book/notation"])
def test_buttons_are_there_where_they_lead_somewhere(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(**environment: str) -> list[str]:
        for name in ("GITHUB_REPOSITORY", "COMPANION_PDF"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        context = {"header_buttons": [], "pathto": lambda name, resource: f"../{name}"}
        output.add_buttons(None, page, "page.html", context, None)
        return [button["url"] for button in context["header_buttons"]]

    assert shown() == []
    assert shown(COMPANION_PDF="") == []  # what make sets where there is no browser
    assert shown(COMPANION_PDF="companion.pdf") == ["../companion.pdf"]
    pages = "https://colab.research.google.com/github/a/b/blob/gh-pages/_sources/notebooks/nlp.ipynb"
    source = "https://mybinder.org/v2/gh/a/b/HEAD?urlpath=lab/tree/notebooks/nlp.md"
    assert shown(GITHUB_REPOSITORY="a/b") == ([pages, source] if page == "notebooks/nlp" else [])


def test_a_notebook_that_is_run_elsewhere_installs_what_it_needs(tmp_path, executed, monkeypatch) -> None:
    path = tmp_path / "_sources" / "notebooks" / "theory_checks.ipynb"
    path.parent.mkdir(parents=True)
    shutil.copy(executed(Path(__file__).parents[1] / "notebooks" / "theory_checks.md"), path)
    plain, app = path.read_bytes(), SimpleNamespace(outdir=str(tmp_path))
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    output.add_install_cells(app, None)
    assert path.read_bytes() == plain
    monkeypatch.setenv("GITHUB_REPOSITORY", "a/b")
    for _ in range(2):  # a page that is not built again has its cell already
        output.add_install_cells(app, None)
        first, second, *_ = nbformat.read(path, as_version=4).cells
        assert '%pip install --quiet "advtransfer[notebooks] @ git+https://github.com/a/b"' in first.source
        assert second.cell_type == "markdown"
        assert about(path)["experiment"] == "advtransfer.experiments.theory"  # it still counts as the run


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to print the pages")
def test_the_pdf_has_every_page_an_outline_and_links_that_stay_inside(tmp_path, monkeypatch) -> None:
    page = "<html><body><h1>{title}<a>#</a></h1><a href='{other}.html#x'>on</a> <a href='https://there.org/'>out</a></body></html>"
    for name, other in (("first", "second"), ("second", "first")):
        (tmp_path / f"{name}.html").write_text(page.format(title=f"The {name}", other=other))
    monkeypatch.setattr(print_pdf, "chapters", lambda: iter([(None, "first"), ("Part", "second")]))
    book: PdfWriter = print_pdf.whole(CHROMIUM, tmp_path)
    assert len(book.pages) == 2
    assert [entry["/Title"] for entry in book.outline if not isinstance(entry, list)] == ["The first", "Part"]
    assert book.outline[-1][0]["/Title"] == "The second"
    for own, other in ((0, 1), (1, 0)):
        inside, out = (link.get_object()["/A"] for link in book.pages[own]["/Annots"])
        assert inside["/D"][0] == book.pages[other].indirect_reference
        assert out["/URI"] == "https://there.org/"


def test_binder_opens_sources_as_notebooks(tmp_path) -> None:
    """`postBuild`, which Binder runs, changes JupyterLab's settings; here it gets a home of its own."""
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("JUPYTER_CONFIG_DIR", None)
    subprocess.run([Path(__file__).parents[1] / "postBuild"], check=True, env=environment, capture_output=True)
    (settings,) = tmp_path.rglob("default_setting_overrides.json*")
    assert "Jupytext Notebook" in settings.read_text()
