"""Table 1 as printed, beside rows of ours: correlations over source models, and of single samples."""

from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from advtransfer import tables
from advtransfer.statistics import Correlation, Method, correlate

PRINTED = Path(__file__).parents[3] / "data" / "paper" / "table1.csv"
METRICS = ("alpha1", "alpha2", "alpha12")
SQUARES = ("alpha2_squared", "alpha12_squared")
SIGNIFICANT = 0.05
RANKS: tuple[Method, ...] = ("spearman", "kendall")  # a square ranks as its root does


def printed() -> pd.DataFrame:
    """The printed rows with the names of our columns: accuracy as a share, and norms beside the printed squares."""
    table = pd.read_csv(PRINTED)
    return pd.DataFrame(
        {
            "label": table["model"],
            "transfer_accuracy": table["knowledge_transfer"] / 100,
            "alpha1": table["alpha1"],
            "alpha2": np.sqrt(table["alpha2"]),
            "alpha12": np.sqrt(table["alpha12"]),
            "alpha2_squared": table["alpha2"],
            "alpha12_squared": table["alpha12"],
        }
    )


def squared(sources: pd.DataFrame) -> pd.DataFrame:
    """Our rows with the squares of α2 and α1∗α2, as the paper prints them."""
    return sources.assign(**{f"{name}_squared": sources[name] ** 2 for name in ("alpha2", "alpha12")})


def correlations(sources: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and loss after transfer against each metric, over source models: a row a method, here and in print."""
    rows = []
    for where, table in (("here", squared(sources)), ("paper", printed())):
        for outcome in ("transfer_accuracy", "transfer_loss"):
            if outcome not in table:
                continue
            pearson: list[tuple[str, Method]] = [(metric, "pearson") for metric in (*METRICS, *SQUARES)]
            for metric, method in [*pearson, *product(METRICS, RANKS)]:
                found = correlation(table[metric], table[outcome], method, resamples=499)
                rows.append({"where": where, "outcome": outcome, "metric": metric, "method": method, **found._asdict()})
    return pd.DataFrame(rows)


def correlation(x: ArrayLike, y: ArrayLike, method: Method = "pearson", *, resamples: int = 9999) -> Correlation:
    """`correlate` over the pairs that are defined; NaN with no p where fewer than three differ."""
    a, b = np.asarray(x, float), np.asarray(y, float)
    kept = np.isfinite(a) & np.isfinite(b)
    a, b = a[kept], b[kept]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        nan = float("nan")
        return Correlation(nan, nan, nan, nan, len(a))
    return correlate(a, b, method=method, resamples=resamples)


def prefixed(name: str, found: Correlation) -> dict[str, float]:
    """A correlation as columns: ``name``, ``name_low``, ``name_high`` and ``name_p``."""
    return {name: found.r, f"{name}_low": found.low, f"{name}_high": found.high, f"{name}_p": found.p}


def verdict(found: Correlation, *, claimed: Literal[1, -1]) -> tables.Verdict:
    """`tables.verdict` on a correlation over source models, with the permutation test as a second hurdle.

    A bootstrap of five rows often repeats a few of them and then gives an interval that is too short.
    """
    judged = tables.verdict(found.r, found.low, found.high, claimed=claimed)
    return "direction only" if judged == "reproduced" and found.p > SIGNIFICANT else judged


def row(correlations: pd.DataFrame, **which: str) -> Correlation:
    """The one correlation of the record's table with these values of where, outcome, metric and method."""
    part = correlations[np.logical_and.reduce([correlations[name] == value for name, value in which.items()])]
    if len(part) != 1:
        raise ValueError(f"{which} matches {len(part)} rows; expected 1")
    return Correlation(**part.iloc[0][list(Correlation._fields)])
