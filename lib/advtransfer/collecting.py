"""The records of a sweep as tables: every row of every run, and their means with intervals over seeds."""

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from advtransfer.plans import Plan
from advtransfer.records import RecordError, place
from advtransfer.statistics import half_width


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
            if name not in tables:
                raise RecordError(f"no table {name!r} in the records of {plan.experiment}; "
                                  f"expected one of {', '.join(tables)}")  # fmt: skip
            header, _, body = (folder / "tables" / f"{name}.csv").read_bytes().partition(b"\n")
        except (OSError, ValueError, LookupError, StopIteration) as error:
            if isinstance(error, RecordError):
                raise
            raise RecordError(f"broken record {folder}: {error}; delete it to compute it anew") from None
        shape = (header, *tables[name].items())  # tables of one shape are read as one text, which is much faster
        bodies.setdefault(shape, []).append(body)
        rows.setdefault(shape, []).extend([number] * _rows(body))
    parts = [_read(shape, bodies[shape]).assign(**{"": rows[shape]}) for shape in bodies]
    if not parts:
        return pd.DataFrame()
    whole = pd.concat(parts, ignore_index=True).sort_values("", kind="stable", ignore_index=True)
    owner = whole.pop("")
    front = {name: pd.Series([_cell(run.set[name]) for run in runs]).take(owner.to_numpy()).array for name in plan.axes}
    clash = {name: f"{name}_of_row" for name in whole.columns if name in front}
    return pd.concat([pd.DataFrame(front), whole.rename(columns=clash)], axis=1)


def over_seeds(table: pd.DataFrame, axes: Sequence[str], level: float = 0.95) -> pd.DataFrame:
    """Means over seeds with Student's interval, in long form: a row a setting, a row of its table, and a measure.

    Columns are the other parameters of the grid, the labels of the row, ``measure``, ``mean``, ``low``, ``high``
    and ``seeds``. Text is a label, and so is a number that is the same in every run; the other numbers are measures.
    The interval is NaN where there is one seed.
    """
    settings = [name for name in axes if name != "seed"]
    columns = [name for name in table.columns if name not in axes]
    run = table.groupby(list(axes), sort=False, dropna=False).ngroup()
    table = table.assign(row=table.groupby(run, sort=False).cumcount())
    varies = table.groupby("row")[columns].nunique(dropna=False).gt(1).any() | (run.max() == 0)
    text = [name for name in columns if not pd.api.types.is_numeric_dtype(table[name])]
    labels = [name for name in columns if name in text or not varies[name]]
    measures = [name for name in columns if name not in labels]
    alike = table.assign(run=run).duplicated(["run", *labels]).any()  # labels alone do not tell rows apart
    by = [*settings, *labels, *(["row"] if alike else [])]
    long = table.astype(dict.fromkeys(measures, float)).melt(
        by, measures, var_name="measure", value_name="value", ignore_index=False
    )
    found = (
        long.groupby([*by, "measure"], sort=False, dropna=False)["value"].agg(["mean", "std", "count"]).reset_index()
    )
    half = half_width(found["std"], found["count"], level)
    found = found.assign(low=found["mean"] - half, high=found["mean"] + half, seeds=found["count"])
    return found[[*settings, *labels, "measure", "mean", "low", "high", "seeds"]]


def _rows(body: bytes) -> int:
    """The rows of a CSV text without its header; a line's end within quotes ends no row."""
    quoted = b"".join(body.split(b'"')[1::2])
    return body.count(b"\n") - quoted.count(b"\n")


def _read(shape: tuple, bodies: list[bytes]) -> pd.DataFrame:
    header, *kinds = shape
    floats = [name for name, kind in kinds if kind == "float64"]
    return pd.read_csv(
        io.BytesIO(b"\n".join([header, b"".join(bodies)])),
        dtype={name: "str" if kind == "str" else kind for name, kind in kinds},
        na_values={name: ["nan"] for name in floats},
        keep_default_na=False,
        skip_blank_lines=False,
        float_precision="round_trip",
    )


def _cell(value: object) -> object:
    return ",".join(map(str, value)) if isinstance(value, list) else value
