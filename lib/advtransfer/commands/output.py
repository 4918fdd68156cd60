"""What commands print: a table for people, or JSON for programs."""

import argparse
import json
from typing import Any

import numpy as np
import pandas as pd
from pydantic_core import to_jsonable_python

ROWS = 60  # of a printed table, at most


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--json``."""
    parser.add_argument("--json", action="store_true", help="print the result as one JSON value on stdout")


def print_json(value: Any) -> None:
    """Print a value of plain types, tables and arrays as JSON. A table is a list of objects; NaN becomes null."""
    print(json.dumps(to_jsonable_python(value, inf_nan_mode="null", fallback=_plain), indent=1))


def _plain(value: Any) -> Any:
    if isinstance(value, pd.DataFrame):
        return value.to_dict("records")
    return value.item() if isinstance(value, np.generic) else str(value)


def print_table(table: pd.DataFrame, title: str = "") -> None:
    """Print the first rows of a table, with text aligned to the left."""
    if title:
        print(f"\n{title}")
    if table.empty:
        print("(none)")
        return
    shown = table.head(ROWS)
    texts = [name for name in shown.columns if not pd.api.types.is_numeric_dtype(shown[name])]
    widths = {name: max(len(name), *shown[name].astype(str).str.len()) for name in texts}
    forms = {name: f"{{!s:<{width}}}".format for name, width in widths.items()}
    print(shown.to_string(index=False, justify="left", formatters=forms))
    if len(table) > len(shown):
        print(f"... and {len(table) - len(shown):,} more rows")
