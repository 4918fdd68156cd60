"""What is measured once for each candidate: features, outputs, deviations under attack, gradients, and the truth."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from advtransfer.checks import as_number, expected_radius
from advtransfer.ranking.labels import stratified
from advtransfer.ranking.truth import probe
from advtransfer.records.provenance import device

Arrays = dict[str, np.ndarray]
Truth = Literal["probe", "full", "none"]


@dataclass(frozen=True)
class Settings:
    """How candidates are measured; see `advtransfer.ranking.score`."""

    labels: int = 500
    samples: int = 60
    gradients: int = 20
    outputs: int = 10
    eps: float = 0.1
    steps: int = 5
    truth: Truth = "probe"
    full_epochs: int = 5
    target_epochs: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("labels", 4), ("samples", 2), ("gradients", 1), ("outputs", 1), ("steps", 1), ("seed", 0)):
            if not isinstance(getattr(self, name), Integral):
                raise TypeError(f"{name} is {getattr(self, name)!r}; expected an integer")
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least {least}")
        if self.truth not in ("probe", "full", "none"):
            raise ValueError(f"truth is {self.truth!r}; expected 'probe', 'full' or 'none'")
        object.__setattr__(self, "eps", as_number("eps", self.eps))
        if self.eps == 0:
            raise ValueError(f"eps is {self.eps:g}; expected a radius above 0")
        if instead := expected_radius(self.eps, "linf", 1.0, 1):
            raise ValueError(f"eps is {self.eps:g}; expected {instead}")

    def seed_of(self, what: str) -> int:
        """The seed of one random component."""
        return int.from_bytes(np.random.default_rng([self.seed, *what.encode()]).bytes(4))


class Target(ABC):
    """What a target of images and one of texts share: which samples are drawn, and what is measured for a candidate."""

    features: Tensor
    """Features (n, k) of the few labelled samples, by the target model."""
    directions: int
    """How many directions of the target model's outputs are matched."""
    seconds: float
    """How long it took to train and attack the target model."""

    def __init__(self, data: Any, settings: Settings) -> None:
        self.data, self.settings = data, settings
        self.few = stratified(data.y_train, settings.labels, settings.seed_of("labels"))
        self.labels = data.y_train[self.few]
        self.chosen = stratified(data.y_test, settings.samples, settings.seed_of("samples"))

    @abstractmethod
    def attacked(self, encoder: Any) -> Arrays:
        """Deviations under the attacks on the target model and on a candidate, under noise, and the Gram matrix."""

    @abstractmethod
    def after_tuning(self, encoder: Any) -> Tensor:
        """The labels (N,) that a copy of a candidate gives to the test samples after all its weights were trained."""

    @abstractmethod
    def accuracy(self) -> float:
        """The share of the target's test samples that its model classifies correctly."""


@contextmanager
def placed(model: nn.Module, place: torch.device) -> Iterator[None]:
    """Have a model on a device inside the block, and afterwards where it was."""
    before = next((weight.device for weight in model.parameters()), place)
    model.to(place)
    try:
        yield
    finally:
        model.to(before)


def measure(encoder: Any, target: Target) -> Arrays:
    """Everything that the tables need to know about one candidate; it is attacked once.

    Raises
    ------
    EncoderError
        Its outputs or features are not as described.
    """
    with placed(encoder, device()):
        seconds, start = {}, time.perf_counter()
        outputs, features = encoder.extract(target.data.inputs("train", target.few))
        seconds["features"] = time.perf_counter() - start
        arrays: Arrays = {
            "features": features.numpy(), "outputs": outputs.numpy(), "classifier": np.array(encoder.classifier),
            **target.attacked(encoder),
            "parameters": np.array(sum(weight.numel() for weight in encoder.parameters())),
        }  # fmt: skip
        if target.settings.truth != "none":
            start = time.perf_counter()
            arrays["right"] = _truth(encoder, target, features)
            seconds["truth"] = time.perf_counter() - start
    return arrays | {f"seconds_{what}": np.array(value) for what, value in seconds.items()}


def principal(outputs: Tensor, most: int) -> Tensor | None:
    """The first `most` principal directions (d, r) of outputs (N, d); None if d is at most `most`."""
    if outputs.shape[1] <= most:
        return None
    centred = (outputs - outputs.mean(0)).double()
    return torch.linalg.svd(centred, full_matrices=False)[2][:most].T.to(outputs)


class Projected(nn.Module):
    """A model whose outputs are multiplied by a matrix, if there is one."""

    def __init__(self, model: nn.Module, basis: Tensor | None) -> None:
        super().__init__()
        self.model = model
        self.basis = basis

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (N, r) of inputs (N, ...)."""
        return self.model(x) if self.basis is None else self.model(x) @ self.basis


def _truth(encoder: Any, target: Target, few: Tensor) -> np.ndarray:
    """Which of the target's test samples are classified correctly after transfer."""
    y = target.data.y_train
    if target.settings.truth == "full":
        found = target.after_tuning(encoder)
    else:
        train = few if len(target.few) == len(y) else encoder.extract(target.data.x_train)[1]
        found = probe(train, y, encoder.extract(target.data.x_test)[1], seed=target.settings.seed)
    return (found == target.data.y_test).numpy()
