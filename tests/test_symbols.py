"""The notation table is the one source of symbols: nothing is used that it lacks, and first uses link back to it."""

import re
import shutil
from pathlib import Path

import pytest
import symbols
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

ROOT = Path(__file__).parents[1]

NOTATION = (ROOT / "book" / "notation.md").read_text("utf-8")
TABLE = symbols.table(NOTATION)
PAGES = sorted((ROOT / "book" / "derivations").glob("*.md"))
FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$]+?)\$", re.DOTALL)
WORDS = re.compile(r"\\(?:text|operatorname\*?|begin|end)\{[^}]*\}|\\(?:mathbb|mathrm|tag)\b")
GREEK = (
    "alpha|beta|gamma|delta|Delta|varepsilon|ell|eta|kappa|lambda|mu|nu|omega|varphi|Pi|psi|rho|sigma|tau|theta|xi|zeta"
)
LETTER = re.compile(rf"(?<![\\A-Za-z])[A-Za-z](?![A-Za-z])|\\(?:{GREEK})(?![A-Za-z])|\\mathcal [A-Z]")
LANDAU = "o"  # of o(1)


def letters(text: str) -> set[str]:
    return {letter for pair in FORMULA.findall(text) for letter in LETTER.findall(WORDS.sub(" ", pair[0] or pair[1]))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_letter_of_a_derivation_is_in_the_table(page):
    found = letters(page.read_text("utf-8"))
    assert len(found) > 10
    assert found - letters(NOTATION) <= {LANDAU}


def test_no_symbol_has_two_rows():
    rows = symbols.ROW.findall(NOTATION.partition(symbols.LOCAL)[0])
    assert len(rows) == len(set(TABLE.values()))  # an anchor a row
    assert symbols.LOCAL in NOTATION


@pytest.mark.parametrize(
    ("symbol", "tex", "used", "alone"),
    [
        ("R", r"R", True, True),
        ("R", r"\mathbb R^n", False, False),
        ("R", "R_1", False, False),
        (r"\alpha_1", r"\alpha_1(x)", True, True),
        (r"\alpha_1", r"\alpha_1 {*}\, \alpha_2", True, False),
        (r"\alpha_1{*}\alpha_2", r"\alpha_1 {*}\, \alpha_2", True, True),
        (r"\hat u", r"\hat u_i", False, False),
        (r"\delta_a", r"\delta_a^{(1)}(x)", False, False),
        (r"\delta_a^{(i)}", r"\delta_a^{(1)}(x)", True, True),
        ("h", "h'", False, False),
        ("K", r"P K^\dagger", True, False),
        ("v", r"\operatorname{vec} W", False, False),
        (r"\rho", r"0 < \rho", True, False),
    ],
)
def test_what_counts_as_a_use(symbol, tex, used, alone):
    assert symbols.uses(symbol, symbols.plain(tex)) is used
    assert symbols.alone(symbol, symbols.plain(tex)) is alone


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The notation and the derivations, built on their own; links to other pages stay open."""
    home = tmp_path_factory.mktemp("symbols")
    source = home / "source"
    shutil.copytree(ROOT / "book" / "derivations", source / "book" / "derivations")
    shutil.copy(ROOT / "book" / "notation.md", source / "book")
    (source / "index.md").write_text("# Book\n\n```{toctree}\n:glob:\nbook/**\n```\n", "utf-8")
    config = {
        "extensions": ["myst_parser", "sphinx_proof", "symbols"],
        "myst_enable_extensions": ["amsmath", "attrs_block", "attrs_inline", "deflist", "dollarmath"],
        "html_theme": "basic",
    }
    with pytest.MonkeyPatch.context() as patch, docutils_namespace():
        patch.syspath_prepend(ROOT / "book" / "_ext")
        app = Sphinx(source, None, home / "html", home / "trees", "html", config, status=None, warning=None)
        app.build()
    return home / "html" / "book"


def test_each_derivation_links_each_of_its_symbols_once_to_a_row(built):
    anchors = re.findall(r'id="(symbol-[^"]+)"', (built / "notation.html").read_text("utf-8"))
    assert set(anchors) == set(TABLE.values())
    assert len(anchors) == len(set(anchors))
    for page in PAGES:
        html = (built / "derivations" / f"{page.stem}.html").read_text("utf-8")
        links = re.findall(r'<a class="symbol[^"]*" href="\.\./notation\.html#([^"]+)"', html)
        formulas = [symbols.plain(display or inline) for display, inline in FORMULA.findall(page.read_text("utf-8"))]
        used = [symbol for symbol in TABLE if any(symbols.uses(symbol, tex) for tex in formulas)]
        assert set(links) <= set(anchors)
        missing = {TABLE[symbol] for symbol in used} - set(links)
        assert not missing, (page.stem, missing)
        assert len(links) <= len(TABLE)
        assert len(links) < 50
