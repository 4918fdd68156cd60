"""What an experiment found: tables, per-sample arrays, and where they come from.

An experiment is a pure function of its Config. `recorded` lets it be asked twice and computed once; a
published run and a run of a minute ago are the same kind of folder.
"""

import csv
import functools
import hashlib
import importlib
import json
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Literal

import numpy as np
import pandas as pd

from advtransfer import storage
from advtransfer.configs import Config
from advtransfer.costs import metered
from advtransfer.provenance import digest, environment, source_hash

RESULTS = Path(__file__).parents[2] / "data" / "results"
FORMAT = 1

Tables = dict[str, pd.DataFrame]
Arrays = dict[str, np.ndarray]


class RecordError(ValueError):
    """A folder that is no record, or not the one that was written."""


@dataclass(frozen=True, eq=False)
class Record:
    """The result of one run of an experiment.

    Tables hold columns of bool, int64, float64 or text without gaps, and a plain index; other integers,
    floats and categories are widened to these, so that a record is the same before it was saved and after.
    """

    experiment: str
    config: dict[str, Any]
    tables: Tables
    arrays: Arrays
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        for name in (*self.tables, *self.arrays):
            if not name.isidentifier():
                raise TypeError(f"table or array {name!r}; expected a name of letters, digits and _")
        object.__setattr__(self, "tables", {name: _plain(name, table) for name, table in self.tables.items()})
        object.__setattr__(self, "arrays", {name: _numeric(name, array) for name, array in self.arrays.items()})

    @property
    def digest(self) -> str:
        """SHA-256 over everything but the provenance, to the last bit."""
        content = {
            "experiment": self.experiment,
            "config": self.config,
            "tables": {name: [_kinds(table), _sha256(_to_csv(table))] for name, table in self.tables.items()},
            "arrays": {
                name: [array.dtype.str, list(array.shape), _sha256(np.ascontiguousarray(array).tobytes())]
                for name, array in self.arrays.items()
            },
        }
        return digest(content)

    @property
    def key(self) -> str:
        """By which the run is found again: its config, its source and its data."""
        return digest(
            {"config": self.config} | {name: self.provenance[name] for name in ("module", "source", "inputs")}
        )

    def save(self, path: Path) -> None:
        """Write the folder `path`: ``record.json``, ``tables/NAME.csv`` and ``arrays.npz``; whole or not at all."""
        head = {
            "format": FORMAT,
            "experiment": self.experiment,
            "digest": self.digest,
            "config": self.config,
            "tables": {name: _kinds(table) for name, table in self.tables.items()},
            "provenance": self.provenance,
        }
        with storage.replacing(path) as draft:
            (draft / "tables").mkdir(parents=True)
            for name, table in self.tables.items():
                (draft / "tables" / f"{name}.csv").write_bytes(_to_csv(table))
            np.savez_compressed(draft / "arrays.npz", **self.arrays)  # type: ignore[arg-type]
            (draft / "record.json").write_text(json.dumps(head, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Record":
        """Read the folder `path` and check that it holds what was written.

        Raises
        ------
        RecordError
            In one line, when something is missing, unreadable or changed.
        """
        try:
            head = json.loads((path / "record.json").read_text(encoding="utf-8"))
            if head["format"] != FORMAT:
                raise ValueError(f"format {head['format']}, expected {FORMAT}")
            tables = {n: from_csv(path / "tables" / f"{n}.csv", kinds) for n, kinds in head["tables"].items()}
            with np.load(path / "arrays.npz", allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            record = cls(head["experiment"], head["config"], tables, arrays, head["provenance"])
            if record.digest != head["digest"]:
                raise ValueError("its content is not what its digest says")
        except (OSError, ValueError, LookupError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
            reason = str(error).partition("\n")[0]
            raise RecordError(f"broken record {path}: {reason}; delete it to compute it anew") from None
        return record


def published(experiment: str, results: Path = RESULTS) -> dict[str, Record]:
    """The records of `experiment` (e.g. ``"vision"``) published with the book, by name and in its order."""
    return {head.parent.name: Record.load(head.parent) for head in sorted((results / experiment).glob("*/record.json"))}


def publish(record: Record, name: str, *, samples: int = 400, results: Path = RESULTS) -> Path:
    """Put a record among those published with the book, with at most `samples` samples, and return its folder.

    The arrays that its experiment lists in ``SAMPLE_AXES`` are thinned evenly, and the tables derived anew from what
    is left: so a published table is what the published samples say, and `rederived` can tell.

    Raises
    ------
    ValueError
        Its experiment cannot derive tables from arrays, or the name is no plain one.
    """
    if not name.replace("-", "_").isidentifier():
        raise ValueError(f"name is {name!r}; expected letters, digits, - and _, such as full-seed0")
    thinned(record, samples).save(results / record.experiment / name)
    return results / record.experiment / name


def thinned(record: Record, samples: int) -> Record:
    """A record with at most `samples` samples, and tables derived from those."""
    module = _module(record)
    arrays, sizes = dict(record.arrays), {}
    for array, axis in module.SAMPLE_AXES.items():
        if array in arrays:
            size = arrays[array].shape[axis]
            kept = np.unique(np.linspace(0, size - 1, min(samples, size)).round().astype(int))
            arrays[array] = arrays[array].take(kept, axis)
            sizes[array] = [size, len(kept)]
    tables = module.derive(module.Config(**record.config), arrays)
    return Record(record.experiment, record.config, tables, arrays, {**record.provenance, "thinned": sizes})


def rederived(record: Record) -> Tables:
    """The tables that a record's experiment derives today from its config and arrays.

    Raises
    ------
    ConfigError
        The config no longer parses.
    RecordError
        Its experiment cannot derive tables from arrays.
    """
    module = _module(record)
    tables = module.derive(module.Config(**record.config), record.arrays)
    return Record(record.experiment, record.config, tables, record.arrays, record.provenance).tables


def _module(record: Record) -> ModuleType:
    module = importlib.import_module(record.provenance["module"])
    if not hasattr(module, "derive"):
        raise RecordError(f"{module.__name__} has no derive(config, arrays); expected one in an experiment to publish")
    return module


def recorded(run: Callable[[Any], tuple[Tables, Arrays]]) -> Callable[..., Record]:
    """Make ``run(config) -> (tables, arrays)`` an experiment: ``run(config, *, cache=None, wait=True) -> Record``.

    A run is computed once. It is found again by its module's name and `source_hash`, its config, and what
    the module's function ``inputs(config) -> dict[str, str]`` says of the data it reads (a checksum each, or
    ``"missing"``), if there is one. `cache` is the folder to keep records in (None: `storage.cache_root`),
    or False to compute without looking or keeping. If another process is computing the same run, its record is
    waited for, or `storage.Busy` raised where `wait` is False.
    """
    module = sys.modules[run.__module__]
    experiment = _name(module)

    @functools.wraps(run)
    def run_once(config: Config, *, cache: Path | Literal[False] | None = None, wait: bool = True) -> Record:
        origin, key = address(module, config)
        if cache is False:
            return _compute(run, experiment, config, origin)
        folder = place(experiment, key, cache)
        if folder.exists():
            with suppress(RecordError):
                return Record.load(folder)
        with storage.locked(folder, wait=wait):
            if folder.exists():  # broken, or by now there
                try:
                    return Record.load(folder)
                except RecordError as error:
                    warnings.warn(f"{error}: computing it anew", stacklevel=2)
            record = _compute(run, experiment, config, origin)
            record.save(folder)
        return record

    return run_once


def address(module: ModuleType, config: Config, found: dict[str, str] | None = None) -> tuple[dict[str, Any], str]:
    """Where a run comes from (module, source, inputs) and its key; `found` are its inputs, if they are known."""
    source = source_hash(module.__name__)
    origin = {"module": module.__name__, "source": source, "inputs": inputs(module, config) if found is None else found}
    return origin, digest({"config": config.model_dump(mode="json"), **origin})


def place(experiment: str, key: str, cache: Path | None = None) -> Path:
    """The folder of a record in the cache: those of an experiment lie in up to 256 folders."""
    return (cache or storage.cache_root()) / "records" / experiment / key[:2] / key


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def inputs(module: ModuleType, config: Config) -> dict[str, str]:
    """What an experiment's module says of the data that `config` reads; nothing, if it reads none."""
    return module.inputs(config) if hasattr(module, "inputs") else {}


def _compute(
    run: Callable[[Any], tuple[Tables, Arrays]], experiment: str, config: Config, origin: dict[str, Any]
) -> Record:
    with metered() as cost:
        tables, arrays = run(config)
    return Record(experiment, config.model_dump(mode="json"), tables, arrays, {**origin, **cost, **environment()})


def _plain(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """`table` with columns that a CSV file and its header of kinds can hold without loss."""
    if not table.index.equals(pd.RangeIndex(len(table))):
        raise TypeError(f"table {name!r} has an index, which is not kept; expected table.reset_index()")
    if not all(isinstance(label, str) for label in table.columns) or not table.columns.is_unique:
        raise TypeError(f"table {name!r} has columns {list(table.columns)}; expected different names of type str")
    columns = {label: table[label].astype(_kind(name, table[label])) for label in table.columns}
    return pd.DataFrame(columns, index=pd.RangeIndex(len(table)))


def _kind(name: str, column: pd.Series) -> Literal["bool", "int64", "float64", "str"]:
    kinds = pd.api.types
    if kinds.is_bool_dtype(column):
        return "bool"
    if kinds.is_integer_dtype(column):
        return "int64"
    if kinds.is_float_dtype(column):
        return "float64"
    if all(isinstance(value, str) for value in column):
        return "str"
    raise TypeError(
        f"table {name!r}, column {column.name!r}: {column.dtype}; expected bool, int, float or str, no gaps"
    )


def _kinds(table: pd.DataFrame) -> dict[str, str]:
    return {label: _kind("", table[label]) for label in table.columns}


def _numeric(name: str, array: Any) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype.kind not in "biufcSU":
        raise TypeError(f"array {name!r} holds {array.dtype}; expected numbers, bools or text")
    return array


def _to_csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, na_rep="nan", quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").encode()


def from_csv(source: Path | IO[bytes], kinds: Mapping[str, str]) -> pd.DataFrame:
    """Read a record's table, whose columns are of the `kinds` that its head tells, to the last bit."""
    # Floats are read as text and left to Python, which is exact whatever pandas does by default.
    read: dict[Any, Any] = {label: "str" if kind in ("float64", "str") else kind for label, kind in kinds.items()}
    table = pd.read_csv(source, dtype=read, keep_default_na=False, skip_blank_lines=False)
    floats = {label: table[label].map(float).astype("float64") for label, kind in kinds.items() if kind == "float64"}
    return table.assign(**floats)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
