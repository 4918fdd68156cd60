r"""GBC: how much Gaussian classes overlap."""

from typing import Literal

import torch
from torch import Tensor

from advtransfer.scores.inputs import class_sums, eigen, labelled


def gbc(
    features: Tensor,
    labels: Tensor,
    *,
    components: int = 64,
    covariance: Literal["spherical", "diagonal"] = "spherical",
) -> float:
    r"""The negative sum of the Bhattacharyya coefficients of all ordered pairs of classes (GBC).

    The features are projected to their first principal components, K of them, and a Gaussian is fitted to each class:

    .. math::
       -\sum_{i \neq j} e^{-B_{ij}}, \quad
       B_{ij} = \frac18\, (\mu_i - \mu_j)^\top \Sigma^{-1} (\mu_i - \mu_j)
       + \frac12 \ln \frac{|\Sigma|}{\sqrt{|\Sigma_i| |\Sigma_j|}}, \quad \Sigma = \frac{\Sigma_i + \Sigma_j}2 .

    Parameters
    ----------
    features
        (N, D). A constant column adds nothing. A direction in which the features vary by less than about 1e-6 of the
        largest variation counts as constant.
    labels
        (N,) integers.
    components
        K; the rank of the centred features, if that is smaller.
    covariance
        ``"spherical"``, one variance σ² per class, so that ln|Σ| = K ln σ²; or ``"diagonal"``, one per component.
        Variances are divided by the number of samples.

    Returns
    -------
    float
        Between -C (C - 1) and 0; larger is better. Rotations, shifts and a common scale of the features change nothing.

    Raises
    ------
    TypeError, ValueError
        Inputs that no score takes (see :mod:`advtransfer.scores`); fewer than one component, an unknown
        `covariance`, a class with a single sample, or one that has no variance.

    Notes
    -----
    Pándy et al. (2022), key ``pandy2022``. The code of ``stable_transfer`` leaves out the factor K of ln|Σ| for
    spherical covariances, replaces variances below 1e-4, and does not project.

    Examples
    --------
    Two classes of the same spread 1, four spreads apart:

    >>> x = torch.tensor([[-1.0], [1.0], [3.0], [5.0]])
    >>> round(gbc(x, torch.tensor([0, 0, 1, 1])), 4)  # -2 exp(-4²/8)
    -0.2707
    """
    if components < 1 or covariance not in ("spherical", "diagonal"):
        raise ValueError(
            f"components = {components}, covariance = {covariance!r}; expected at least 1, and 'spherical' or "
            "'diagonal'"
        )
    f, y, counts = labelled(features, labels, least=2)
    x = f - f.mean(0)
    values, vectors = eigen(x)
    vectors = vectors[:, -components:]
    z = vectors * values[-components:].sqrt() if len(x) <= x.shape[1] else x @ vectors  # (N, K)
    means = class_sums(z, y, len(counts)) / counts[:, None]  # (C, K)
    variances = class_sums((z - means[y]).square(), y, len(counts)) / counts[:, None]
    if covariance == "spherical":
        variances = variances.mean(1, keepdim=True).expand_as(variances)
    # What rounding leaves of a variance that is zero.
    if (variances <= torch.finfo(z.dtype).eps * values[-1] / len(x)).any():
        name = labels.unique()[int(variances.amin(1).argmin())].item()
        raise ValueError(f"class {name} has no variance in some component; expected samples that differ")
    total = 0.0
    for own, (mean, variance) in enumerate(
        zip(means, variances, strict=True)
    ):  # one class beside all: (C, K) at a time
        both = (variance + variances) / 2
        distance = ((mean - means).square() / both).sum(1) / 8
        distance += (both.log() - (variance.log() + variances.log()) / 2).sum(1) / 2
        distance[own] = torch.inf  # no pair of the class with itself
        total += (-distance).exp().sum().item()
    return -total
