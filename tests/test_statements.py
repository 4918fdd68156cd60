"""Statements have the names that the paper gives them, or names in words, and links show these names."""

import re
from pathlib import Path

import pytest
import statements
from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

ROOT = Path(__file__).parents[1]
DIRECTIVE = re.compile(r"`{3,}\{prf:(?!proof|ref)(\w+)\}(.*)\n:label: (\S+)")
PAGES = {path: path.read_text("utf-8") for path in sorted((ROOT / "book" / "derivations").glob("*.md"))}
STATED = [(kind, title.strip()) for text in PAGES.values() for kind, title, _ in DIRECTIVE.findall(text)]
PAGE = """# Page

```{prf:theorem} Theorem 3.1 of the paper, with its conditions
:label: thm

One.
```

```{prf:lemma} closed form, with brackets (here)
:label: lem

Two.
```

By {prf:ref}`thm` and {prf:ref}`lem`, or {prf:ref}`this <lem>`.
"""


@pytest.mark.parametrize(
    ("kind", "title", "shown", "name"),
    [
        ("theorem", "Theorem 3.1 of the paper", "Theorem 3.1 of the paper", "Theorem 3.1"),
        ("definition", "Definition 2 of the paper, second", "Definition 2 of the paper, second", "Definition 2"),
        ("lemma", "closed form, equation 7", "Lemma: closed form, equation 7", "Lemma “closed form”"),
    ],
)
def test_a_title_gives_the_name(kind, title, shown, name):
    assert statements.names(kind, title) == (shown, name)


def test_no_two_statements_of_the_book_have_one_name():
    names = [statements.names(kind, title)[1] for kind, title in STATED]
    assert len(names) > 25
    assert len(names) == len(set(names))
    assert all(title for _, title in STATED)


def test_links_show_names_and_no_number(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "index.md").write_text(PAGE, "utf-8")
    config = {"extensions": ["myst_parser", "sphinx_proof", "statements"], "html_theme": "basic"}
    with docutils_namespace():
        Sphinx(source, None, tmp_path / "html", tmp_path / "trees", "html", config, status=None, warning=None).build()
    page = BeautifulSoup((tmp_path / "html" / "index.html").read_text("utf-8"), "html.parser")
    titles = [title.get_text() for title in page.select("p.admonition-title")]
    assert titles == ["Theorem 3.1 of the paper, with its conditions", "Lemma: closed form, with brackets (here)"]
    links = [(link["href"], link.get_text()) for link in page.select("a.reference") if link["href"] in ("#thm", "#lem")]
    assert links == [("#thm", "Theorem 3.1"), ("#lem", "Lemma “closed form”"), ("#lem", "this")]
    assert page.find(id="thm").name == page.find(id="lem").name == "div"
