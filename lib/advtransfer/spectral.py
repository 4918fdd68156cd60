r"""Jacobians and the exact attacks of the small-ε regime: singular vectors in the inner product of H.

For :math:`\|\delta\|_2 \le \epsilon` and a norm-type loss the best attack on :math:`f` at :math:`x` is the leading
right singular vector of :math:`H^{1/2} J_f(x)`. Together with the other right singular vectors, it makes up the
generalised attacks (equations 5, 8 and 9).
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from advtransfer.balls import fitted
from advtransfer.checks import Bounds, as_count, as_number, check_batch, check_box
from advtransfer.modes import Model, evaluating, outputs_of

# A singular value below this fraction of the sample's largest one is numerical noise of the eigensolver.
RELATIVE_CUTOFF = 1e-6


class SingularAttacks(NamedTuple):
    """The generalised attacks of a model at each sample, strongest first."""

    sigma: Tensor
    """(N, k): singular values σ⁽ⁱ⁾ in descending order; those below ``RELATIVE_CUTOFF`` times the first are 0."""
    delta: Tensor
    """(N, k, n): attacks δ⁽ⁱ⁾ of unit length; zero where σ⁽ⁱ⁾ = 0, since such a direction does not move the model."""


def jacobian(model: Model, x: Tensor, *, chunk_size: int | None = None) -> Tensor:
    """The Jacobian of a model's outputs with respect to its inputs, at each sample.

    Parameters
    ----------
    model
        Maps (N, ...) to (N, d), each row independently. A module is evaluated in eval mode and left as it was.
    x
        Inputs, shape (N, ...); n is the number of entries of one sample.
    chunk_size
        Number of samples per pass (all at once if ``None``). It limits the memory of the autograd graph, not that of
        the result.

    Returns
    -------
    Tensor
        Shape (N, d, n), in the dtype and on the device of `x`: entry (s, i, j) is ∂fᵢ/∂xⱼ at sample s.

    Raises
    ------
    TypeError, ValueError
        An empty batch, a NaN or infinite input, or outputs that are not of shape (N, d).
    """
    check_batch("x", x)
    size = len(x) if chunk_size is None else as_count("chunk_size", chunk_size)
    with evaluating(model, gradients=True):
        return torch.cat([_jacobian(model, part) for part in x.split(size)])


def _jacobian(model: Model, x: Tensor) -> Tensor:
    leaf = x.detach().clone().requires_grad_()
    outputs = outputs_of(model, leaf)  # (N, d)
    check_batch("model outputs", outputs)
    found: list[Tensor | None] = [None] * outputs.shape[1]
    if outputs.requires_grad:  # even if only the weights of the last layer do
        sums = outputs.sum(0)
        found = [torch.autograd.grad(total, leaf, retain_graph=True, allow_unused=True)[0] for total in sums]
    # A constant model, or one that autograd cannot follow?
    if all(row is None for row in found) and not outputs.equal(outputs_of(model, leaf.detach() + 1)):
        raise ValueError("the model's outputs do not depend on x; expected a model that autograd can follow")
    still = torch.zeros_like(leaf)
    return torch.stack([(still if row is None else row).flatten(1) for row in found], 1)  # (N, d, n)


def matrix_root(hessian: Tensor, size: int, name: str = "hessian", *, samples: int | None = None) -> Tensor:
    """The symmetric square root of a positive semi-definite matrix, in float64.

    `hessian` is one matrix (size, size), or one matrix per sample (N, size, size). In the second case N must equal
    `samples`, if that is given. What rounding in the dtype of `hessian` can do to it is forgiven: its two halves are
    averaged, and its negative eigenvalues count as zero.

    Raises
    ------
    ValueError
        The matrix has the wrong shape, is not symmetric (or not finite), or has a negative eigenvalue.
    """
    h = hessian.double()
    if h.ndim not in (2, 3) or h.shape[-2:] != (size, size) or (h.ndim == 3 and samples not in (None, len(h))):
        each = "N" if samples is None else samples
        raise ValueError(f"{name} has shape {tuple(h.shape)}; expected ({size}, {size}) or ({each}, {size}, {size})")
    coarse = torch.finfo(hessian.dtype).eps if hessian.dtype.is_floating_point else 0
    slack = max(1e-6, 16 * coarse) * h.abs().amax((-2, -1))  # relative to the largest entry
    if not ((h - h.mT).abs().amax((-2, -1)) <= slack).all():
        raise ValueError(f"{name} is not symmetric (largest difference {(h - h.mT).abs().max():.2g})")
    values, vectors = torch.linalg.eigh((h + h.mT) / 2)
    if (values[..., 0] < -slack).any():
        raise ValueError(f"{name} has the eigenvalue {values.min():.2g}; expected positive semi-definite")
    return (vectors * values.clamp_min(0).sqrt().unsqueeze(-2)) @ vectors.mT


def _eigh(gram: Tensor) -> tuple[Tensor, Tensor]:
    """``torch.linalg.eigh`` of matrices (N, d, d). On a CPU it uses one core per batch, so each core gets a part."""
    workers = min(torch.get_num_threads(), len(gram) // 500) if gram.device.type == "cpu" else 0
    if workers < 2:
        return torch.linalg.eigh(gram)
    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(torch.linalg.eigh, gram.chunk(workers)))
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def singular_attacks(jac: Tensor, hessian: Tensor | None = None, k: int | None = None) -> SingularAttacks:
    """The first `k` generalised attacks δ⁽ⁱ⁾ and singular values σ⁽ⁱ⁾ (equations 8 and 9).

    They are computed in float64 from the d×d Gram matrix of H^½ J; no n×n problem is solved.

    Parameters
    ----------
    jac
        Jacobians, shape (N, d, n).
    hessian
        H, symmetric positive semi-definite, shape (d, d) or (N, d, d); the identity if ``None``.
    k
        Number of attacks; by default and at most min(d, n), since further attacks do not move the model.

    Returns
    -------
    SingularAttacks
        ``.sigma`` (N, k) and ``.delta`` (N, k, n), in the dtype of `jac`.

    Raises
    ------
    TypeError, ValueError
        A wrong shape, a value that is not finite, an H that is not positive semi-definite, or k out of range.

    Examples
    --------
    >>> attacks = singular_attacks(torch.tensor([[[3.0, 0.0], [0.0, 4.0]]]))
    >>> attacks.sigma
    tensor([[4., 3.]])
    >>> attacks.delta.abs()
    tensor([[[0., 1.],
             [1., 0.]]])
    """
    check_batch("jac", jac, ndim=3)
    most = min(jac.shape[1:])
    k = most if k is None else as_count("k", k, most=most)
    b = jac.double()
    if hessian is not None:
        b = matrix_root(hessian, jac.shape[1], samples=len(jac)) @ b  # H^½ J  (N, d, n)
    squares, u = _eigh(b @ b.mT)  # ascending  (N, d), (N, d, d)
    sigma = squares[:, -k:].flip(1).clamp_min(0).sqrt()
    sigma = torch.where(sigma > RELATIVE_CUTOFF * sigma[:, :1], sigma, 0)
    delta = u[:, :, -k:].flip(2).mT @ b  # σ δ  (N, k, n)
    delta = torch.where(sigma[:, :, None] > 0, delta / sigma[:, :, None], 0)
    return SingularAttacks(sigma.to(jac.dtype), delta.to(jac.dtype))


def first_attack(
    model: Model, x: Tensor, *, eps: float, bounds: Bounds = (0.0, 1.0), chunk_size: int | None = 25
) -> Tensor:
    """The exact ℓ2 attack of the small-ε regime (equation 5): ε times the leading right singular vector.

    A singular vector has no sign of its own, so at each sample the sign that moves the model further is chosen.

    Parameters
    ----------
    model
        As for :func:`jacobian`.
    x
        Inputs, shape (N, ...).
    eps
        Radius of the ℓ2 ball, in the units of `x`: a number of any kind, at most the diagonal of the box.
    bounds
        The range of the values of `x`, to which x + δ is clipped; None means no limits. Values of `x` may lie outside
        by rounding.
    chunk_size
        Number of samples per pass when the Jacobian is computed.

    Returns
    -------
    Tensor
        δ, with the shape and dtype of `x` and ‖δ‖₂ ≤ eps. It is zero where the Jacobian is.

    Raises
    ------
    TypeError, ValueError
        A radius that is not a number, negative or not finite; otherwise as for :func:`jacobian` and `attacks.pgd`.
    """
    eps = as_number("eps", eps)
    check_batch("x", x)
    low, high = check_box(x, bounds, eps, "l2")
    jac = jacobian(model, x, chunk_size=chunk_size)
    leading = singular_attacks(jac, k=1).delta[:, 0].view_as(x)
    with evaluating(model):
        x = x.detach()
        wide = torch.promote_types(x.dtype, torch.float32)
        both = [(sign * eps * leading).to(wide).clamp(low - x, high - x) for sign in (1, -1)]
        a, b = (fitted(delta, x, eps, "l2", low, high) for delta in both)
        clean = outputs_of(model, x)
        moved = torch.stack([(outputs_of(model, x + delta) - clean).norm(dim=1) for delta in (a, b)])  # (2, N)
    forwards = (moved[0] >= moved[1]).view(-1, *[1] * (x.ndim - 1))
    return torch.where(forwards, a, b)
