"""Paper, stored runs and this run, side by side: the tables of the pages."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import pandas as pd

from advtransfer.experiments import conclusions
from advtransfer.pages import tables, verdicts
from advtransfer.pages.seeds import over_seeds


class Quantity(NamedTuple):
    """A column of rows of models, and how a page shows it."""

    column: str
    words: str
    digits: int = 3
    scale: float = 1
    possible: tuple[float, float] = (-math.inf, math.inf)
    """The values that it can have."""


ACCURACY = Quantity("transfer_accuracy", "accuracy, %", 1, 100, (0, 1))
ALPHA1 = Quantity("alpha1", r"$\alpha_1$", possible=(0, math.inf))
ALPHA1_MEDIAN = Quantity("alpha1_median", r"median of $\alpha_1(x)$", possible=(0, math.inf))
ALPHA1_RATIO = Quantity("alpha1_ratio", "ratio of mean deviations", possible=(0, math.inf))
ALPHA2 = Quantity("alpha2", r"$\alpha_2$", possible=(0, 1))
ALPHA12 = Quantity("alpha12", r"$\alpha_1 {*}\, \alpha_2$", possible=(0, math.inf))
ALPHA2_SQUARED = Quantity("alpha2_squared", r"$\alpha_2^2$", possible=(0, 1))
ALPHA12_SQUARED = Quantity("alpha12_squared", r"$(\alpha_1 {*}\, \alpha_2)^2$", 4, possible=(0, math.inf))
FLOOR = Quantity("floor", "floor", possible=(0, 1))
AS_PRINTED = (ACCURACY, ALPHA1, ALPHA2_SQUARED, ALPHA12_SQUARED)
"""The columns of the paper's tables."""
AS_DEFINED = (ALPHA1, ALPHA1_MEDIAN, ALPHA1_RATIO, ALPHA2, ALPHA12)
"""The metrics of the paper's definitions, and the robust forms of α1."""

MISSING = "–"


def means(rows: pd.DataFrame, by: Sequence[str], quantities: Sequence[Quantity] = AS_PRINTED) -> pd.DataFrame:
    """Rows of stored records as means over their seeds, with intervals (see `over_seeds`); empty for none.

    The values of the seeds themselves are in ``name_seeds``.
    """
    if rows.empty:
        return rows
    squares, columns = conclusions.squared(rows), [each.column for each in quantities]
    single = squares.groupby(list(by), sort=False, dropna=False)[columns].agg(list).add_suffix("_seeds").reset_index()
    return over_seeds(squares, by, columns).merge(single, on=list(by))


def noise_off(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the unbiased estimates in place of α2 and α1∗α2 (their intervals are of these already)."""
    return rows.assign(alpha2=rows["alpha2_unbiased"], alpha12=rows["alpha12_unbiased"]) if len(rows) else rows


def side_by_side(
    keys: pd.DataFrame, columns: Mapping[str, pd.DataFrame], quantities: Sequence[Quantity] = AS_PRINTED
) -> pd.DataFrame:
    """Tables beside each other: one row per quantity and key, one column per table.

    Parameters
    ----------
    keys
        The rows wanted, in their order: columns that identify a row in each of the tables.
    columns
        Tables by their heads. A cell is the estimate, with its interval where the table has one, or with the
        values of the seeds in parentheses where that interval holds impossible values; "–" where the table lacks the
        row or the quantity.
    quantities
        What is shown. Rows with nothing but "–" are left out.

    Raises
    ------
    ValueError
        A table has a key twice.
    """
    by = list(keys.columns)
    indexed = {}
    for name, table in columns.items():
        indexed[name] = {tuple(row[column] for column in by): row for row in table.to_dict("records")}
        if len(indexed[name]) < len(table):
            raise ValueError(f"the table {name!r} has a row twice; expected each {', '.join(by)} once")
    found = []
    for quantity in quantities:
        for key in keys.itertuples(index=False, name=None):
            cells = {name: _cell(rows.get(key, {}), quantity) for name, rows in indexed.items()}
            if set(cells.values()) != {MISSING}:
                found.append({"": quantity.words, **dict(zip(by, key, strict=True)), **cells})
    return pd.DataFrame(found)


def _cell(row: Mapping[Any, Any], quantity: Quantity) -> str:
    if quantity.column not in row:
        return MISSING
    name = quantity.column
    low, high = quantity.possible
    if f"{name}_seeds" in row and (row[f"{name}_low"] < low or row[f"{name}_high"] > high):  # Student's knows no bounds
        single = ", ".join(tables.number(quantity.scale * value, quantity.digits) for value in row[f"{name}_seeds"])
        return f"{tables.number(quantity.scale * row[name], quantity.digits)} ({single})"
    return tables.estimate(row, name, scale=quantity.scale, digits=quantity.digits)


def by_sample(rows: Iterable[tuple[Mapping[str, object], pd.DataFrame]], claimed: Literal[1, -1]) -> pd.DataFrame:
    """A table of correlations over samples: what each row is about, both coefficients, n, and the verdict on Pearson's.

    The claim is that r has the sign of `claimed`.
    """
    sign = "positive" if claimed > 0 else "negative"
    shown = []
    for about, correlations in rows:
        found, ranks = (conclusions.row(correlations, method=method) for method in ("pearson", "spearman"))
        judged = verdicts.judge_correlation(found, claimed=claimed)
        shown.append(
            {
                **about,
                "Pearson's r": tables.interval(found.r, found.low, found.high, n=found.n),
                "p": tables.probability(found.p),
                "Spearman's ρ": tables.interval(ranks.r, ranks.low, ranks.high, n=ranks.n),
                "n": found.n,
                f"a {sign} r is": judged,
            }
        )
    return pd.DataFrame(shown)
