"""A target of images: its model, and the attack on that model."""

import copy
import time
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from advtransfer import attacks, matching, metrics, spectral
from advtransfer.models import images
from advtransfer.models.initialisation import initialised_by
from advtransfer.modes import Model, evaluating, outputs_of
from advtransfer.ranking.data import Labelled
from advtransfer.ranking.encoder import Encoder
from advtransfer.ranking.measure import Arrays, Projected, Settings, Target, placed, principal
from advtransfer.records.provenance import device
from advtransfer.training.images import fit_classifier

PIXELS = 1_000_000  # pixels per pass of an attack, as the model sees them, which limits its memory
NAIVE = 32  # size of the images that the naive target model sees


class ImageTarget(Target):
    """A target of images: the model that represents it, and the attack on that model."""

    def __init__(self, data: Labelled, settings: Settings, model: Encoder | None = None) -> None:
        super().__init__(data, settings)
        self.x = data.x_test[self.chosen].to(device()).float() / 255
        start = time.perf_counter()
        plain = model if model is not None else naive_model(data, settings)
        with placed(plain, device()):  # a prepared model has folded layers, and so other features
            self.features = plain.extract(data.inputs("train", self.few))[1].double()
        self.model = plain.prepared().to(device())
        self.delta = self.attack(self.model, self.x)
        self.jacobian = _jacobian(self.model, self.x, settings)
        self.directions = self.jacobian.shape[1]
        self.seconds = time.perf_counter() - start

    def attack(self, model: Model, x: Tensor) -> Tensor:
        """PGD on the length of the deviation (equation 3), which needs no labels and no logits."""
        size = _per_pass(model, x, PIXELS)
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

    def accuracy(self) -> float:
        """The share of the target's test images that its model classifies correctly; NaN if it has other classes."""
        with evaluating(self.model):
            parts = self.data.x_test.split(200)
            outputs = torch.cat([outputs_of(self.model, part.to(device()).float() / 255).cpu() for part in parts])
        if outputs.shape[1] != len(self.data.classes):
            return float("nan")
        return float((outputs.argmax(1) == self.data.y_test).double().mean())


def _per_pass(model: Model, x: Tensor, pixels: int) -> int:
    """How many images have so many pixels at the size at which the model sees them."""
    side = getattr(model, "size", None) or 0
    return max(1, pixels // max(x.shape[2] * x.shape[3], side**2))


def _jacobian(model: nn.Module, x: Tensor, settings: Settings) -> Tensor:
    """Jacobians (N, r, n) of a model's outputs, projected to their r ≤ `outputs` first principal directions."""
    with evaluating(model):
        outputs = torch.cat([model(part) for part in x.split(50)])
    projected = Projected(model, principal(outputs, settings.outputs))
    size = _per_pass(model, x, PIXELS // 4)
    some = x[matching.evenly(len(x), settings.gradients).to(x.device)]
    parts = [spectral.jacobian(projected, part) for part in some.split(size)]
    return torch.cat(parts)


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


class _WithHead(nn.Module):
    """An encoder of images whose features go into a linear layer."""

    def __init__(self, encoder: Encoder, width: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder.both(x)[1])


def tuned(encoder: Encoder, data: Labelled, settings: Settings) -> Tensor:
    """The labels (N,) that a copy of a candidate gives to the test images after all its weights were trained."""
    net = fully_tuned(encoder, data, settings)
    with evaluating(net):
        parts = data.x_test.split(50)
        return torch.cat([net(part.to(device()).float() / 255).argmax(1).cpu() for part in parts])


def fully_tuned(encoder: Encoder, data: Labelled, settings: Settings) -> nn.Module:
    """A copy of a candidate with a new head; all its weights are trained on the target's images."""
    width = encoder.extract(data.x_train[:2])[1].shape[1]
    with initialised_by(torch.Generator().manual_seed(settings.seed_of("head"))):
        net = _WithHead(copy.deepcopy(encoder), width, len(data.classes)).to(device())
    fit_classifier(
        net, data.x_train, data.y_train, epochs=settings.full_epochs, lr=0.01, schedule="one_cycle",
        batch_size=min(32, len(data.x_train)), seed=settings.seed_of("full"), label="all weights",
    )  # fmt: skip
    return net
