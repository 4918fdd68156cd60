"""Means over seeds, with Student's interval or with the range of the seeds."""

from collections.abc import Sequence

import pandas as pd

from advtransfer.statistics import half_width


def over_seeds(table: pd.DataFrame, by: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Means over the rows that agree in `by`: ``name``, ``name_low``, ``name_high`` for each column; and ``seeds``.

    Student's interval is NaN where there is one row. Values that are NaN are left out.
    """
    groups = table.assign(**{name: table[name].astype(float) for name in columns}).groupby(
        list(by), sort=False, dropna=False
    )[list(columns)]
    mean, spread, count = groups.mean(), groups.std(), groups.count()
    found = count.max(axis=1).rename("seeds").to_frame()
    for name in columns:
        half = half_width(spread[name], count[name])
        found = found.assign(**{name: mean[name], f"{name}_low": mean[name] - half, f"{name}_high": mean[name] + half})
    return found.reset_index()


def range_over_seeds(table: pd.DataFrame, by: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """The same means, with the least and the greatest seed as ``name_low`` and ``name_high``, for a figure.

    Student's interval from three seeds may leave the values that are possible.
    """
    groups = table.groupby(list(by), sort=False, dropna=False)[list(columns)]
    ends = {"": groups.mean(), "_low": groups.min(), "_high": groups.max()}
    return pd.concat([part.add_suffix(end) for end, part in ends.items()], axis=1).reset_index()
