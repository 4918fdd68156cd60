"""Published runs taken together: rows over seeds, and every source model in one table.

A published record is called SERIES-seedK: the records of a series agree in everything but the seed.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from advtransfer.experiments import conclusions
from advtransfer.records import Record
from advtransfer.statistics import METHODS, correlate, half_width

PREDICTORS: dict[str, Literal[1, -1]] = {
    "source_accuracy": 1,
    "alpha1": 1,
    "alpha2": 1,
    "alpha12": 1,
    "distance": -1,
}
"""What may forecast the accuracy after transfer, and the sign that its correlation should have."""


def rows(records: dict[str, Record], table: str = "sources") -> pd.DataFrame:
    """One table of all records, with series and seed, and for images target and recipe (alike but for the seed)."""
    parts = []
    for name, record in records.items():
        part = record.tables[table].assign(series=name.rpartition("-seed")[0], seed=record.config["seed"])
        if "target" in record.config:
            part["target"] = record.config["target"]
        if "architecture" in part:
            part["recipe"] = part["series"] + " " + part["architecture"]
        parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def over_seeds(table: pd.DataFrame, by: Sequence[str], columns: Sequence[str], level: float = 0.95) -> pd.DataFrame:
    """Means over seeds with Student's interval: for each column ``name``, ``name_low``, ``name_high``; and ``seeds``.

    The interval is NaN where there is one seed.
    """
    found = []
    for key, part in table.groupby(list(by), sort=False):
        row: dict[str, object] = {**dict(zip(by, key, strict=True)), "seeds": len(part)}
        for name in columns:
            values = part[name].to_numpy(float)
            half = half_width(values.std(ddof=1), len(values), level) if len(values) > 1 else np.nan
            row |= {name: values.mean(), f"{name}_low": values.mean() - half, f"{name}_high": values.mean() + half}
        found.append(row)
    return pd.DataFrame(found)


def forecasts(pool: pd.DataFrame, resamples: int = 1999) -> pd.DataFrame:
    """How well each predictor forecasts accuracy after transfer over many source models, alone and beyond accuracy.

    A row a predictor, method and ``given``: "" for the plain correlation, "source_accuracy" for the partial one. Seeds
    of one recipe are drawn and permuted together.
    """
    found = []
    for predictor, claimed in PREDICTORS.items():
        for given in ("", "source_accuracy"):
            for method in METHODS if predictor != given else ():
                held = pool[given] if given else None
                score = correlate(
                    pool[predictor], pool["transfer_accuracy"], given=held, groups=pool["recipe"], method=method,
                    resamples=resamples,
                )  # fmt: skip
                about = {"predictor": predictor, "given": given, "method": method}
                judged = conclusions.verdict(score, claimed=claimed)
                found.append({**about, **score._asdict(), "groups": pool["recipe"].nunique(), "verdict": judged})
    return pd.DataFrame(found)
