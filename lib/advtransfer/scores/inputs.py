"""What every score asks of its inputs, and the sums that several scores share."""

from typing import NamedTuple

import torch
from torch import Tensor

from advtransfer.checks import check_batch


class Labelled(NamedTuple):
    """Checked features and labels."""

    features: Tensor
    """(N, D), float64."""
    labels: Tensor
    """(N,), numbered 0 to C - 1."""
    counts: Tensor
    """(C,): how many samples each class has; at least one."""


def labelled(features: Tensor, labels: Tensor, *, least: int = 1) -> Labelled:
    """Features in float64 and labels numbered 0 to C - 1, if they can be scored.

    Parameters
    ----------
    features
        (N, D), of any floating-point dtype.
    labels
        (N,), of any integer dtype. The integers are only names: those that occur are numbered in their order.
    least
        How many samples each class must have.

    Raises
    ------
    TypeError
        Features that are not a floating-point tensor, or labels that are not a tensor of integers.
    ValueError
        No samples, values that are not finite, shapes or lengths that do not match, features that are the same for all
        samples, fewer than two classes, or a class with fewer than `least` samples.
    """
    x = rows("features", features)
    y, counts = numbered("labels", labels, len(x), device=x.device)
    if len(counts) < 2:
        raise ValueError(f"labels hold one class, {labels[0].item()}; expected at least two")
    if (fewest := int(counts.min())) < least:
        name = labels.unique()[int(counts.argmin())].item()
        raise ValueError(f"class {name} has {fewest} of the {len(y)} samples; expected at least {least} of each class")
    return Labelled(x, y, counts)


def rows(name: str, x: Tensor) -> Tensor:
    """Finite samples (N, D) that are not all the same, in float64."""
    check_batch(name, x, ndim=2)
    if x.shape[1] == 0 or bool((x == x[0]).all()):
        raise ValueError(f"{name} of shape {tuple(x.shape)} are the same for all samples; expected some that differ")
    return x.detach().double()


def numbered(name: str, labels: Tensor, n: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Labels (n,) numbered in the order of their values, and how many samples each value has."""
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
        given = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"{name} is {given}; expected a tensor of integers")
    if labels.shape != (n,):
        raise ValueError(f"{name} has shape {tuple(labels.shape)}; expected ({n},), one per sample")
    _, index, counts = labels.to(device or labels.device).unique(return_inverse=True, return_counts=True)
    return index, counts


def class_sums(values: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Sums over the samples of each class: (N, K) -> (C, K)."""
    return values.new_zeros(classes, values.shape[1]).index_add_(0, labels, values)


def gram(x: Tensor) -> Tensor:
    """The smaller of the two matrices of inner products: x xᵀ (N, N) if N ≤ D, otherwise xᵀ x (D, D)."""
    return x @ x.T if x.shape[0] <= x.shape[1] else x.T @ x


def eigen(x: Tensor) -> tuple[Tensor, Tensor]:
    """The eigenvalues of `gram(x)` that are not zero by rounding, ascending (r,), and their eigenvectors, (·, r)."""
    values, vectors = torch.linalg.eigh(gram(x))
    kept = values > max(x.shape) * torch.finfo(x.dtype).eps * values[-1]
    return values[kept], vectors[:, kept]
