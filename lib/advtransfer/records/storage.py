"""Where files are, and how they are written: completely or not at all.

The data root holds what was fetched; the cache root holds what was computed.
"""

import glob
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

NOTES = "ADVTRANSFER_NOTES"  # names the file in which a kernel notes what it made, and what its caller should know
REPLACED = ".replaced"  # the name of an old folder, in the scratch folder of its replacement


class Busy(RuntimeError):
    """Another process is computing the same thing."""


def note(**values: str) -> None:
    """Note something for the process that executes the notebook of this kernel."""
    with open(os.environ[NOTES], "a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def tell(line: str) -> None:
    """Warn the caller in one line. From a notebook's kernel it reaches the terminal, and is no part of the page."""
    if NOTES in os.environ:
        note(line=line)
    else:
        warnings.warn(line, stacklevel=3)


def data_root(given: Path | str | None = None) -> Path:
    """The folder of the data sets: `given`, else ``$ADVTRANSFER_DATA``, else ``data`` in the user's cache folder."""
    return _root("ADVTRANSFER_DATA", "data") if given is None else Path(given).expanduser().absolute()


def cache_root() -> Path:
    """The folder of records and trained weights: ``$ADVTRANSFER_CACHE``, else ``cache`` in the user's cache folder."""
    return _root("ADVTRANSFER_CACHE", "cache")


def _root(variable: str, name: str) -> Path:
    given = os.environ.get(variable)
    return Path(given).expanduser().absolute() if given else platformdirs.user_cache_path("advtransfer") / name


def writable_folder(path: Path) -> Path:
    """Make sure that `path` is a folder one can write to, and return it.

    Raises
    ------
    PermissionError
        The folder cannot be written. The message is one line with the path and what to set instead.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        roots = {"ADVTRANSFER_CACHE": cache_root(), "ADVTRANSFER_DATA": data_root()}
        variable = next((name for name, root in roots.items() if path.absolute().is_relative_to(root)), "")
        instead = f": set {variable} to one" if variable else ""
        raise PermissionError(
            f"cannot write to {path} ({error.strerror}); expected a folder that can be written{instead}"
        ) from None


def check_writable(path: Path) -> None:
    """Raise as `writable_folder` does, but leave no folder behind that was not there.

    Raises
    ------
    PermissionError
        The folder cannot be written.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    writable_folder(path)
    with suppress(OSError):  # another process may use them by now
        for folder in missing:
            folder.rmdir()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a scratch path beside `path` that takes its place when the block ends without an error.

    The scratch path (it ends like `path` and does not exist yet) may be written as a file or made as a folder. A
    reader sees either the old content or the new, never a part of it; after an error nothing is left. A folder cannot
    be replaced in one step: for a moment it is not there, and two processes must not replace it at once (see `locked`).
    """
    writable_folder(path.parent)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".writing-{path.name}-") as scratch:
        draft, old = Path(scratch) / path.name, Path(scratch) / REPLACED
        try:
            yield draft
            if draft.is_dir() and path.is_dir():
                path.rename(old)
            try:
                draft.replace(path)
            except BaseException:
                if old.exists() and not path.exists():
                    old.rename(path)
                raise
        except OSError as error:
            if error.errno is None or error.filename is not None:
                raise
            raise OSError(error.errno, error.strerror, str(path)) from error  # such as a full disk, with the path


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Inside the block, be the only process that makes `path`, among all that see its folder.

    The lock belongs to the operating system, which releases it if the process is killed. What a killed process left
    unfinished is removed, and what it was about to replace is put back.

    Raises
    ------
    Busy
        Another process has the lock, and `wait` is False.
    """
    writable_folder(path.parent)
    file = path.parent / f".{path.name}.lock"
    lock = FileLock(file, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        raise Busy(f"{path} is being computed by another process") from None
    try:
        for left in path.parent.glob(f".writing-{glob.escape(path.name)}-????????"):  # as tempfile names them
            if (left / REPLACED).exists() and not path.exists():  # killed between two renames
                (left / REPLACED).rename(path)
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        if os.name == "posix":  # elsewhere the file cannot be removed while it is open
            file.unlink(missing_ok=True)  # while it is held: a waiting process notices this, and makes a new one
        lock.release()


def fingerprint(path: Path | None) -> str:
    """The checksum of a file, or ``"missing"``; each process reads a file again only if its size or time changed."""
    if path is None or not path.is_file():
        return "missing"
    return _fingerprint(path, *stamp(path))


def stamp(path: Path) -> tuple[int, int]:
    """The size and the time of the last change of a file, which show a change without reading the file."""
    about = path.stat()
    return about.st_size, about.st_mtime_ns


@lru_cache(maxsize=4096)
def _fingerprint(path: Path, size: int, changed: int) -> str:
    return sha256(path)


def sha256(path: Path) -> str:
    """The SHA-256 checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
