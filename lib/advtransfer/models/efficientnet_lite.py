"""EfficientNet-Lite 0, 1 and 2: EfficientNet without squeeze-and-excitation, and with ReLU6 for swish.

The stages are those of EfficientNet-B0 (Tan and Le 2019, Table 1), with more channels and more blocks in Lite1 and
Lite2; stem and head are not scaled. The paddings are those of TensorFlow, in which the networks were trained. Names of
layers are the published ones without the leading underscores (``_blocks.0._bn1`` is ``features.blocks.0.bn1``).
"""

import math
from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

# channels, blocks, stride of the first block, kernel, and by how much a block expands its channels inside
STAGES = (
    (16, 1, 1, 3, 1),
    (24, 2, 2, 3, 6),
    (40, 2, 2, 5, 6),
    (80, 3, 2, 3, 6),
    (112, 3, 1, 5, 6),
    (192, 4, 2, 5, 6),
    (320, 1, 1, 3, 6),
)
SCALES = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2))  # of channels and blocks, in Lite0, Lite1 and Lite2
STEM, HEAD = 32, 1280  # channels


class EfficientNetLite(nn.Module):
    """A classifier of RGB images of any size: `features`, their average over all positions, and a linear layer.

    Parameters
    ----------
    variant : int
        0, 1 or 2.
    num_classes : int
        Number of logits.

    Raises
    ------
    ValueError
        There is no such variant.

    Examples
    --------
    >>> import torch
    >>> EfficientNetLite(0, num_classes=10)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 10])
    """

    def __init__(self, variant: int, num_classes: int = 1000) -> None:
        super().__init__()
        if variant not in range(len(SCALES)):
            raise ValueError(f"variant is {variant}; expected 0, 1 or 2")
        width, depth = SCALES[variant]
        blocks, c_in = [], STEM
        for stage, (channels, repeats, stride, kernel, expansion) in enumerate(STAGES):
            c_out = _rounded(channels * width)
            for k in range(repeats if stage in (0, len(STAGES) - 1) else math.ceil(repeats * depth)):
                blocks.append(InvertedResidual(c_in, c_out, kernel, stride if k == 0 else 1, expansion))
                c_in = c_out
        self.features = nn.Sequential(
            OrderedDict(
                [
                    *_layers("conv_stem", "bn0", 3, STEM, kernel=3, stride=2),
                    ("blocks", nn.Sequential(*blocks)),
                    *_layers("conv_head", "bn1", c_in, HEAD),
                ]
            )
        )
        self.dropout = nn.Dropout(0.3 if variant == 2 else 0.2)
        self.classifier = nn.Linear(HEAD, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of normalised images (N, 3, h, w)."""
        return self.classifier(self.dropout(self.features(x).mean((2, 3))))


class InvertedResidual(nn.Sequential):
    """Expand the channels, filter each by itself, project; add the input if the result has its shape."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int) -> None:
        hidden = c_in * expansion
        expand = _layers("expand_conv", "bn0", c_in, hidden) if expansion > 1 else []
        filters = _layers("depthwise_conv", "bn1", hidden, hidden, kernel, stride, groups=hidden)
        project = _layers("project_conv", "bn2", hidden, c_out)[:-1]  # no ReLU6
        super().__init__(OrderedDict([*expand, *filters, *project]))
        self.adds = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, h, w) to (N, c_out, ⌈h / stride⌉, ⌈w / stride⌉)."""
        y = super().forward(x)
        return x + y if self.adds else y


class SamePadding(nn.Module):
    """Zeros around images before a convolution with stride 2, as few as give half the size, rounded up.

    This is TensorFlow's padding "SAME": if the number of rows or columns is odd, the last one is below or to the right.
    """

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        """Pad images (N, c, h, w)."""
        rows, columns = self.kernel - 2 + x.shape[-2] % 2, self.kernel - 2 + x.shape[-1] % 2
        return F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


def _layers(
    conv: str, norm: str, c_in: int, c_out: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> list[tuple[str, nn.Module]]:
    """A convolution, BatchNorm and ReLU6, with their names."""
    pads = [(f"{conv}_padding", SamePadding(kernel))] if stride == 2 else []
    padding = 0 if pads else kernel // 2
    return [
        *pads,
        (conv, nn.Conv2d(c_in, c_out, kernel, stride, padding, groups=groups, bias=False)),
        (norm, nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.01)),
        (f"{norm}_relu", nn.ReLU6()),
    ]


def _rounded(channels: float) -> int:
    """The multiple of 8 that is nearest, but at least nine tenths of `channels`."""
    rounded = int(channels + 4) // 8 * 8
    return rounded + 8 if rounded < 0.9 * channels else rounded
