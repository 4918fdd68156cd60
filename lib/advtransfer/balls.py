"""The ℓ∞ ball and the ℓ2 ball of perturbations: random points, steepest steps, projections, and rounding that stays."""

from collections.abc import Callable
from typing import NamedTuple

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


def fitted(delta: Tensor, x: Tensor, eps: float, norm: str, low: float, high: float) -> Tensor:
    """A perturbation in the dtype of `x` that is in ball and box, from one that leaves them at most by rounding.

    Each entry is rounded towards zero, which leaves neither the ball nor, if `x` is inside, the box. Where `x` itself
    is outside by rounding, `x + δ` lies on the edge.

    Examples
    --------
    The nearest number to 0.1 in float32 is greater than 0.1:

    >>> delta = fitted(torch.tensor([[0.1]]), torch.tensor([[0.5]]), 0.1, "linf", 0.0, 1.0)
    >>> delta.double().item() <= 0.1
    True
    """
    delta = BALLS[norm].shorten(delta, eps)
    if delta.dtype != x.dtype:
        near = delta.to(x.dtype)
        longer = near.abs().to(delta.dtype) > delta.abs()
        delta = torch.where(longer, (near.view(torch.int16) - 1).view(x.dtype), near)  # the next number towards zero
    moved = x + delta
    return torch.where(moved < low, low - x, torch.where(moved > high, high - x, delta))


def norms(v: Tensor) -> Tensor:
    """ℓ2 norms of the rows of `v`, as (N, 1, ...)."""
    lengths: Tensor = torch.linalg.vector_norm(v, 2, dim=tuple(range(1, v.ndim)), keepdim=True)
    return lengths


def _draw_linf(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device).mul_(2).sub_(1)


def _draw_l2(shape: torch.Size, generator: torch.Generator) -> Tensor:
    normal = torch.randn(shape, generator=generator, device=generator.device)
    radius = torch.rand(len(normal), generator=generator, device=generator.device) ** (1 / normal[0].numel())
    return _unit_l2(normal) * radius.view(-1, *[1] * (normal.ndim - 1))


def _unit_l2(v: Tensor) -> Tensor:
    return v / norms(v).clamp_(min=torch.finfo(v.dtype).tiny)  # a row of zeros stays zero


def _project_l2_(delta: Tensor, eps: float) -> Tensor:
    return delta.mul_((eps / norms(delta)).clamp_(max=1))


def _shorten_linf(delta: Tensor, eps: float) -> Tensor:
    radius = torch.tensor(eps, dtype=delta.dtype)
    if radius.double() > eps:
        radius = radius.nextafter(torch.zeros_like(radius))
    return delta.clamp(-radius.item(), radius.item())


def _shorten_l2(delta: Tensor, eps: float) -> Tensor:
    lengths = norms(delta.double())
    scale = eps / lengths * (1 - 4 * torch.finfo(delta.dtype).eps)  # less than eps, so that rounding cannot exceed it
    return torch.where(lengths > eps, delta * scale.to(delta.dtype), delta)


BALLS = {
    "linf": Ball(_draw_linf, torch.sign, lambda delta, eps: delta.clamp_(-eps, eps), _shorten_linf),
    "l2": Ball(_draw_l2, _unit_l2, _project_l2_, _shorten_l2),
}
"""The balls by the name of their norm."""
