"""The pages as a browser shows them: at two widths, light and dark, without a network, and to whom cannot see them."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from print_pdf import chapters, serving

from browser import AXE, CHROMIUM, Browser

WIDTHS = (1280, 390)
MODES = ("light", "dark")
READ = ((1280, "light"), (390, "dark"))  # each width and each mode once: reading a page takes longer than drawing it
MATHJAX = Path(__file__).parents[1] / "book" / "_static" / "mathjax"
REQUESTED = "Network.requestWillBeSent"
HEAVIEST = 600_000  # bytes on the wire of a page with all that it loads, MathJax aside
COMPRESSED = ("png", "woff2")  # files that are compressed already
TYPESET = "window.MathJax ? MathJax.startup.promise.then(() => null) : null"
LEFT_OVER = r"""
    [...document.querySelectorAll('.math')].filter(e => !e.querySelector('mjx-container')).map(e => e.textContent)
        .concat([...document.querySelectorAll('mjx-merror')].map(e => e.textContent))
        .concat([...document.querySelectorAll('main p, main li, main td, main th, main figcaption, main h1, main h2')]
            .flatMap(e => [...e.childNodes].filter(n => n.nodeType === Node.TEXT_NODE).map(n => n.data))
            .filter(text => /\\[(\[]|\$[^$]+\$/.test(text)))
"""
AT_ONCE = "document.head.insertAdjacentHTML('beforeend', '<style>* { transition: none !important }</style>')"
SETTLED = "new Promise(done => setTimeout(done, 400))"  # the theme looks for what scrolls 300 ms after a new size
WIDE = """
    document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll('main *')]
        .filter(e => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 5).map(e => e.outerHTML.slice(0, 200))
"""
SMALL_PRINT = """
    Promise.all([...document.querySelectorAll('main figure img')].map(img => img.decode().then(() => img)))
        .then(all => all.filter(img => img.clientWidth < 0.8 * img.naturalWidth).map(img => img.alt))
"""
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to show the pages")


@pytest.fixture(scope="module")
def site(book: Path) -> Iterator[str]:
    """The address of the pages."""
    with serving(book) as address:
        yield address


def troubles(events: list[dict[str, Any]]) -> list[str]:
    """Errors on the console, uncaught exceptions and requests that failed."""
    found = []
    for event in events:
        about = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            found.append(about["exceptionDetails"]["exception"].get("description", "exception"))
        elif event["method"] == "Runtime.consoleAPICalled" and about["type"] == "error":
            found.append(" ".join(str(argument.get("value")) for argument in about["args"]))
        elif event["method"] == "Log.entryAdded" and about["entry"]["level"] == "error":
            found.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")
        elif event["method"] == "Network.loadingFailed" and not about.get("canceled"):
            found.append(f"not loaded: {about['errorText']}")
    return found


def loaded(events: list[dict[str, Any]], site: str, book: Path) -> dict[str, int]:
    """The bytes of each file that was loaded, MathJax aside, the heaviest first; text compressed, as web servers do."""
    addresses = [event["params"]["request"]["url"] for event in events if event["method"] == REQUESTED]
    sizes = {}
    for address in (address for address in addresses if address.startswith(site) and "mathjax" not in address):
        path = urlsplit(address).path.lstrip("/")
        content = (book / path).read_bytes()
        sizes[path] = len(content if path.endswith(COMPRESSED) else gzip.compress(content, 6))
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


@pytest.mark.parametrize("page", [*(page for _, page in chapters()), "search", "genindex"])
def test_a_page_fits_is_typeset_and_can_be_read_by_all(page: str, site: str, book: Path, browser: Browser) -> None:
    browser.size(WIDTHS[0], 900)
    browser.call("Network.clearBrowserCache")
    browser.open(f"{site}/{page}.html")
    browser.run(TYPESET)
    wrong: dict[str, Any] = {}
    if MATHJAX.is_dir():
        wrong["formulas"] = browser.run(LEFT_OVER)
    weight = loaded(browser.events, site, book)
    if sum(weight.values()) > HEAVIEST:
        wrong["heavy"] = weight
    browser.run(AT_ONCE)
    for width in WIDTHS:
        browser.size(width, 900)
        browser.run(SETTLED)
        if width < 600:
            wrong["figures whose letters shrink on a phone"] = browser.run(SMALL_PRINT)
        for mode in MODES:
            browser.run(f"document.documentElement.dataset.mode = document.documentElement.dataset.theme = '{mode}'")
            wrong[f"wider than {width}, {mode}"] = browser.run(WIDE)
            if AXE.is_file() and (width, mode) in READ:
                wrong[f"axe at {width}, {mode}"] = browser.violations()
    wrong["browser"] = troubles(browser.events)
    assert not {name: found for name, found in wrong.items() if found}, json.dumps(wrong, indent=1)
    if not AXE.is_file():
        pytest.skip("no axe-core here (make test fetches it where there is npm): checked in all but accessibility")


def test_paper_is_light_and_formulas_are_no_stops_of_the_tab_key(site: str, browser: Browser) -> None:
    browser.size(WIDTHS[0], 900)
    browser.open(f"{site}/book/derivations/two-metrics.html")
    browser.run(TYPESET)
    browser.run("document.documentElement.dataset.theme = 'dark'")
    shown = []
    for event in ("beforeprint", "afterprint"):
        browser.run(f"dispatchEvent(new Event('{event}')), null")
        shown.append(browser.run("document.documentElement.dataset.theme"))
    assert shown == ["light", "dark"]
    assert browser.run("document.querySelectorAll('mjx-container[tabindex]').length") == 0
    ids = browser.run("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(set(ids)) == len(ids)


def test_a_search_needs_no_network(site: str, browser: Browser) -> None:
    browser.open(f"{site}/search.html?q=matching")
    found = browser.run(
        "new Promise(done => {"
        "const links = () => [...document.querySelectorAll('#search-results a')].map(a => a.href);"
        "setInterval(() => links().length && done(links()), 50); setTimeout(() => done([]), 10000); })"
    )
    assert f"{site}/book/derivations/gradient-matching.html" in {
        address.partition("#")[0].partition("?")[0] for address in found
    }
    assert not troubles(browser.events)


def test_a_keyboard_skips_to_the_text_and_shows_where_it_is(site: str, browser: Browser) -> None:
    browser.size(WIDTHS[0], 900)
    browser.open(f"{site}/book/notation.html")
    browser.run(AT_ONCE)
    browser.press("Tab")
    assert browser.run("document.activeElement.getAttribute('href')") == "#main-content"
    assert browser.run("(box => box.width > 0 && box.top >= 0)(document.activeElement.getBoundingClientRect())")
    for _ in range(8):
        browser.press("Tab")
        ring = browser.run(
            "(() => { const e = document.activeElement, style = getComputedStyle(e); return [e.outerHTML.slice(0, 120),"
            "style.outlineStyle !== 'none' && style.outlineWidth !== '0px' || style.boxShadow !== 'none']; })()"
        )
        assert ring[1], ring[0]


def test_a_page_is_not_charged_for_what_the_page_before_it_asks_for(tmp_path: Path, browser: Browser) -> None:
    (tmp_path / "before.html").write_text("<script>onresize = () => fetch('late.txt').catch(() => 0)</script>")
    (tmp_path / "late.txt").write_text("x" * 1000)
    (tmp_path / "after.html").write_text("<p>light</p>")
    with serving(tmp_path) as site:
        for width in (1000, 1001, 1002, 1003):
            browser.open(f"{site}/before.html")
            browser.size(width, 900)
            browser.open(f"{site}/after.html")
            assert set(loaded(browser.events, site, tmp_path)) == {"after.html"}
