"""What is measured once for each candidate: features, outputs, deviations under attack, gradients, and the truth."""

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from advtransfer import attacks, matching, metrics, spectral
from advtransfer.checks import as_number, expected_radius
from advtransfer.models import images
from advtransfer.models.initialisation import initialised_by
from advtransfer.modes import Model, evaluating, outputs_of
from advtransfer.ranking.data import Labelled
from advtransfer.ranking.encoder import Encoder, extracted
from advtransfer.ranking.labels import stratified
from advtransfer.ranking.truth import probe
from advtransfer.records.provenance import device
from advtransfer.training.images import fit_classifier

Arrays = dict[str, np.ndarray]
Truth = Literal["probe", "full", "none"]

PIXELS = 1_000_000  # pixels per pass of an attack, which limits its memory
NAIVE = 32  # size of the images that the naive target model sees


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
        for name, least in (("labels", 4), ("samples", 2), ("gradients", 1), ("outputs", 1), ("steps", 1)):
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


class Aim(ABC):
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
    def extract(self, encoder: Any, rows: Tensor | None, part: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
        """Outputs (N, d) and features (N, k) of all samples of a part, or of those at `rows`."""

    @abstractmethod
    def attacked(self, encoder: Any) -> Arrays:
        """Deviations under the attacks on the target model and on a candidate, under noise, and the Gram matrix."""

    @abstractmethod
    def after_tuning(self, encoder: Any) -> Tensor:
        """The labels (N,) that a copy of a candidate gives to the test samples after all its weights were trained."""

    @abstractmethod
    def accuracy(self) -> float:
        """The share of the target's test samples that its model classifies correctly."""


class Target(Aim):
    """A target of images: the model that represents it, and the attack on that model."""

    def __init__(self, data: Labelled, settings: Settings, model: Encoder | None = None) -> None:
        super().__init__(data, settings)
        self.x = data.x_test[self.chosen].to(device()).float() / 255
        start = time.perf_counter()
        plain = model if model is not None else naive_model(data, settings)
        with _placed(plain, device()):  # a prepared model has folded layers, and so other features
            self.features = self.extract(plain, self.few, "train")[1].double()
        self.model = plain.prepared().to(device())
        self.delta = self.attack(self.model, self.x)
        self.jacobian = _jacobian(self.model, self.x, settings)
        self.directions = self.jacobian.shape[1]
        self.seconds = time.perf_counter() - start

    def extract(self, encoder: Encoder, rows: Tensor | None, part: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
        """Outputs (N, d) and features (N, k) of all images of a part, or of those at `rows`."""
        x = self.data.x_train if part == "train" else self.data.x_test
        return extracted(encoder, x if rows is None else x[rows])

    def attack(self, model: Model, x: Tensor) -> Tensor:
        """PGD on the length of the deviation (equation 3), which needs no labels and no logits."""
        size = max(1, PIXELS // (x.shape[2] * x.shape[3]))
        generator = torch.Generator().manual_seed(self.settings.seed_of("attack"))
        climb = partial(
            attacks.pgd, model, eps=self.settings.eps, steps=self.settings.steps, loss="deviation", generator=generator
        )
        return torch.cat([climb(part) for part in x.split(size)])

    def moved_by_noise(self, model: nn.Module) -> np.ndarray:
        """How far ±ε in random signs moves a model's outputs (N, d): what an attack that knows nothing does."""
        generator = torch.Generator().manual_seed(self.settings.seed_of("noise"))
        signs = torch.randint(2, self.x.shape, generator=generator).to(self.x) * 2 - 1
        moved = (self.x + self.settings.eps * signs).clamp(0, 1)
        with evaluating(model):
            parts = zip(self.x.split(50), moved.split(50), strict=True)
            return torch.cat([outputs_of(model, b) - outputs_of(model, a) for a, b in parts]).float().cpu().numpy()

    def attacked(self, encoder: Encoder) -> Arrays:
        """Deviations under the attacks on the target model and on a candidate, under noise, and the Gram matrix."""
        start = time.perf_counter()
        ready = encoder.prepared()

        def attack(model: Model, x: Tensor) -> Tensor:
            return self.delta if model is self.model else self.attack(model, x)

        found = metrics.deviations([self.model, ready], self.x, attack, batch_size=50)
        middle = time.perf_counter()
        gram = matching.gram([self.jacobian, _jacobian(ready, self.x, self.settings)]).cpu()
        end = time.perf_counter()
        return {
            "gram": gram.numpy(),
            **{f"d{i}{j}": d.float().cpu().numpy() for (i, j), d in found.items()},
            "noise0": self.moved_by_noise(self.model), "noise1": self.moved_by_noise(ready),
            "seconds_attack": np.array(middle - start), "seconds_distance": np.array(end - middle),
        }  # fmt: skip

    def after_tuning(self, encoder: Encoder) -> Tensor:
        """The labels (N,) that a copy of a candidate gives to the test images after all its weights were trained."""
        net = fully_tuned(encoder, self.data, self.settings)
        with evaluating(net):
            parts = self.data.x_test.split(50)
            return torch.cat([net(part.to(device()).float() / 255).argmax(1).cpu() for part in parts])

    def accuracy(self) -> float:
        """The share of the target's test images that its model classifies correctly; NaN if it has other classes."""
        with evaluating(self.model):
            parts = self.data.x_test.split(200)
            outputs = torch.cat([outputs_of(self.model, part.to(device()).float() / 255).cpu() for part in parts])
        if outputs.shape[1] != len(self.data.classes):
            return float("nan")
        return float((outputs.argmax(1) == self.data.y_test).double().mean())


def naive_model(data: Labelled, settings: Settings) -> Encoder:
    """A ResNet18 at a quarter of the released width, trained on the target's images alone, at 32 × 32 pixels.

    This is the paper's naive target model: one that anybody can train on the target without any of the candidates.
    """
    generator = torch.Generator().manual_seed(settings.seed_of("target"))
    net = images.build("resnet18", num_classes=len(data.classes), width=16, generator=generator).to(device())
    small = _resized(data.x_train, NAIVE)
    fit_classifier(
        net, small, data.y_train, epochs=settings.target_epochs, lr=0.1, weight_decay=5e-4, schedule="one_cycle",
        batch_size=min(64, max(2, len(small) // 4)), seed=settings.seed_of("order"), label="target model",
    )  # fmt: skip
    return Encoder(net, size=NAIVE)


def _resized(x: Tensor, size: int) -> Tensor:
    if x.shape[-2:] == (size, size):
        return x
    parts = [
        torch.nn.functional.interpolate(part.float(), (size, size), mode="bilinear", antialias=True)
        for part in x.split(500)
    ]
    return torch.cat(parts).round().clamp(0, 255).to(torch.uint8)


@contextmanager
def _placed(model: nn.Module, place: torch.device) -> Iterator[None]:
    """Have a model on a device inside the block, and afterwards where it was."""
    before = next((weight.device for weight in model.parameters()), place)
    model.to(place)
    try:
        yield
    finally:
        model.to(before)


def measure(encoder: Any, target: Aim) -> Arrays:
    """Everything that the tables need to know about one candidate; it is attacked once.

    Raises
    ------
    EncoderError
        Its outputs or features are not as described.
    """
    with _placed(encoder, device()):
        seconds, start = {}, time.perf_counter()
        outputs, features = target.extract(encoder, target.few, "train")
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


def _jacobian(model: nn.Module, x: Tensor, settings: Settings) -> Tensor:
    """Jacobians (N, r, n) of a model's outputs, projected to their r ≤ `outputs` first principal directions."""
    with evaluating(model):
        outputs = torch.cat([model(part) for part in x.split(50)])
    projected = Projected(model, principal(outputs, settings.outputs))
    size = max(1, PIXELS // (4 * x.shape[2] * x.shape[3]))
    some = x[matching.evenly(len(x), settings.gradients).to(x.device)]
    parts = [spectral.jacobian(projected, part) for part in some.split(size)]
    return torch.cat(parts)


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


def _truth(encoder: Any, target: Aim, few: Tensor) -> np.ndarray:
    """Which of the target's test samples are classified correctly after transfer."""
    y = target.data.y_train
    if target.settings.truth == "full":
        found = target.after_tuning(encoder)
    else:
        train = few if len(target.few) == len(y) else target.extract(encoder, None, "train")[1]
        found = probe(train, y, target.extract(encoder, None, "test")[1], seed=target.settings.seed)
    return (found == target.data.y_test).numpy()


class _WithHead(nn.Module):
    """An encoder of images whose features go into a linear layer."""

    def __init__(self, encoder: Encoder, width: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder.both(x)[1])


def fully_tuned(encoder: Encoder, data: Labelled, settings: Settings) -> nn.Module:
    """A copy of a candidate with a new head; all its weights are trained on the target's images."""
    width = extracted(encoder, data.x_train[:2])[1].shape[1]
    with initialised_by(torch.Generator().manual_seed(settings.seed_of("head"))):
        net = _WithHead(copy.deepcopy(encoder), width, len(data.classes)).to(device())
    fit_classifier(
        net, data.x_train, data.y_train, epochs=settings.full_epochs, lr=0.01, schedule="one_cycle",
        batch_size=min(32, len(data.x_train)), seed=settings.seed_of("full"), label="all weights",
    )  # fmt: skip
    return net
