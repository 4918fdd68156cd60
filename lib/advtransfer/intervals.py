r"""Estimates of α2 and α1∗α2 without the bias of the plug-in estimates, and bootstrap intervals of the metrics.

Both metrics are norms of a mean: the plug-in estimate of α2² is :math:`V = \|\frac1N \sum_i G_i\|_F^2`. Multiplied out,
V contains the N diagonal terms :math:`\|G_i\|^2`, which are never small, so V is too large by about 1/N. For example,
unrelated directions at N = 1000 give α2 ≈ 0.03.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from advtransfer.checks import as_count, check_batch


class Interval(NamedTuple):
    """A two-sided interval."""

    low: float
    high: float


class Intervals(NamedTuple):
    """Bootstrap intervals of the three metrics, which come from resampling the samples."""

    alpha1: Interval
    alpha2: Interval
    alpha12: Interval


def unbiased_square(plug_in: float, diagonal: float, n: int) -> float:
    r"""The mean of :math:`\langle G_i, G_j \rangle` over pairs i ≠ j: an unbiased estimate of :math:`\|E\,G\|^2`.

    Parameters
    ----------
    plug_in
        V, the squared norm of the sample mean.
    diagonal
        The sum of :math:`\|G_i\|^2` over samples, which is N for α2 and the sum of α1(x)² for α1∗α2.
    n
        The number of samples N.

    Returns
    -------
    float
        (N² V - diagonal) / (N (N - 1)). It can be negative, which means that nothing rises above the noise. It is NaN
        for a single sample.
    """
    return (n * n * plug_in - diagonal) / (n * (n - 1)) if n > 1 else float("nan")


def signed_root(square: float) -> float:
    """The square root of an estimated square, with the sign of the estimate.

    It brings the estimate of a squared metric back to the metric's own scale.
    """
    return math.copysign(math.sqrt(abs(square)), square)


def unit_rows(d: Tensor) -> Tensor:
    """Each row divided by its Euclidean norm; a zero row, which has no direction, stays zero."""
    norm = torch.linalg.vector_norm(d, dim=-1, keepdim=True)
    return torch.where(norm > 0, d / norm, 0)


def intervals(
    d11: Tensor,
    d12: Tensor,
    d22: Tensor,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    generator: torch.Generator | None = None,
) -> Intervals:
    """Bootstrap intervals of α1, α2 and α1∗α2.

    Samples are drawn with replacement. For α2 and α1∗α2 the percentiles are those of the squared metrics, shifted by
    the bootstrap's own estimate of the plug-in estimate's bias, so that the interval lies around the unbiased estimate.

    Parameters
    ----------
    d11, d12, d22
        Output deviations as in :func:`advtransfer.metrics.from_deviations`: (N, d1), (N, d2), (N, d2).
    resamples
        The number of bootstrap samples.
    level
        The coverage of the intervals.
    generator
        The source of randomness; a generator with seed 0 if ``None``.

    Raises
    ------
    TypeError, ValueError
        A batch that is empty or not finite, shapes that do not match, no resamples, or a level that is not in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level = {level}; expected a level between 0 and 1")
    drawn = _squares(d11, d12, d22, resamples, generator)
    if drawn is None:
        return Intervals(*[Interval(float("nan"), float("nan"))] * 3)
    tail = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64, device=drawn.device)
    low, high = torch.quantile(drawn, tail, dim=0).tolist()
    return Intervals(
        Interval(low[0], high[0]),
        *(Interval(signed_root(a), signed_root(b)) for a, b in zip(low[1:], high[1:], strict=True)),
    )


def resampled(
    d11: Tensor, d12: Tensor, d22: Tensor, *, resamples: int = 1000, generator: torch.Generator | None = None
) -> Tensor:
    """The bootstrap values behind :func:`intervals`, shape (resamples, 3): α1, α2 and α1∗α2.

    Two pairs of models at the same samples, drawn by generators with the same seed, are resampled together: the spread
    of the difference of their rows is that of the difference of their metrics. For that, α1 must be undefined at the
    same samples in both, or at none. The rows are NaN for a single sample.
    Parameters and errors are those of :func:`intervals`.
    """
    drawn = _squares(d11, d12, d22, resamples, generator)
    if drawn is None:
        return torch.full((resamples, 3), float("nan"), dtype=torch.float64, device=d11.device)
    drawn[:, 1:] = drawn[:, 1:].sign() * drawn[:, 1:].abs().sqrt()
    return drawn


