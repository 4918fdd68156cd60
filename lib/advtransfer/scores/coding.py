r"""TransRate: how many more nats it takes to code all features than to code those of one class."""

import torch
from torch import Tensor

from advtransfer.checks import as_number
from advtransfer.scores.inputs import gram, labelled

# The most that the rounding of a Gram matrix may add to the 1 of ln(1 + ·).
LOST = 1e-2


def transrate(features: Tensor, labels: Tensor, *, eps: float = 1e-4) -> float:
    r"""TransRate: the coding rate of all features minus the mean over classes of the coding rate of each class.

    With the mean of all features subtracted, Z of shape (N, D) and Z_c the rows of class c,

    .. math::
       R(Z) - \frac1C \sum_c R(Z_c), \quad R(Z) = \frac12 \ln\det\Big(I + \frac{Z^\top Z}{N\,\varepsilon}\Big),

    where N is the number of rows of the matrix in question. All classes have the same weight.

    Parameters
    ----------
    features
        (N, D). A constant column adds nothing.
    labels
        (N,) integers.
    eps
        ε, the squared distortion up to which features are coded, in squared units of the features.

    Returns
    -------
    float
        Nats; larger is better. The value depends on the scale of the features, on D and on N: most of it is there for
        permuted labels, too. Compare it with that floor (:func:`~advtransfer.scores.estimate`).

    Raises
    ------
    TypeError, ValueError
        Inputs that no score takes (see :mod:`advtransfer.scores`); an `eps` that is not a positive number, or
        is lost beside the size of the features.

    Notes
    -----
    Huang et al. (2022), key ``huang2022``. Their code divides by zero if a class between 0 and the largest does not
    occur; here classes that do not occur do not count.

    Examples
    --------
    Two classes that lie along different axes, and two that do not:

    >>> z = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> apart, mixed = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    >>> round(transrate(z, apart), 3), round(abs(transrate(z, mixed)), 3)
    (3.912, 0.0)
    """
    eps = as_number("eps", eps)
    if eps == 0:
        raise ValueError("eps is 0; expected a positive number")
    f, y, counts = labelled(features, labels)
    z = f - f.mean(0)
    return _rate(z, eps) - sum(_rate(z[y == c], eps) for c in range(len(counts))) / len(counts)


def _rate(z: Tensor, eps: float) -> float:
    """R(Z), from the smaller of the two matrices that have the same determinant."""
    g = gram(z).div_(len(z) * eps)
    if torch.finfo(g.dtype).eps * torch.linalg.matrix_norm(g) > LOST:
        raise ValueError(f"eps = {eps:g} is lost beside features of size {z.abs().max():.3g}; expected a larger eps")
    g.diagonal().add_(1)
    return torch.linalg.cholesky(g).diagonal().log().sum().item()
