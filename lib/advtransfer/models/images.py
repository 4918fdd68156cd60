"""The image models of Tables 1, 3 and 5, as released. They map 32 × 32 pixels in [0, 1] to features, then to logits.

`width` scales the number of channels (64 is the released size). Narrow models of the same architectures train in
minutes.
"""

import copy
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from advtransfer.checks import as_count
from advtransfer.models.initialisation import initialised_by
from advtransfer.names import unknown

Architecture = Literal["fully_connected", "lenet", "alexnet", "resnet18", "resnet50"]
LABELS: dict[str, str] = {
    "fully_connected": "Fully Connected",
    "lenet": "LeNet",
    "alexnet": "AlexNet",
    "resnet18": "ResNet18",
    "resnet50": "ResNet50",
}
"""The names of the architectures in the tables, in the order of the tables."""

ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)

Scale = Callable[[int], int]  # maps a released number of channels to the number at the chosen width


class ImageModel(nn.Module):
    """A body that computes features, and a linear head that maps them to logits.

    Normalisation from [0, 1] to [−1, 1] is part of the model, so that ε is in units of the pixel values.
    """

    def __init__(self, body: nn.Module, n_features: int, num_classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(n_features, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Features (N, k) of pixels (N, 3, 32, 32)."""
        return self.body((x - 0.5) / 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of pixels (N, 3, 32, 32)."""
        return self.head(self.features(x))


def build(
    name: str, *, num_classes: int = 10, width: int | None = None, generator: torch.Generator | None = None
) -> ImageModel:
    """Build an architecture with PyTorch's default initialisation.

    Parameters
    ----------
    name : str
        One of `ARCHITECTURES`.
    num_classes : int
        Number of logits.
    width : int, optional
        All hidden sizes are the released ones times `width / 64`, but at least 4. By default the released sizes.
    generator : torch.Generator, optional
        Source of the random weights; the global random state is left alone. By default a fresh generator with seed 0.

    Returns
    -------
    ImageModel
        The model, in torch's default dtype on the CPU, in train mode.

    Raises
    ------
    ValueError
        The name is unknown, or a number is below 1.

    Examples
    --------
    >>> model = build("lenet", num_classes=3)
    >>> model(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 3])
    >>> model.head
    Linear(in_features=84, out_features=3, bias=True)
    """
    if name not in ARCHITECTURES:
        raise ValueError(unknown("architecture", name, ARCHITECTURES))
    as_count("num_classes", num_classes)
    if width is not None:
        as_count("width", width)

    def scale(channels: int) -> int:
        return channels if width is None else max(4, round(channels * width / 64))

    with initialised_by(generator):
        body, n_features = _BODIES[name](scale)
        return ImageModel(body, n_features, num_classes)


def with_new_head(model: ImageModel, num_classes: int, generator: torch.Generator | None = None) -> ImageModel:
    """Copy a model and give the copy a freshly initialised head, as at the start of fine-tuning with a new last layer.

    Parameters
    ----------
    model : ImageModel
        The model to copy; it is left as it is.
    num_classes : int
        Number of logits of the new head.
    generator : torch.Generator, optional
        Source of the head's weights, as in `build`.

    Returns
    -------
    ImageModel
        The copy; the new head has the device and the dtype of the old one.

    Raises
    ------
    ValueError
        `num_classes` is below 1.
    """
    as_count("num_classes", num_classes)
    tuned = copy.deepcopy(model)
    with initialised_by(generator):
        head = nn.Linear(model.head.in_features, num_classes)
    tuned.head = head.to(model.head.weight).train(model.head.training)
    return tuned


# Bodies. Each function returns a module that computes features (N, k), and k.


def _fully_connected(scale: Scale) -> tuple[nn.Module, int]:
    sizes = [3 * 32 * 32, *map(scale, (1176, 400, 120, 84))]
    layers: list[nn.Module] = [nn.Flatten()]
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers), sizes[-1]


def _lenet(scale: Scale) -> tuple[nn.Module, int]:
    a, b, c, d = map(scale, (6, 16, 120, 84))
    body = nn.Sequential(
        *(nn.Conv2d(3, a, 5), nn.ReLU(), nn.MaxPool2d(2)),  # (N, a, 14, 14)
        *(nn.Conv2d(a, b, 5), nn.ReLU(), nn.MaxPool2d(2)),  # (N, b, 5, 5)
        nn.Flatten(),
        *(nn.Linear(b * 5 * 5, c), nn.ReLU()),
        *(nn.Linear(c, d), nn.ReLU()),
    )
    return body, d


def _alexnet(scale: Scale) -> tuple[nn.Module, int]:
    a, b, c, d = map(scale, (64, 192, 384, 256))
    body = nn.Sequential(
        *(nn.Conv2d(3, a, 11, stride=4, padding=5), nn.ReLU(), nn.MaxPool2d(2)),  # (N, a, 4, 4)
        *(nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),  # (N, b, 2, 2)
        *(nn.Conv2d(b, c, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(c, d, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(d, d, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),  # (N, d, 1, 1)
        nn.Flatten(),
    )
    return body, d


class Residual(nn.Module):
    """One residual block: the ReLU of the branch plus the shortcut."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, h, w) to (N, c_out, h / stride, w / stride)."""
        return torch.relu(self.branch(x) + self.shortcut(x))


def _conv(c_in: int, c_out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(c_out)]


def _basic(c_in: int, c: int, stride: int) -> list[nn.Module]:
    return [*_conv(c_in, c, 3, stride), nn.ReLU(), *_conv(c, c, 3)]


def _bottleneck(c_in: int, c: int, stride: int) -> list[nn.Module]:
    return [*_conv(c_in, c, 1), nn.ReLU(), *_conv(c, c, 3, stride), nn.ReLU(), *_conv(c, 4 * c, 1)]


def _resnet(
    scale: Scale, *, branch: Callable[[int, int, int], list[nn.Module]], expansion: int, depths: tuple[int, ...]
) -> tuple[nn.Module, int]:
    """A ResNet for small images: a 3 × 3 stem and no pooling before the blocks."""
    c_in = scale(64)
    layers = [*_conv(3, c_in, 3), nn.ReLU()]
    for stage, depth in enumerate(depths):
        c = scale(64 * 2**stage)
        for block in range(depth):
            stride = 2 if stage > 0 and block == 0 else 1
            same = stride == 1 and c_in == expansion * c
            shortcut = nn.Identity() if same else nn.Sequential(*_conv(c_in, expansion * c, 1, stride))
            layers.append(Residual(nn.Sequential(*branch(c_in, c, stride)), shortcut))
            c_in = expansion * c
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), c_in


_BODIES: dict[str, Callable[[Scale], tuple[nn.Module, int]]] = {
    "fully_connected": _fully_connected,
    "lenet": _lenet,
    "alexnet": _alexnet,
    "resnet18": partial(_resnet, branch=_basic, expansion=1, depths=(2, 2, 2, 2)),
    "resnet50": partial(_resnet, branch=_bottleneck, expansion=4, depths=(3, 4, 6, 3)),
}
