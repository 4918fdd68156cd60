"""``python -m advtransfer list | show | diff | verify``: what there is to run, and what was run."""

import argparse
import re
from pathlib import Path
from typing import Any

import pandas as pd

from advtransfer.notebooks import find as notebooks
from advtransfer.notebooks.read import Notebook, read
from advtransfer.records import compare, find
from advtransfer.records.published import RESULTS
from advtransfer.records.record import Record

RUN = "a notebook that was run (.ipynb), a record's folder, a published name, or the start of a key"
ROWS = 60  # of a table that is printed


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the options of one of the four commands; it sets `func`, from a namespace to an exit code."""
    commands = {"list": list_runs, "show": show, "diff": diff, "verify": verify}
    if name == "list":
        parser.add_argument("notebook", nargs="?", metavar="NOTEBOOK", help="whose runs in the cache to list")
    for argument in {"show": ("run",), "verify": ("run",), "diff": ("run", "other")}.get(name, ()):
        parser.add_argument(argument, metavar="RUN", help=RUN)
    parser.set_defaults(func=commands[name])


def list_runs(arguments: argparse.Namespace) -> int:
    """Print the notebooks and the published runs, or the runs of one notebook in the cache."""
    if arguments.notebook:
        return _list_cached(read(notebooks.FOLDER / f"{Path(arguments.notebook).stem}.md"))
    rows = []
    for path in notebooks.in_toc_order():
        source = read(path)
        title = re.search(r"^# (.*)$", source.text, flags=re.MULTILINE)
        rows.append((path.stem, title[1] if title else "", source.experiment.rpartition(".")[2]))
    print_table(pd.DataFrame(rows, columns=["notebook", "title", "experiment"]))
    names = sorted(f"{head.parents[1].name}/{head.parent.name}" for head in RESULTS.glob("*/*/record.json"))
    print_table(pd.DataFrame({"published": names}))
    return 0


def _list_cached(notebook: Notebook) -> int:
    rows = []
    for key, head in find.cached(notebook.experiment.rpartition(".")[2]):
        told = find.set_by_hand(head["config"], head["provenance"]["module"])
        config = ", ".join(f"{name}={value}" for name, value in told.items())
        rows.append((key[:12], config, f"{head['provenance']['seconds']:.1f}", head["provenance"]["device"]))
    print_table(pd.DataFrame(rows, columns=["run", "set", "seconds", "device"]))
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Print a run's parameters, tables and provenance."""
    folder = find.find(arguments.run)
    record = Record.load(folder)
    print(f"{folder}\nexperiment {record.experiment}, digest {record.digest}")
    print_table(_pairs(record.config), "parameters")
    for name, table in record.tables.items():
        print_table(table, f"table {name}: {len(table)} rows")
    for name, array in record.arrays.items():
        print(f"array {name}: {array.dtype} {array.shape}")
    print_table(_pairs(_flat(record.provenance)), "provenance")
    return 0


def diff(arguments: argparse.Namespace) -> int:
    """Print what two runs differ in; return 0 if in nothing, else 1."""
    one, other = (Record.load(find.find(name)) for name in (arguments.run, arguments.other))
    if one.experiment != other.experiment:
        raise ValueError(f"these are runs of {one.experiment} and {other.experiment}; expected runs of one experiment")
    found = {name: table for name, table in compare.differences(one, other).items() if len(table)}
    for name, table in found.items():
        print_table(
            table, name if name in ("parameters", "only in one") else f"table {name}: {len(table)} cells differ"
        )
    if not found:
        print("no difference" if one.digest == other.digest else "no difference but in the arrays")
    return 1 if one.digest != other.digest else 0


def verify(arguments: argparse.Namespace) -> int:
    """Run it again and print whether it holds, and by which rule; return 0 if it does, else 1."""
    folder = find.find(arguments.run)
    verdict = compare.verify(Record.load(folder))
    for note in verdict.notes:
        print(f"note: {note}")
    if len(verdict.against):
        print_table(verdict.against, f"{len(verdict.against)} cells do not agree")
    print(f"{'verified' if verdict.holds else 'NOT verified'}: compared {verdict.rule}")
    return 0 if verdict.holds else 1


def _flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested dicts as one, names joined by a point."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return flat


def _pairs(values: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame({"name": list(values), "value": [str(value) for value in values.values()]})


def print_table(table: pd.DataFrame, title: str = "") -> None:
    """Print the first rows of a table, text to the left."""
    if title:
        print(f"\n{title}")
    if table.empty:
        print("(none)")
        return
    shown = table.head(ROWS)
    texts = [name for name in shown.columns if not pd.api.types.is_numeric_dtype(shown[name])]
    widths = {name: max(len(name), *shown[name].astype(str).str.len()) for name in texts}
    forms = {name: f"{{!s:<{width}}}".format for name, width in widths.items()}
    print(shown.to_string(index=False, justify="left", formatters=forms))
    if len(table) > len(shown):
        print(f"... and {len(table) - len(shown):,} rows more")
