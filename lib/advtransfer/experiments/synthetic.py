"""The synthetic experiment (section 4, Figure 2): a target network, and sources moved away from it by tV.

For every direction V and every scale t, the following are computed from the Jacobians at all samples: the exact first
and second attacks on both models, both directions of transfer, the gradient matching distance and the transfer loss.
"""

from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from advtransfer import matching, metrics, spectral
from advtransfer.datasets import released
from advtransfer.datasets.regression import Regression, gaussian_mixture
from advtransfer.models.mlp import OneHiddenLayer
from advtransfer.records.configs import Config as BaseConfig
from advtransfer.records.record import Arrays, Tables
from advtransfer.records.runs import recorded
from advtransfer.records.weights import cached
from advtransfer.statistics import spearman_rows

N_INPUTS, N_OUTPUTS = 50, 10  # n and d of section 4
CODE = ("advtransfer.models.mlp", "advtransfer.datasets.regression")  # what the target network depends on

TABLES = ("target", "sources", "transfer", "agreement", "released")
"""The tables of a record; the last is there if the authors' files are."""


class Config(BaseConfig):
    """Sizes of the synthetic experiment."""

    PROFILES: ClassVar = {
        "smoke": {"samples": 200, "width": 20, "directions": 3, "scales": 3, "train_steps": 50},
        "quick": {"samples": 5000, "width": 100, "directions": 10, "scales": 11, "train_steps": 10_000},
        "paper": {"samples": 5000, "width": 100, "directions": 50, "scales": 21, "train_steps": 10_000},
    }

    samples: int = Field(5000, ge=10, le=1_000_000, multiple_of=10, description="N, points of the Gaussian mixture")
    width: int = Field(100, ge=10, le=10_000, description="m, hidden units of both networks")
    directions: int = Field(10, ge=3, le=1000, description="random directions V")
    scales: int = Field(11, ge=3, le=1001, description="scales t, evenly from 0 to 1")
    train_steps: int = Field(10_000, ge=1, le=1_000_000, description="steps of gradient descent for the target")


def files(config: Config) -> dict[str, Path]:
    """The authors' released files that exist, or else the place where the released data would be."""
    return released.files() or {"released": released.folder() / released.DATA_FILE}


def accumulated_scale(i: int) -> float:
    """The t that the released loop has reached when it plots the scale i/10, because it adds up all scales so far."""
    return i * (i + 1) / 20


@recorded
def run(config: Config) -> tuple[Tables, Arrays]:
    """Sweep over V and t. The tables are ``target``, ``sources`` (one row per V and t), ``transfer``, ``agreement``,
    and ``released`` if the authors' files are there.
    """
    seeds = torch.Generator().manual_seed(config.seed)
    data = gaussian_mixture(samples=config.samples, n=N_INPUTS, d=N_OUTPUTS, generator=seeds)
    start = OneHiddenLayer.uniform(N_INPUTS, config.width, N_OUTPUTS, seeds)
    directions = [OneHiddenLayer.uniform(N_INPUTS, config.width, N_OUTPUTS, seeds) for _ in range(config.directions)]
    settings = config.model_dump(mode="json", include={"seed", "samples", "width", "train_steps"})
    weights = cached(settings, lambda _: start.fitted(*data, steps=config.train_steps)._asdict(), code=CODE)
    target = OneHiddenLayer(**weights)

    scan = Scan(target, data)
    grid = sorted(
        {round(float(t), 12) for t in np.linspace(0, 1, config.scales)} | {accumulated_scale(i) for i in range(10)}
    )
    sources, transfer = [], []
    for (v, direction), t in product(enumerate(directions), grid):
        row, rows = scan.source(target.moved(t, direction))
        sources.append({"v": v, "t": t, **row})
        transfer += [{"v": v, "t": t, **each} for each in rows]
    tables = {
        "target": pd.DataFrame([scan.summary()]),
        "sources": pd.DataFrame(sources),
        "transfer": pd.DataFrame(transfer),
    }
    tables["agreement"] = agreement(tables["sources"], tables["transfer"], seed=config.seed)
    if released.files():
        tables["released"] = recomputed()
    return tables, {}


