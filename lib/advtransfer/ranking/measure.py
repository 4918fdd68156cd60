"""What is measured once for each candidate: features and outputs; deviations under attack and gradients; the truth."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from advtransfer.checks import as_count, as_number
from advtransfer.ranking.labels import stratified
from advtransfer.ranking.truth import probe
from advtransfer.records.provenance import device

Arrays = dict[str, np.ndarray]
Keep = Callable[[str, Callable[[], Arrays]], Arrays]
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
        other = {"labels": 4, "samples": 2, "seed": 0}
        for name in ("labels", "samples", "gradients", "outputs", "steps", "full_epochs", "target_epochs", "seed"):
            as_count(name, getattr(self, name), least=other.get(name, 1))
        if self.truth not in ("probe", "full", "none"):
            raise ValueError(f"truth is {self.truth!r}; expected 'probe', 'full' or 'none'")
        object.__setattr__(self, "eps", as_number("eps", self.eps))
        if self.eps == 0:
            raise ValueError(f"eps is {self.eps:g}; expected a radius above 0")

    def seed_of(self, what: str) -> int:
        """The seed of one random component."""
        return int.from_bytes(np.random.default_rng([self.seed, *what.encode()]).bytes(4))


class Drawn:
    """The samples of a target that are drawn: the few with labels for the scores, and those that are attacked."""

    def __init__(self, data: Any, settings: Settings) -> None:
        self.data, self.settings = data, settings
        self.few = stratified(data.y_train, settings.labels, settings.seed_of("labels"))
        self.labels = data.y_train[self.few]
        self.chosen = stratified(data.y_test, settings.samples, settings.seed_of("samples"))


class Target(Drawn, ABC):
    """A target with a model of its own, which is attacked: what one of images and one of texts share."""

    features: Tensor
    """Features (n, k) of the few labelled samples, by the target model."""
    directions: int
    """How many directions of the target model's outputs are matched."""
    seconds: float
    """How long it took to train and attack the target model."""

    @abstractmethod
    def attacked(self, encoder: Any) -> Arrays:
        """Deviations under the attacks on the target model and on a candidate, under noise, and the Gram matrix."""

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


def measure(
    encoder: Any,
    drawn: Drawn,
    *,
    tuned: Callable[[Any, Any, Settings], Tensor] | None = None,
    keep: Keep = lambda what, compute: compute(),
) -> Arrays:
    """Everything that the tables need to know about one candidate; it is attacked once, if the target has a model.

    `tuned` gives the labels of the test samples after all weights were trained, for the truth "full". `keep` is called
    as ``keep(what, compute)`` for "features", "attack" and "truth", and may return what was measured before.

    Raises
    ------
    EncoderError
        Its outputs or features are not as described.
    """
    with placed(encoder, device()):
        arrays = keep("features", partial(_features, encoder, drawn))
        if isinstance(drawn, Target):
            arrays = arrays | keep("attack", partial(drawn.attacked, encoder))
        if drawn.settings.truth != "none":
            few = torch.from_numpy(arrays["features"])
            arrays = arrays | keep("truth", partial(_truth, encoder, drawn, few, tuned))
    return arrays


def _features(encoder: Any, drawn: Drawn) -> Arrays:
    start = time.perf_counter()
    outputs, features = encoder.extract(drawn.data.inputs("train", drawn.few))
    return {
        "seconds_features": np.array(time.perf_counter() - start),
        "features": features.numpy(), "outputs": outputs.numpy(), "classifier": np.array(encoder.classifier),
        "parameters": np.array(sum(weight.numel() for weight in encoder.parameters())),
    }  # fmt: skip


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


def _truth(encoder: Any, drawn: Drawn, few: Tensor, tuned: Callable[[Any, Any, Settings], Tensor] | None) -> Arrays:
    """Which of the target's test samples are classified correctly after transfer."""
    start, data = time.perf_counter(), drawn.data
    if drawn.settings.truth == "full":
        assert tuned is not None
        found = tuned(encoder, data, drawn.settings)
    else:
        train = few if len(drawn.few) == len(data.y_train) else encoder.extract(data.x_train)[1]
        found = probe(train, data.y_train, encoder.extract(data.x_test)[1], seed=drawn.settings.seed)
    return {"right": (found == data.y_test).numpy(), "seconds_truth": np.array(time.perf_counter() - start)}
