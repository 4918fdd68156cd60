"""How long Figure 2 takes: the ten scales of one released CSV, beside the same numbers one sample at a time.

It needs the authors' released files in the data root (notebooks/synthetic.md). The plain way is written here from the
definitions, with none of the library's metrics: a loop over samples with one SVD each, the gradient map by least
squares over all N·n equations. It is timed on fewer samples of one scale, and scaled up in proportion, which is fair to
it: its cost is a constant a sample.
"""

import numpy as np
import torch
from clock import compared, demand, interleaved

from advtransfer.datasets import DataUnavailable, released
from advtransfer.datasets.regression import Regression
from advtransfer.experiments.synthetic import accumulated_scale, released_columns
from advtransfer.models.mlp import OneHiddenLayer


def one_by_one(target: OneHiddenLayer, source: OneHiddenLayer, data: Regression, level: int) -> list[float]:
    """One row of a released CSV from the definitions: a Jacobian and an SVD for each sample and model."""
    ratios: dict[str, list[float]] = {"st": [], "ts": []}
    outer: dict[str, list[np.ndarray]] = {"st": [], "ts": []}
    jac_s, jac_t, hidden, losses = [], [], [], []
    for x, y in zip(data.x, data.y, strict=True):
        j_s, j_t = (
            torch.autograd.functional.jacobian(lambda z, f=f: f(z[None])[0], x).numpy() for f in (source, target)
        )
        for name, a, b in (("st", j_s, j_t), ("ts", j_t, j_s)):
            delta, own = np.linalg.svd(a)[2][level], np.linalg.svd(b)[2][0]
            d11, d12, d22 = a @ delta, b @ delta, b @ own
            ratios[name].append(float(np.linalg.norm(d12) / np.linalg.norm(d22)))
            outer[name].append(np.outer(d11 / np.linalg.norm(d11), d12 / np.linalg.norm(d12)))
        jac_s.append(j_s.T)
        jac_t.append(j_t.T)
        hidden.append(source.hidden(x[None])[0].numpy())
        losses.append(float(((target(x[None])[0] - y) ** 2).sum()))
    n = len(data.x)
    row = [float(np.mean(ratios[name])) for name in ("st", "ts")]
    row += [float(np.linalg.norm(np.mean(outer[name], axis=0))) for name in ("st", "ts")]
    row += [
        float(np.linalg.norm(np.mean(np.array(ratios[name])[:, None, None] * outer[name], axis=0)))
        for name in ("st", "ts")
    ]
    row.append(left_over(np.column_stack([hidden, np.ones(n)]), data.y.numpy()) / n**0.5)
    row.append(float(np.mean(losses)) ** 0.5)
    row.append(left_over(np.concatenate(jac_s), np.concatenate(jac_t)) / n**0.5)
    return row


def left_over(design: np.ndarray, target: np.ndarray) -> float:
    """The norm of what least squares leaves."""
    return float(np.linalg.norm(target - design @ np.linalg.lstsq(design, target, rcond=None)[0]))


def measure(repeats: int, samples: int) -> list[dict[str, float | str]]:
    """Rows of the plain way and of ours, on the first released CSV.

    Raises
    ------
    DataUnavailable
        The authors' released files are not in the data root.
    """
    if not released.files():
        raise DataUnavailable(
            f"the authors' files are not in {released.folder()}; notebooks/synthetic.md says where they are from"
        )
    exact = released.data()
    data = Regression(*(part.float() for part in exact))  # as the released script has them
    few = Regression(*(part[:samples] for part in exact))
    result = released.results()[0]
    target = OneHiddenLayer(*released.network(result.target_m))
    source, v = (
        OneHiddenLayer(*w)
        for w in (released.network(result.source_m), released.direction(result.source_m, result.target_m))
    )
    moved = source.moved(accumulated_scale(1), v)
    columns = result.table.columns[1:]
    again = released_columns(result._replace(table=result.table[:2]), target, few).iloc[1][columns]
    apart = np.abs(again.to_numpy() - one_by_one(target, moved, few, result.level)).max()
    demand("Figure 2, beside the plain way in float64,", apart, 1e-6)
    calls = {
        "sample by sample": lambda: one_by_one(target, moved, few, result.level),
        "ours": lambda: released_columns(result, target, data),
    }
    times = interleaved(calls, repeats, torch.device("cpu"))
    scale = 10 * len(exact.x) / len(few.x)
    times["sample by sample"] = [scale * t for t in times["sample by sample"]]
    return [{**row, "error": float(apart)} for row in compared(times, "sample by sample")]
