"""Runs after they are done: found by name, shown, compared, and run again to see whether they hold."""

import importlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from advtransfer import records, storage
from advtransfer.configs import unknown
from advtransfer.records import Record

MACHINE = ("python", "platform", "packages", "device", "threads")
EXACT = "to the last bit, as this is the platform that it was made on"
WITHIN = (
    "within the record's 95% intervals, and to a relative 1e-4 where a number has none, as this is another platform "
    "({differs})"
)


def find(name: str, results: Path = records.RESULTS) -> Path:
    """The folder of a record, by its path, its notebook's (``.ipynb``), its published name, or the start of its key.

    Raises
    ------
    ValueError
        There is none, or more than one.
    """
    path = Path(name)
    if (path / "record.json").is_file():
        return path
    if path.suffix == ".ipynb" and path.is_file():
        return _of_notebook(path)
    published = [head.parent for head in sorted(results.glob("*/*/record.json"))]
    found = [folder for folder in published if name in (folder.name, f"{folder.parent.name}/{folder.name}")]
    if not found and len(name) >= 4 and set(name) <= set("0123456789abcdef"):
        found = sorted((storage.cache_root() / "records").glob(f"*/{name[:2]}/{name}*"))
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(f"{folder.parents[0].name}/{folder.name}" for folder in found)
        raise ValueError(f"{name!r} may be {several}; expected one of them")
    names = [f"{folder.parent.name}/{folder.name}" for folder in published]
    raise ValueError(f"{unknown('run', name, names)} (or a notebook's .ipynb, a record's folder, or the first 4 "
                     "digits or more of its key)")  # fmt: skip


def _of_notebook(path: Path) -> Path:
    beside = path.with_suffix(".record")
    if beside.is_dir():
        return beside
    about = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("advtransfer", {})
    if "record" not in about:
        raise ValueError(f"{path} was not executed by advtransfer; expected a notebook that run has written")
    folder = records.place(about["experiment"].rpartition(".")[2], about["record"])
    if not folder.is_dir():
        raise ValueError(f"the record of {path} is not in the cache any more; expected {folder}")
    return folder


def cached(experiment: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The key and the head of every record of an experiment in the cache, the latest first."""
    heads = (storage.cache_root() / "records" / experiment).glob("??/[0-9a-f]*/record.json")
    for path in sorted(heads, key=lambda head: head.stat().st_mtime, reverse=True):
        yield path.parent.name, json.loads(path.read_text(encoding="utf-8"))


def set_by_hand(config: dict[str, Any], module: str) -> dict[str, Any]:
    """Those parameters of a run that are not what its profile says."""
    kind = importlib.import_module(module).Config
    usual = kind.from_profile(config["profile"]).model_dump(mode="json")
    return {name: value for name, value in config.items() if name not in usual or usual[name] != value}


def differences(one: Record, other: Record) -> dict[str, pd.DataFrame]:
    """Parameters that differ, and for each table of both the cells that do, with what each says."""
    names = list(dict.fromkeys([*one.config, *other.config]))
    rows = [(name, one.config.get(name), other.config.get(name)) for name in names]
    found = {"parameters": pd.DataFrame([row for row in rows if row[1] != row[2]], columns=["name", "first", "second"])}
    for name in [name for name in one.tables if name in other.tables]:
        found[name] = _cells(one.tables[name], other.tables[name])
    alone = sorted({*one.tables} ^ {*other.tables})
    return found | {"only in one": pd.DataFrame({"table": alone})}


def _cells(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """A row for each cell in which two tables differ: its row's number and labels, its column, both values."""
    if list(one.columns) != list(other.columns) or len(one) != len(other):
        shapes = [f"{len(table)} rows of {', '.join(table.columns)}" for table in (one, other)]
        return pd.DataFrame([("", "shape", *shapes)], columns=["row", "column", "first", "second"])
    texts = [name for name in one.columns if not pd.api.types.is_numeric_dtype(one[name])]
    rows = []
    for name in one.columns:
        same = (one[name] == other[name]) | (one[name].isna() & other[name].isna())
        for number in np.flatnonzero(~same):
            label = ", ".join([str(number), *(str(one[text][number]) for text in texts)])
            rows.append((label, name, one[name][number], other[name][number]))
    return pd.DataFrame(rows, columns=["row", "column", "first", "second"])


@dataclass(frozen=True)
class Verdict:
    """Whether a run holds, by which rule, and what does not."""

    holds: bool
    rule: str
    notes: list[str]
    against: pd.DataFrame
    """Cells that do not agree: ``table``, ``row``, ``column``, ``first`` (recorded), ``second`` (now)."""


def verify(record: Record) -> Verdict:
    """Run a record's experiment again and compare: exactly on the same platform, within its intervals elsewhere.

    Raises
    ------
    ConfigError
        Its config no longer parses.
    """
    experiment = importlib.import_module(record.provenance["module"])
    config = experiment.Config(**record.config)
    origin, _ = records.address(experiment, config)
    notes = [
        f"the {what} {verb} changed since it was recorded"
        for name, what, verb in (("source", "source", "has"), ("inputs", "data", "have"))
        if origin[name] != record.provenance[name]
    ]
    again = experiment.run(config, cache=False)
    if sizes := record.provenance.get("thinned"):
        again = records.thinned(again, max(kept for _, kept in sizes.values()))
    differs = [name for name in MACHINE if record.provenance.get(name) != again.provenance.get(name)]
    cells = [table.assign(table=name) for name, table in differences(record, again).items() if "column" in table]
    against = pd.concat(cells, ignore_index=True)[["table", "row", "column", "first", "second"]]
    if not differs:
        return Verdict(record.digest == again.digest, EXACT, notes, against)
    outside = [not _agrees(record, *cell) for cell in against.itertuples(index=False)]
    return Verdict(not any(outside), WITHIN.format(differs=", ".join(differs)), notes, against[outside])


def _agrees(record: Record, table: str, row: str, column: str, was: Any, now: Any) -> bool:
    """Whether a number found now lies in the interval that the record has for it, or near enough if it has none."""
    numbers = isinstance(was, float | np.floating) and isinstance(now, float | np.floating)
    if not numbers:
        return False
    cells = record.tables[table].iloc[int(row.partition(",")[0])]
    if column.endswith(("low", "high")):  # an end of an interval, which is judged by what lies within
        return True
    low, high = (cells.get(f"{column}_{end}", cells.get(end, math.nan) if column == "r" else math.nan)
                 for end in ("low", "high"))  # fmt: skip
    if math.isfinite(low) and math.isfinite(high):
        return low <= now <= high
    return math.isclose(was, now, rel_tol=1e-4, abs_tol=1e-9)
