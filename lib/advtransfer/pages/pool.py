"""Published runs taken together: every source model in one table, and what forecasts its transfer.

A published record is called SERIES-seedK: the records of a series agree in everything but the seed.
"""

from collections.abc import Mapping
from typing import Literal

import pandas as pd

from advtransfer.pages import verdicts
from advtransfer.records.record import Record
from advtransfer.statistics import METHODS, correlate

PREDICTORS: dict[str, Literal[1, -1]] = {
    "source_accuracy": 1,
    "alpha1": 1,
    "alpha2": 1,
    "alpha12": 1,
    "distance": -1,
}
"""What may forecast the accuracy after transfer, and the sign that its correlation should have."""


def rows(records: Mapping[str, Record], table: str = "sources") -> pd.DataFrame:
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
                judged = verdicts.judge_over_sources(score, claimed=claimed)
                found.append({**about, **score._asdict(), "groups": pool["recipe"].nunique(), "verdict": judged})
    return pd.DataFrame(found)
