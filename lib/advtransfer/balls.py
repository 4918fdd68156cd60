"""The ℓ∞ ball and the ℓ2 ball of perturbations: random points, steepest steps, projections, and rounding that stays."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Ball(NamedTuple):
    """The geometry of a norm, taken over all axes of a sample but the first."""

    draw: Callable[[torch.Size, torch.Generator], Tensor]
    """A uniform draw from the ball of radius 1, in float32 on the generator's device."""
    direction: Callable[[Tensor], Tensor]
    """The step of norm 1 that gains most for a gradient (N, ...); zero for a row of zeros."""
    project_: Callable[[Tensor, float], Tensor]
    """Moves rows to the nearest point of the ball of a radius, in place."""
    shorten: Callable[[Tensor, float], Tensor]
    """The rows, of which those that are too long by rounding are made shorter."""
    keep: Callable[[Tensor, Tensor, float], Tensor]
    """The rows, of which those that are too long are brought into the ball on the way to a second point."""


def fitted(delta: Tensor, x: Tensor, eps: float, norm: str, low: float, high: float) -> Tensor:
    """A perturbation in the dtype of `x` that is in ball and box, from one that leaves them at most by rounding.

    Each entry is rounded towards zero, which leaves neither the ball nor, if `x` is inside, the box. Where `x` itself
    is outside by rounding, `x + δ` lies on the edge, or as near to it as the ball allows.

    Examples
    --------
    The nearest number to 0.1 in float32 is greater than 0.1:

    >>> delta = fitted(torch.tensor([[0.1]]), torch.tensor([[0.5]]), 0.1, "linf", 0.0, 1.0)
    >>> delta.double().item() <= 0.1
    True
    """
    delta = BALLS[norm].shorten(delta, eps)
    delta = _towards_zero(delta, x.dtype)
    moved = x + delta
    delta = torch.where(moved < low, low - x, torch.where(moved > high, high - x, delta))
    moved = x + delta  # low - x is rounded, too: where it is larger than low, x + δ may still be outside
    outside = ((moved < low) | (moved > high)) & (x >= low) & (x <= high)
    delta = torch.where(outside, _next_towards_zero(delta), delta)
    if not ((x < low) | (x > high)).any():
        return delta
    pull = (low - x).clamp(min=0) + (high - x).clamp(max=0)  # from `x` to the box
    return _towards_zero(BALLS[norm].keep(delta.double(), pull.double(), eps), x.dtype)


def _towards_zero(wide: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers in another dtype, rounded towards zero."""
    near = wide.to(dtype)
    longer = near.abs().to(wide.dtype) > wide.abs()
    return torch.where(longer, _next_towards_zero(near), near)


def _next_towards_zero(x: Tensor) -> Tensor:
    """The next numbers of the same dtype, for numbers other than zero."""
    return (x.view(_BITS[x.dtype.itemsize]) - 1).view(x.dtype)


_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # one less is the next number towards zero


def norms(v: Tensor) -> Tensor:
    """ℓ2 norms of the rows of `v`, as (N, 1, ...)."""
    lengths: Tensor = torch.linalg.vector_norm(v, 2, dim=tuple(range(1, v.ndim)), keepdim=True)
    return lengths


def _float32(generator: torch.Generator) -> dict[str, Any]:
    """What a draw depends on, so that it does not follow the defaults of the process."""
    return {"dtype": torch.float32, "device": generator.device}


def _draw_linf(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, **_float32(generator)).mul_(2).sub_(1)


def _draw_l2(shape: torch.Size, generator: torch.Generator) -> Tensor:
    normal = torch.randn(shape, generator=generator, **_float32(generator))
    radius = torch.rand(len(normal), generator=generator, **_float32(generator)) ** (1 / normal[0].numel())
    return _unit_l2(normal) * radius.view(-1, *[1] * (normal.ndim - 1))


def _unit_l2(v: Tensor) -> Tensor:
    return v / norms(v).clamp_(min=torch.finfo(v.dtype).tiny)  # a row of zeros stays zero


def _project_l2_(delta: Tensor, eps: float) -> Tensor:
    return delta.mul_((eps / norms(delta)).clamp_(max=1))


def _shorten_linf(delta: Tensor, eps: float) -> Tensor:
    radius = torch.tensor(eps, dtype=delta.dtype, device="cpu")
    if radius.double() > eps:
        radius = radius.nextafter(torch.zeros_like(radius))
    return delta.clamp(-radius.item(), radius.item())


def _shorten_l2(delta: Tensor, eps: float) -> Tensor:
    lengths = norms(delta.double())
    scale = eps / lengths * (1 - 4 * torch.finfo(delta.dtype).eps)  # less than eps, so that rounding cannot exceed it
    return torch.where(lengths > eps, delta * scale.to(delta.dtype), delta)


def _keep_l2(delta: Tensor, pull: Tensor, eps: float) -> Tensor:
    eps *= 1 - 1e-12  # so that rounding cannot exceed it
    tiny = torch.finfo(pull.dtype).tiny
    least = pull * (eps / norms(pull).clamp(min=tiny)).clamp(max=1)
    share = (eps - norms(pull)).clamp(min=0) / norms(delta - pull).clamp(min=tiny)
    return torch.where(norms(delta) > eps, least + share.clamp(max=1) * (delta - pull), delta)


BALLS = {
    "linf": Ball(
        _draw_linf, torch.sign, lambda delta, eps: delta.clamp_(-eps, eps), _shorten_linf,
        lambda delta, pull, eps: delta.clamp(-eps, eps),
    ),
    "l2": Ball(_draw_l2, _unit_l2, _project_l2_, _shorten_l2, _keep_l2),
}  # fmt: skip
"""The balls by the name of their norm."""
