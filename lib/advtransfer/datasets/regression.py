"""The synthetic regression problem of section 4: a Gaussian mixture and a sum of radial basis functions."""

from typing import NamedTuple

import torch
from torch import Tensor


class Regression(NamedTuple):
    """Inputs and targets."""

    x: Tensor
    """Inputs, shape (N, n)."""
    y: Tensor
    """Targets, shape (N, d)."""


def gaussian_mixture(
    *, samples: int, n: int, d: int, centres: int = 10, bases: int = 100, generator: torch.Generator
) -> Regression:
    """Draw the data as the released code does.

    `centres` means are drawn from U(-0.5, 0.5)ⁿ, and around each of them equally many points with unit variance. The
    targets are y = Aφ(x) + b with φ_k(x) = exp(-‖x - μ_k‖² / s_k), where μ is drawn from U(-0.5, 0.5)ⁿ, s from
    U(0, 100), and A and b from U(-0.5, 0.5).

    Parameters
    ----------
    samples
        N, a multiple of `centres`.
    n, d
        Numbers of inputs and targets.
    centres, bases
        Numbers of Gaussians and of radial basis functions.
    generator
        The source of randomness.

    Returns
    -------
    Regression
        x (N, n) and y (N, d), float32.

    Raises
    ------
    ValueError
        `samples` is not a positive multiple of `centres`.
    """
    if samples < 1 or samples % centres:
        raise ValueError(f"samples = {samples}; expected a positive multiple of the {centres} centres")

    def uniform(*size: int) -> Tensor:
        return torch.rand(size, generator=generator) - 0.5

    means = uniform(centres, n).repeat_interleave(samples // centres, 0)
    x = means + torch.randn(samples, n, generator=generator)
    mu, s = uniform(bases, n), 100 * torch.rand(bases, generator=generator)
    features = torch.exp(-(torch.cdist(x, mu) ** 2) / s)  # (N, bases)
    return Regression(x, features @ uniform(d, bases).T + uniform(d))
