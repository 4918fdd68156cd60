"""The notebooks of the book, by name, and in the order of its table of contents."""

from pathlib import Path
from typing import Any

import yaml

from advtransfer.notebooks.read import NotebookError

FOLDER = Path("notebooks")


def named(name: str) -> Path:
    """The path of a notebook's source, given its path, the path of the executed notebook, or only the name."""
    path = Path(name)
    source = path.with_suffix(".md") if len(path.parts) > 1 or path.is_file() else FOLDER / f"{path.stem}.md"
    while path.suffix == ".ipynb" and not source.is_file() and "-" in source.stem:  # as of NAME-seed-1.ipynb
        source = source.with_stem(source.stem.rpartition("-")[0])
    return source


def in_toc_order(folder: Path = FOLDER) -> list[Path]:
    """The notebooks of `folder`: first those of the book's table of contents, in its order.

    Raises
    ------
    NotebookError
        There is no such folder.
    """
    if not folder.is_dir():
        raise NotebookError(f"there is no folder {folder.absolute()}; expected to run in the folder of the book")
    toc = folder.parent / "_toc.yml"
    listed = _files(yaml.safe_load(toc.read_text(encoding="utf-8"))) if toc.is_file() else []
    place = {folder.parent / f"{name}.md": number for number, name in enumerate(listed)}
    return sorted(folder.glob("*.md"), key=lambda path: (place.get(path, len(place)), path))


def _files(toc: Any) -> list[str]:
    """Every ``file:`` in a table of contents, in order."""
    if isinstance(toc, dict):
        own = [toc["file"]] if "file" in toc else []
        return own + [name for value in toc.values() for name in _files(value)]
    return [name for entry in toc for name in _files(entry)] if isinstance(toc, list) else []
