r"""PARC and CKA: whether samples that are alike in one way are alike in another."""

import torch
from scipy import stats
from torch import Tensor

from advtransfer.scores.inputs import labelled, rows


def parc(features: Tensor, labels: Tensor, *, most: int = 2000, seed: int = 0) -> float:
    r"""Spearman's correlation between dissimilarities of features and of labels, over pairs of samples (PARC).

    The dissimilarity of two samples is 1 minus Pearson's correlation of their rows: of features (N, D) on one side, and
    of one-hot labels on the other, where it depends only on whether the two are of one class.

    Parameters
    ----------
    features
        (N, D), D ≥ 2. Constant columns count, as they are part of each row.
    labels
        (N,) integers.
    most
        At most so many samples are used, a random choice of them if there are more: the pairs take O(N² D) time and
        O(N²) memory. The authors use 500. Intervals of :func:`~advtransfer.scores.estimate` count that choice as well,
        and become too wide: there, choose the samples first.
    seed
        Seed of that choice.

    Returns
    -------
    float
        Between -1 and 1; larger is better. It does not drift with N.

    Raises
    ------
    TypeError, ValueError
        Inputs that no score takes (see :mod:`advtransfer.scores`); a sample whose features are all equal, so
        that it has no correlation; pairs that are all equally dissimilar; classes with one sample each; or fewer than
        three samples.

    Notes
    -----
    Bolya et al. (2021), key ``bolya2021``. Their code standardises each column first and multiplies by 100, and their
    headline results add a term for the depth of the model. For their numbers, pass standardised features.

    Examples
    --------
    >>> x = torch.tensor([[1.0, 0.0, 0.1], [1.0, 0.1, 0.0], [0.0, 1.0, 0.2], [0.1, 1.0, 0.0]])
    >>> round(parc(x, torch.tensor([0, 0, 1, 1])), 4)
    0.8281
    """
    f, y, _ = labelled(features, labels)
    if most < 3 or len(f) < 3:
        raise ValueError(f"there are {len(f)} samples, of which {most} may be used; expected at least 3")
    if len(f) > most:
        chosen = (
            torch.randperm(len(f), generator=torch.Generator().manual_seed(seed), device="cpu")[:most].sort().values
        )
        f, y = f[chosen.to(f.device)], y[chosen.to(y.device)]
    if (flat := (f == f[:, :1]).all(1)).any():
        raise ValueError(f"{int(flat.sum())} samples have features that are all equal; expected rows that vary")
    z = f - f.mean(1, keepdim=True)
    z = z / torch.linalg.vector_norm(z, dim=1, keepdim=True)
    first, second = torch.triu_indices(len(z), len(z), 1, device=z.device)
    different = y[first] != y[second]
    if different.all() or not different.any():
        raise ValueError("all pairs of samples are of different classes or all of one; expected some of each")
    apart = (1 - (z @ z.T)[first, second]).round(decimals=12)  # equal ones differ in their last bits
    if (apart == apart[0]).all():
        raise ValueError("the features of all pairs of samples are equally dissimilar; expected pairs that differ")
    return float(stats.spearmanr(apart.cpu().numpy(), different.cpu().numpy()).statistic)


def cka(features: Tensor, target_features: Tensor) -> float:
    r"""The similarity of two models' features on the same samples: linear CKA, debiased.

    With K and L the matrices of inner products of the features, and HSIC the unbiased estimate of Song et al.,
    CKA = HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)). With the diagonals of K and L set to zero,

    .. math::
       \mathrm{HSIC} = \frac1{N (N - 3)} \Big[ \mathrm{tr}(K L)
       + \frac{(1^\top K 1)(1^\top L 1)}{(N - 1)(N - 2)} - \frac2{N - 2}\, 1^\top K L 1 \Big] .

    Parameters
    ----------
    features, target_features
        (N, D) and (N, D'), N ≥ 4: features of the same samples in two models, such as a source and the model of the
        target task. Constant columns add nothing.

    Returns
    -------
    float
        About 0 for unrelated features, where it can be negative, and 1 for features that are equal up to a rotation, a
        shift and a common scale. It drifts little with N, since only its parts are unbiased, not their ratio.

    Raises
    ------
    TypeError, ValueError
        Features that are not finite, not (N, D) or all the same; numbers of samples that differ or are below four; or
        features too few to estimate their own HSIC.

    Notes
    -----
    Kornblith et al. (2019) and Song et al. (2012), keys ``kornblith2019`` and ``song2012``. The plug-in estimate is
    too high by O(1/N). The cost is O(N D D') or O(N² (D + D')), whichever is less.

    Examples
    --------
    >>> x = torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, 1.0], [1.0, 1.0], [2.0, 5.0]])
    >>> round(cka(x, 3 * x.flip(1) + 7), 12)
    1.0
    """
    x, y = rows("features", features), rows("target_features", target_features)
    if len(x) != len(y) or len(x) < 4:
        raise ValueError(f"features have {len(x)} samples and target_features {len(y)}; expected the same, at least 4")
    x, y = x - x.mean(0), y.to(x.device) - y.mean(0).to(x.device)  # the estimate does not change, its rounding does
    own = [_hsic(v, v) for v in (x, y)]
    if min(own) <= 0:
        raise ValueError(f"{len(x)} samples are too few to estimate the HSIC of features with themselves")
    return _hsic(x, y) / (own[0] * own[1]) ** 0.5


def _hsic(x: Tensor, y: Tensor) -> float:
    """N (N - 3) times the unbiased estimate of HSIC for the linear kernels of x and y."""
    n = len(x)
    in_pairs = n < max(x.shape[1], y.shape[1])
    product = ((x @ x.T) * (y @ y.T)).sum() if in_pairs else (x.T @ y).square().sum()  # tr(x xᵀ y yᵀ)
    norms_x, norms_y = x.square().sum(1), y.square().sum(1)
    sums_x, sums_y = x @ x.sum(0) - norms_x, y @ y.sum(0) - norms_y  # of each row, less its diagonal entry
    corrected = product - norms_x @ norms_y
    corrected += sums_x.sum() * sums_y.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (sums_x @ sums_y)
    return corrected.item()
