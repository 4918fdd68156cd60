"""A 3 × 3 convolution with fixed weights in fewer products: Winograd's minimal filtering, along the rows of an image.

m outputs of a filter of three taps take m + 2 products in place of 3m: F(m, 3) of S. Winograd, *Arithmetic complexity
of computations*, 1980; for networks A. Lavin and S. Gray, *Fast algorithms for convolutional neural networks*, 2016.
Here only the rows are filtered so, the columns as ever: that rounds less than the nested form, in half of its memory.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

# m, and where to evaluate polynomials, beside at infinity. A larger m takes fewer products and rounds more, for which
# bfloat16 has no digits to spare; of points, those that were found to round least.
_OUTPUTS = {torch.float64: 4, torch.float32: 4, torch.bfloat16: 2}
_POINTS = {2: (0, 1, -1), 4: (0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)}
# From where it was measured to be faster: channels, channels to a pixel of a row, and pixels of a batch.
_CHANNELS = {torch.float64: 64, torch.float32: 256, torch.bfloat16: 512}
_CHANNELS_A_PIXEL = 8
_PIXELS = 512


class WinogradConv2d(nn.Conv2d):
    """An `nn.Conv2d` for fixed weights, which is faster where images are on a CPU, small and of many channels.

    Elsewhere, and where its weights take part in a gradient, it is the plain one. It notices new weights as autograd
    does: not what is written into ``weight.data``.
    """

    _kept: tuple[Tensor, int, Tensor] | None = None

    @staticmethod
    def takes(layer: nn.Module) -> bool:
        """Whether a layer is a convolution that can be computed so: 3 × 3 taps, step 1, ungrouped, zeros around."""
        return (
            type(layer) is nn.Conv2d
            and (layer.kernel_size, layer.stride, layer.dilation, layer.groups) == ((3, 3), (1, 1), (1, 1), 1)
            and (layer.padding_mode, layer.padding) in {("zeros", p) for p in ((0, 0), (1, 1), "valid", "same")}
        )

    @classmethod
    def replace(cls, layer: nn.Module) -> None:
        """Make a layer that `takes` names one of this class, with its parameters and hooks."""
        layer.__class__ = cls

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (N, O, H', W') of images (N, C, H, W), channels-last where it is faster."""
        if not self._pays(x):
            return super().forward(x)
        m = _OUTPUTS[x.dtype]
        return _convolve(x, self._filters(m), self.bias, int(self.padding in {(1, 1), "same"}), m)

    def _pays(self, x: Tensor) -> bool:
        m = _OUTPUTS.get(x.dtype)
        if m is None or x.ndim != 4 or x.device.type != "cpu" or x.dtype != self.weight.dtype:
            return False
        if self.weight.requires_grad or torch.is_autocast_enabled("cpu"):
            return False
        n, _, height, width = x.shape
        channels = 2 / (1 / self.in_channels + 1 / self.out_channels)
        fewer = -(-width // m) * (m + 2) <= 2 * width  # a row may end inside of a tile
        many = channels >= max(_CHANNELS[x.dtype], _CHANNELS_A_PIXEL * width)
        return fewer and many and n * height * width >= _PIXELS

    def _filters(self, m: int) -> Tensor:
        """What pixels are multiplied by: ((m + 2) · O, C, 3, 1)."""
        weight, version = self.weight, self.weight._version
        if self._kept is None or not (self._kept[0].is_set_to(weight) and self._kept[1] == version):
            with torch.inference_mode(False), torch.no_grad():  # or they could not take part in a gradient
                taps, exact = torch.from_numpy(_evaluation(m, 3)), weight.double()
                n_out, n_in, *_ = weight.shape
                shape = (len(taps) * n_out, n_in, 3, 1)
                filters = torch.empty(shape, dtype=weight.dtype, memory_format=torch.channels_last)
                for part, tap in zip(filters.split(n_out), taps, strict=True):
                    part[..., 0] = exact @ tap
                self._kept = weight.detach(), version, filters
        return self._kept[2]


def _convolve(x: Tensor, filters: Tensor, bias: Tensor | None, padding: int, m: int) -> Tensor:
    n, _, height, width = x.shape
    rows = _rows(width, padding, m)
    before, after = (torch.from_numpy(matrix).to(x.dtype) for matrix in (rows.before, rows.after))
    # Heights outermost and all tiles side by side, as rows of that length are what convolutions make the most of.
    y = before @ x.permute(2, 0, 3, 1).reshape(height * n, width, -1)
    y = y.view(1, height, n * rows.tiles, -1).permute(0, 3, 1, 2)
    y = _Columns.apply(y, filters, padding, m + 2)
    y = after @ y.permute(0, 2, 3, 1).reshape(-1, rows.tiles * (m + 2), len(filters) // (m + 2))
    if bias is not None:
        y += bias
    return y.view(-1, n, *y.shape[1:]).permute(1, 3, 0, 2).contiguous(memory_format=torch.channels_last)


class _Columns(torch.autograd.Function):
    """A convolution along columns that does not keep its inputs, which no gradient needs while weights are fixed."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, filters: Tensor, padding: int, groups: int) -> Tensor:
        return F.conv2d(x, filters, padding=(padding, 0), groups=groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int, int], output: Tensor) -> None:
        x, filters, ctx.padding, ctx.groups = inputs
        ctx.shape = x.shape
        ctx.save_for_backward(filters)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (filters,) = ctx.saved_tensors
        grad = conv2d_input(ctx.shape, filters, grad, padding=(ctx.padding, 0), groups=ctx.groups)
        return grad, None, None, None


class _Rows(NamedTuple):
    tiles: int
    before: NDArray[np.float64]
    """Pixels of a row to what is multiplied, (tiles · (m + 2), W)."""
    after: NDArray[np.float64]
    """Products to the outputs of a row, (W', tiles · (m + 2))."""


@cache
def _rows(width: int, padding: int, m: int) -> _Rows:
    pixels, outputs = np.linalg.inv(_evaluation(m, m + 2)).T, _evaluation(m, m).T
    length = width + 2 * padding - 2
    tiles = -(-length // m)
    before, after = np.zeros((tiles, m + 2, width + 2 * padding + m)), np.zeros((length + m, tiles, m + 2))
    for tile in range(tiles):
        start = tile * m
        before[tile, :, start : start + m + 2] = pixels
        after[start : start + m, tile] = outputs
    before, after = before[..., padding : padding + width], after[:length]
    return _Rows(tiles, before.reshape(-1, width).copy(), after.reshape(length, -1))


def _evaluation(m: int, terms: int) -> NDArray[np.float64]:
    """Coefficients of a polynomial of so many terms to its m + 2 values, the last at infinity (Toom and Cook)."""
    return np.vstack([np.vander(_POINTS[m], terms, increasing=True), np.eye(terms)[-1:]])
