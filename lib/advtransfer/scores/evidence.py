r"""LogME: how well Bayesian linear models of the features explain the labels."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from advtransfer.scores.inputs import class_sums, eigen, labelled

# A class whose labels the features reproduce up to this share of their squares counts as reproduced exactly.
EXACT = 1e-10


def logme(features: Tensor, labels: Tensor) -> float:
    r"""The mean over classes of the greatest log evidence per sample of a Bayesian linear model (LogME).

    For each class, t is 1 for its samples and 0 for the others. The model is t = F w + noise without an intercept, with
    w of variance 1/a and noise of variance 1/b. Its log evidence per sample is

    .. math::
       \frac1N \Big[\frac D2 \ln a + \frac N2 \ln b - \frac12 \sum_{i=1}^{D} \ln(a + b \sigma_i)
       - \frac b2 \|t - F m\|^2 - \frac a2 \|m\|^2 - \frac N2 \ln 2\pi\Big], \quad
       m = b\,(a I + b F^\top F)^{-1} F^\top t,

    where the :math:`\sigma_i` are all D eigenvalues of FᵀF. The score is the mean over classes of its maximum over a
    and b. For a given ratio λ = a/b, the best b follows in closed form; the best λ is searched for on a grid that
    reaches over all eigenvalues, and then refined. The maximum is therefore the greatest one, and no update has to
    converge. All classes share one eigendecomposition of the smaller Gram matrix.

    Parameters
    ----------
    features
        F, shape (N, D). A constant column takes the part of an intercept. A direction in which the features vary by
        less than about 1e-6 of the largest variation is left out.
    labels
        (N,) integers.

    Returns
    -------
    float
        Nats per sample; larger is better. The value drifts with N and depends on the class frequencies: compare models
        on the same samples only. Scaling all features by one number changes nothing.

    Raises
    ------
    TypeError, ValueError
        Inputs that no score takes (see :mod:`advtransfer.scores`); or features of rank below N that reproduce
        the labels of a class exactly, so that its evidence has no maximum (for N ≤ D, duplicated samples do that).

    Notes
    -----
    You et al. (2021), key ``you2021`` of the bibliography. Their code sums only min(N, D) terms of ln(a + bσ), so its
    values are wrong for N < D. It also adds 1e-5 to two denominators, which makes it depend on the scale of the
    features, and it stops early. The maximum equals that of scikit-learn's ``BayesianRidge`` without priors and
    without intercept.

    Examples
    --------
    Features that tell the classes apart are better evidence than features that do not:

    >>> labels = torch.tensor([0, 0, 1, 1])
    >>> good = logme(torch.tensor([[1.0, 0.1], [1.0, -0.1], [-0.1, 1.0], [0.1, 1.0]]), labels)
    >>> bad = logme(torch.tensor([[1.0, 0.1], [-0.1, 1.0], [1.0, -0.1], [0.1, 1.0]]), labels)
    >>> good > bad
    True
    """
    f, y, counts = labelled(features, labels)
    n, d = f.shape
    sigma, vectors = eigen(f)  # (r,), (N or D, r)
    if n <= d:
        squares = class_sums(vectors, y, len(counts)).square()  # squares of Uᵀ t  (C, r)
    else:
        squares = (class_sums(f, y, len(counts)) @ vectors).square() / sigma
    rest = counts - squares.sum(1)  # the part of ‖t‖² that no w reaches  (C,)
    if len(sigma) == n:
        rest = torch.zeros_like(rest)
    elif (rest <= EXACT * counts).any():
        raise ValueError(
            f"features of rank {len(sigma)} reproduce a class of the {n} samples exactly, so that the evidence has no "
            "maximum; expected other features, or samples without duplicates"
        )

    def shrunk(log_ratio: Tensor) -> Tensor:
        """λ / (λ + σ): (K,) -> (K, r)."""
        return 1 / (1 + sigma * (-log_ratio[:, None]).exp())

    def evidence(logs: Tensor, residual: Tensor) -> Tensor:
        """The log evidence per sample at the best b, from Σ ln(λ / (λ + σ)) and ‖t - F m‖² + λ ‖m‖² = N / b."""
        return (logs / n - (2 * math.pi * residual / n).log() - 1) / 2

    # Far beyond the least and the greatest eigenvalue the evidence is flat up to rounding.
    low, high = sigma[0].log().item() - 30, sigma[-1].log().item() + 30
    grid = torch.linspace(low, high, 2 * math.ceil(high - low) + 1, dtype=f.dtype, device=f.device)
    shared = shrunk(grid)  # (K, r)
    at_grid = evidence(shared.log().sum(1, keepdim=True), shared @ squares.T + rest)  # (K, C)
    best, step = grid[at_grid.argmax(0)], grid[1] - grid[0]

    def own(log_ratio: Tensor) -> Tensor:
        """The evidence of each class at a λ of its own: (C,) -> (C,)."""
        each = shrunk(log_ratio)
        return evidence(each.log().sum(1), (each * squares).sum(1) + rest)

    return _greatest(own, best - step, best + step).mean().item()


def _greatest(function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """The maxima of C functions, each in its [low, high], by golden sections: 32 leave a millionth of the width."""
    golden = (math.sqrt(5) - 1) / 2
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(32):
        rises = at_left < at_right  # then the maximum is to the right of `left`
        low, high = torch.where(rises, left, low), torch.where(rises, high, right)
        new = torch.where(rises, low + golden * (high - low), high - golden * (high - low))
        at_new = function(new)
        left, right = torch.where(rises, right, new), torch.where(rises, new, left)
        at_left, at_right = torch.where(rises, at_right, at_new), torch.where(rises, at_new, at_left)
    return torch.maximum(at_left, at_right)
