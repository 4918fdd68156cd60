"""What the derivations say in addition to the paper's statements, measured in the same way as in `statements`."""

from functools import partial
from itertools import product

import numpy as np
import torch
from torch import Tensor

from advtransfer import certificates, intervals, matching, metrics, spectral
from advtransfer.experiments.statements import Case, Statement, states

STATEMENTS: list[Statement] = []
_states = partial(states, STATEMENTS)


def _invertible(case: Case, size: int) -> Tensor:
    """A random invertible matrix of condition at most 4, (size, size)."""
    left, right = (torch.randn(size, size, generator=case.generator, dtype=torch.float64) for _ in range(2))
    scales = torch.linspace(0.5, 2, size, dtype=torch.float64)
    return torch.linalg.qr(left)[0] @ torch.diag(scales) @ torch.linalg.qr(right)[0]


@_states(
    "bias", "Finite samples", "over all samples of three drawn from five points, the estimates average to the truth"
)
def _unbiased(case: Case) -> float:
    delta = spectral.singular_attacks(case.a[:5], k=1).delta[:, 0, :, None]
    u, w = (intervals.unit_rows((jac[:5] @ delta).squeeze(2)) for jac in (case.a, case.b))
    outer = torch.einsum("ni,nj->nij", u, w)
    alpha1 = case.euclidean.alpha1_samples[:5]
    worst = 0.0
    for weights in (torch.ones_like(alpha1), alpha1):  # α2, and α1∗α2
        drawn = torch.tensor(list(product(range(5), repeat=3)))  # (125, 3)
        g = weights[:, None, None] * outer
        plug_in = g[drawn].mean(1).square().sum((1, 2))
        diagonal = weights.square()[drawn].sum(1)
        squares = [intervals.unbiased_square(v, s, 3) for v, s in zip(plug_in.tolist(), diagonal.tolist(), strict=True)]
        worst = max(worst, abs(float(np.mean(squares)) - g.mean(0).square().sum().item()))
    return worst


@_states(
    "p-from-attacks",
    "Theorem 3.1",
    r"$P = \mathbb E \sum_i \Delta_{aa}^{(i)} \Delta_{ab}^{(i)\top}$ over an orthonormal basis of attacks",
)
def _cross_moment(case: Case) -> float:
    h = case.a.mT @ case.h_a @ case.a
    delta = torch.linalg.eigh(h).eigenvectors.mT  # all n attacks, including those that move nothing
    own, other = delta @ case.a.mT, delta @ case.b.mT  # (N, n, d_a), (N, n, d_b)
    by_attacks = torch.einsum("nid,nim->dm", own, other) / len(own)
    direct = (case.a @ case.b.mT).mean(0)
    return ((by_attacks - direct).norm() / direct.norm()).item()


@_states("no-pairs", "Theorem 3.1", "the sum over all pairs of samples and attacks, formed in full, is R")
def _pairs_in_full(case: Case) -> float:
    a, b = case.a[:12], case.b[:12]
    parts = matching.generalized_transferability(a, b, case.h_a, case.h_b)
    some, k = slice(None), parts.sigma.shape[1]
    v = parts.sigma_b[:, None] * parts.sigma * parts.a1[:, :k]
    in_full = torch.einsum("xi,xyij,yj->", v, parts.a2(some, some), v).item() / len(v) ** 2
    norm = (spectral.matrix_root(case.h_a, a.shape[1]) @ a).square().sum((1, 2)).mean().item()
    r = matching.gradient_matching(a, b, case.h_a).r2
    return abs(in_full * parts.kernel_norm / norm - r) / r


@_states("cancel-h", "Theorem 3.1", "R does not depend on $H_b$, as long as it is positive definite")
def _other_metric(case: Case) -> float:
    return abs(case.ratio.ratio - matching.theorem_ratio(case.a, case.b, case.h_a).ratio) / case.ratio.ratio


@_states("invariance", "Proposition 3.1", "R is that of $c f_a$ and of any invertible affine map of $f_b$")
def _invariant(case: Case) -> float:
    change = _invertible(case, case.b.shape[1])
    r = matching.gradient_matching(case.a, case.b, case.h_a).r2
    return abs(matching.theorem_ratio(-3 * case.a, change @ case.b, case.h_a).ratio - r) / r


@_states(
    "function-matching",
    "Equation 13",
    r"the best affine map is $C_{ab} C_{bb}^\dagger$, for every constant $H_a \succeq 0$",
)
def _function_matching(case: Case) -> float:
    f_a, f_b = (f(case.x).detach() for f in (case.f_a, case.f_b))
    found = matching.function_matching(f_a, f_b, case.h_a).distance
    design = np.column_stack([f_b.numpy(), np.ones(len(f_b))])
    residual = f_a.numpy() - design @ np.linalg.lstsq(design, f_a.numpy(), rcond=1e-12)[0]
    distance = float(np.sqrt(np.einsum("ri,ij,rj", residual, case.h_a.numpy(), residual) / len(residual)))
    return abs(found - distance) / distance


@_states("appendix-b-functions", "Appendix B", "the same for functions", "inequality")
def _way_back(case: Case) -> float:
    f_s, f_t = (f(case.x).detach() for f in (case.f_a, case.f_b))
    if f_s.shape[1] < f_t.shape[1]:
        f_s, f_t = f_t, f_s
    back = matching.function_matching(f_s, f_t)
    bound = back.distance / torch.linalg.svdvals(back.weight)[-1].item()
    return matching.function_matching(f_t, f_s).distance / bound


@_states("cw-range", "New", "C_w ≤ 1", "inequality")
def _cw_range(case: Case) -> float:
    return certificates.first_attacks(case.a, case.b).combined


@_states("cw-steepness", "New", "C_w = α1∗α2 where neither model's steepness varies")
def _cw_is_combined(case: Case) -> float:
    a, b = (jac / spectral.singular_attacks(jac, k=1).sigma[:, :, None] for jac in (case.a, case.b))
    return abs(certificates.first_attacks(a, b).combined - metrics.from_jacobians(a, b).alpha12)
