"""Correlations of transfer with each metric, over source models and over samples, from tables with a row per model."""

from collections.abc import Iterable
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from advtransfer.statistics import METHODS, Correlation, Method, correlate

METRICS = ("alpha1", "alpha2", "alpha12")
SQUARES = ("alpha2_squared", "alpha12_squared")


def squared(sources: pd.DataFrame) -> pd.DataFrame:
    """The rows with added columns for the squares of α2 and α1∗α2, which are what the paper prints."""
    return sources.assign(**{f"{name}_squared": sources[name] ** 2 for name in ("alpha2", "alpha12")})


def over_sources(sources: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and loss after transfer against each metric, over source models; one row per metric and method.

    A square gives the same ranks as its root, so squares only have a Pearson score.
    """
    table, rows = squared(sources), []
    asked: list[tuple[str, Method]] = [*product(METRICS, METHODS), *product(SQUARES, METHODS[:1])]
    for outcome in ("transfer_accuracy", "transfer_loss"):
        for metric, method in asked if outcome in table else []:
            found = correlation(table[metric], table[outcome], method, resamples=499)
            rows.append({"outcome": outcome, "metric": metric, "method": method, **found._asdict()})
    return pd.DataFrame(rows)


def over_samples(names: Iterable[str], alpha1: np.ndarray, loss: np.ndarray) -> pd.DataFrame:
    """α1(x) against the loss after transfer, over the samples of each source model; one row per model and method."""
    rows = []
    resamples: dict[Method, int] = {"pearson": 9999, "spearman": 999}
    for name, x, y in zip(names, alpha1, loss, strict=True):
        for method in resamples:
            found = correlation(x, y, method, resamples=resamples[method])
            rows.append({"source": name, "method": method, **found._asdict()})
    return pd.DataFrame(rows)


def correlation(x: ArrayLike, y: ArrayLike, method: Method = "pearson", *, resamples: int = 9999) -> Correlation:
    """`correlate` over the pairs that are finite; all NaN if these are fewer than three or a variable is constant."""
    a, b = np.asarray(x, float), np.asarray(y, float)
    kept = np.isfinite(a) & np.isfinite(b)
    a, b = a[kept], b[kept]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        nan = float("nan")
        return Correlation(nan, nan, nan, nan, len(a))
    return correlate(a, b, method=method, resamples=resamples)


def row(correlations: pd.DataFrame, **which: str) -> Correlation:
    """The one correlation in a table whose other columns have these values."""
    part = correlations[np.logical_and.reduce([correlations[name] == value for name, value in which.items()])]
    if len(part) != 1:
        raise ValueError(f"{which} matches {len(part)} rows; expected 1")
    return Correlation(**part.iloc[0][list(Correlation._fields)])