def _squares(d11: Tensor, d12: Tensor, d22: Tensor, resamples: int, generator: torch.Generator | None) -> Tensor | None:
    """Bootstrap values (B, 3) of α1, α2² and (α1∗α2)², without the bias of the squares; None for a single sample."""
    resamples = as_count("resamples", resamples)
    alpha1, u, w = directions(d11, d12, d22)
    kept = ~torch.isnan(alpha1)
    alpha1, u, w = alpha1[kept], u[kept], w[kept]
    n = len(alpha1)
    if n < 2:
        return None
    generator = generator or torch.Generator().manual_seed(0)
    squares = [_squared_norm_of_mean(u, w), _squared_norm_of_mean(u, alpha1[:, None] * w)]
    draws = []
    for _ in range(-(-resamples // 100)):  # 100 resamples at a time, to limit the memory
        index = torch.randint(n, (100, n), generator=generator, device=generator.device)
        ones = torch.ones_like(index, dtype=torch.float64)
        weight = torch.zeros_like(ones).scatter_add_(1, index, ones)
        weight = (weight / n).to(u.device)
        draws.append(torch.stack([weight @ alpha1, *(square(weight) for square in squares)], 1))
    drawn = torch.cat(draws)[:resamples]
    even = torch.full((1, n), 1 / n, dtype=torch.float64, device=u.device)
    plug_in = torch.stack([alpha1.mean(), *(square(even).squeeze(0) for square in squares)])
    # V has a bias, and resampling adds the same bias once more: subtract both.
    bias = 2 * (drawn.mean(0) - plug_in)
    bias[0] = 0
    return drawn - bias


def _squared_norm_of_mean(u: Tensor, w: Tensor) -> Callable[[Tensor], Tensor]:
    """A function of weights (B, N) for ‖Σᵢ weightᵢ uᵢ wᵢᵀ‖², shape (B,), of rows u (N, d1) and w (N, d2).

    With more outputs than samples it takes the inner products ⟨uᵢ, uⱼ⟩⟨wᵢ, wⱼ⟩, so that it costs N² and not N·d1·d2.
    """
    if u.shape[1] * w.shape[1] <= len(u):
        outer = torch.einsum("nd,nm->ndm", u, w).flatten(1)  # (N, d1 d2)
        return lambda weight: (weight @ outer).square().sum(1)
    inner = (u @ u.T) * (w @ w.T)  # (N, N)
    return lambda weight: ((weight @ inner) * weight).sum(1)


def directions(d11: Tensor, d12: Tensor, d22: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """α1(x), shape (N,), and the directions of the attack on model 1, shapes (N, d1) and (N, d2); in float64.

    α1(x) is NaN where model 2's own attack does not move model 2. The directions are `d11` and `d12`, scaled to unit
    length.

    Raises
    ------
    ValueError
        A batch that is empty or not finite, or shapes that do not match.
    """
    for name, d in (("d11", d11), ("d12", d12), ("d22", d22)):
        check_batch(name, d, ndim=2)
    if d12.shape != d22.shape or len(d11) != len(d12):
        shapes = ", ".join(str(tuple(d.shape)) for d in (d11, d12, d22))
        raise ValueError(f"deviations have shapes {shapes}; expected (N, d1), (N, d2), (N, d2)")
    d11, d12, d22 = d11.double(), d12.double(), d22.double()
    own = torch.linalg.vector_norm(d22, dim=1)
    alpha1 = torch.where(own > 0, torch.linalg.vector_norm(d12, dim=1) / own, float("nan"))
    return alpha1, unit_rows(d11), unit_rows(d12)
