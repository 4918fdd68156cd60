r"""Matching one model by an affine map of another: the distances of Theorems 3.1, 3.2 and 3.3.

The letter a stands for the model ⋆ that is matched (and attacked), and b for the model ⋄ that is mapped. With
P = E[J_a J_bᵀ] and K = E[J_b J_bᵀ] the best map is W = P K†, for every constant H_a.
Sums are taken in float64; nothing of size N² is ever held in memory.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from advtransfer.checks import check_batch, check_jacobians
from advtransfer.intervals import unit_rows
from advtransfer.spectral import SingularAttacks, matrix_root, singular_attacks

# Eigenvalues of a Gram matrix below this fraction of the largest count as zero in its pseudo-inverse.
PINV_CUTOFF = 1e-12


class GradientMatching(NamedTuple):
    """The gradient matching distance (equation 7) and the map that attains it."""

    distance: float
    """√E‖J_a - W J_b‖²_H."""
    relative: float
    """The distance divided by √E‖J_a‖²_H; in [0, 1]."""
    weight: Tensor
    """W, shape (d_a, d_b), float64; the map of smallest norm if several are equally good."""
    r2: float
    """1 - relative², a coefficient of determination (Proposition 3.1)."""


class FunctionMatching(NamedTuple):
    """The function matching distance (equation 13) and the affine map that attains it."""

    distance: float
    """√E‖f_a - W f_b - c‖²_H."""
    relative: float
    """The distance divided by √E‖f_a - E f_a‖²_H, the distance of the best constant; in [0, 1], NaN if that is 0."""
    weight: Tensor
    """W, shape (d_a, d_b), float64."""
    bias: Tensor
    """c, shape (d_a,), float64."""


class TheoremRatio(NamedTuple):
    """The fraction inside equation 12, computed from A1, A2 and σ."""

    ratio: float
    """R; the relative gradient matching distance is √(1 - R)."""
    ratio_first: float
    """R1, the same fraction with only the first attack of each sample."""
    rho: float
    """ρ, the share of the first attacks, E σ⁽¹⁾² / E Σᵢ σ⁽ⁱ⁾² of model a."""


@dataclass(frozen=True, eq=False)
class GeneralizedTransferability:
    """A1 and A2 of Theorem 3.1, for the generalised attacks on model a."""

    a1: Tensor
    """(N, n): how far each attack moves model b, relative to model b's strongest attack (equation 11); zero beyond the
    rank of f_a."""
    sigma: Tensor
    """(N, k): singular values of model a, with k = min(d_a, n)."""
    sigma_b: Tensor
    """(N,): model b's largest singular value."""
    own: Tensor
    """(N, k, d_a): the deviations of model a, whitened by H_a and scaled to unit length."""
    other: Tensor
    """(N, k, d_b): the deviations of model b, scaled to unit H_b norm."""
    kernel: Tensor
    """(d_b, d_b): K† divided by its norm ‖K†‖_H, which defines the second inner product of A2; K = E[J_b J_bᵀ]."""
    kernel_norm: float
    """‖K†‖_H = λmax(H_b^-½ K† H_b^-½)."""

    def a2(self, first: Tensor | slice, second: Tensor | slice) -> Tensor:
        """A2(x1, x2) for all pairs of samples from two index sets: (N1, N2, k, k). Entries beyond k are all zero."""
        own = torch.einsum("xid,yjd->xyij", self.own[first], self.own[second])
        return own * torch.einsum("xim,mq,yjq->xyij", self.other[first], self.kernel, self.other[second])

    def ratio(self, norm_a: float, attacks: int | None = None) -> float:
        """The fraction inside equation 12, with only the first `attacks` attacks (all if ``None``).

        The double expectation over (x1, x2) equals tr(M Ĵ† Mᵀ) with the single expectation M = E Σᵢ vᵢ ûᵢ ŵᵢᵀ.
        `norm_a` is √E‖J_a‖²_H.
        """
        k = attacks or self.sigma.shape[1]
        v = self.sigma_b[:, None] * self.sigma[:, :k] * self.a1[:, :k]  # v of Theorem 3.1  (N, k)
        weighted = v[:, :, None] * self.own[:, :k]
        m = weighted.flatten(0, 1).T @ self.other[:, :k].flatten(0, 1) / len(v)  # (d_a, d_b)
        return (torch.einsum("dm,mq,dq->", m, self.kernel, m) * self.kernel_norm / norm_a**2).item()