class Scan:
    """One target network, with which sources are compared; its Jacobians and attacks are computed once."""

    def __init__(self, target: OneHiddenLayer, data: Regression, levels: tuple[int, ...] = (0, 1)) -> None:
        self.data, self.levels, self.output = data, levels, target(data.x)
        self.jac = target.jacobian(data.x).double()  # (N, d, n)
        self.attacks = spectral.singular_attacks(self.jac)

    def summary(self) -> dict[str, float]:
        """How good the target is, and how large its gradient."""
        fit = self.output - self.data.y
        centred = self.data.y - self.data.y.mean(0)
        return {
            "loss": _root_mean_square(fit),
            "relative_loss": _root_mean_square(fit) / _root_mean_square(centred),
            "gradient_norm": _root_mean_square(self.jac.flatten(1)),
        }

    def source(self, net: OneHiddenLayer) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """The losses of one source, and the metrics for each direction and level."""
        hidden = net.hidden(self.data.x)
        output = torch.addmm(net.b2, hidden, net.w2.T)
        jac = net.jacobian(self.data.x).double()
        attacks = spectral.singular_attacks(jac)
        loss = matching.transfer_loss(output, self.data.y)
        row = {
            "transfer_loss": loss.distance,  # equation 17
            "relative_transfer_loss": loss.relative,
            "hidden_transfer_loss": matching.transfer_loss(hidden, self.data.y).distance,  # the released code's refit
            "surrogate_loss": matching.function_matching(self.output, output).distance,  # equation 16
        }
        rows = []
        for name, (a, attacks_a), (b, attacks_b) in (
            ("T→S", (self.jac, self.attacks), (jac, attacks)),
            ("S→T", (jac, attacks), (self.jac, self.attacks)),
        ):
            ratio = matching.theorem_ratio(a, b, attacks=(attacks_a, attacks_b))
            distance = matching.gradient_matching(a, b)
            for level in self.levels:
                found = metrics.from_jacobians(a, b, level=level, attacks=(attacks_a, attacks_b))
                rows.append(
                    {
                        "direction": name,
                        "level": level,
                        "alpha1": found.alpha1,
                        "alpha2": found.alpha2,
                        "alpha12": found.alpha12,
                        "alpha2_unbiased": found.alpha2_unbiased,
                        "alpha12_unbiased": found.alpha12_unbiased,
                        "distance": distance.distance,
                        "relative_distance": distance.relative,
                        "rho": ratio.rho,
                        "ratio": ratio.ratio,
                        "ratio_first": ratio.ratio_first,
                        "n": found.n,
                    }
                )
        return row, rows


ALONG, AMONG = "along t, for one V", "among V, at one t"
RESAMPLES = 2000


