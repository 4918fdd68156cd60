"""The authors' released synthetic data, weights and results, where the data root has them.

They are read from ``<data root>/synthetic/authors``, the files as in the authors' repository (README of
``data/``). Weights are read by torch's restricted loader: tensors, and nothing that runs.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from advtransfer.datasets.regression import Regression
from advtransfer.storage import data_root, sha256

DATA_FILE = "rbf-n-50-d-10-m-100-N-5000-num_centers-10.npz"
_WEIGHTS = "model_weights-target-rbf-n-50-d-10-m-{m}-N-5000"
_RESULT = re.compile(r"result_scale-(?:crossmodel-source_m-(\d+)-)?rbf-n-50-d-10-m-(\d+)-N-5000-attack_level-(\d)\.csv")


_NAMES = ("W1", "b1", "W2", "b2")


class Parameters(NamedTuple):
    """Of a network with one hidden layer of m units, 50 inputs and 10 outputs."""

    w1: Tensor
    """(m, 50)"""
    b1: Tensor
    """(m,)"""
    w2: Tensor
    """(10, m)"""
    b2: Tensor
    """(10,)"""


class ReleasedResult(NamedTuple):
    """One released CSV: a source network of `source_m` units moved away from a target of `target_m`."""

    name: str
    source_m: int
    target_m: int
    level: int
    table: pd.DataFrame


def folder(root: Path | None = None) -> Path:
    """Where the released files are looked for."""
    return (root or data_root()) / "synthetic" / "authors"


def digests(root: Path | None = None) -> dict[str, str]:
    """The checksum of each released file that is there; empty if none is."""
    return {path.name: sha256(path) for path in sorted(folder(root).glob("*")) if path.is_file()}


def data(root: Path | None = None) -> Regression:
    """The released inputs (5000, 50) and targets (5000, 10), float64."""
    with np.load(folder(root) / DATA_FILE, allow_pickle=False) as archive:
        return Regression(*(torch.from_numpy(np.ascontiguousarray(archive[key].T)) for key in ("X", "Y")))


def network(m: int, root: Path | None = None) -> Parameters:
    """W1, b1, W2 and b2 of the released target network with m hidden units, float64."""
    state = torch.load(folder(root) / _WEIGHTS.format(m=m), weights_only=True)
    return Parameters(*(state[name].double().reshape(size) for name, size in zip(_NAMES, _sizes(m), strict=True)))


def direction(source_m: int, target_m: int) -> Parameters:
    """The V of the released script: drawn after both networks' initial weights, under its seed 233; float64."""
    generator = torch.Generator().manual_seed(233)
    drawn = [
        [torch.rand(size, generator=generator) - 0.5 for size in _sizes(m)] for m in (target_m, source_m, source_m)
    ]
    return Parameters(*(v.double() for v in drawn[-1]))


def _sizes(m: int) -> tuple[tuple[int, ...], ...]:
    return (m, 50), (m,), (10, m), (10,)


def results(root: Path | None = None) -> list[ReleasedResult]:
    """The released CSV files that are there."""
    found = []
    for path in sorted(folder(root).glob("result_scale-*.csv")):
        if match := _RESULT.fullmatch(path.name):
            source, target, level = match.groups()
            table = pd.read_csv(path)
            found.append(ReleasedResult(path.name, int(source or target), int(target), int(level), table))
    return found
