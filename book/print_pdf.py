"""The whole book as one PDF, printed from its built pages by a headless Chromium: ``make pdf``."""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urljoin, urlsplit

import yaml
from bs4 import BeautifulSoup
from bs4.element import Tag

ROOT = Path(__file__).parents[1]
HTML = ROOT / "_build" / "html"
TARGET = HTML / "companion.pdf"
MADE_OF = ROOT / "_build" / "companion.sha256"
CHANGING = re.compile(rb"\?(v|digest)=[0-9a-f]+")  # of a style or script, in its address
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-pdf-header-footer",
    "--generate-pdf-document-outline", "--virtual-time-budget=120000",
)  # fmt: skip
NAMING = {"id", "for", "aria-labelledby", "aria-describedby", "aria-controls"}  # attributes that hold identifiers
PAPER = """
    #jb-print-docs-body { display: none !important; }
    article + article { break-before: page; }
    article h1 { display: block !important; }
"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a folder's files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def printed_of(html: Path) -> str:
    """A digest of the pages that are printed, their styles and what moves in them: what the PDF was made of."""
    content = hashlib.sha256()
    beside = [path for pattern in ("**/*.css", "move/*.js") for path in sorted(html.glob(f"_static/{pattern}"))]
    for path in [Path(__file__), *(html / f"{page}.html" for _, page in chapters()), *beside]:
        content.update(CHANGING.sub(b"", path.read_bytes()))
    return content.hexdigest()


def chapters() -> Iterator[tuple[str | None, str]]:
    """The part and the page of each chapter, as the table of contents has them."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    yield None, toc["root"]
    for part in toc["parts"]:
        yield from ((part["caption"], chapter["file"]) for chapter in part["chapters"])


def whole(html: Path) -> str:
    """All pages as one, in the order of the table of contents; links between them lead from one to the other.

    The identifiers of a page get its name before them, because two pages may use the same one.
    """
    pages = [page for _, page in chapters()]
    soups = {page: BeautifulSoup((html / f"{page}.html").read_text(encoding="utf-8"), "html.parser") for page in pages}
    book = soups[pages[0]]
    articles = [_article(page, soups[page], set(pages)) for page in pages]
    place = articles[0].parent
    for article in articles:
        place.append(article.extract())
    there = {urljoin(f"{pages[0]}.html", script["src"]) for script in book.find_all("script", src=True)}
    for page in pages:  # scripts of what moves, which only some pages have
        for script in soups[page].find_all("script", src=True):
            if (address := urljoin(f"{page}.html", script["src"])) not in there:
                there.add(address)
                book.head.append(book.new_tag("script", src=address, defer=True))
    book.head.append(book.new_tag("style", string=PAPER))
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    book.title.string = config["title"]
    return str(book)


def _article(page: str, soup: BeautifulSoup, pages: set[str]) -> Tag:
    """What is read of a page, with addresses that are right for a page at the top."""
    article = soup.select_one("article")
    for element in article.find_all(True):
        for name in NAMING & element.attrs.keys():
            words = element[name] if isinstance(element[name], list) else element[name].split()
            element[name] = " ".join(_own(page, word) for word in words)
        for name in ("src", "srcset"):
            if name in element.attrs:
                element[name] = urljoin(f"{page}.html", element[name])
        if "href" not in element.attrs:
            continue
        path, _, anchor = urljoin(f"{page}.html", element["href"]).partition("#")
        if path.removesuffix(".html") in pages:
            element["href"] = f"#{_own(path.removesuffix('.html'), anchor)}"
        elif not urlsplit(path).scheme:  # a file beside the pages
            del element["href"]
    article["id"] = _own(page, "")
    return article


def _own(page: str, name: str) -> str:
    return "--".join(filter(None, (page.replace("/", "-"), name)))


def printed(browser: str, html: Path, target: Path) -> None:
    """Print all pages into one file, with an outline, and tags for those who do not see it.

    Raises
    ------
    RuntimeError
        The browser has not printed them.
    """
    together = html / "whole.html"
    together.write_text(whole(html), encoding="utf-8")
    try:
        with serving(html) as address, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
            command = [browser, *FLAGS, f"--user-data-dir={scratch}", f"--print-to-pdf={target}"]
            done = subprocess.run([*command, f"{address}/{together.name}"], capture_output=True, text=True, timeout=600)
    finally:
        together.unlink()
    if done.returncode or not target.is_file():
        raise RuntimeError(f"{browser} did not print the pages: {done.stderr.strip()}")


def main() -> int:
    """Write the PDF beside the pages; 0 if it is there."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"pdf: none of {', '.join(BROWSERS)} is installed, and one prints the pages", file=sys.stderr)
        return 1
    if not (HTML / "index.html").is_file():
        print("pdf: no pages yet; run make book first", file=sys.stderr)
        return 1
    pages = printed_of(HTML)
    if TARGET.is_file() and MADE_OF.is_file() and MADE_OF.read_text(encoding="utf-8") == pages:
        print("pdf: no page has changed")
        return 0
    draft = TARGET.with_suffix(".part")
    draft.unlink(missing_ok=True)
    printed(browser, HTML, draft)
    draft.replace(TARGET)
    MADE_OF.write_text(pages, encoding="utf-8")
    print(f"pdf: {TARGET.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