def pinv(gram: Tensor) -> Tensor:
    """The pseudo-inverse of a positive semi-definite matrix.

    Eigenvalues below ``PINV_CUTOFF`` times the largest one count as zero.
    """
    return torch.linalg.pinv(gram, rtol=PINV_CUTOFF, hermitian=True)


def gradient_matching(jac_a: Tensor, jac_b: Tensor, hessian_a: Tensor | None = None) -> GradientMatching:
    """The distance between model a's Jacobians and the nearest linear map of model b's (equation 7).

    Directions of model b's outputs whose share of its squared gradient is below ``PINV_CUTOFF`` count as constant.

    Parameters
    ----------
    jac_a, jac_b
        Jacobians, shapes (N, d_a, n) and (N, d_b, n).
    hessian_a
        H_a, symmetric positive semi-definite, (d_a, d_a); or (N, d_a, d_a) when it varies with x, in which case the
        weighted normal equations are solved instead of W = P K†. The identity if ``None``.

    Raises
    ------
    TypeError, ValueError
        Shapes that do not match, values that are not finite, an H that is not positive semi-definite, or a model a
        whose gradient is zero everywhere, so that there is nothing to match.

    Examples
    --------
    A scalar model of two inputs, matched by a scalar model that depends on only one of them:

    >>> a = torch.tensor([[[1.0, 1.0]]])
    >>> b = torch.tensor([[[2.0, 0.0]]])
    >>> result = gradient_matching(a, b)
    >>> result.weight, round(result.relative**2, 12)
    (tensor([[0.5000]], dtype=torch.float64), 0.5)
    """
    check_jacobians(jac_a=jac_a, jac_b=jac_b)
    root = None if hessian_a is None else matrix_root(hessian_a, jac_a.shape[1], "hessian_a", samples=len(jac_a))
    a, b = jac_a.double(), jac_b.double()
    total = _norm(a, root)
    if total == 0:
        raise ValueError("model a has zero gradient at every sample (in the H_a norm); expected something to match")
    if root is not None and root.ndim == 3:
        weight, r2 = _weight_of_varying_hessian(a, b, root @ root), 1.0
    else:
        p, k = _mean_product(a, b), _mean_product(b, b)
        weight = p @ pinv(k)  # P K†
        fit = weight @ p.T if root is None else root @ weight @ p.T @ root
        r2 = fit.trace().item() / total**2  # the residual is orthogonal to the fit
    # If r2 is close to 1, cancellation makes 1 - r2 inaccurate, so the residual itself is summed.
    distance = total * (1 - r2) ** 0.5 if r2 < 0.99 else _norm(a - weight @ b, root)
    return GradientMatching(distance, distance / total, weight, 1 - (distance / total) ** 2)


