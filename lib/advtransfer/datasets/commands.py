"""``python -m advtransfer data list | fetch NAME… | verify``."""

import argparse
import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq  # type: ignore[import-untyped]

from advtransfer.datasets import store
from advtransfer.datasets.fetching import fetch
from advtransfer.datasets.images import available, load
from advtransfer.datasets.sources import DataUnavailable, Source, source, sources
from advtransfer.storage import data_root, sha256

Row = tuple[str, str, str, str, str]


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``data`` and its sub-commands; each sets `func`, which takes the namespace and returns an exit code."""
    data = subparsers.add_parser("data", help="list, fetch and verify the data sets")
    actions = data.add_subparsers(required=True, metavar="list | fetch | verify")
    actions.add_parser("list", help="what there is, and what is here").set_defaults(func=_told(list_data))
    getter = actions.add_parser("fetch", help="bring data sets here, checked")
    getter.add_argument("names", nargs="+", metavar="NAME", help=", ".join(sources()))
    getter.set_defaults(func=_told(fetch_data))
    actions.add_parser("verify", help="check every file here again").set_defaults(func=_told(verify_data))


def _told(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """The command with its expected errors told in one line instead of a traceback."""

    def run(arguments: argparse.Namespace) -> int:
        try:
            return command(arguments)
        except (DataUnavailable, OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1

    return run


def list_data(arguments: argparse.Namespace) -> int:
    """Print a table of the data sets: name, here or not, examples, licence, where from."""
    root = data_root()
    rows: list[Row] = [("NAME", "HERE", "TRAIN + TEST", "LICENCE", "FROM")]
    rows += [_image_row(entry, root) for entry in sources().values()]
    rows += _text_rows(root)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(f"data root: {root}")
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _image_row(entry: Source, root: Path) -> Row:
    origin = f"made from {entry.derived_from}" if entry.derived_from else ", ".join(map(str, entry.origins))
    here = "yes" if available(entry.name, root) else "no"
    return entry.name, here, f"{entry.train:,} + {entry.test:,}", entry.licence, origin


def _text_rows(root: Path) -> list[Row]:
    """The text corpora that lie in the root: ``text/<name>/{train,test}.parquet``."""
    notes = root / "text" / "INFO.json"
    info = json.loads(notes.read_text("utf-8")) if notes.is_file() else {}
    rows: list[Row] = []
    for train in sorted(root.glob("text/*/train.parquet")):
        sizes = [pq.read_metadata(path).num_rows for path in (train, train.with_name("test.parquet"))]
        told = info.get(train.parent.name, {})
        counts = " + ".join(f"{size:,}" for size in sizes)
        origin = textwrap.shorten(told.get("source", "not noted"), 72, placeholder=" …")
        rows.append((train.parent.name, "yes", counts, told.get("licence", "not noted"), origin))
    return rows


def fetch_data(arguments: argparse.Namespace) -> int:
    """Fetch the data sets named; a wrong name stops it before anything is fetched."""
    for name in arguments.names:
        source(name)
    for name in arguments.names:
        print(fetch(name))
    return 0


def verify_data(arguments: argparse.Namespace) -> int:
    """Check the files of ``SHA256SUMS`` and the content of the images, a line each; 1 if anything is wrong."""
    root = data_root()
    verdicts = [*_file_verdicts(root), *_content_verdicts(root)]
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
            found = sha256(path)
            yield found == noted, f"{name}: sha256 {found}" + ("" if found == noted else f", expected {noted}")


def _content_verdicts(root: Path) -> Iterator[tuple[bool, str]]:
    for entry in sources().values():
        if not available(entry.name, root):
            continue
        try:
            digest = load(entry.name, root).digest
        except DataUnavailable as error:
            yield False, f"{entry.name}: {error}"
            continue
        if digest in entry.contents:
            yield True, f"{entry.name}: content {digest}, as expected"
        elif entry.content_is_certain:
            yield False, f"{entry.name}: content {digest}, expected {' or '.join(sorted(entry.contents))}"
        else:
            yield True, f"{entry.name}: content {digest} (no known digest to compare it with)"
