r"""What the first attacks prove about the gradient matching distance, and when they prove which of two pairs is nearer.

The first attacks' part of J_a is at the angle ψ = arccos √ρ from J_a, and at the angle ω1 = arccos √(R1/ρ) from the
space of the W J_b. The relative distance is sin ω, where ω is the angle of J_a from that space, and angles obey the
triangle inequality: ω and ω1 differ by at most ψ (Proposition `prop-angle` of the book).
"""

import math
from typing import NamedTuple

from torch import Tensor

from advtransfer.checks import as_number, check_jacobians
from advtransfer.intervals import Interval
from advtransfer.matching import TheoremRatio, pinv
from advtransfer.spectral import singular_attacks

ROUNDING = 1e-6
"""Radians by which two intervals of angles must be apart. An arccosine near 0 has about half the digits of a number."""
EXCESS = 1e-6
"""By how much, relatively, rounding may lift a share above its largest value."""


class FirstAttacks(NamedTuple):
    """What the first attacks on model a say about the pair (a, b)."""

    ratio_first: float
    """R1, the fraction of equation 12 with first attacks only; in [0, ρ]."""
    rho: float
    """ρ, the share of the first attack in the gradient of model a; in (0, 1]."""
    combined: float
    """C_w, the weighted combined metric; in [0, 1]."""


def first_attacks(jac_a: Tensor, jac_b: Tensor) -> FirstAttacks:
    """R1, ρ and C_w, from the strongest attack at each sample.

    The book's page *How much the first attacks say* defines them.
    For an inner product H_a other than the identity, pass the Jacobian of the whitened outputs, H_a^½ J_a.

    Parameters
    ----------
    jac_a, jac_b
        Jacobians of the attacked and of the other model, shapes (N, d_a, n) and (N, d_b, n).

    Raises
    ------
    TypeError, ValueError
        Shapes that do not match, values that are not finite, or a model whose gradient is zero everywhere.

    Examples
    --------
    J_a = diag(3, 1) and J_b = (1, 1): the first attack is along the first input.

    >>> import torch
    >>> found = first_attacks(torch.tensor([[[3.0, 0], [0, 1]]]), torch.tensor([[[1.0, 1]]]))
    >>> [round(value, 3) for value in found]
    [0.45, 0.9, 0.707]
    """
    check_jacobians(jac_a=jac_a, jac_b=jac_b)
    a, b = jac_a.double(), jac_b.double()
    total = a.square().sum((1, 2)).mean().item()
    if total == 0 or not b.any():
        raise ValueError(
            f"model {'b' if total else 'a'} has zero gradient at every sample; expected one that can be moved"
        )
    first = singular_attacks(a, k=1)
    delta = first.delta[:, 0, :, None]
    p1 = ((a @ delta) @ (b @ delta).mT).mean(0)
    own, other = first.sigma.square().mean().item(), singular_attacks(b, k=1).sigma.square().mean().item()
    ratio_first = (p1 @ pinv((b @ b.mT).mean(0)) * p1).sum().item() / total
    rho = min(1.0, own / total)  # rounding could lift it above its bound, as C_w
    return FirstAttacks(min(rho, ratio_first), rho, min(1.0, p1.norm().item() / math.sqrt(own * other)))


def distance_interval(ratio_first: float, rho: float) -> Interval:
    """Between which values the relative gradient matching distance lies, given only R1 and ρ.

    The ends are sin(ω1 - ψ) and sin(ω1 + ψ), but at least 0 and at most 1 (`prop-angle` of the book). No shorter
    interval holds for all pairs with these R1 and ρ.

    Parameters
    ----------
    ratio_first
        R1, at most ρ.
    rho
        ρ, in (0, 1].

    Raises
    ------
    TypeError, ValueError
        Not numbers, or not in these ranges.

    Examples
    --------
    >>> low, high = distance_interval(0.8, 0.9)
    >>> round(low, 3), round(high, 3)
    (0.018, 0.614)
    >>> distance_interval(0.5, 1.0).low == distance_interval(0.5, 1.0).high  # a scalar model a
    True
    """
    omega, psi = _angles(ratio_first, rho)
    return Interval(math.sin(max(0.0, omega - psi)), math.sin(min(math.pi / 2, omega + psi)))


def certified(nearer: FirstAttacks | TheoremRatio, farther: FirstAttacks | TheoremRatio) -> bool:
    """Whether first attacks alone prove that one pair of models has a smaller relative distance than another.

    They do if ω1 + ψ of the first pair is less than ω1 - ψ of the second, which is if and only if the intervals of
    :func:`distance_interval` are apart (`prop-order` of the book). If they are not, there are pairs with the same R1
    and ρ for which the other order, or a tie, is the truth. To choose among sources of one target, take two pairs with
    the same model a.

    Parameters
    ----------
    nearer, farther
        R1 and ρ of each pair: what :func:`first_attacks` or :func:`advtransfer.matching.theorem_ratio` returns. The
        proof is about the samples from which they come; it does not know of the noise in them.

    Raises
    ------
    TypeError, ValueError
        R1 or ρ that is not a number or out of range.

    Examples
    --------
    >>> near, far = FirstAttacks(0.8, 0.96, 0.9), FirstAttacks(0.2, 0.96, 0.5)
    >>> certified(near, far), certified(far, near)
    (True, False)
    """
    (near, near_psi), (far, far_psi) = (_angles(pair.ratio_first, pair.rho) for pair in (nearer, farther))
    return near + near_psi + ROUNDING < far - far_psi


def _angles(ratio_first: float, rho: float) -> tuple[float, float]:
    """ω1 and ψ."""
    share, first = as_number("rho", rho), as_number("ratio_first", ratio_first)
    if not 0 < share <= 1 + EXCESS:
        raise ValueError(f"rho is {share:g}; expected a share in (0, 1]")
    if first > share * (1 + EXCESS):
        raise ValueError(f"ratio_first is {first:g}; expected at most rho = {share:g}")
    return _arccos_of_root(first / share), _arccos_of_root(share)


def _arccos_of_root(square: float) -> float:
    """arccos √s, from both legs of a triangle, which is more accurate than an arccosine; s may exceed 1 by rounding."""
    return math.atan2(math.sqrt(max(0.0, 1 - square)), math.sqrt(square))