def _weight_of_varying_hessian(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    """Solve E[H ⊗ J_b J_bᵀ] vec W = vec E[H J_a J_bᵀ]."""
    (_, d_a, _), d_b = a.shape, b.shape[1]
    left = torch.einsum("nij,npq->ipjq", h, b @ b.mT).reshape(d_a * d_b, d_a * d_b)
    right = (h @ (a @ b.mT)).sum(0).reshape(-1)
    return (pinv(left) @ right).reshape(d_a, d_b)


def function_matching(f_a: Tensor, f_b: Tensor, hessian_a: Tensor | None = None) -> FunctionMatching:
    """The distance between model a's outputs and the nearest affine map of model b's (equation 13).

    Parameters
    ----------
    f_a, f_b
        Outputs, shapes (N, d_a) and (N, d_b).
    hessian_a
        H_a, symmetric positive semi-definite, (d_a, d_a); the identity if ``None``.

    Raises
    ------
    TypeError, ValueError
        Shapes that do not match, values that are not finite, or an H that is not positive semi-definite.
    """
    check_batch("f_a", f_a, ndim=2)
    check_batch("f_b", f_b, ndim=2)
    if len(f_a) != len(f_b):
        raise ValueError(f"f_a has {len(f_a)} samples and f_b {len(f_b)}; expected the same samples")
    a, b = f_a.double(), f_b.double()
    mean_a, mean_b = a.mean(0), b.mean(0)
    # A constant is exactly zero about its mean, which is rounded: its noise would be matched.
    a, b = ((v - mean) * (v != v[0]).any(0) for v, mean in ((a, mean_a), (b, mean_b)))
    weight = a.T @ b @ pinv(b.T @ b)
    residual = a - b @ weight.T
    if hessian_a is not None:
        root = _constant_root(hessian_a, a.shape[1], "hessian_a")
        a, residual = a @ root, residual @ root
    distance, total = (residual.norm().item() / len(a) ** 0.5, a.norm().item() / len(a) ** 0.5)
    relative = distance / total if total > 0 else float("nan")
    return FunctionMatching(distance, relative, weight, mean_a - weight @ mean_b)


def transfer_loss(f_s: Tensor, y: Tensor, hessian: Tensor | None = None) -> FunctionMatching:
    """The knowledge transfer loss (equation 17): the distance from y to the nearest affine map of the source's outputs.

    It is ``function_matching(y, f_s, hessian)``, with the same parameters and errors.
    """
    check_batch("y", y, ndim=2)
    return function_matching(y, f_s, hessian)


def generalized_transferability(
    jac_a: Tensor,
    jac_b: Tensor,
    hessian_a: Tensor | None = None,
    hessian_b: Tensor | None = None,
    *,
    attacks: tuple[SingularAttacks, SingularAttacks] | None = None,
) -> GeneralizedTransferability:
    """A1 (equation 11) and A2 (Theorem 3.1), where the first inner product of A2 is that of H_a.

    Parameters
    ----------
    jac_a, jac_b
        Jacobians, shapes (N, d_a, n) and (N, d_b, n).
    hessian_a, hessian_b
        H_a, positive semi-definite, (d_a, d_a), and H_b, positive definite, (d_b, d_b); identities if ``None``.
    attacks
        The singular attacks of both models in their inner products, if they are already known; those of model a must be
        complete.

    Raises
    ------
    TypeError, ValueError
        Shapes that do not match, values that are not finite, or a singular H_b, for which equation 12 is false.
    """
    check_jacobians(jac_a=jac_a, jac_b=jac_b)
    a, b = jac_a.double(), jac_b.double()
    (n_samples, d_a, n), d_b = a.shape, b.shape[1]
    root_a = None if hessian_a is None else _constant_root(hessian_a, d_a, "hessian_a")
    root_b = None if hessian_b is None else _positive_root(hessian_b, d_b)
    attacks_a, attacks_b = attacks or (singular_attacks(a, hessian_a), singular_attacks(b, hessian_b, k=1))
    sigma, delta, sigma_b = attacks_a.sigma.double(), attacks_a.delta.double(), attacks_b.sigma[:, 0].double()
    own, other = delta @ a.mT, delta @ b.mT  # (J δ⁽ⁱ⁾)ᵀ  (N, k, d_a), (N, k, d_b)
    whitened = other if root_b is None else other @ root_b
    length = torch.linalg.vector_norm(whitened, dim=2)  # ‖Δ_ab⁽ⁱ⁾‖_H  (N, k)
    moved = torch.where(sigma_b[:, None] > 0, length / sigma_b[:, None], 0)
    kernel = pinv(_mean_product(b, b))
    inverse_root = torch.eye(d_b, dtype=b.dtype, device=b.device) if root_b is None else torch.linalg.inv(root_b)
    norm = torch.linalg.matrix_norm(inverse_root @ kernel @ inverse_root, 2).item()
    return GeneralizedTransferability(
        a1=torch.cat([moved, moved.new_zeros(n_samples, n - moved.shape[1])], 1),
        sigma=sigma,
        sigma_b=sigma_b,
        own=unit_rows(own if root_a is None else own @ root_a),
        other=torch.where(length[..., None] > 0, other / length[..., None], 0),
        kernel=kernel / norm if norm > 0 else kernel,
        kernel_norm=norm,
    )


def _constant_root(hessian: Tensor, size: int, name: str) -> Tensor:
    """The square root of an H that is one matrix for all samples."""
    if hessian.ndim != 2:
        raise ValueError(f"{name} has shape {tuple(hessian.shape)}; expected one matrix ({size}, {size}) for all x")
    return matrix_root(hessian, size, name)


def _positive_root(hessian: Tensor, size: int) -> Tensor:
    root = _constant_root(hessian, size, "hessian_b")
    smallest, largest = torch.linalg.eigvalsh(root)[[0, -1]].tolist()
    if smallest <= 1e-6 * largest:
        raise ValueError(
            f"hessian_b is singular (eigenvalues down to {smallest**2:.2g} of {largest**2:.2g}); expected positive "
            "definite: equation 12 does not hold otherwise"
        )
    return root


def theorem_ratio(
    jac_a: Tensor,
    jac_b: Tensor,
    hessian_a: Tensor | None = None,
    hessian_b: Tensor | None = None,
    *,
    attacks: tuple[SingularAttacks, SingularAttacks] | None = None,
) -> TheoremRatio:
    """The fraction inside equation 12, computed from A1 and A2 as in Theorem 3.1.

    Parameters and errors are those of :func:`generalized_transferability`. In addition, it is an error if the gradient
    of model a is zero everywhere.
    """
    parts = generalized_transferability(jac_a, jac_b, hessian_a, hessian_b, attacks=attacks)
    root = None if hessian_a is None else _constant_root(hessian_a, jac_a.shape[1], "hessian_a")
    norm_a = _norm(jac_a.double(), root)
    if norm_a == 0:
        raise ValueError("model a has zero gradient at every sample (in the H_a norm); expected something to match")
    # Rounding could lift a share above its bound, R and R1 the more so the nearer K is to singular.
    rho = min(1.0, (parts.sigma[:, 0].square().mean() / norm_a**2).item())
    return TheoremRatio(min(1.0, parts.ratio(norm_a)), min(rho, parts.ratio(norm_a, attacks=1)), rho)


def evenly(n: int, most: int) -> Tensor:
    """Positions (k,), int64, of k = min(n, `most`) of n samples, spread evenly over them.

    Samples often come sorted by class; the first k of them would then be of one class.

    Examples
    --------
    >>> evenly(9, 3).tolist(), evenly(2, 3).tolist()
    ([0, 4, 8], [0, 1])
    """
    return torch.linspace(0, n - 1, min(n, most), dtype=torch.float64, device="cpu").round().long()


def gram(jacs: Sequence[Tensor]) -> Tensor:
    """E[J_a J_bᵀ] for all pairs of K models in one matrix, which is all that gradient matching needs to know.

    The Jacobians of all models are in memory at once: 1,000 outputs at 224 × 224 pixels take 0.6 GB per sample and
    model. For many samples use :func:`mean_gram`, which takes them in parts.

    Parameters
    ----------
    jacs
        K Jacobians at the same samples, shapes (N, d_k, n).

    Returns
    -------
    Tensor
        Shape (D, D), float64, where D is the sum of the d_k.

    Raises
    ------
    TypeError, ValueError
        No Jacobians, or shapes that do not match.
    """
    if not jacs:
        raise ValueError("no Jacobians were given; expected at least one")
    check_jacobians(**{f"jacs[{place}]": jac for place, jac in enumerate(jacs)})
    size = sum(jac.shape[1] for jac in jacs)
    rows = _rows_a_product(size * jacs[0].shape[2])
    total = jacs[0].new_zeros(size, size, dtype=torch.float64)
    for part in zip(*(jac.split(rows) for jac in jacs), strict=True):
        wide = torch.cat([_wide(jac) for jac in part])  # (D, rows · n)
        total = total + wide @ wide.T
    return total / len(jacs[0])


def mean_gram(parts: Iterable[Sequence[Tensor]]) -> Tensor:
    """:func:`gram` over samples that come in parts, of which only one is in memory at a time.

    Parameters
    ----------
    parts
        The K Jacobians of each part of the samples, shapes (N_part, d_k, n).

    Returns
    -------
    Tensor
        Shape (D, D), float64, on the CPU.

    Raises
    ------
    TypeError, ValueError
        No parts, or what :func:`gram` refuses.

    Examples
    --------
    >>> jacs = [torch.ones(6, 2, 4), torch.ones(6, 3, 4)]
    >>> torch.equal(mean_gram(zip(*(jac.split(4) for jac in jacs))), gram(jacs))
    True
    """
    total, samples = torch.zeros(()), 0
    for jacs in parts:
        total = total + len(jacs[0]) * gram(jacs).cpu()
        samples += len(jacs[0])
    if not samples:
        raise ValueError("no Jacobians were given; expected at least one part")
    return total / samples


def distances(gram: Tensor, sizes: Sequence[int]) -> Tensor:
    """All relative gradient matching distances between K models, computed from their :func:`gram` matrix.

    Parameters
    ----------
    gram
        Shape (D, D), where D is the sum of the d_k.
    sizes
        The K output dimensions d_k.

    Returns
    -------
    Tensor
        (K, K), float64: entry (a, b) is the distance of model a from the nearest map of model b. The square of a
        distance has an error of about 1e-16 times the condition number of K = E[J_b J_bᵀ]: distances below about 1e-7
        are rounding errors, or below 1e-3 if the outputs of model b differ by 1e5 in scale. Use
        :func:`gradient_matching` to compute those.

    Raises
    ------
    ValueError
        Sizes that do not add up, or a model whose gradient is zero everywhere.
    """
    if gram.shape != (sum(sizes), sum(sizes)):
        raise ValueError(f"gram has shape {tuple(gram.shape)}; expected sides of {sum(sizes)}, the sum of {sizes}")
    gram = gram.double()
    blocks = [row.split(list(sizes), 1) for row in gram.split(list(sizes), 0)]  # blocks[a][b] = E[J_a J_bᵀ]
    if any(row[a].trace() == 0 for a, row in enumerate(blocks)):
        raise ValueError("a model has zero gradient at every sample; expected something to match")
    inverses = [pinv(row[b]) for b, row in enumerate(blocks)]
    r2 = torch.stack(
        [
            torch.stack([(p @ inverse * p).sum() / row[a].trace() for p, inverse in zip(row, inverses, strict=True)])
            for a, row in enumerate(blocks)
        ]
    )
    return (1 - r2).clamp_min(0).sqrt()


def pairwise(jacs: Sequence[Tensor]) -> Tensor:
    """All relative gradient matching distances between K models, from their Jacobians at the same samples.

    This is :func:`distances` of their :func:`gram` matrix.
    """
    return distances(gram(jacs), [jac.shape[1] for jac in jacs])


def _mean_product(a: Tensor, b: Tensor) -> Tensor:
    """E[A Bᵀ] over samples: (N, d, n), (N, m, n) -> (d, m)."""
    rows = _rows_a_product((a.shape[1] + b.shape[1]) * a.shape[2])
    total = a.new_zeros(a.shape[1], b.shape[1], dtype=torch.float64)
    for part_a, part_b in zip(a.split(rows), b.split(rows), strict=True):
        total = total + _wide(part_a) @ _wide(part_b).T
    return total / len(a)


def _wide(jac: Tensor) -> Tensor:
    """(N, d, n) -> (d, N · n), float64, so that the sum over samples becomes part of one matrix product."""
    return jac.transpose(0, 1).flatten(1).double()


def _rows_a_product(entries: int) -> int:
    """How many samples to take at a time, given the entries of one, so that copies fit into the processor's cache."""
    return max(1, 2**20 // entries)


def _norm(a: Tensor, root: Tensor | None) -> float:
    """√E‖A‖²_H of (N, d, n)."""
    return torch.linalg.vector_norm(a if root is None else root @ a).item() / len(a) ** 0.5
