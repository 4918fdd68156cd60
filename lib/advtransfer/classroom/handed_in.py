"""What a class has handed in: the notebooks in the folder ``submitted``, by student."""

import unicodedata
from pathlib import Path
from typing import NamedTuple

PUNCTUATION = frozenset(" .,'’()@+-_\u200c\u200d")  # the last two join letters in names of several scripts
LONGEST = 100  # characters of a name
LONGEST_BYTES = 220  # of a name in UTF-8: with an ending and a mark for a draft, the name of a file has at most 255
LITTER = ("__macosx", "thumbs.db", "desktop.ini")  # what file managers leave behind


class Found(NamedTuple):
    """The submissions in a folder."""

    notebooks: dict[str, Path]
    """By student, in the order of the names."""
    refused: list[str]
    """One line for each submission that cannot be graded as it is."""
    passed_over: list[str]
    """One line for each file that is not a submission."""


def found(folder: Path) -> Found:
    """The notebooks handed in: ``submitted/STUDENT.ipynb``, or ``submitted/STUDENT/NAME.ipynb``.

    Hidden files, and files that file managers leave behind, do not count. Names are compared in the normal form C of
    Unicode, so that a name from a Mac is the same as that name from elsewhere.
    """
    by_student: dict[str, list[Path]] = {}
    refused, passed_over = [], []
    for path in sorted((folder / "submitted").glob("*")):
        if is_litter(path.name):
            continue
        is_folder = path.is_dir()
        if not is_folder and path.suffix.lower() != ".ipynb":
            passed_over.append(f"{path.name!r} is not a notebook; expected STUDENT.ipynb or STUDENT/NAME.ipynb")
            continue
        student = normal(path.name if is_folder else path.stem)
        try:
            by_student.setdefault(student, []).append(_notebook(path) if is_folder else _plain(path))
            if not is_proper(student):
                raise ValueError(f"the student would be called {student!r}; expected {PROPER}")
        except (ValueError, OSError) as error:
            by_student.setdefault(student, [])
            refused.append(f"{path.name!r}: {error}")
    for student, paths in by_student.items():
        if len(paths) > 1:
            refused.append(f"{student!r}: {' and '.join(repr(path.name) for path in paths)}; expected one of them")
    notebooks = {student: paths[0] for student, paths in by_student.items() if len(paths) == 1 and is_proper(student)}
    return Found(notebooks, refused, passed_over)


PROPER = (
    f"at most {LONGEST} characters and {LONGEST_BYTES} bytes: a letter or digit first, then letters, digits, spaces "
    "and . , ' ( ) @ + - _"
)


def is_proper(name: str) -> bool:
    """Whether a student's name is safe in tables, pages and file names.

    Letters of any script are allowed, with their marks. A first letter or digit keeps a spreadsheet from taking the
    name for a formula, and a system from hiding the file.

    Examples
    --------
    >>> [is_proper(name) for name in ("O'Brien", "Doe, Jane", "हिन्दी", "bob (1)")]
    [True, True, True, True]
    >>> [is_proper(name) for name in ("=SUM(A1)", "..", "a/b", "a\\u202eb", "")]
    [False, False, False, False, False]
    """
    return (
        0 < len(name) <= LONGEST
        and len(name.encode(errors="replace")) <= LONGEST_BYTES
        and name[0].isalnum()
        and name == normal(name).strip(" .")
        and all(map(is_proper_letter, name))
    )


def is_proper_letter(letter: str) -> bool:
    """Whether a name may hold this letter, mark, digit or punctuation."""
    return unicodedata.category(letter)[0] in "LMN" or letter in PUNCTUATION


def normal(name: str) -> str:
    """A name as the library writes it: the normal form C of Unicode, in which é is one character."""
    return unicodedata.normalize("NFC", name)


def is_litter(name: str) -> bool:
    """Whether a file is hidden or was left behind by a file manager."""
    return name.startswith((".", "~$")) or name.lower() in LITTER


def _notebook(folder: Path) -> Path:
    """The one notebook in a folder of a student."""
    if folder.is_symlink():
        raise ValueError("it is a link; expected a folder")
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".ipynb" and not is_litter(path.name)]
    if len(paths) != 1:
        names = f": {', '.join(repr(path.name) for path in paths)}" if paths else ""
        raise ValueError(f"it holds {len(paths) or 'no'} notebook{'s' * (len(paths) != 1)}{names}; expected one")
    return _plain(paths[0])


def _plain(path: Path) -> Path:
    if path.is_symlink() or not path.is_file():
        raise ValueError(f"{path.name!r} is a link or a device; expected a plain file")
    return path
