"""The result of one run: tables, per-sample arrays and their origin, saved as a folder completely or not at all."""

import csv
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import pandas as pd

from advtransfer.names import first_line
from advtransfer.records import storage
from advtransfer.records.provenance import digest

FORMAT = 1

Tables = dict[str, pd.DataFrame]
Arrays = dict[str, np.ndarray]


class RecordError(ValueError):
    """A folder that is not a record, or whose content has changed."""


@dataclass(frozen=True, eq=False)
class Record:
    """The result of one run of an experiment.

    Tables hold columns of bool, int64, float64 or text without missing values, and a plain index. Other integers,
    floats and categories are converted to these, so that a record is the same before and after it is saved.
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
        """SHA-256 over everything except the provenance, exact to the last bit."""
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
        """A digest of the config, the source and the data, by which the run is found again."""
        return digest(
            {"config": self.config} | {name: self.provenance[name] for name in ("module", "source", "inputs")}
        )

    def save(self, path: Path) -> None:
        """Write the folder `path`: ``record.json``, ``tables/NAME.csv`` and ``arrays.npz``, all or nothing."""
        written = {name: _to_csv(table) for name, table in self.tables.items()}
        head = {
            "format": FORMAT,
            "experiment": self.experiment,
            "digest": self.digest,
            "config": self.config,
            "tables": {name: _kinds(table) for name, table in self.tables.items()},
            "sums": {name: _sha256(text) for name, text in written.items()},
            "provenance": self.provenance,
        }
        with storage.replacing(path) as draft:
            (draft / "tables").mkdir(parents=True)
            for name, text in written.items():
                (draft / "tables" / f"{name}.csv").write_bytes(text)
            np.savez_compressed(draft / "arrays.npz", **self.arrays)  # type: ignore[arg-type]
            (draft / "record.json").write_text(json.dumps(head, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Record":
        """Read the folder `path` and check that it holds what was written.

        Raises
        ------
        RecordError
            Something is missing, unreadable or changed. The message is one line.
        """
        try:
            head = json.loads((path / "record.json").read_text(encoding="utf-8"))
            if head["format"] != FORMAT:
                raise ValueError(f"format {head['format']}; expected {FORMAT}")
            tables = {n: from_csv(path / "tables" / f"{n}.csv", kinds) for n, kinds in head["tables"].items()}
            with np.load(path / "arrays.npz", allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            if not isinstance(head["provenance"], dict):
                raise ValueError("its provenance is not a table of names and values")
            record = cls(head["experiment"], head["config"], tables, arrays, head["provenance"])
            if record.digest != head["digest"]:
                raise ValueError("its content does not match its digest")
        except (OSError, ValueError, LookupError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
            raise _broken(path, error) from None
        return record


def _plain(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """`table` with columns that a CSV file and a list of column types can hold without loss."""
    if not table.index.equals(pd.RangeIndex(len(table))):
        raise TypeError(f"table {name!r} has an index, which is not kept; expected table.reset_index()")
    if not all(isinstance(label, str) for label in table.columns) or not table.columns.is_unique:
        raise TypeError(f"table {name!r} has columns {list(table.columns)}; expected different names of type str")
    if "" in table.columns:
        raise TypeError(f"table {name!r} has columns {list(table.columns)}; expected each with a name")
    columns = {label: table[label].astype(_kind(name, table[label])) for label in table.columns}
    return pd.DataFrame(columns, index=pd.RangeIndex(len(table)))


def _kind(name: str, column: pd.Series) -> Literal["bool", "int64", "float64", "str"]:
    kinds = pd.api.types
    if kinds.is_bool_dtype(column):
        return "bool"
    if kinds.is_integer_dtype(column) and (column <= 2**63 - 1).all():
        return "int64"
    if kinds.is_float_dtype(column):
        return "float64"
    if all(isinstance(value, str) for value in column):
        return "str"
    raise TypeError(
        f"table {name!r}, column {column.name!r}: {column.dtype}; "
        "expected bool, int, float or str without missing values"
    )


def _kinds(table: pd.DataFrame) -> dict[str, str]:
    return {label: _kind("", table[label]) for label in table.columns}


def _numeric(name: str, array: Any) -> np.ndarray:
    array = np.asarray(array)
    if name == "file":  # which numpy.savez takes for an argument of its own
        raise TypeError("an array is named 'file'; expected another name")
    if array.dtype.kind not in "biufcSU":
        raise TypeError(f"array {name!r} holds {array.dtype}; expected numbers, bools or text")
    return array


def _to_csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, na_rep="nan", quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").encode()


def load_table(path: Path, name: str | None = None) -> pd.DataFrame:
    """One table of the record in the folder `path` (None: the first), checked, without reading the rest of it.

    Raises
    ------
    RecordError
        The record is broken.
    ValueError
        It has no such table; the message names those that it has.
    """
    try:
        head = json.loads((path / "record.json").read_text(encoding="utf-8"))
        tables, sums = head["tables"], head["sums"]
        name = name or next(iter(tables))
        if name in tables:
            written = (path / "tables" / f"{name}.csv").read_bytes()
            if _sha256(written) != sums[name]:
                raise ValueError(f"the table {name} does not match its checksum")
            return from_csv(io.BytesIO(written), tables[name])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        raise _broken(path, error) from None
    raise ValueError(f"no table {name!r} in the records of {head['experiment']}; expected one of {', '.join(tables)}")


def _broken(path: Path, error: Exception) -> RecordError:
    if isinstance(error, RecordError):
        return error
    cached = path.resolve().is_relative_to((storage.cache_root() / "records").resolve())
    instead = "a run computes it anew" if cached else "expected the folder as it was written"
    return RecordError(f"broken record {path}: {first_line(error)}; {instead}")


def from_csv(source: Path | IO[bytes], kinds: Mapping[str, str]) -> pd.DataFrame:
    """Read a table of a record without loss; `kinds` holds the types of its columns."""
    if not kinds:
        return pd.DataFrame(index=pd.RangeIndex(0))
    # Floats are read as text and converted by Python, which is exact whatever pandas does by default.
    read: dict[Any, Any] = {label: "str" if kind in ("float64", "str") else kind for label, kind in kinds.items()}
    table = pd.read_csv(source, dtype=read, keep_default_na=False, skip_blank_lines=False)
    floats = {label: table[label].map(float).astype("float64") for label, kind in kinds.items() if kind == "float64"}
    return table.assign(**floats)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
