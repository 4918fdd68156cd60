"""Numbers as a reader meets them: tables in Markdown, intervals, and verdicts by a stated rule."""

import math
from collections.abc import Iterable, Mapping
from typing import Literal

import pandas as pd
from IPython.display import Markdown

from advtransfer.configs import Config

Verdict = Literal["reproduced", "direction only", "not reproduced"]

RULE = (
    "*reproduced*: the 95% interval lies on the claimed side of zero; "
    "*direction only*: the estimate does, the interval does not; "
    "*not reproduced*: the estimate does not"
)
"""How `verdict` decides, in words for the page."""


def verdict(estimate: float, low: float, high: float, *, claimed: Literal[1, -1] = 1) -> Verdict:
    """Judge a claimed sign by an estimate and its interval, as `RULE` says."""
    if not claimed * estimate > 0:
        return "not reproduced"
    return "reproduced" if claimed * (low if claimed > 0 else high) > 0 else "direction only"


def number(value: float, digits: int = 2) -> str:
    """A number with `digits` decimals and a true minus sign; "–" for NaN."""
    return "–" if math.isnan(value) else f"{value:z.{digits}f}".replace("-", "−")


def probability(value: float) -> str:
    """A p value with three decimals, or the bound below which they are all zero."""
    return "< 0.001" if value < 0.001 else number(value, 3)


def interval(value: float, low: float, high: float, digits: int = 2) -> str:
    """An estimate with its interval, e.g. "0.54 [0.48, 0.60]"; alone where there is none."""
    if math.isnan(low) and math.isnan(high):
        return number(value, digits)
    no_break = "\N{NO-BREAK SPACE}"
    return f"{number(value, digits)} [{number(low, digits)},{no_break}{number(high, digits)}]"


def estimate(row: Mapping[str, float] | pd.Series, name: str, *, scale: float = 1, digits: int = 2) -> str:
    """The column `name` of a row, `scale` times, with the interval of ``name_low`` and ``name_high`` if it has them."""
    low, high = (scale * row.get(f"{name}_{end}", math.nan) for end in ("low", "high"))
    return interval(scale * row[name], low, high, digits)


def percent(row: Mapping[str, float] | pd.Series, name: str) -> str:
    """A share with its interval, in per cent."""
    return estimate(row, name, scale=100, digits=1)


def missing(names: Iterable[str]) -> Markdown:
    """A box that says which data sets a page could not find, and how they come."""
    wanted = list(names)
    commands = "\n".join(f"python -m advtransfer data fetch {name}" for name in wanted)
    return Markdown(
        ":::{admonition} The data are not here\n:class: warning\n"
        f"This run needs {' and '.join(wanted)}, which could not be found when the book was built. So the columns of "
        "this run are empty; those of the paper and of the published runs are not. From the folder of the book, fetch "
        f"the data and build it again:\n\n```bash\n{commands}\nmake book\n```\n:::"
    )


def power(value: float) -> str:
    """A small number as a power of ten for TeX, e.g. "$4.8 \\times 10^{-15}$"; "0" for zero."""
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return rf"${mantissa} \times 10^{{{int(exponent)}}}$"


def markdown(table: pd.DataFrame, *, align: str = "") -> Markdown:
    """A table for the page; its cells may hold Markdown and formulas.

    `align` has a letter a column, l or r; by default text is set left and numbers right.
    """
    table = table.map(lambda cell: cell.replace("|", r"\|") if isinstance(cell, str) else cell)  # no new column
    sides = {"l": "left", "r": "right"}
    alignment = [sides[letter] for letter in align] or None
    return Markdown(table.to_markdown(index=False, colalign=alignment, disable_numparse=True))


def departures(runs: Mapping[str, Config]) -> pd.DataFrame:
    """The parameters in which a run differs from the profile ``paper``: their meaning, and what each of `runs` has."""
    released = type(next(iter(runs.values()))).from_profile("paper")
    rows = []
    for name, field in type(released).model_fields.items():
        values = [getattr(each, name) for each in (released, *runs.values())]
        if name != "profile" and any(value != values[0] for value in values):
            rows.append([f"`{name}`", field.description, *map(_setting, values)])
    return pd.DataFrame(rows, columns=["parameter", "meaning", "profile `paper`", *runs])


def _setting(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_setting, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
