"""The records of a sweep as tables: every row of every run, and their means with intervals over seeds."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from advtransfer.pages.seeds import over_seeds
from advtransfer.records.record import RecordError, from_csv
from advtransfer.records.runs import place
from advtransfer.sweeps.plan import Plan

TAKEN = ("measure", "mean", "low", "high", "seeds")  # columns of `summarise`


def collect(plan: Plan, keys: Iterable[str], table: str | None = None, cache: Path | None = None) -> pd.DataFrame:
    """One table of every run among `keys`: the parameters of the grid, then the rows of the record's table.

    Only that table is read, and not checked against the record's digest.

    Parameters
    ----------
    table
        Its name in the records; None: the first of them.

    Raises
    ------
    RecordError
        A record that has no such table, or that cannot be read.
    """
    chosen = set(keys)
    runs = [run for run in plan.runs if run.key in chosen]
    if not runs:
        return pd.DataFrame()
    parts = [_table(place(plan.experiment, run.key, cache), table) for run in runs]
    rows = pd.concat(parts, ignore_index=True)
    owner = np.repeat(np.arange(len(runs)), [len(part) for part in parts])
    grid = {name: pd.Series([_cell(run.set[name]) for run in runs]).take(owner).array for name in plan.axes}
    return pd.concat([pd.DataFrame(grid), _renamed(rows, grid)], axis=1)


def summarise(table: pd.DataFrame, axes: Sequence[str], level: float = 0.95) -> pd.DataFrame:
    """Means over seeds with Student's interval, in long form: one row per setting, row of the table, and measure.

    Columns are the other parameters of the grid, the labels of the row, ``measure``, ``mean``, ``low``, ``high``
    and ``seeds``. Text is a label, and so is a number that is the same in every run; the other numbers are measures.
    The interval is NaN where there is one seed.
    """
    settings = [name for name in axes if name != "seed"]
    run = table.groupby(list(axes), sort=False, dropna=False).ngroup()
    table = pd.concat([table[list(axes)], _renamed(table.drop(columns=list(axes)), TAKEN)], axis=1)
    columns = [name for name in table.columns if name not in axes]
    row = table.groupby(run, sort=False).cumcount()
    varies = table.groupby(row)[columns].nunique(dropna=False).gt(1).any() | (run.max() == 0)
    text = [name for name in columns if not pd.api.types.is_numeric_dtype(table[name])]
    labels = [name for name in columns if name in text or not varies[name]]
    measures = [name for name in columns if name not in labels]
    alike = table[labels].assign(_run=run).duplicated().any()  # labels alone do not tell rows apart
    by = [*settings, *labels, *(["_row"] if alike else [])]
    long = table.assign(_row=row).melt(by, measures, var_name="measure", value_name="mean")
    means = over_seeds(long, [*by, "measure"], ["mean"], level)
    return means.rename(columns={"mean_low": "low", "mean_high": "high"})[[*settings, *labels, *TAKEN]]


def _table(folder: Path, name: str | None) -> pd.DataFrame:
    """One table of a record, without its other tables and arrays."""
    try:
        head = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        tables = head["tables"]
        name = name or next(iter(tables))
        if name in tables:
            return from_csv(folder / "tables" / f"{name}.csv", tables[name])
    except (OSError, ValueError, LookupError, TypeError, StopIteration) as error:
        raise RecordError(f"broken record {folder}: {error}; delete it to compute it anew") from None
    known = ", ".join(tables)
    raise RecordError(f"no table {name!r} in the records of {head['experiment']}; expected one of {known}")


def _renamed(table: pd.DataFrame, taken: Iterable[str]) -> pd.DataFrame:
    """`table` with other names for the columns whose names are taken."""
    return table.rename(columns={name: f"{name}_of_row" for name in taken})


def _cell(value: object) -> object:
    return ",".join(map(str, value)) if isinstance(value, list) else value
