"""What is measured of an image model: logits, how attacks move them, and rows of a table. Results are on the CPU."""

import torch
from scipy import stats
from torch import Tensor, nn

from advtransfer.estimators import Intervals
from advtransfer.metrics import Attack, Transferability
from advtransfer.modes import evaluating

PASS = 250  # images a pass


def pixels(x: Tensor) -> Tensor:
    """Images of uint8 as floats in [0, 1]."""
    return x.float() / 255


def logits(model: nn.Module, x: Tensor) -> Tensor:
    """Logits (N, classes) of uint8 images (N, 3, H, W)."""
    device = next(model.parameters()).device
    with evaluating(model):
        return torch.cat([model(pixels(part.to(device))).cpu() for part in x.split(PASS)])


def attacked(model: nn.Module, attack: Attack, x: Tensor) -> Tensor:
    """The perturbations δ of images in [0, 1], like them."""
    return attack(model, x.to(next(model.parameters()).device)).cpu()


def deviation(model: nn.Module, x: Tensor, delta: Tensor) -> Tensor:
    """f(x + δ) − f(x), (N, classes)."""
    device = next(model.parameters()).device
    parts = zip(x.to(device).split(PASS), delta.to(device).split(PASS), strict=True)
    with evaluating(model):
        return torch.cat([(model(part + moved) - model(part)).cpu() for part, moved in parts])


def accuracy(name: str, outputs: Tensor, y: Tensor) -> dict[str, float]:
    """The share of right answers as columns: ``name`` and Wilson's 95% interval, ``name_low`` and ``name_high``."""
    right = int((outputs.argmax(1) == y).sum())
    low, high = stats.binomtest(right, len(y)).proportion_ci(method="wilson")
    return {name: right / len(y), f"{name}_low": float(low), f"{name}_high": float(high)}


def metric_columns(found: Transferability, ranges: Intervals) -> dict[str, float]:
    """α1, α2 and α1∗α2 as columns: the estimate, the unbiased one where it differs, and the bootstrap interval."""
    row: dict[str, float] = {}
    for name, interval in ranges._asdict().items():
        row[name] = getattr(found, name)
        if name != "alpha1":
            row[f"{name}_unbiased"] = getattr(found, f"{name}_unbiased")
        row[f"{name}_low"], row[f"{name}_high"] = interval
    return row


def size(model: nn.Module) -> int:
    """The number of weights."""
    return sum(weight.numel() for weight in model.parameters())
