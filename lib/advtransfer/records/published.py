"""Records that come with the book: thinned to a few samples, with tables that follow from these samples alone."""

import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from advtransfer.records import shipped, storage
from advtransfer.records.record import Record, RecordError, Tables

RESULTS = shipped.results()
NO_RUNS = (
    "No run is stored here: the stored runs come with the repository. Clone it, and install it from the clone with "
    "`pip install --editable '.[notebooks]'`."
)


class Published(Mapping[str, Record]):
    """The published records of an experiment, sorted by name (such as ``full-seed0``); each is read on first use.

    Raises
    ------
    RecordError
        A record that is read is broken.
    """

    def __init__(self, folder: Path) -> None:
        self._folders = {head.parent.name: head.parent for head in sorted(folder.glob("*/record.json"))}
        self._records: dict[str, Record] = {}

    def __getitem__(self, name: str) -> Record:
        if name not in self._records:
            self._records[name] = Record.load(self._folders[name])
        return self._records[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._folders)

    def __len__(self) -> int:
        return len(self._folders)

    def series(self, name: str) -> dict[str, Record]:
        """The records of one series, which differ only in their seed."""
        return first_series(self, name)


def published(experiment: str, results: Path = RESULTS) -> Published:
    """The records of `experiment` (e.g. ``"vision"``) that are published with the book."""
    return Published(results / experiment)


def first_series(records: Mapping[str, Record], *names: str) -> dict[str, Record]:
    """The records of the first of these series that is there; empty if none is."""
    for name in names:
        if found := {key: records[key] for key in records if key.startswith(f"{name}-seed")}:
            return found
    return {}


def series_of(name: str) -> str:
    """The series of a published record: ``full`` of ``full-seed0``."""
    return name.rpartition("-seed")[0]


def rows_of(records: Mapping[str, Record], table: str = "sources") -> pd.DataFrame:
    """One table of all records, with their series and seed, and for images their target; no rows for none."""
    parts = []
    for name, record in records.items():
        part = record.tables[table].assign(series=series_of(name), seed=record.config["seed"])
        parts.append(part.assign(target=record.config["target"]) if "target" in record.config else part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"series": [], "seed": []})


def publish(record: Record, name: str, *, samples: int = 400, results: Path = RESULTS) -> Path:
    """Publish a record with the book, with at most `samples` samples, and return its folder.

    The arrays that its experiment lists in ``SAMPLE_AXES`` are thinned evenly, and the tables are derived again from
    the samples that are left. So each published table follows from the published samples; `rederived` checks this.

    Raises
    ------
    ValueError
        The experiment cannot derive tables from arrays, or the name has characters other than letters, digits, - and _.
    """
    check_name(name)
    folder = results / record.experiment / name
    kept = thinned(record, samples)
    with storage.locked(folder):
        kept.save(folder)
    return folder


def check_name(name: str) -> None:
    """Raise unless a record can be published under this name.

    Raises
    ------
    ValueError
        It does not begin with a letter, or has characters other than letters, digits, - and _.
    """
    if not re.fullmatch(r"[^\W\d_][\w-]*", name):
        raise ValueError(f"name is {name!r}; expected a letter, then letters, digits, - and _, such as full-seed0")


def check_place(name: str, experiment: str, config: Mapping[str, Any]) -> None:
    """Raise unless a run with these parameters can be published under this name beside the others.

    Raises
    ------
    ValueError
        The name cannot be used or ends in another seed; or a run of that name, or one of the same series, differs in
        more than the seed.
    """
    check_name(name)
    series, _, seed = name.rpartition("-seed")
    if not series or seed != str(config["seed"]):
        raise ValueError(f"name is {name!r} for a run with seed {config['seed']}; expected NAME-seed{config['seed']}")
    for other, record in published(experiment).series(series).items():
        shared = config.keys() & record.config.keys() - ({"seed"} if other != name else set())
        if differing := sorted(key for key in shared if record.config[key] != config[key]):
            key = differing[0]
            raise ValueError(
                f"{other} is published with {key} = {record.config[key]}, and this run has {key} = {config[key]}; "
                "expected runs of one series that differ only in their seed, or another name"
            )


def thinned(record: Record, samples: int) -> Record:
    """A record with at most `samples` samples, and tables derived from those."""
    module = _deriving(record, "expected a run of an experiment on images or texts")
    arrays, sizes = dict(record.arrays), {}
    before = record.provenance.get("thinned", {})  # a record that was thinned already was larger once
    for array, axis in module.SAMPLE_AXES.items():
        if array in arrays:
            size = arrays[array].shape[axis]
            kept = np.unique(np.linspace(0, size - 1, min(samples, size)).round().astype(int))
            arrays[array] = arrays[array].take(kept, axis)
            sizes[array] = [before.get(array, [size])[0], len(kept)]
    for array, index in getattr(module, "LOSSES", {}).items():
        if array in arrays:
            used = np.isin(np.arange(arrays[array].shape[1]), arrays[index])
            arrays[array] = np.where(used, arrays[array], np.float32("nan"))
    tables = module.derive(module.Config(**record.config), arrays)
    return Record(record.experiment, record.config, tables, arrays, {**record.provenance, "thinned": sizes})


def rederived(record: Record) -> Tables:
    """The tables that a record's experiment derives today from its config and arrays.

    Raises
    ------
    ConfigError
        The config no longer parses.
    RecordError
        The experiment cannot derive tables from arrays.
    """
    module = _deriving(record, "use verify without --tables")
    tables = module.derive(module.Config(**record.config), record.arrays)
    return Record(record.experiment, record.config, tables, record.arrays, record.provenance).tables


def experiment_of(record: Record) -> ModuleType:
    """The module of the experiment that made a record.

    Raises
    ------
    RecordError
        The record does not say, as one that was put together by hand.
    """
    if "module" not in record.provenance:
        raise RecordError(f"a record of {record.experiment} does not say which module made it; expected one of a run")
    return importlib.import_module(record.provenance["module"])


def _deriving(record: Record, instead: str) -> ModuleType:
    """The module of an experiment that derives tables from samples; `instead` ends the error if it cannot."""
    module = experiment_of(record)
    if not hasattr(module, "derive"):
        raise RecordError(
            f"runs of the experiment {record.experiment} keep no samples to derive tables from; {instead}"
        )
    return module
