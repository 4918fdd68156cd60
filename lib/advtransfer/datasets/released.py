"""The authors' released synthetic data, weights and results, if they are in the data root.

They are read from ``<data root>/synthetic/authors``, which has the files of the authors' repository (see the README of
``data/``). Weights are read by torch's restricted loader, which reads tensors and runs no code.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from advtransfer.datasets.regression import Regression
from advtransfer.records.storage import data_root

DATA_FILE = "rbf-n-50-d-10-m-100-N-5000-num_centers-10.npz"
_WEIGHTS = "model_weights-target-rbf-n-50-d-10-m-{m}-N-5000"
_RESULT = re.compile(r"result_scale-(?:crossmodel-source_m-(\d+)-)?rbf-n-50-d-10-m-(\d+)-N-5000-attack_level-(\d)\.csv")


class ReleasedResult(NamedTuple):
    """One released CSV: a source network of `source_m` units that moves away from a target network of `target_m`."""

    name: str
    source_m: int
    target_m: int
    level: int
    table: pd.DataFrame


def folder() -> Path:
    """The folder in which the released files are expected."""
    return data_root() / "synthetic" / "authors"


def files() -> dict[str, Path]:
    """The released files that exist, by name."""
    return {path.name: path for path in sorted(folder().glob("*")) if path.is_file()}


def data() -> Regression:
    """The released inputs (5000, 50) and targets (5000, 10), float64."""
    with np.load(folder() / DATA_FILE, allow_pickle=False) as archive:
        return Regression(*(torch.from_numpy(np.ascontiguousarray(archive[key].T)) for key in ("X", "Y")))


def network(m: int) -> tuple[Tensor, ...]:
    """W1 (m, 50), b1 (m,), W2 (10, m) and b2 (10,) of the released target network with m hidden units, float64."""
    state = torch.load(folder() / _WEIGHTS.format(m=m), weights_only=True)
    sizes = zip(("W1", "b1", "W2", "b2"), _sizes(m), strict=True)
    return tuple(state[name].double().reshape(size) for name, size in sizes)


def direction(source_m: int, target_m: int) -> tuple[Tensor, ...]:
    """The V of the released script, drawn with its seed 233 after both networks' initial weights; float64."""
    generator = torch.Generator().manual_seed(233)
    drawn = [
        [torch.rand(size, generator=generator) - 0.5 for size in _sizes(m)] for m in (target_m, source_m, source_m)
    ]
    return tuple(v.double() for v in drawn[-1])


def _sizes(m: int) -> tuple[tuple[int, ...], ...]:
    return (m, 50), (m,), (10, m), (10,)


def results() -> list[ReleasedResult]:
    """The released CSV files that exist."""
    released = []
    for path in sorted(folder().glob("result_scale-*.csv")):
        if match := _RESULT.fullmatch(path.name):
            source, target, level = match.groups()
            table = pd.read_csv(path)
            released.append(ReleasedResult(path.name, int(source or target), int(target), int(level), table))
    return released
