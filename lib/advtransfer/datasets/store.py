"""Images in the data root: ``images/<name>.npz``, and ``SHA256SUMS`` for everything that was fetched."""

import hashlib
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from advtransfer.datasets.sources import FETCH_COMMAND, DataUnavailable, Source
from advtransfer.records.storage import fingerprint, replacing, sha256


class Arrays(NamedTuple):
    """The content of a data set: images (N, 32, 32, 3) and labels (N,), all uint8."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def content_digest(arrays: Arrays) -> str:
    r"""The SHA-256 digest of images and labels, whatever file they came from.

    The digest is that of a canonical form: for x_train, y_train, x_test and y_test, in this order, a line
    ``<name> uint8 <shape joined by x>\n`` in ASCII, followed by the array's bytes in C order.
    """
    digest = hashlib.sha256()
    for name, array in arrays._asdict().items():
        if array.dtype != np.uint8:
            raise TypeError(f"{name} is {array.dtype}; expected uint8")
        digest.update(f"{name} uint8 {'x'.join(map(str, array.shape))}\n".encode("ascii"))
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def check(arrays: Arrays, source: Source) -> None:
    """Raise unless the arrays have the types, shapes and labels that `source` promises.

    Raises
    ------
    ValueError
        They do not; the message says in one line what was found and what was expected.
    """
    expected = {
        "x_train": (source.train, 32, 32, 3),
        "y_train": (source.train,),
        "x_test": (source.test, 32, 32, 3),
        "y_test": (source.test,),
    }
    for name, array in arrays._asdict().items():
        if array.dtype != np.uint8 or array.shape != expected[name]:
            raise ValueError(f"{name} is {array.dtype} {array.shape}; expected uint8 {expected[name]}")
        if name.startswith("y") and not np.array_equal(np.unique(array), np.arange(len(source.classes))):
            raise ValueError(f"{name} holds the labels {np.unique(array)}; expected 0 to {len(source.classes) - 1}")


def image_path(root: Path, name: str) -> Path:
    """The file for the images of a data set."""
    return root / "images" / f"{name}.npz"


def write(root: Path, source: Source, arrays: Arrays) -> Path:
    """Write the arrays of a data set, either all or none, and record the file's checksum; return its path.

    The same arrays give the same bytes on every machine: nothing is compressed (pictures hardly can be), and numpy
    gives the members of an archive a fixed date.
    """
    path = image_path(root, source.name)
    with noting(root, path), replacing(path) as draft:
        np.savez(draft, **arrays._asdict(), classes=np.array(source.classes))
    return path


def read(root: Path, source: Source) -> Arrays:
    """Read the arrays of a data set, checked against what `source` promises.

    Raises
    ------
    DataUnavailable
        The file is missing or damaged; the message gives the command that fetches it.
    """
    path = image_path(root, source.name)
    noted = check_sum(root, path, source)
    try:
        if path.is_file() and not zipfile.is_zipfile(path):
            raise ValueError("it is no .npz archive")
        with np.load(path, allow_pickle=False) as archive:
            arrays = Arrays(*(archive[name] for name in Arrays._fields))
            named = archive["classes"].tolist() if "classes" in archive else source.classes
        check(arrays, source)
        if list(named) != list(source.classes):
            raise ValueError(f"its classes are {', '.join(map(str, named))}; expected {', '.join(source.classes)}")
        if not noted and source.content_is_certain and content_digest(arrays) not in source.contents:
            raise ValueError(f"its content is not that of {source.name}, and SHA256SUMS has no checksum of it")
    except FileNotFoundError:
        raise DataUnavailable(f"{path} is not there; fetch it with: {FETCH_COMMAND} {source.name}") from None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataUnavailable(
            f"{path} is damaged ({error}); fetch it anew with: {FETCH_COMMAND} {source.name}"
        ) from error
    return arrays


def is_intact(root: Path, source: Source) -> bool:
    """Whether the data set is there and is what was fetched, judged by its checksum or else by its content."""
    path = image_path(root, source.name)
    if not path.is_file():
        return False
    if (noted := checksums(root).get(path.relative_to(root).as_posix())) is not None:
        return noted == sha256(path)
    try:
        return content_digest(read(root, source)) in source.contents
    except DataUnavailable:
        return False


def check_sum(root: Path, path: Path, source: Source) -> bool:
    """Raise unless a file has the checksum that was recorded when it was fetched; whether there is one.

    Raises
    ------
    DataUnavailable
        It has another one; the message gives the command that fetches it.
    """
    noted = checksums(root).get(path.relative_to(root).as_posix())
    if noted is not None and path.is_file() and (found := fingerprint(path)) != noted:
        raise DataUnavailable(
            f"{path} is damaged (its sha256 is {found}, and SHA256SUMS says {noted}); "
            f"fetch it anew with: {FETCH_COMMAND} {source.name}"
        )
    return noted is not None


def checksums(root: Path) -> dict[str, str]:
    """The SHA-256 of every path (relative to the root) that ``SHA256SUMS`` lists; empty if there is no such file.

    Raises
    ------
    DataUnavailable
        A line is not ``<64 hexadecimal digits>  <path>``.
    """
    noted: dict[str, str] = {}
    file = root / "SHA256SUMS"
    try:
        lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    except UnicodeDecodeError:
        raise DataUnavailable(f"{file} is damaged: it is not UTF-8; expected sha256sum's format") from None
    for line in filter(str.strip, lines):
        if (found := re.fullmatch(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+)", line)) is None:
            raise DataUnavailable(f"{file} has the line {line!r}; expected sha256sum's format")
        noted[found[2]] = found[1].lower()
    return noted


@contextmanager
def noting(root: Path, *paths: Path) -> Iterator[None]:
    """Inside the block, files are replaced; afterwards the data root's ``SHA256SUMS`` has their checksums.

    In between it has none of them, so that it never has that of another file than is there.
    """
    names = {path.relative_to(root).as_posix(): path for path in paths}
    before = checksums(root)
    rest = {name: digest for name, digest in before.items() if name not in names}
    if rest != before:
        _write_checksums(root, rest)
    try:
        yield
    except BaseException:
        there = {name: before[name] for name in before.keys() & names.keys() if names[name].is_file()}
        if still := {name: digest for name, digest in there.items() if sha256(names[name]) == digest}:
            with suppress(OSError):
                _write_checksums(root, rest | still)
        raise
    _write_checksums(root, rest | {name: sha256(path) for name, path in names.items()})


def _write_checksums(root: Path, noted: dict[str, str]) -> None:
    """As ``sha256sum --check`` can read them."""
    with replacing(root / "SHA256SUMS") as draft:
        draft.write_text("".join(f"{noted[name]}  ./{name}\n" for name in sorted(noted)), "utf-8")
