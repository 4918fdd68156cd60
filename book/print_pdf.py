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

import yaml
from bs4 import BeautifulSoup
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, DictionaryObject, NameObject, TextStringObject

ROOT = Path(__file__).parents[1]
HTML = ROOT / "_build" / "html"
TARGET = HTML / "companion.pdf"
MADE_OF = ROOT / "_build" / "companion.sha256"
CHANGING = re.compile(rb"\?(v|digest)=[0-9a-f]+")  # of a style or script, in its address
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-pdf-header-footer",
    "--virtual-time-budget=20000",
)  # fmt: skip


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


def whole(browser: str, html: Path) -> PdfWriter:
    """Print every page, put them together, and make links between pages lead from one to the other."""
    book, starts, parts = PdfWriter(), {}, {}
    with serving(html) as address, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        for number, (part, page) in enumerate(chapters()):
            printed = Path(scratch) / f"{number}.pdf"
            command = [browser, *FLAGS, f"--user-data-dir={scratch}/profile", f"--print-to-pdf={printed}"]
            done = subprocess.run([*command, f"{address}/{page}.html"], capture_output=True, text=True, timeout=120)
            if done.returncode or not printed.is_file():
                raise RuntimeError(f"{browser} did not print {page}: {done.stderr.strip()}")
            starts[f"{address}/{page}.html"] = first = len(book.pages)
            book.append(PdfReader(printed), import_outline=False)
            if part and part not in parts:
                parts[part] = book.add_outline_item(title=part, page_number=first)
            heading = BeautifulSoup((html / f"{page}.html").read_text(encoding="utf-8"), "html.parser").h1
            assert heading is not None  # every page has a title
            title = heading.get_text().rstrip("#").strip()
            book.add_outline_item(title=title, page_number=first, parent=parts.get(part))
        _lead(book, address, starts)
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    book.add_metadata({"/Title": config["title"], "/Author": config["author"]})
    book.root_object[NameObject("/Lang")] = TextStringObject("en")
    return book


def _lead(book: PdfWriter, address: str, starts: dict[str, int]) -> None:
    """Turn links to printed pages into jumps, and take away those to other local files."""
    for page in book.pages:
        kept = ArrayObject()
        for reference in page.get("/Annots", ArrayObject()):
            link = reference.get_object()
            url = str(link.get("/A", {}).get("/URI", ""))
            place = starts.get(url.partition("#")[0])
            if place is not None:
                goal = ArrayObject([book.pages[place].indirect_reference, NameObject("/Fit")])
                link[NameObject("/A")] = DictionaryObject(
                    {NameObject("/S"): NameObject("/GoTo"), NameObject("/D"): goal}
                )
            if place is not None or not url.startswith(address):
                kept.append(reference)
        if "/Annots" in page:
            page[NameObject("/Annots")] = kept


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
    book = whole(browser, HTML)
    draft = TARGET.with_suffix(".part")
    book.write(draft)
    draft.replace(TARGET)
    MADE_OF.write_text(pages, encoding="utf-8")
    print(f"pdf: {TARGET.relative_to(ROOT)}, {len(book.pages)} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
