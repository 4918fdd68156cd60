"""Measure a target model and its sources, as arrays with values for single samples, and compute tables from these.

The arrays of one target are: ``target_right`` (test images) of the target model; ``transfer_right`` and
``transfer_loss`` (S, test images) of the fine-tuned sources; and, for the K = 1 + S models that are the target model
(position 0) and its sources (1 to S), ``index`` (N,) of the images attacked, ``deviations`` (K, K, N, d) and ``gram``
(K d, K d).
"""

from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from advtransfer import intervals, matching, metrics, spectral
from advtransfer.datasets import ImageDataset
from advtransfer.experiments import conclusions, protocol
from advtransfer.experiments.protocol import ImageConfig
from advtransfer.models.images import ImageModel
from advtransfer.modes import evaluating
from advtransfer.prepare import prepare
from advtransfer.records.provenance import device
from advtransfer.records.record import Arrays, Tables

FORWARD = 250  # images per forward pass
BACKWARD = 25  # images per pass of a Jacobian, which keeps the autograd graph
Direction = Literal["T→S", "S→T"]


def measure(
    config: ImageConfig,
    target_model: ImageModel,
    sources: dict[str, ImageModel],
    data: ImageDataset,
    *,
    only_star: bool = False,
) -> Arrays:
    """Fine-tune each source to the target's images, attack every model, and evaluate each attack on every model.

    Parameters
    ----------
    config
        How to fine-tune and attack.
    target_model, sources
        Trained models; the sources, by name, as they were before fine-tuning.
    data
        The target's images.
    only_star
        Evaluate the target's attack on all models, but a source's attack only on itself. The direction T→S needs no
        more.

    Raises
    ------
    TrainingError
        The target model classifies too few images correctly.
    """
    found = attacked(config, target_model, sources, data, star(1 + len(sources)) if only_star else None)
    tuned = [prepare(protocol.fine_tuned(config, model, name, data)) for name, model in sources.items()]
    transferred = torch.stack([logits(model, data.x_test) for model in tuned])  # (S, test images, classes)
    return {
        "transfer_right": (transferred.argmax(2) == data.y_test).numpy(),
        "transfer_loss": torch.stack([F.cross_entropy(z, data.y_test, reduction="none") for z in transferred]).numpy(),
        **found,
    }


def attacked(
    config: ImageConfig,
    target_model: ImageModel,
    sources: dict[str, ImageModel],
    data: ImageDataset,
    pairs: set[tuple[int, int]] | None = None,
) -> Arrays:
    """Deviations of the target model (position 0) and its sources under the attack on each, and their gradients.

    The arrays are ``target_right``, ``index``, ``deviations`` (of `pairs`, else of all), ``gram`` and ``matched``.
    """
    models = prepared(target_model, sources)
    target_right = logits(models[0], data.x_test).argmax(1) == data.y_test
    index = protocol.attackable(config, target_right, len(data.classes))
    x, matched = data.x_test[index], matching.evenly(len(index), config.gradients)
    return {
        "target_right": target_right.numpy(),
        "index": index.numpy(),
        "deviations": deviations(models, x, protocol.attack_of(config), pairs),
        "gram": gram(models, x[matched]),
        "matched": index[matched].numpy(),
    }


def prepared(target_model: ImageModel, sources: dict[str, ImageModel]) -> list[nn.Module]:
    """The target model and its sources, in this order, ready to attack."""
    return [prepare(model) for model in (target_model, *sources.values())]


def star(size: int) -> set[tuple[int, int]]:
    """The pairs that the direction T→S needs of K models: the target's attack on all, and each source's on itself."""
    return {(0, j) for j in range(size)} | {(j, j) for j in range(size)}


def tables(about: pd.DataFrame, arrays: Arrays, direction: Direction) -> Tables:
    """Tables of one target from its arrays alone.

    Parameters
    ----------
    about
        One row per source, in the order of the arrays; the first column names the sources.
    arrays
        The arrays that `measure` returns.
    direction
        The direction of the attacks in the table ``sources``.

    Returns
    -------
    dict
        ``sources`` (`about` with transfer, metrics, and the distance of the target model from the nearest map of the
        source), ``transfers`` (each attacked with each evaluated model) and ``samples`` (correlations over samples).
    """
    names = [str(name) for name in about.iloc[:, 0]]
    losses, matched = arrays["transfer_loss"].astype(float), distances(arrays["gram"], 1 + len(names))
    pairs = [(0, place) if direction == "T→S" else (place, 0) for place in range(1, 1 + len(names))]
    rows = [
        {
            **accuracy("transfer_accuracy", right),
            "transfer_loss": loss.mean(),
            **metric_columns(arrays, *pair),
            "distance": matched[0, max(pair)],
        }
        for pair, right, loss in zip(pairs, arrays["transfer_right"], losses, strict=True)
    ]
    return {
        "sources": pd.concat([about.reset_index(drop=True), pd.DataFrame(rows)], axis=1),
        "transfers": _transfers(["target", *names], arrays["deviations"], matched),
        "samples": conclusions.over_samples(
            names, np.stack([alpha1(arrays, *pair) for pair in pairs]), losses[:, arrays["index"]]
        ),
    }


