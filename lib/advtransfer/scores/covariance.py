r"""The H-score: how much of the covariance of the features lies between the classes."""

from typing import Literal

import torch
from torch import Tensor

from advtransfer.scores.inputs import class_sums, gram, labelled


def h_score(features: Tensor, labels: Tensor, *, shrinkage: Literal["ledoit_wolf"] | None = "ledoit_wolf") -> float:
    r"""The H-score, by default with a regularised covariance.

    With Σ the covariance of the features and Σ_B the covariance of their class means (both divided by N, not N - 1),
    the plain H-score is :math:`\mathrm{tr}(\Sigma^+ \Sigma_B)`. It equals the sum of the squared canonical correlations
    between the features and the one-hot labels, so it lies between 0 and C - 1. With shrinkage s it is

    .. math::
       (1 - s)\, \mathrm{tr}(\Sigma_s^{-1} \Sigma_B), \quad
       \Sigma_s = (1 - s)\, \Sigma + s\, \frac{\mathrm{tr}\,\Sigma}{D} I,

    with the s of Ledoit and Wolf.

    Parameters
    ----------
    features
        (N, D). Constant columns are dropped; they would only lower tr Σ / D.
    labels
        (N,) integers.
    shrinkage
        ``"ledoit_wolf"``, or ``None`` for the plain H-score.

    Returns
    -------
    float
        Larger is better. The plain H-score falls with N, because classes seem further apart in few samples, and is
        the same after any invertible affine map of the features. The regularised one drifts with N in either direction,
        because s falls, and it changes if columns are scaled differently.

    Raises
    ------
    TypeError, ValueError
        Inputs that no score takes (see :mod:`advtransfer.scores`); an unknown `shrinkage`; or, for the plain
        H-score, centred features of rank N - 1 (any N ≤ D + 1, as a rule): it is then C - 1, whatever the labels.

    Notes
    -----
    Bao et al. (2019) and Ibrahim et al. (2022), keys ``bao2019`` and ``ibrahim2022``; the shrinkage is that of Ledoit
    and Wolf (2004), key ``ledoit2004``, as in scikit-learn. The code of ``stable_transfer`` multiplies the two matrices
    entry by entry, which is not the trace of their product.

    Examples
    --------
    One feature that is the label itself has the canonical correlation 1:

    >>> labels = torch.tensor([0, 0, 1, 1])
    >>> round(h_score(labels.double()[:, None], labels, shrinkage=None), 12)
    1.0
    """
    if shrinkage not in ("ledoit_wolf", None):
        raise ValueError(f"shrinkage = {shrinkage!r}; expected 'ledoit_wolf' or None")
    f, y, counts = labelled(features, labels)
    x = f[:, (f != f[0]).any(0)]
    x = x - x.mean(0)
    if shrinkage is None:
        return _canonical(x, y, counts)
    n, d = x.shape
    g = gram(x) / n  # Σ, or its counterpart of size N
    s = _ledoit_wolf(x, g)
    if s == 0:
        return _canonical(x, y, counts)
    sums = class_sums(x, y, len(counts))  # N_c (μ_c - μ)  (C, D)
    floor = s * g.trace() / d
    factor = torch.linalg.cholesky((1 - s) * g + floor * torch.eye(len(g), dtype=g.dtype, device=g.device))
    if n > d:
        between = (sums @ torch.cholesky_solve(sums.T, factor)).diagonal()  # N_c² (μ_c - μ)ᵀ Σ_s⁻¹ (μ_c - μ)
    else:  # X Σ_s⁻¹ Xᵀ = N g ((1 - s) g + floor)⁻¹, which costs N³ in place of D³
        one_hot = torch.nn.functional.one_hot(y, len(counts)).to(x.dtype)
        between = (one_hot.T @ g @ torch.cholesky_solve(one_hot, factor)).diagonal() * n
    return ((1 - s) * (between / counts).sum() / n).item()


def _canonical(x: Tensor, y: Tensor, counts: Tensor) -> float:
    """The sum of the squared canonical correlations of centred features and one-hot labels."""
    n, d = x.shape
    # Columns of one scale make the rank clear, and change nothing else.
    u, s, _ = torch.linalg.svd(x / x.square().mean(0).sqrt(), full_matrices=False)
    rank = int((s > max(n, d) * torch.finfo(x.dtype).eps * s[0]).sum())
    if rank >= n - 1:
        raise ValueError(
            f"the {n} samples have centred features of rank {rank}, so that the plain H-score is {len(counts) - 1} "
            "whatever the labels; expected more samples than features, or shrinkage='ledoit_wolf'"
        )
    return (class_sums(u[:, :rank], y, len(counts)).square().sum(1) / counts).sum().item()


def _ledoit_wolf(x: Tensor, g: Tensor) -> float:
    """The shrinkage of Ledoit and Wolf for centred features (N, D) and their Gram matrix divided by N."""
    n, d = x.shape
    square = g.square().sum()  # ‖Σ‖²
    distance = square - g.trace().square() / d  # ‖Σ - (tr Σ / D) I‖²
    spread = x.square().sum(1).square().mean() - square  # the mean of ‖x xᵀ - Σ‖²
    noise = torch.where(spread > 1e-12 * square, spread, 0) / n  # of Σ; a smaller spread is rounding
    return (noise.minimum(distance) / distance).item() if distance > 0 else 0.0
