"""How long the largest of the built pages takes to the first paint of its contents: the median of some visits.

    python benchmarks/first_paint.py [--repeats 5]

It needs the pages (`make book`) and Chromium. Each visit starts with an empty cache; the server is on this machine.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "book"), str(ROOT / "tests")]

from print_pdf import HTML, chapters, serving  # noqa: E402

from browser import CHROMIUM, Browser  # noqa: E402

PAINTED = """
    new Promise(done => new PerformanceObserver(list => list.getEntriesByName('first-contentful-paint')
        .forEach(entry => done(entry.startTime))).observe({type: 'paint', buffered: true}))
"""


def paint(browser: Browser, address: str) -> float:
    """Milliseconds from the start of a visit to the first paint."""
    browser.call("Network.clearBrowserCache")
    browser.open(address)
    return browser.run(PAINTED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="visits to the page")
    repeats = parser.parse_args().repeats
    if CHROMIUM is None:
        sys.exit("first_paint: no Chromium here to show the pages")
    if not (HTML / "index.html").is_file():
        sys.exit("first_paint: no pages yet; run make book first")
    page = max((page for _, page in chapters()), key=lambda page: (HTML / f"{page}.html").stat().st_size)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        Browser(Path(profile)) as browser,
        serving(HTML) as site,
    ):
        visits = [paint(browser, f"{site}/{page}.html") for _ in range(repeats)]
    print(f"{page}: {statistics.median(visits):.0f} ms, {min(visits):.0f} to {max(visits):.0f} in {repeats} visits")


if __name__ == "__main__":
    main()
