"""Target domains that are made from images that the sources have not seen: subsets of classes, and corruptions."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from advtransfer.datasets.images import ImageDataset, load
from advtransfer.datasets.shift import held_out
from advtransfer.names import unknown

NOISE = 32  # standard deviation of the noise, where pixels go up to 255
BLOCK = 4  # width and height of the squares of "cifar10-blocks"


def noisy(x: Tensor) -> Tensor:
    """Images of uint8 with Gaussian noise of standard deviation 32, clipped to 0…255; equal draws in equal calls."""
    draw = np.random.default_rng(0).normal(0, NOISE, x.shape)
    return torch.from_numpy(np.clip(np.rint(x.numpy() + draw), 0, 255).astype(np.uint8))


def blocks(x: Tensor) -> Tensor:
    """Images of uint8 (N, C, H, W) in which every square of 4 × 4 pixels has its mean colour."""
    small = torch.nn.functional.avg_pool2d(x.double(), BLOCK).round().to(torch.uint8)
    return small.repeat_interleave(BLOCK, 2).repeat_interleave(BLOCK, 3)


def negative(x: Tensor) -> Tensor:
    """Images of uint8 with every value v replaced by 255 − v."""
    return 255 - x


_CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "cifar10-unseen": lambda x: x,
    "cifar10-noise": noisy,
    "cifar10-blocks": blocks,
    "cifar10-negative": negative,
}
_CLASSES = {
    "tiny-vehicles": ("bus", "car", "ship", "truck"),
    "tiny-animals": ("bird", "cat", "antelope", "dog", "cattle", "monkey"),
}
VARIANTS = ("tiny-imagenet-10", "cifar10-shift", *_CLASSES, *_CHANGES)
"""The target domains that `variant` makes."""


def variant(name: str) -> ImageDataset:
    """A target domain by name.

    ``tiny-imagenet-10`` and ``cifar10-shift`` are those of `datasets.load`; ``tiny-vehicles`` and ``tiny-animals`` have
    some classes of the first; the others have the images of the second (held-out training images and test images of
    CIFAR-10) without the shift: as they are, with noise, as blocks, or in negative.

    Raises
    ------
    ValueError
        There is no such domain.
    DataUnavailable
        The images from which it is made are not in the data root; the message gives the command that fetches them.
    """
    if name not in VARIANTS:
        raise ValueError(unknown("target domain", name, VARIANTS))
    if name in _CLASSES:
        return replace(load("tiny-imagenet-10").only(_CLASSES[name]), name=name)
    if name in _CHANGES:
        return _unseen(name, _CHANGES[name])
    return load(name)


def made_from(name: str) -> str:
    """The data set in the data root from which a domain is made."""
    return "cifar10" if name.startswith("cifar10") else "tiny-imagenet-10"


def _unseen(name: str, change: Callable[[Tensor], Tensor]) -> ImageDataset:
    whole = load("cifar10")
    kept = torch.from_numpy(held_out(whole.y_train.numpy()))
    x_train, x_test = (
        change(x).contiguous(memory_format=torch.channels_last) for x in (whole.x_train[kept], whole.x_test)
    )
    return replace(whole, name=name, x_train=x_train, y_train=whole.y_train[kept], x_test=x_test)
