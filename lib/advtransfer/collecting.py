"""The records of a sweep as tables: every row of every run, and their means with intervals over seeds."""

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from advtransfer.plans import Plan
from advtransfer.records import RecordError, from_csv, place
from advtransfer.statistics import half_width

TAKEN = ("measure", "mean", "low", "high", "seeds")  # columns of `over_seeds`


def collect(plan: Plan, keys: Iterable[str], table: str | None = None, cache: Path | None = None) -> pd.DataFrame:
    """One table of every run among `keys`: the parameters of the grid, then the record's table, a row a row.

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
    found = set(keys)
    runs = [run for run in plan.runs if run.key in found]
    bodies: dict[tuple, list[bytes]] = {}
    rows: dict[tuple, list[int]] = {}
    for number, run in enumerate(runs):
        folder = place(plan.experiment, run.key, cache)
        try:
            tables = json.loads((folder / "record.json").read_bytes())["tables"]
            name = table or next(iter(tables))
            file = (folder / "tables" / f"{name}.csv").read_bytes() if name in tables else b""
        except (OSError, ValueError, LookupError, TypeError, StopIteration) as error:
            raise RecordError(f"broken record {folder}: {error}; delete it to compute it anew") from None
        if name not in tables:
            known = ", ".join(tables)
            raise RecordError(f"no table {name!r} in the records of {plan.experiment}; expected one of {known}")
        header, _, body = file.partition(b"\n")
        shape = (header, *tables[name].items())  # tables of one shape are read as one text, which is much faster
        bodies.setdefault(shape, []).append(body)
        rows.setdefault(shape, []).extend([number] * _rows(body))
    if not bodies:
        return pd.DataFrame()
    owner = np.array([number for shape in bodies for number in rows[shape]], dtype=int)
    order = np.argsort(owner, kind="stable")
    whole = pd.concat([_read(shape, bodies[shape]) for shape in bodies], ignore_index=True)
    whole = whole.take(order).reset_index(drop=True)
    front = {name: pd.Series([_cell(run.set[name]) for run in runs]).take(owner[order]).array for name in plan.axes}
    return pd.concat([pd.DataFrame(front), _renamed(whole, front)], axis=1)


def over_seeds(table: pd.DataFrame, axes: Sequence[str], level: float = 0.95) -> pd.DataFrame:
    """Means over seeds with Student's interval, in long form: a row a setting, a row of its table, and a measure.

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
    long = table.assign(_row=row).melt(by, measures, var_name="measure", value_name="_value")
    values = long.assign(_value=long["_value"].astype(float)).groupby([*by, "measure"], sort=False, dropna=False)
    found = values["_value"].agg(["mean", "std", "count"]).reset_index()
    half = half_width(found["std"], found["count"], level)
    found = found.assign(low=found["mean"] - half, high=found["mean"] + half, seeds=found["count"])
    return found[[*settings, *labels, *TAKEN]]


def _renamed(table: pd.DataFrame, taken: Iterable[str]) -> pd.DataFrame:
    """`table` with other names for the columns whose names are taken."""
    return table.rename(columns={name: f"{name}_of_row" for name in taken})


def _rows(body: bytes) -> int:
    """The rows of a CSV text without its header; a line's end within quotes ends no row."""
    quoted = b"".join(body.split(b'"')[1::2])
    return body.count(b"\n") - quoted.count(b"\n")


def _read(shape: tuple, bodies: list[bytes]) -> pd.DataFrame:
    """Tables of one header and kinds as one."""
    header, *kinds = shape
    return from_csv(io.BytesIO(b"\n".join([header, b"".join(bodies)])), dict(kinds))


def _cell(value: object) -> object:
    return ",".join(map(str, value)) if isinstance(value, list) else value