def agreement(sources: pd.DataFrame, transfer: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """How well each predictor ranks sources by their transfer loss (17): mean Spearman correlations.

    There are two questions of unequal difficulty. Along t, the scales of one direction V are ranked, and everything
    changes monotonically. Among V, the directions are ranked at one scale. Sources with the same V are not independent,
    so the intervals come from resampling directions, and p permutes whole scales or whole directions.
    """
    rng = np.random.default_rng(seed)
    inside = sources[(sources["t"] > 0) & (sources["t"] <= 1)]
    loss = inside.pivot_table(index="v", columns="t", values="transfer_loss").to_numpy()  # (V, T)
    draws = rng.integers(len(loss), size=(RESAMPLES, len(loss)))
    rows = []
    for direction, predictor in product(("T→S", "S→T"), ("alpha1", "alpha2", "alpha12", "distance")):
        part = transfer[(transfer["direction"] == direction) & (transfer["level"] == 0)]
        part = part[(part["t"] > 0) & (part["t"] <= 1)]
        value = part.pivot_table(index="v", columns="t", values=predictor).to_numpy()  # (V, T)
        along = spearman_rows(value, loss)  # (V,)
        for question, r, drawn, p in (
            (ALONG, along.mean(), along[draws].mean(1), _p(value, loss, rng)),
            (AMONG, spearman_rows(value.T, loss.T).mean(), _among(value, loss, draws), _p(value.T, loss.T, rng)),
        ):
            low, high = np.nanquantile(drawn, [0.025, 0.975])
            rows.append(
                {
                    "question": question,
                    "predictor": predictor,
                    "direction": direction,
                    "r": float(r),
                    "low": float(low),
                    "high": float(high),
                    "p": p,
                    "n": len(loss),
                }
            )
    return pd.DataFrame(rows).sort_values("question", kind="stable", ignore_index=True)


def _among(value: np.ndarray, loss: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Mean over scales of the correlation among resampled directions, (RESAMPLES,)."""
    return spearman_rows(value[draws].swapaxes(1, 2), loss[draws].swapaxes(1, 2)).mean(1)  # both (RESAMPLES, T, V)


def _p(value: np.ndarray, loss: np.ndarray, rng: np.random.Generator) -> float:
    """p of the mean over rows of Spearman's correlation, if the columns of one table (R, C) are permuted."""
    orders = rng.permuted(np.tile(np.arange(value.shape[1]), (RESAMPLES, 1)), axis=1)
    drawn = spearman_rows(value[:, orders], loss[:, None]).mean(0)  # (R, RESAMPLES) -> (RESAMPLES,)
    r = spearman_rows(value, loss).mean()
    tails = (int(np.sum(drawn >= r - 1e-9)), int(np.sum(drawn <= r + 1e-9)))
    return min(1.0, 2 * (min(tails) + 1) / (RESAMPLES + 1))


def _root_mean_square(rows: Tensor) -> float:
    return rows.double().square().sum(1).mean().sqrt().item()


def released_columns(result: released.ReleasedResult, target: OneHiddenLayer, data: Regression) -> pd.DataFrame:
    """One released CSV, recomputed: the same ten scales and columns, from the released data and weights."""
    source = OneHiddenLayer(*released.network(result.source_m))
    direction = OneHiddenLayer(*released.direction(result.source_m, result.target_m))
    like = data.x.dtype
    target, source, direction = (OneHiddenLayer(*(w.to(like) for w in net)) for net in (target, source, direction))
    jac_t = target.jacobian(data.x).double()  # converted once, as everything below sums in float64
    attacks_t = spectral.singular_attacks(jac_t, k=result.level + 1)
    loss_t = _root_mean_square(target(data.x) - data.y)
    rows = []
    for i in range(len(result.table)):
        net = source.moved(accumulated_scale(i), direction)
        jac_s = net.jacobian(data.x).double()
        attacks_s = spectral.singular_attacks(jac_s, k=result.level + 1)
        s_t = metrics.from_jacobians(jac_s, jac_t, level=result.level, attacks=(attacks_s, attacks_t))
        t_s = metrics.from_jacobians(jac_t, jac_s, level=result.level, attacks=(attacks_t, attacks_s))
        rows.append(
            {
                "scale": i / 10,
                "alpha_S_T": s_t.alpha1,
                "alpha_T_S": t_s.alpha1,
                "gamma_S_T": s_t.alpha2,
                "gamma_T_S": t_s.alpha2,
                "alpha_gamma_combined_S_T": s_t.alpha12,
                "alpha_gamma_combined_T_S": t_s.alpha12,
                "loss_f_S": matching.transfer_loss(net.hidden(data.x), data.y).distance,
                "loss_f_T": loss_t,
                "gradient_loss": matching.gradient_matching(jac_t, jac_s).distance,
            }
        )
    return pd.DataFrame(rows)


def recomputed() -> pd.DataFrame:
    """Every value of every released CSV beside ours, one row per value."""
    data, rows = released.data(), []
    for result in released.results():
        ours = released_columns(result, OneHiddenLayer(*released.network(result.target_m)), data)
        for column in result.table.columns[1:]:
            for scale, theirs, our in zip(result.table["scale"], result.table[column], ours[column], strict=True):
                rows.append({"file": result.name, "scale": scale, "quantity": column, "released": theirs, "here": our})
    return pd.DataFrame(rows)