def _transfers(names: Sequence[str], kept: np.ndarray, matched: np.ndarray) -> pd.DataFrame:
    """Every ordered pair that was evaluated: its metrics, and the distance from the attacked to the evaluated model."""
    shown = [(i, j) for i, j in np.ndindex(len(names), len(names)) if kept[i, j].any()]
    found = [metrics.from_deviations(*triple(kept, i, j)) for i, j in shown]
    columns = {name: [getattr(each, name) for each in found] for name in (*conclusions.METRICS, "n", "undefined")}
    ends = {"attacked": [names[i] for i, _ in shown], "evaluated": [names[j] for _, j in shown]}
    return pd.DataFrame({**ends, **columns, "distance": [matched[pair] for pair in shown]})


def learnt(right: np.ndarray, classes: int) -> bool:
    """Whether an accuracy is above chance, judged by the lower end of its interval."""
    return accuracy("right", right)["right_low"] > 1 / classes


def pixels(x: Tensor) -> Tensor:
    """Images of uint8 as floats in [0, 1]."""
    return x.float() / 255


def logits(model: nn.Module, x: Tensor) -> Tensor:
    """Logits (N, classes) of uint8 images (N, 3, H, W), on the CPU."""
    there = next(model.parameters()).device
    with evaluating(model):
        return torch.cat([model(pixels(part.to(there))).cpu() for part in x.split(FORWARD)])


def deviations(
    models: Sequence[nn.Module],
    x: Tensor,
    attack: metrics.Attack,
    pairs: Collection[tuple[int, int]] | None = None,
) -> np.ndarray:
    """f_j(x + δ_i) − f_j(x) of K models at uint8 images (K, K, N, d), as `filled` keeps them.

    Narrower outputs are padded with zeros, which change no norm. Pairs that were not asked for are zero. The tables are
    computed from these rounded numbers.
    """
    found = metrics.deviations(models, pixels(x).to(device()), attack, pairs=pairs, batch_size=FORWARD)
    return filled(found, len(models))


def filled(found: dict[tuple[int, int], Tensor], models: int) -> np.ndarray:
    """Deviations of pairs, (K, K, N, d); zero where a pair is missing or has narrower outputs.

    They are in half precision if that can hold all of them, and else in single precision.
    """
    largest = max(float(d.abs().max()) for d in found.values())
    kind = np.float16 if largest <= float(np.finfo(np.float16).max) else np.float32
    shape = (len(next(iter(found.values()))), max(d.shape[1] for d in found.values()))
    kept = np.zeros((models, models, *shape), kind)
    for (i, j), d in found.items():
        kept[i, j, :, : d.shape[1]] = d.cpu().numpy()
    return kept


def triple(kept: np.ndarray, i: int, j: int) -> tuple[Tensor, Tensor, Tensor]:
    """Δ₁₁, Δ₁₂ and Δ₂₂ of the attacked model i and the evaluated model j, for `metrics.from_deviations`."""
    d11, d12, d22 = (torch.from_numpy(kept[a, b]).double() for a, b in ((i, i), (i, j), (j, j)))
    return d11, d12, d22


def gram(models: Sequence[nn.Module], x: Tensor) -> np.ndarray:
    """`matching.gram` of the models' logits at uint8 images, averaged over passes that take few images each."""
    parts = pixels(x).to(device()).split(BACKWARD)
    return matching.mean_gram([spectral.jacobian(model, part) for model in models] for part in parts).numpy()


def distances(gram: np.ndarray, models: int) -> np.ndarray:
    """Relative gradient matching distances (K, K) of models with equally many outputs."""
    return matching.distances(torch.from_numpy(gram), [len(gram) // models] * models).numpy()


def accuracy(name: str, right: np.ndarray) -> dict[str, float]:
    """The share of right answers as columns: ``name`` and Wilson's 95% interval, ``name_low`` and ``name_high``."""
    low, high = stats.binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return {name: right.mean(), f"{name}_low": float(low), f"{name}_high": float(high)}


def metric_columns(arrays: Arrays, i: int, j: int) -> dict[str, float]:
    """α1, α2 and α1∗α2 of a pair as columns: estimates, robust or unbiased ones beside them, bootstrap intervals, n."""
    three = triple(arrays["deviations"], i, j)
    found = metrics.from_deviations(*three)
    row: dict[str, float] = {}
    for name, interval in intervals.intervals(*three)._asdict().items():
        row[name] = getattr(found, name)
        for beside in ("median", "ratio") if name == "alpha1" else ("unbiased",):
            row[f"{name}_{beside}"] = getattr(found, f"{name}_{beside}")
        row[f"{name}_low"], row[f"{name}_high"] = interval
    return {**row, "n": found.n, "undefined": found.undefined}


def alpha1(arrays: Arrays, i: int, j: int) -> np.ndarray:
    """α1(x) (N,) of an attack on model i evaluated on model j; NaN where it is undefined."""
    return metrics.from_deviations(*triple(arrays["deviations"], i, j)).alpha1_samples.numpy()


def size(model: nn.Module) -> int:
    """The number of weights."""
    return sum(weight.numel() for weight in model.parameters())
