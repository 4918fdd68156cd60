"""Ask the network for every address that the book points to: ``make links``.

They are those of ``external-links.txt`` and, where the book is published, what its launch buttons open.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import place
import requests

LISTED = Path(__file__).with_name("external-links.txt")
REFUSED = {401, 403, 429}  # there, but not for a program


def answer(url: str) -> str | None:
    """What is wrong with an address; None if it is there."""
    try:
        with requests.get(url, stream=True, timeout=30, headers={"User-Agent": "Mozilla/5.0"}) as found:
            return None if found.ok or found.status_code in REFUSED else f"status {found.status_code}"
    except requests.RequestException as error:
        return type(error).__name__


def addresses() -> list[str]:
    """Every address to ask for."""
    listed, published = LISTED.read_text(encoding="utf-8").splitlines(), place.repository()
    pages = sorted(path.stem for path in (place.ROOT / "notebooks").glob("*.md")) if published else []
    opened = [place.notebook(published, f"notebooks/{page}") for page in pages]
    return listed + opened + ([place.code(published), place.pages(published)] if published else [])


def main() -> int:
    """Print the addresses that do not answer; 0 if all do."""
    urls = addresses()
    with ThreadPoolExecutor(8) as pool:
        broken = {url: wrong for url, wrong in zip(urls, pool.map(answer, urls), strict=True) if wrong}
    for url, wrong in broken.items():
        print(f"{url}: {wrong}")
    if len(broken) == len(urls):
        print(f"none of {len(urls)} answers: is there a network?")
    else:
        print(f"{len(urls) - len(broken)} of {len(urls)} answer")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
