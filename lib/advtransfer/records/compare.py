"""Compare two runs, or repeat a run to see whether its numbers hold."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from advtransfer.records import published, runs
from advtransfer.records.record import Record

MACHINE = ("python", "platform", "packages", "device", "threads")
EXACT = "to the last bit, because this is the platform on which it was made"
WITHIN = (
    "within the record's 95% intervals, and to a relative 1e-4 where a number has none, because this is another "
    "platform ({differs})"
)
DERIVED = "to a relative 1e-6; the tables were derived again from the samples of the run, and nothing was run"


def differences(one: Record, other: Record) -> dict[str, pd.DataFrame]:
    """The parameters that differ and, for each table that both records have, the cells that differ."""
    names = list(dict.fromkeys([*one.config, *other.config]))
    rows = [(name, one.config.get(name), other.config.get(name)) for name in names]
    changed = pd.DataFrame([row for row in rows if row[1] != row[2]], columns=["name", "first", "second"])
    differing = {"parameters": changed}
    for name in [name for name in one.tables if name in other.tables]:
        differing[name] = _cells(one.tables[name], other.tables[name])
    alone = sorted({*one.tables} ^ {*other.tables})
    return differing | {"only in one": pd.DataFrame({"table": alone})}


def _cells(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """One row per cell in which two tables differ: the number and labels of its row, its column, and both values."""
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
class Verification:
    """Whether a run could be verified, by which rule, and which cells do not agree."""

    holds: bool
    rule: str
    notes: list[str]
    against: pd.DataFrame
    """Cells that do not agree: ``table``, ``row``, ``column``, ``first`` (recorded), ``second`` (now)."""


def verify(record: Record) -> Verification:
    """Run a record's experiment again and compare: exactly on the same platform, within its intervals elsewhere.

    Raises
    ------
    ConfigError
        The record's config no longer parses.
    RecordError
        The record was put together by hand.
    """
    experiment = published.experiment_of(record)
    config = experiment.Config(**record.config)
    origin, _ = runs.address(experiment, config)
    notes = [
        f"the {what} {verb} changed since it was recorded"
        for name, what, verb in (("source", "source", "has"), ("inputs", "data", "have"))
        if origin[name] != record.provenance[name]
    ]
    again = experiment.run(config, cache=False)
    if sizes := record.provenance.get("thinned"):
        again = published.thinned(again, max(kept for _, kept in sizes.values()))
    differs = [name for name in MACHINE if record.provenance.get(name) != again.provenance.get(name)]
    record, again = _timeless(record), _timeless(again)
    against = _against(record, again)
    if not differs:
        return Verification(record.digest == again.digest, EXACT, notes, against)
    outside = [not _agrees(record, *cell) for cell in against.itertuples(index=False)]
    return Verification(not any(outside), WITHIN.format(differs=", ".join(differs)), notes, against[outside])


def verify_tables(record: Record) -> Verification:
    """Derive a record's tables again from its own samples, and compare to a relative 1e-6. Nothing is run.

    Raises
    ------
    ConfigError
        The record's config no longer parses.
    RecordError
        The experiment cannot derive tables from arrays.
    """
    again = replace(record, tables=published.rederived(record))
    against = _against(record, again)
    apart = [not (_numbers(was, now) and math.isclose(was, now, rel_tol=1e-6, abs_tol=1e-9))
             for *_, was, now in against.itertuples(index=False)]  # fmt: skip
    return Verification(not any(apart), DERIVED, [], against[apart])


def _against(record: Record, again: Record) -> pd.DataFrame:
    """The cells in which two records differ, in the columns of `Verification.against`."""
    found = differences(record, again)
    cells = [table.assign(table=name) for name, table in found.items() if "column" in table]
    alone = [(name, "", "all", name in record.tables, name in again.tables) for name in found["only in one"]["table"]]
    columns = ["table", "row", "column", "first", "second"]
    return pd.concat([*cells, pd.DataFrame(alone, columns=columns)], ignore_index=True)[columns]


def _timeless(record: Record) -> Record:
    """The record without the seconds that its tables give, which are never the same."""
    tables = {name: table.drop(columns=table.filter(regex="^seconds").columns) for name, table in record.tables.items()}
    return replace(record, tables=tables)


def _agrees(record: Record, table: str, row: str, column: str, was: Any, now: Any) -> bool:
    """Whether a new number lies in the recorded interval, or is close to a recorded number without one."""
    if not _numbers(was, now):
        return False
    cells = record.tables[table].iloc[int(row.partition(",")[0])]
    estimate, _, end = column.rpartition("_")
    if end in ("low", "high") and (estimate or "r") in cells:  # of an interval only the estimate inside is judged
        return True
    low, high = (cells.get(f"{column}_{end}", cells.get(end, math.nan) if column == "r" else math.nan)
                 for end in ("low", "high"))  # fmt: skip
    if math.isfinite(low) and math.isfinite(high):
        return low <= now <= high
    return math.isclose(was, now, rel_tol=1e-4, abs_tol=1e-9)


def _numbers(*values: Any) -> bool:
    return all(isinstance(value, float | np.floating) for value in values)
