"""Zip files that others have made: read member by member, in memory, and never unpacked."""

import os
import stat
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from advtransfer.classroom.handed_in import is_litter, normal
from advtransfer.classroom.plan import FILE_BYTES

MEMBERS = 50_000  # of an archive
UTF_8 = 0x800  # the flag of a member whose name is in UTF-8; without it the name should be in code page 437


class Member(NamedTuple):
    """A file in an archive."""

    parts: tuple[str, ...]
    """The folders and the name, in the normal form C of Unicode; no part leads upwards."""
    time: float
    """When the file was changed, as its archive says, in seconds since 1970; 0 if it does not say."""
    read: Callable[[], bytes]
    """Its content; ValueError if that is damaged, locked or larger than a submission may be."""


class Archive(NamedTuple):
    """The files in an archive or folder."""

    members: list[Member]
    refused: list[str]
    """One line for each link, device and path that leads out of the archive."""


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """The files in a zip file, or in a folder that somebody has unpacked; without what file managers leave behind.

    Names are read as programs write them: in UTF-8 with or without its flag, else in code page 437; with slashes or
    backslashes.

    Raises
    ------
    ValueError
        It is neither, or the archive has too many members.
    """
    if path.is_dir():
        yield _checked(_in_folder(path))
        return
    if not path.exists():
        raise ValueError(f"there is no file {path}; expected a zip file, or a folder")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not a zip file; expected one, or a folder")
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"{path} is damaged ({error}); expected a whole zip file") from None
    with archive:
        if len(archive.infolist()) > MEMBERS:
            raise ValueError(f"{path} has {len(archive.infolist())} members; expected at most {MEMBERS}")
        yield _checked(_in_zip(archive))


Entry = tuple[str, bool, float, Callable[[], bytes]]


def _in_folder(folder: Path) -> Iterator[Entry]:
    for place, folders, files in os.walk(folder):
        for name in sorted([*files, *(name for name in folders if Path(place, name).is_symlink())]):
            path = Path(place, name)
            about = path.lstat()
            inside = path.relative_to(folder).as_posix()
            yield inside, stat.S_ISREG(about.st_mode), about.st_mtime, partial(_read_file, path)


def _in_zip(archive: zipfile.ZipFile) -> Iterator[Entry]:
    for info in archive.infolist():
        if info.is_dir():
            continue
        kind = stat.S_IFMT(info.external_attr >> 16)
        yield _name(info), kind in (0, stat.S_IFREG), _time(info), partial(_read_member, archive, info)


def _checked(entries: Iterator[Entry]) -> Archive:
    members, refused = [], []
    for name, is_plain, changed, read in entries:
        path = normal(name).replace("\\", "/")
        parts = tuple(part for part in path.split("/") if part not in ("", "."))
        if path.startswith("/") or ".." in parts or path[1:2] == ":" or not parts:
            refused.append(f"{name!r} leads out of the archive; expected a path inside")
        elif any(is_litter(part) for part in parts):
            continue
        elif not is_plain:
            refused.append(f"{name!r} is a link or a device; expected a plain file")
        else:
            members.append(Member(parts, changed, read))
    return Archive(members, refused)


def _name(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & UTF_8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _time(info: zipfile.ZipInfo) -> float:
    try:
        return time.mktime((*info.date_time, 0, 0, -1)) if info.date_time > (1980, 1, 1, 0, 0, 0) else 0.0
    except (ValueError, OverflowError):
        return 0.0


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return _within(file.read(FILE_BYTES + 1))


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(info) as file:
            return _within(file.read(FILE_BYTES + 1))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(f"it cannot be unpacked ({error}); expected a whole zip file without a password") from None


def _within(content: bytes) -> bytes:
    if len(content) > FILE_BYTES:
        raise ValueError(f"it has more than {FILE_BYTES >> 20} MiB; expected no more")
    return content
