"""``python -m advtransfer list | show | diff | verify``: what there is to run, and what was run."""

import argparse
import importlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from advtransfer.commands import parameters
from advtransfer.commands.output import add_json, print_json, print_table
from advtransfer.notebooks import executed
from advtransfer.notebooks import find as notebooks
from advtransfer.notebooks.read import Notebook, read
from advtransfer.records import compare, find, storage
from advtransfer.records.published import NO_RUNS, RESULTS, experiment_of
from advtransfer.records.record import Record

RUN = "a notebook that was run (.ipynb), its folder, a record's folder, a published name, or the start of a key"


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the options of one of the four commands, and set `func` (namespace to exit code)."""
    commands = {"list": list_runs, "show": show, "diff": diff, "verify": verify}
    if name == "list":
        parser.add_argument(
            "notebook", nargs="?", metavar="NOTEBOOK", help="list the runs of this notebook in the cache"
        )
    for argument in {"show": ("run",), "verify": ("run",), "diff": ("run", "other")}.get(name, ()):
        parser.add_argument(argument, metavar="RUN", help=RUN)
    if name == "verify":
        parser.add_argument(
            "--tables", action="store_true", help="run nothing; derive the tables again from the run's own samples"
        )
    add_json(parser)
    parser.set_defaults(func=commands[name])


def list_runs(arguments: argparse.Namespace) -> int:
    """Print the notebooks and the published runs, or the runs of one notebook in the cache."""
    if arguments.notebook:
        runs = _cached(read(parameters.notebook(arguments)))
        print_json(runs) if arguments.json else print_table(runs)
        return 0
    rows = []
    for path in notebooks.in_toc_order():
        source = read(path)
        title = re.search(r"^# (.*)$", source.text, flags=re.MULTILINE)
        rows.append((path.stem, title[1] if title else "", source.experiment.rpartition(".")[2]))
    there = pd.DataFrame(rows, columns=["notebook", "title", "experiment"])
    names = sorted(f"{head.parents[1].name}/{head.parent.name}" for head in RESULTS.glob("*/*/record.json"))
    if arguments.json:
        print_json({"notebooks": there, "published": names})
        return 0
    print_table(there)
    if names:
        print("\npublished", *names, sep="\n")
    else:
        print(f"note: {NO_RUNS}", file=sys.stderr)
    return 0


def _cached(notebook: Notebook) -> pd.DataFrame:
    """The runs of a notebook in the cache, latest first; a broken record is named as such."""
    rows = []
    for folder, head in _heads(notebook.experiment.rpartition(".")[2]):
        made = datetime.fromtimestamp((folder / "record.json").stat().st_mtime).isoformat(" ", "minutes")
        try:
            config, about = head["config"], head["provenance"]
            changed = _set_by_hand(config, about["module"])
            given = ", ".join(f"{name}={value}" for name, value in changed.items() if name != "profile")
            told = (config["profile"], given, made, f"{about['seconds']:.1f}", about["device"])
        except (LookupError, TypeError, AttributeError, ValueError, ImportError):  # it may hold anything
            told = ("", f"broken record {folder}", made, "", "")
        rows.append((folder.name[:12], *told))
    return pd.DataFrame(rows, columns=["run", "profile", "set", "made", "seconds", "device"])


def _heads(experiment: str) -> Iterator[tuple[Path, Any]]:
    """The folder and the head of every record of an experiment in the cache, latest first; None if it is no JSON."""
    heads = (storage.cache_root() / "records" / experiment).glob("??/[0-9a-f]*/record.json")
    for path in sorted(heads, key=lambda head: head.stat().st_mtime, reverse=True):
        head = None
        with suppress(OSError, ValueError):
            head = json.loads(path.read_text(encoding="utf-8"))
        yield path.parent, head


def _set_by_hand(config: dict[str, Any], module: str) -> dict[str, Any]:
    """The parameters of a run that differ from its profile."""
    kind = importlib.import_module(module).Config
    usual = kind.from_profile(config["profile"]).model_dump(mode="json")
    return {name: value for name, value in config.items() if name not in usual or usual[name] != value}


def found(name: str) -> Path:
    """The folder of a record by any name that a user types (see `RUN`).

    Raises
    ------
    ValueError
        No record has that name, several have, a folder holds several notebooks, or an executed notebook has changed
        since it was written.
    FileNotFoundError
        There is no such notebook.
    """
    path = Path(name)
    held = [] if (path / "record.json").is_file() else sorted(path.glob("*.ipynb"))
    if len(held) > 1:
        raise ValueError(f"{path} holds {len(held)} notebooks; expected one of {', '.join(map(str, held))}")
    path = held[0] if held else path
    if path.suffix != ".ipynb":
        return find.find(name)
    if not path.is_file():
        raise FileNotFoundError(f"there is no notebook {path.absolute()}; `run` writes executed notebooks")
    return executed.record_of(path)


def show(arguments: argparse.Namespace) -> int:
    """Print a run's parameters, tables and provenance."""
    folder = found(arguments.run)
    record = Record.load(folder)
    arrays = {name: {"dtype": str(array.dtype), "shape": array.shape} for name, array in record.arrays.items()}
    if arguments.json:
        about = {"path": folder, "experiment": record.experiment, "digest": record.digest, "parameters": record.config}
        print_json({**about, "tables": record.tables, "arrays": arrays, "provenance": record.provenance})
        return 0
    print(f"{folder}\nexperiment {record.experiment}, digest {record.digest}")
    print_table(_pairs(record.config), "parameters")
    for name, table in record.tables.items():
        print_table(table, f"table {name}: {len(table)} rows")
    for name, array in arrays.items():
        print(f"array {name}: {array['dtype']} {array['shape']}")
    print_table(_pairs(pd.json_normalize(record.provenance).iloc[0].to_dict()), "provenance")
    return 0


