"""What is measured of each candidate once: features, outputs, deviations under attack, gradients, and the truth."""

import copy
import time
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from advtransfer import attacks, matching, metrics, spectral
from advtransfer.models import images
from advtransfer.models.initialisation import initialised_by
from advtransfer.modes import Model, evaluating, outputs_of
from advtransfer.ranking.data import Labelled, stratified
from advtransfer.ranking.encoder import Encoder, extracted
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
    samples: int = 100
    gradients: int = 20
    outputs: int = 10
    eps: float = 0.1
    steps: int = 10
    truth: Truth = "probe"
    full_epochs: int = 5
    target_epochs: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("labels", 4), ("samples", 2), ("gradients", 1), ("outputs", 1), ("steps", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least {least}")
        if self.truth not in ("probe", "full", "none"):
            raise ValueError(f"truth is {self.truth!r}; expected 'probe', 'full' or 'none'")
        if not 0 < self.eps <= 1:
            raise ValueError(f"eps is {self.eps:g}; expected a radius above 0 and at most 1, for pixels in [0, 1]")

    def seed_of(self, what: str) -> int:
        """The seed of one random component."""
        return int.from_bytes(np.random.default_rng([self.seed, *what.encode()]).bytes(4))


class Target:
    """A target: its images, the model that represents it, and the attack on that model."""

    def __init__(self, data: Labelled, settings: Settings, model: Encoder | None = None) -> None:
        self.data, self.settings = data, settings
        self.few = stratified(data.y_train, settings.labels, settings.seed_of("labels"))
        self.labels = data.y_train[self.few]
        attacked = stratified(data.y_test, settings.samples, settings.seed_of("samples"))
        self.x = data.x_test[attacked].to(device()).float() / 255
        start = time.perf_counter()
        self.model = (model if model is not None else naive_model(data, settings)).prepared().to(device())
        self.delta = self.attack(self.model, self.x)
        self.jacobian = _jacobian(self.model, self.x, settings)
        self.features = extracted(self.model, data.x_train[self.few])[1].double()
        self.seconds = time.perf_counter() - start

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

    def accuracy(self) -> float:
        """The share of the target's test images that its model classifies correctly."""
        with evaluating(self.model):
            parts = self.data.x_test.split(200)
            found = torch.cat([self.model(part.to(device()).float() / 255).argmax(1).cpu() for part in parts])
        return float((found == self.data.y_test).double().mean())


def naive_model(data: Labelled, settings: Settings) -> Encoder:
    """A ResNet18 of a quarter of the released width, trained on the target's images alone, at 32 × 32 pixels.

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


def measure(encoder: Encoder, target: Target) -> Arrays:
    """Everything that the tables need of one candidate; it is attacked once.

    Raises
    ------
    EncoderError
        Its outputs or features are not as described.
    """
    data, settings = target.data, target.settings
    encoder = encoder.to(device())
    seconds, start = {}, time.perf_counter()
    outputs, features = extracted(encoder, data.x_train[target.few])
    seconds["features"] = time.perf_counter() - start

    start = time.perf_counter()
    ready = encoder.prepared()

    def attack(model: Model, x: Tensor) -> Tensor:
        return target.delta if model is target.model else target.attack(model, x)

    found = metrics.deviations([target.model, ready], target.x, attack, batch_size=50)
    seconds["attack"] = time.perf_counter() - start

    start = time.perf_counter()
    jacobian = _jacobian(ready, target.x, settings)
    gram = matching.gram([target.jacobian, jacobian]).cpu()
    seconds["distance"] = time.perf_counter() - start

    arrays: Arrays = {
        "features": features.numpy(), "outputs": outputs.numpy(), "gram": gram.numpy(),
        "classifier": np.array(encoder.classifier),
        **{f"d{i}{j}": d.float().cpu().numpy() for (i, j), d in found.items()},
        "noise0": target.moved_by_noise(target.model), "noise1": target.moved_by_noise(ready),
        "parameters": np.array(sum(weight.numel() for weight in encoder.parameters())),
    }  # fmt: skip
    if settings.truth != "none":
        start = time.perf_counter()
        arrays["right"] = _truth(encoder, target, features)
        seconds["truth"] = time.perf_counter() - start
    return arrays | {f"seconds_{what}": np.array(value) for what, value in seconds.items()}


def _jacobian(model: nn.Module, x: Tensor, settings: Settings) -> Tensor:
    """Jacobians (N, r, n) of a model's outputs, projected to their r ≤ `outputs` first principal directions."""
    with evaluating(model):
        outputs = torch.cat([model(part) for part in x.split(50)])
    basis = None
    if outputs.shape[1] > settings.outputs:
        centred = (outputs - outputs.mean(0)).double()
        basis = torch.linalg.svd(centred, full_matrices=False)[2][: settings.outputs].T.to(outputs)  # (d, r)
    projected = model if basis is None else _Projected(model, basis)
    size = max(1, PIXELS // (4 * x.shape[2] * x.shape[3]))
    parts = [spectral.jacobian(projected, part) for part in x[: settings.gradients].split(size)]
    return torch.cat(parts)


class _Projected(nn.Module):
    """A model whose outputs are multiplied by a matrix."""

    def __init__(self, model: nn.Module, basis: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("basis", basis)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) @ self.basis


def _truth(encoder: Encoder, target: Target, few: Tensor) -> np.ndarray:
    """Which of the target's test images are classified correctly after transfer."""
    data, settings = target.data, target.settings
    if settings.truth == "full":
        net = fully_tuned(encoder, data, settings)
        with evaluating(net):
            parts = data.x_test.split(50)
            found = torch.cat([net(part.to(device()).float() / 255).argmax(1).cpu() for part in parts])
    else:
        all_taken = len(target.few) == len(data.y_train)
        train = few if all_taken else extracted(encoder, data.x_train)[1]
        found = probe(train, data.y_train, extracted(encoder, data.x_test)[1], seed=settings.seed)
    return (found == data.y_test).numpy()


class _WithHead(nn.Module):
    """An encoder whose features go into a linear layer."""

    def __init__(self, encoder: Encoder, width: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder.both(x)[1])


def fully_tuned(encoder: Encoder, data: Labelled, settings: Settings) -> nn.Module:
    """A copy of a candidate with a new head, of which all weights are trained on the target's images."""
    width = extracted(encoder, data.x_train[:2])[1].shape[1]
    with initialised_by(torch.Generator().manual_seed(settings.seed_of("head"))):
        net = _WithHead(copy.deepcopy(encoder), width, len(data.classes)).to(device())
    fit_classifier(
        net, data.x_train, data.y_train, epochs=settings.full_epochs, lr=0.01, schedule="one_cycle",
        batch_size=min(32, len(data.x_train)), seed=settings.seed_of("full"), label="all weights",
    )  # fmt: skip
    return net
