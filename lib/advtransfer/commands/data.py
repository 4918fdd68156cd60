"""``python -m advtransfer data list | fetch NAME… | verify``."""

import argparse
import sys
import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from advtransfer.commands.output import add_json, print_json
from advtransfer.datasets import encoders, store, textstore
from advtransfer.datasets.fetching import fetch
from advtransfer.datasets.images import available, load
from advtransfer.datasets.sources import DataUnavailable, Source, source, sources
from advtransfer.datasets.texts import load_texts
from advtransfer.names import one_line
from advtransfer.records.storage import data_root, sha256

Row = tuple[str, str, str, str, str]


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add ``list``, ``fetch`` and ``verify``; each sets `func` (namespace to exit code)."""
    actions = parser.add_subparsers(required=True, metavar="list | fetch | verify")
    lister = actions.add_parser("list", help="list the data sets and say which are here")
    add_json(lister)
    lister.set_defaults(func=list_data)
    getter = actions.add_parser("fetch", help="fetch data sets and check them")
    getter.add_argument("names", nargs="+", metavar="NAME", help=", ".join(sources()))
    getter.add_argument("--anew", action="store_true", help="fetch them even if they are here and intact")
    getter.set_defaults(func=fetch_data)
    checker = actions.add_parser("verify", help="check again every file that is here")
    add_json(checker)
    checker.set_defaults(func=verify_data)


def list_data(arguments: argparse.Namespace) -> int:
    """Print a table of the data sets and encoders: name, whether it is here, examples, licence, origin."""
    root = data_root()
    heads = ("NAME", "HERE", "TRAIN + TEST", "LICENCE", "FROM")
    rows = [_row(entry, root) for entry in sources().values()]
    if arguments.json:
        names = ("name", "here", "examples", "licence", "origin")
        print_json({"root": root, "data": [dict(zip(names, row, strict=True)) for row in rows]})
        return 0
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    print(f"data root: {root}")
    for row in (heads, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _row(entry: Source, root: Path) -> Row:
    origin = f"made from {entry.derived_from}" if entry.derived_from else ", ".join(map(str, entry.origins))
    counts = f"{entry.train:,} + {entry.test:,}" if entry.train else "-"
    if entry.kind == "images":
        path = store.image_path(root, entry.derived_from or entry.name)
        here = "no" if not path.exists() else "yes" if zipfile.is_zipfile(path) else "broken"
        return entry.name, here, counts, entry.licence, f"{path} is damaged" if here == "broken" else origin
    files = _files(entry, root)
    if not all(path.is_file() for path in files):
        return entry.name, "no", counts, entry.licence, origin or f"by hand; see {entry.page}"
    if entry.kind == "text":  # the files here may be split differently from fetched ones
        try:
            counts = " + ".join(f"{pq.read_metadata(path).num_rows:,}" for path in files)
            noted = textstore.note(root, entry.name).get("source", "not noted")
        except (OSError, pa.ArrowException) as error:
            reason = one_line(error)
            return entry.name, "broken", counts, entry.licence, f"{files[0].parent} is damaged: {reason}"
        origin = textwrap.shorten(noted, 150, placeholder=" …")
    elif not encoders.is_intact(root, entry):
        return entry.name, "broken", counts, entry.licence, f"{files[0].parent} is damaged"
    return entry.name, "yes", counts, entry.licence, origin


def _files(entry: Source, root: Path) -> list[Path]:
    """The files of a text corpus or an encoder."""
    if entry.kind == "text":
        return [textstore.folder(root, entry.name) / f"{split}.parquet" for split in textstore.SPLITS]
    return [encoders.folder(root, entry.name) / member for member in entry.members]


def fetch_data(arguments: argparse.Namespace) -> int:
    """Fetch data sets. A wrong name is an error before any fetch; a fetch that fails does not stop the others."""
    for name in arguments.names:
        source(name)
    failed = False
    for name in arguments.names:
        try:
            print(fetch(name, anew=arguments.anew))
        except (DataUnavailable, OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            failed = True
    return 1 if failed else 0


def verify_data(arguments: argparse.Namespace) -> int:
    """Check the files in ``SHA256SUMS`` and the data sets here, one line each; return 1 if any is wrong."""
    root = data_root()
    verdicts = [*_file_verdicts(root), *_content_verdicts(root)]
    if arguments.json:
        print_json({"root": root, "files": [{"intact": fine, "told": line} for fine, line in verdicts]})
        return 0 if all(fine for fine, _ in verdicts) else 1
    if not verdicts:
        print(f"nothing to verify: no data set in {root}")
    for fine, line in verdicts:
        print(f"{'ok  ' if fine else 'BAD '} {line}")
    return 0 if all(fine for fine, _ in verdicts) else 1


def _file_verdicts(root: Path) -> Iterator[tuple[bool, str]]:
    for name, noted in store.checksums(root).items():
        path = root / name
        if not path.is_file():
            yield False, f"{name}: missing"
        else:
            digest = sha256(path)
            yield digest == noted, f"{name}: sha256 {digest}" + ("" if digest == noted else f"; expected {noted}")


def _content_verdicts(root: Path) -> Iterator[tuple[bool, str]]:
    for entry in sources().values():
        try:
            digest = _digest(entry, root)
        except DataUnavailable as error:
            yield False, f"{entry.name}: {error}"
            continue
        if digest is None:
            continue
        if digest in entry.contents:
            yield True, f"{entry.name}: content {digest}, as expected"
        elif entry.content_is_certain:
            yield False, f"{entry.name}: content {digest}; expected {' or '.join(sorted(entry.contents))}"
        else:
            yield True, f"{entry.name}: content {digest} (no known digest to compare it with)"


def _digest(entry: Source, root: Path) -> str | None:
    """The content digest of a data set; None if it is not here, or if its files are its content."""
    if entry.kind == "images":
        return load(entry.name, root).digest if available(entry.name, root) else None
    if not any(path.is_file() for path in _files(entry, root)):
        return None
    if entry.kind == "text":
        return load_texts(entry.name, root).digest
    encoders.encoder_path(entry.name, root)
    return None
