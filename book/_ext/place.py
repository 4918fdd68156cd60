"""Where the project is published, and the addresses that follow from it: ``make place``.

The place is one setting, ``repository: url`` in ``_config.yml``. The launch buttons of the pages and the first cell of
their notebooks are made from it when the book is built. ``make place`` writes it into `CITATION.cff`, the badges of
`README.md` and the addresses in `pyproject.toml`. While the setting is empty, none of them is there.
"""

import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PAGES = "gh-pages"  # the branch of the built pages, with the executed notebooks among their sources
FIRST = "notebooks/theory_checks"  # the page that the badges launch: it needs no data
LAUNCHERS = ("https://colab.research.google.com/github/", "https://mybinder.org/v2/gh/")
BADGES = re.compile(r"\A(# .*\n\n)(?:\[!\[.*\n)*\n*")
CITED = re.compile(r"^(?:url|repository-code): .*\n", re.MULTILINE)
URLS = re.compile(r"^\[project\.urls\]\n(?:.+\n)*\n", re.MULTILINE)


class PlaceError(ValueError):
    """The setting is not the address of a repository."""


def repository(folder: Path = ROOT) -> str:
    """Read the place of publication from ``_config.yml`` in a folder, as ``owner/name``; empty if it is not set.

    Raises
    ------
    PlaceError
        The setting is something else than the address of a repository on GitHub.
    """
    config = yaml.safe_load((folder / "_config.yml").read_text(encoding="utf-8"))
    url = (config.get("repository") or {}).get("url") or ""
    found = re.fullmatch(r"(?:https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?)?", url)
    if found is None:
        raise PlaceError(f"_config.yml has {url!r} as repository: url; expected https://github.com/OWNER/NAME")
    return found[1] or ""


def code(place: str) -> str:
    """The address of the repository ``owner/name``."""
    return f"https://github.com/{place}"


def pages(place: str) -> str:
    """The address of the book on GitHub Pages.

    >>> pages("Owner/name"), pages("owner/owner.github.io")
    ('https://owner.github.io/name/', 'https://owner.github.io/')
    """
    owner, name = place.split("/")
    host = f"{owner.lower()}.github.io"
    return f"https://{host}/" if name.lower() == host else f"https://{host}/{name}/"


def notebook(place: str, page: str) -> str:
    """The address of the executed notebook of a page, which Colab opens."""
    return f"{code(place)}/blob/{PAGES}/_sources/{page}.ipynb"


def colab(place: str, page: str) -> str:
    """The address that opens the executed notebook of a page on Colab."""
    return LAUNCHERS[0] + notebook(place, page).removeprefix("https://github.com/")


def binder(place: str, page: str) -> str:
    """The address that opens the source of a page in JupyterLab on Binder."""
    return f"{LAUNCHERS[1]}{place}/HEAD?urlpath=lab/tree/{page}.md"


def readme(text: str, place: str) -> str:
    """The README with its badges below the title."""
    return BADGES.sub(lambda found: found[1] + (badges(place) if place else ""), text)


def badges(place: str) -> str:
    """Four lines: how the tests fare, the book, and the first page on Colab and on Binder."""
    tests = f"{code(place)}/actions/workflows/tests.yml"
    return (
        f"[![Tests]({tests}/badge.svg)]({tests})\n"
        f"[![Read the book](https://img.shields.io/badge/read-the_book-blue)]({pages(place)})\n"
        f"[![Run on Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab(place, FIRST)})\n"
        f"[![Run on Binder](https://mybinder.org/badge_logo.svg)]({binder(place, FIRST)})\n\n"
    )


def citation(text: str, place: str) -> str:
    """CITATION.cff with the addresses of the code and of the book, after the licence."""
    own = f"repository-code: {code(place)}\nurl: {pages(place)}\n" if place else ""
    return re.sub(r"^license: .*\n", lambda found: found[0] + own, CITED.sub("", text), flags=re.MULTILINE)


def project(text: str, place: str) -> str:
    """pyproject.toml with the addresses that a package index shows."""
    urls = f'[project.urls]\nDocumentation = "{pages(place)}"\nRepository = "{code(place)}"\n\n' if place else ""
    return URLS.sub("", text).replace("[project.scripts]\n", f"{urls}[project.scripts]\n")


WRITTEN = {"README.md": readme, "CITATION.cff": citation, "pyproject.toml": project}
"""The files that ``make place`` writes, and the function that writes each."""


def main() -> int:
    """Write the place of publication into the files that name it; 0 if it can be used."""
    try:
        place = repository()
    except PlaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, written in WRITTEN.items():
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        if (new := written(text, place)) != text:
            path.write_text(new, encoding="utf-8")
            print(f"place: {name}")
    print(f"place: published at {code(place)}, read at {pages(place)}" if place else "place: not set in _config.yml")
    return 0


if __name__ == "__main__":
    sys.exit(main())
