"""Numbers as a reader meets them: tables in Markdown, estimates with intervals."""

import math
import re
from collections.abc import Iterable, Mapping

import pandas as pd
from IPython.display import Markdown

from advtransfer.records.configs import Config

FEW = 5
"""An interval from at most so many independent points has a mark."""
MARK = "†"
ROUNDING = 1e-9  # of a correlation of ±1
NOTE = (
    f"{MARK} This interval rests on {FEW} independent points or fewer, and may be far too short or too wide "
    "({ref}`intervals-checked`)."
)
"""What a page says below a table with a marked interval."""
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float, digits: int = 2) -> str:
    """A number with `digits` decimals and a true minus sign; "–" for NaN.

    With four decimals or more, a number that is too small for them is a power of ten.

    Examples
    --------
    >>> number(-0.5), number(0.00012, 4), number(0.000012, 4), number(0.001)
    ('−0.50', '0.0001', '1.2×10⁻⁵', '0.00')
    """
    if math.isnan(value):
        return "–"
    if digits >= 4 and 0 < abs(value) < 10**-digits:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}×10{str(int(exponent)).translate(SUPERSCRIPTS)}".replace("-", "−")
    return f"{value:z.{digits}f}".replace("-", "−")


def probability(value: float) -> str:
    """A p value with three decimals, or the bound below which they are all zero."""
    return "< 0.001" if value < 0.001 else number(value, 3)


def p_value(value: float) -> str:
    """A p value in a sentence: "p = 0.033", or "p < 0.001"."""
    return f"p {'' if value < 0.001 else '= '}{probability(value)}"


def interval(value: float, low: float, high: float, digits: int = 2, n: int | None = None) -> str:
    """An estimate with its interval, e.g. "0.54 [0.48, 0.60]"; alone where there is none.

    With n, the number of points behind it, an interval from `FEW` or fewer is marked: "0.54 [0.48, 0.60]†". A
    correlation of ±1 in every draw has none: "1.00 (a perfect order)". An end of a correlation's interval that would
    round to zero, and so hide whether zero is inside, has one more digit.
    """
    if math.isnan(low) and math.isnan(high):
        return number(value, digits)
    if n is not None and high - low < ROUNDING and abs(abs(value) - 1) < ROUNDING:
        return f"{number(value, digits)} (a perfect order)"
    no_break = "\N{NO-BREAK SPACE}"
    mark = MARK if n is not None and n <= FEW else ""
    ends = [number(end, digits + (n is not None and 0 < abs(end) < 0.5 * 10**-digits)) for end in (low, high)]
    return f"{number(value, digits)} [{ends[0]},{no_break}{ends[1]}]{mark}"


def estimate(row: Mapping[str, float] | pd.Series, name: str, *, scale: float = 1, digits: int = 2) -> str:
    """The column `name` of a row, `scale` times, with the interval of ``name_low`` and ``name_high`` if it has them."""
    low, high = (scale * row.get(f"{name}_{end}", math.nan) for end in ("low", "high"))
    return interval(scale * row[name], low, high, digits)


def percent(row: Mapping[str, float] | pd.Series, name: str) -> str:
    """A share with its interval, in per cent."""
    return estimate(row, name, scale=100, digits=1)


def missing(names: Iterable[str]) -> str:
    """A box that says which data sets a page could not find, and how they come."""
    *others, last = names
    wanted = f"{', '.join(others)} and {last}" if others else last
    return (
        ":::{admonition} The data are not here\n:class: warning\n"
        f"This run needs {wanted}, which could not be found when the book was built. So the columns of "
        "this run are empty; those of the paper and of the stored runs are not. From the folder of the book, fetch "
        f"the data and build it again:\n\n```bash\npython -m advtransfer data fetch {' '.join([*others, last])}\n"
        "make book\n```\n:::"
    )


def power(value: float) -> str:
    """A small number as a power of ten in TeX; "0" for zero."""
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return rf"${mantissa} \times 10^{{{int(exponent)}}}$"


def show(content: pd.DataFrame | str | None) -> Markdown | None:
    """A table or a text for the page; both may hold Markdown and formulas. Nothing for None or an empty table.

    Columns of numbers are set right, with or without an interval; the others left. Below a marked interval stands what
    the mark means.
    """
    if content is None:
        return None
    if isinstance(content, str):
        return _noted(content)
    if content.empty:
        return None
    cells = content.map(lambda cell: cell.replace("|", r"\|") if isinstance(cell, str) else cell)  # no new column
    sides = ["right" if all(map(_is_number, cells[name])) else "left" for name in cells]
    text = cells.to_markdown(index=False, colalign=sides, disable_numparse=True)
    return _noted(text)


def listed(*parts: str) -> str:
    """A list in Markdown; parts that are empty are left out."""
    return "\n".join(f"- {part}" for part in parts if part)


def _noted(text: str) -> Markdown:
    return Markdown(f"{text}\n\n{NOTE}" if f"]{MARK}" in text else text)


def _is_number(cell: object) -> bool:
    """Whether a cell holds a number as this module writes it, or the sign of a missing one."""
    if not isinstance(cell, str):
        return True
    head = re.split(r" [\[(]|×", cell)[0].removeprefix("< ").removesuffix("%").replace("−", "").replace(",", "")
    return head in ("–", "") or (head[:1] == "$" and head[1:2].isdigit()) or head.replace(".", "", 1).isdigit()


def settings(config: Config) -> pd.DataFrame:
    """The parameters of a run: value and meaning."""
    fields = type(config).model_fields.items()
    rows = [[f"`{name}`", _setting(getattr(config, name)) or "none", field.description] for name, field in fields]
    return pd.DataFrame(rows, columns=["setting", "value", "meaning"])


def escaped(text: str) -> str:
    """Plain text as Markdown that shows it letter for letter."""
    return re.sub(r"([\\`*_\[\]<>$~#])", r"\\\1", text)


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
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
