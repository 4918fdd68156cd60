"""The records of a sweep as tables: every row of every run, and their means with intervals over seeds."""

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import pandas as pd

from advtransfer.pages.seeds import over_seeds
from advtransfer.records.record import RecordError, load_table
from advtransfer.records.runs import place
from advtransfer.sweeps.plan import Plan

TAKEN = ("row", "measure", "mean", "low", "high", "seeds")  # columns of `summarise`
OF_ROW = "_of_row"  # ends the name of a column whose name is taken


def collect(plan: Plan, keys: Iterable[str], table: str | None = None) -> tuple[pd.DataFrame, dict[str, str]]:
    """One table with every run among `keys`: the parameters of the grid, then the rows of the record's table.

    Only that table of each record is read, and checked against its checksum.

    Parameters
    ----------
    table
        Its name in the records; None for the first table.

    Returns
    -------
    DataFrame, dict
        The rows of all records that are intact; and by key what is wrong with the others.

    Raises
    ------
    ValueError
        The records have no such table.
    """
    chosen = set(keys)
    runs, parts, broken = [], [], {}
    for run in plan.runs:
        if run.key in chosen:
            try:
                parts.append(load_table(place(plan.experiment, run.key), table))
                runs.append(run)
            except RecordError as error:
                broken[run.key] = str(error)
    if not runs:
        return pd.DataFrame(), broken
    rows = pd.concat(parts, ignore_index=True)
    owner = np.repeat(np.arange(len(runs)), [len(part) for part in parts])
    grid = {name: pd.Series([_cell(run.set[name]) for run in runs]).take(owner).array for name in plan.axes}
    return pd.concat([pd.DataFrame(grid), _renamed(rows, grid)], axis=1), broken


def summarise(table: pd.DataFrame, axes: Sequence[str], labels: Collection[str] = ()) -> pd.DataFrame:
    """Means over seeds with Student's interval, in long form: one row per setting, row of the table, and measure.

    Columns are the other parameters of the grid, the labels of the row, ``measure``, ``mean``, ``low``, ``high``
    and ``seeds``. Text is a label, and so is a number whose column is in `labels`; the other numbers are measures.
    Where labels do not tell rows apart, the number of the row does, as ``row``. The interval is NaN if there is only
    one seed.

    Raises
    ------
    ValueError
        The table has no measures.
    """
    settings = [name for name in axes if name != "seed"]
    run = table.groupby(list(axes), sort=False, dropna=False).ngroup()
    table = pd.concat([table[list(axes)], _renamed(table.drop(columns=list(axes)), TAKEN)], axis=1)
    columns = [name for name in table.columns if name not in axes]
    measures = [
        name
        for name in columns
        if pd.api.types.is_numeric_dtype(table[name]) and name.removesuffix(OF_ROW) not in labels
    ]
    if not measures:
        raise ValueError(f"the table has the columns {', '.join(columns)}; expected one with a measure")
    about = [name for name in columns if name not in measures]
    if table[about].assign(_run=run).duplicated().any():  # labels alone do not distinguish rows
        table, about = table.assign(row=table.groupby(run, sort=False).cumcount()), [*about, "row"]
    by = [*settings, *about]
    long = table.melt(by, measures, var_name="measure", value_name="mean")
    means = over_seeds(long, [*by, "measure"], ["mean"])
    return means.rename(columns={"mean_low": "low", "mean_high": "high"})[[*settings, *about, *TAKEN[1:]]]


def _renamed(table: pd.DataFrame, taken: Iterable[str]) -> pd.DataFrame:
    """`table` with other names for the columns whose names are taken."""
    return table.rename(columns={name: f"{name}{OF_ROW}" for name in taken})


def _cell(value: object) -> object:
    return ",".join(map(str, value)) if isinstance(value, list) else value
