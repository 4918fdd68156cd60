"""``python -m advtransfer list | show | diff | verify``: what there is to run, and what was run."""

import argparse
import re
from pathlib import Path
from typing import Any

import pandas as pd

from advtransfer import notebooks, records, runner, runs
from advtransfer.configs import Config, meaning
from advtransfer.records import Record

RUN = "a notebook that was run (.ipynb), a record's folder, a published name, or the start of a key"


def add_parsers(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]", folder: Path) -> None:
    """Add the four commands, for the notebooks of `folder`; each sets `func`, from a namespace to an exit code."""
    lister = subparsers.add_parser("list", help="the notebooks and the published runs; or the runs of a notebook")
    lister.add_argument("notebook", nargs="?", metavar="NOTEBOOK", help="whose runs in the cache to list")
    lister.set_defaults(func=list_runs, folder=folder)
    shower = subparsers.add_parser("show", help="a run's parameters, tables and provenance")
    shower.set_defaults(func=show)
    verifier = subparsers.add_parser("verify", help="run it again, and say whether the numbers agree")
    verifier.set_defaults(func=verify)
    differ = subparsers.add_parser("diff", help="what two runs differ in")
    differ.set_defaults(func=diff)
    for parser, names in ((shower, ("run",)), (verifier, ("run",)), (differ, ("run", "other"))):
        for name in names:
            parser.add_argument(name, metavar="RUN", help=RUN)


def list_runs(arguments: argparse.Namespace) -> int:
    """Print the notebooks and the published runs, or the runs of one notebook in the cache."""
    if arguments.notebook:
        return _list_cached(notebooks.read(arguments.folder / f"{Path(arguments.notebook).stem}.md"))
    rows = []
    for path in runner.in_toc_order(arguments.folder):
        found = notebooks.read(path)
        title = re.search(r"^# (.*)$", found.text, flags=re.MULTILINE)
        rows.append((path.stem, title[1] if title else "", found.experiment.rpartition(".")[2]))
    _print(pd.DataFrame(rows, columns=["notebook", "title", "experiment"]))
    names = sorted(f"{head.parents[1].name}/{head.parent.name}" for head in records.RESULTS.glob("*/*/record.json"))
    _print(pd.DataFrame({"published": names}))
    return 0


def _list_cached(notebook: notebooks.Notebook) -> int:
    rows = []
    for key, head in runs.cached(notebook.experiment.rpartition(".")[2]):
        told = runs.set_by_hand(head["config"], head["provenance"]["module"])
        config = ", ".join(f"{name}={value}" for name, value in told.items())
        rows.append((key[:12], config, f"{head['provenance']['seconds']:.1f}", head["provenance"]["device"]))
    _print(pd.DataFrame(rows, columns=["run", "set", "seconds", "device"]))
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Print a run's parameters, tables and provenance."""
    folder = runs.find(arguments.run)
    record = Record.load(folder)
    print(f"{folder}\nexperiment {record.experiment}, digest {record.digest}")
    _print(_pairs(record.config), "parameters")
    for name, table in record.tables.items():
        _print(table, f"table {name}: {len(table)} rows")
    for name, array in record.arrays.items():
        print(f"array {name}: {array.dtype} {array.shape}")
    _print(_pairs(_flat(record.provenance)), "provenance")
    return 0


def diff(arguments: argparse.Namespace) -> int:
    """Print what two runs differ in; return 0 if in nothing, else 1."""
    one, other = (Record.load(runs.find(name)) for name in (arguments.run, arguments.other))
    if one.experiment != other.experiment:
        raise ValueError(f"these are runs of {one.experiment} and {other.experiment}; expected runs of one experiment")
    found = {name: table for name, table in runs.differences(one, other).items() if len(table)}
    for name, table in found.items():
        _print(table, name if name in ("parameters", "only in one") else f"table {name}: {len(table)} cells differ")
    if not found:
        print("no difference" if one.digest == other.digest else "no difference but in the arrays")
    return 1 if one.digest != other.digest else 0


def verify(arguments: argparse.Namespace) -> int:
    """Run it again and print whether it holds, and by which rule; return 0 if it does, else 1."""
    folder = runs.find(arguments.run)
    verdict = runs.verify(Record.load(folder))
    for note in verdict.notes:
        print(f"note: {note}")
    if len(verdict.against):
        _print(verdict.against, f"{len(verdict.against)} cells do not agree")
    print(f"{'verified' if verdict.holds else 'NOT verified'}: compared {verdict.rule}")
    return 0 if verdict.holds else 1


def print_parameters(kind: type[Config], profile: str) -> None:
    """Print the parameters of an experiment: name, type, default in a profile, meaning."""
    _print(pd.DataFrame(meaning(kind, profile), columns=["name", "type", f"in {profile}", "meaning"]))


def _flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested dicts as one, names joined by a point."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return flat


def _pairs(values: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame({"name": list(values), "value": [str(value) for value in values.values()]})


def _print(table: pd.DataFrame, title: str = "") -> None:
    """Print at most sixty rows of a table, text to the left."""
    if title:
        print(f"\n{title}")
    if table.empty:
        print("(none)")
        return
    shown = table.head(60)
    texts = [name for name in shown.columns if not pd.api.types.is_numeric_dtype(shown[name])]
    widths = {name: max(len(name), *shown[name].astype(str).str.len()) for name in texts}
    forms = {name: f"{{!s:<{width}}}".format for name, width in widths.items()}
    print(shown.to_string(index=False, justify="left", formatters=forms))
    if len(table) > len(shown):
        print(f"... and {len(table) - len(shown):,} rows more")