def diff(arguments: argparse.Namespace) -> int:
    """Print the differences between two runs; return 0 if there are none, else 1."""
    one, other = (Record.load(found(name)) for name in (arguments.run, arguments.other))
    if one.experiment != other.experiment:
        raise ValueError(f"these are runs of {one.experiment} and {other.experiment}; expected runs of one experiment")
    differing = {name: table for name, table in compare.differences(one, other).items() if len(table)}
    same = one.digest == other.digest
    if arguments.json:
        print_json({"same": same, "digests": [one.digest, other.digest], "differences": differing})
        return 0 if same else 1
    for name, table in differing.items():
        print_table(
            table, name if name in ("parameters", "only in one") else f"table {name}: {len(table)} cells differ"
        )
    if not differing:
        print("no difference" if same else "no difference except in the arrays")
    return 0 if same else 1


def verify(arguments: argparse.Namespace) -> int:
    """Repeat a run and print whether its numbers agree, and by which rule; return 0 if they do, else 1."""
    record = Record.load(found(arguments.run))
    experiment_of(record)  # raises for a record that was put together by hand, which lacks what is read below
    if not arguments.tables:
        seconds, device = record.provenance["seconds"], record.provenance["device"]
        took = f"{timedelta(seconds=round(seconds))} (hours:minutes:seconds) on {device}"
        note = f"runs {record.experiment} again; it took {took}; --tables computes only its tables again"
        print(f"note: {note}", file=sys.stderr)
    verdict = compare.verify_tables(record) if arguments.tables else compare.verify(record)
    if arguments.json:
        print_json(
            {"verified": verdict.holds, "rule": verdict.rule, "notes": verdict.notes, "against": verdict.against}
        )
        return 0 if verdict.holds else 1
    for note in verdict.notes:
        print(f"note: {note}")
    if len(verdict.against):
        print_table(verdict.against, f"{len(verdict.against)} cells do not agree")
    elif not verdict.holds:
        print("the tables agree, but the arrays do not")
    print(f"{'verified' if verdict.holds else 'NOT verified'}: compared {verdict.rule}")
    return 0 if verdict.holds else 1


def _pairs(values: Mapping[Any, Any]) -> pd.DataFrame:
    return pd.DataFrame({"name": list(values), "value": [str(value) for value in values.values()]})
