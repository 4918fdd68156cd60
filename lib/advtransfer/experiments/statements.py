"""Every statement of the paper as a number that should be zero, or a ratio that should not exceed one.

Each function takes a `Case`, two random networks at random points, and computes both sides in independent ways.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from advtransfer import matching, metrics, spectral
from advtransfer.models.mlp import OneHiddenLayer, tanh_network


class Statement(NamedTuple):
    """A statement and how it is verified."""

    key: str
    where: str
    form: str
    kind: Literal["equality", "inequality"]
    measure: Callable[["Case"], float]
    tolerance: float
    """The largest number that counts as verified."""


Kind = Literal["equality", "inequality"]


def states(
    statements: list[Statement], key: str, where: str, form: str, kind: Kind = "equality", slack: float = 1e-10
) -> Callable:
    """Append a statement, measured by the decorated function, to a list."""

    def register(measure: Callable[[Case], float]) -> Callable[[Case], float]:
        statements.append(Statement(key, where, form, kind, measure, slack + (kind == "inequality")))
        return measure

    return register


STATEMENTS: list[Statement] = []
_states = partial(states, STATEMENTS)


@dataclass
class Case:
    """Two networks a and b at N points, in one direction, with inner products H_a and H_b."""

    f_a: Callable[[Tensor], Tensor]
    f_b: Callable[[Tensor], Tensor]
    x: Tensor
    h_a: Tensor
    h_b: Tensor
    generator: torch.Generator

    @cached_property
    def a(self) -> Tensor:
        """J_a, (N, d_a, n)."""
        return spectral.jacobian(self.f_a, self.x)

    @cached_property
    def b(self) -> Tensor:
        """J_b, (N, d_b, n)."""
        return spectral.jacobian(self.f_b, self.x)

    @cached_property
    def parts(self) -> matching.GeneralizedTransferability:
        """A1 and A2."""
        return matching.generalized_transferability(self.a, self.b, self.h_a, self.h_b)

    @cached_property
    def ratio(self) -> matching.TheoremRatio:
        """R, R1 and ρ, with H_a and H_b."""
        return matching.theorem_ratio(self.a, self.b, self.h_a, self.h_b)

    @cached_property
    def euclidean(self) -> metrics.Transferability:
        """The metrics of the small-ε regime, H = I."""
        return metrics.from_jacobians(self.a, self.b)

    @cached_property
    def norm_a(self) -> float:
        """√E‖J_a‖²_H."""
        return (spectral.matrix_root(self.h_a, len(self.h_a)) @ self.a).square().sum((1, 2)).mean().sqrt().item()

    def least_squares(self) -> float:
        """The relative gradient matching distance, by numpy's least squares on all N·n equations."""
        design = self.b.mT.flatten(0, 1).numpy()  # (N n, d_b)
        target = self.a.mT.flatten(0, 1).numpy()  # (N n, d_a)
        residual = target - design @ np.linalg.lstsq(design, target, rcond=1e-12)[0]
        h = self.h_a.numpy()
        return float(np.sqrt(np.einsum("ri,ij,rj", residual, h, residual) / np.einsum("ri,ij,rj", target, h, target)))


def random_case(
    sizes_a: list[int], sizes_b: list[int], samples: int, hessian: Literal["I", "PD", "PSD"], seed: int
) -> Case:
    """Random tanh networks of the given widths at standard normal points; H_b is positive definite unless H is I."""
    generator = torch.Generator().manual_seed(seed)
    f_a, f_b = tanh_network(sizes_a, generator), tanh_network(sizes_b, generator)
    x = torch.randn(samples, sizes_a[0], generator=generator, dtype=torch.float64)
    d_a, d_b = sizes_a[-1], sizes_b[-1]
    if hessian == "I":
        return Case(f_a, f_b, x, torch.eye(d_a).double(), torch.eye(d_b).double(), generator)
    root = torch.randn(d_a, max(1, d_a - 1) if hessian == "PSD" else 2 * d_a, generator=generator).double()
    other = torch.randn(d_b, 2 * d_b, generator=generator).double()
    return Case(f_a, f_b, x, root @ root.T / d_a, other @ other.T / d_b + 0.1 * torch.eye(d_b), generator)


@_states("prop-2-1", "Proposition 2.1", "α2² is the mean of θ·θ over all pairs of samples, x1 = x2 included")
def _double_sum(case: Case) -> float:
    first = spectral.singular_attacks(case.a, k=1).delta[:, 0, :, None]
    u, w = ((jac @ first).squeeze(2) for jac in (case.a, case.b))
    u, w = u / u.norm(dim=1, keepdim=True), w / w.norm(dim=1, keepdim=True)
    return abs(((u @ u.T) * (w @ w.T)).mean().item() - case.euclidean.alpha2**2)


@_states("prop-2-2", "Proposition 2.2", "α1(x), α2 and α1∗α2 lie in [0, 1] for exact attacks", "inequality")
def _in_unit_interval(case: Case) -> float:
    result = case.euclidean
    return max(result.alpha1_samples.max().item(), result.alpha2, result.alpha12)


@_states("matching", "Equation 7", r"the best affine map is $W = P K^\dagger$, for every constant $H_a \succeq 0$")
def _closed_form(case: Case) -> float:
    distance = matching.gradient_matching(case.a, case.b, case.h_a).relative
    return abs(distance - case.least_squares()) / distance


@_states("theorem-3-1", "Theorem 3.1, equation 12", "√(1 - R) through A1, A2 and σ is the gradient matching distance")
def _equation_12(case: Case) -> float:
    distance = case.least_squares()
    return abs(max(1 - case.ratio.ratio, 0.0) ** 0.5 - distance) / distance


@_states("cancel", "Theorem 3.1", r"the norm of $K^\dagger$ cancels: four norms, one right-hand side")
def _any_norm(case: Case) -> float:
    pseudo_inverse = case.parts.kernel * case.parts.kernel_norm
    values = []
    for order in (2, "fro", "nuc", 1):
        norm = torch.linalg.matrix_norm(pseudo_inverse, order).item()
        changed = matching.GeneralizedTransferability(
            **{**vars(case.parts), "kernel": pseudo_inverse / norm, "kernel_norm": norm}
        )
        values.append(changed.ratio(case.norm_a))
    return (max(values) - min(values)) / max(values)


@_states("prop-3-1", "Proposition 3.1", "R lies in [0, 1]", "inequality")
def _is_share(case: Case) -> float:
    return case.ratio.ratio if case.ratio.ratio >= 0 else float("inf")


@_states("a2-entries", "Theorem 3.1", "the entries of A2 lie in [-1, 1]", "inequality")
def _entries(case: Case) -> float:
    some = slice(0, min(40, len(case.x)))
    return case.parts.a2(some, some).abs().max().item()


# Directions come from a Gram matrix, so for a small σ⁽ⁱ⁾ the relative error is rounding times (σ⁽¹⁾/σ⁽ⁱ⁾)².
@_states("a2-diagonal", "Theorem 3.1", "A2(x, x) is diagonal", slack=1e-7)
def _diagonal(case: Case) -> float:
    some = range(min(40, len(case.x)))
    blocks = torch.stack([case.parts.a2(slice(i, i + 1), slice(i, i + 1))[0, 0] for i in some])
    return (blocks - torch.diag_embed(blocks.diagonal(dim1=1, dim2=2))).abs().max().item()


@_states("scalar", "Theorem 3.1", "for a scalar $f_a$ the first attack is all there is: R1 = 1 - distance²")
def _scalar(case: Case) -> float:
    scalar = case.a[:, :1]
    distance = matching.gradient_matching(scalar, case.b).relative
    return abs(matching.theorem_ratio(scalar, case.b).ratio_first - (1 - distance**2))


@_states("scalar-scalar", "Theorem 3.1", "scalar to scalar, constant gradient norms: distance² = 1 - (α1∗α2)²")
def _scalar_scalar(case: Case) -> float:
    a, b = (jac[:, :1] / jac[:, :1].norm(dim=2, keepdim=True) for jac in (case.a, case.b))
    distance = matching.gradient_matching(a, b).relative
    return abs(distance**2 - (1 - metrics.from_jacobians(a, b).alpha12 ** 2))


@_states("rho-1", "New", "R1 ≤ ρ", "inequality")
def _first_share(case: Case) -> float:
    ratio = matching.theorem_ratio(case.a, case.b)
    return ratio.ratio_first / ratio.rho


@_states("rho-2", "New", "|√R - √R1| ≤ √(1 - ρ)", "inequality")
def _later_attacks(case: Case) -> float:
    ratio = matching.theorem_ratio(case.a, case.b)
    if case.a.shape[1] == 1:  # then ρ = 1, and both sides are zero up to rounding
        return 0.0
    return abs(ratio.ratio**0.5 - ratio.ratio_first**0.5) / (1 - ratio.rho) ** 0.5


def _weighted(case: Case) -> tuple[float, float, float, float, float]:
    """√R1, C_w, ρ, and E σ_b² over the largest and over the smallest positive eigenvalue of K."""
    ratio = matching.theorem_ratio(case.a, case.b)
    first_a, first_b = spectral.singular_attacks(case.a, k=1), spectral.singular_attacks(case.b, k=1)
    delta = first_a.delta[:, 0, :, None]
    p1 = ((case.a @ delta) @ (case.b @ delta).mT).mean(0)
    squares_a, squares_b = first_a.sigma.square().mean().item(), first_b.sigma.square().mean().item()
    c_w = p1.norm().item() / (squares_a * squares_b) ** 0.5
    eigenvalues = torch.linalg.eigvalsh((case.b @ case.b.mT).mean(0))
    positive = eigenvalues[eigenvalues > matching.PINV_CUTOFF * eigenvalues[-1]]
    return ratio.ratio_first**0.5, c_w, ratio.rho, squares_b / positive[-1].item(), squares_b / positive[0].item()


@_states("rho-3", "New", r"$\sqrt{R_1} \ge C_w \sqrt{\rho\, \mathbb E \sigma_b^2 / \lambda_{\max}(K)}$", "inequality")
def _lower(case: Case) -> float:
    root, c_w, rho, least, _ = _weighted(case)
    return c_w * (rho * least) ** 0.5 / root


@_states("rho-4", "New", r"$\sqrt{R_1} \le C_w \sqrt{\rho\, \mathbb E \sigma_b^2 / \lambda_{\min}^+(K)}$", "inequality")
def _upper(case: Case) -> float:
    root, c_w, rho, _, most = _weighted(case)
    return root / (c_w * (rho * most) ** 0.5)


@_states("rho-5", "New", "√R ≥ C_w √ρ - √(1 - ρ)", "inequality")
def _certificate(case: Case) -> float:
    _, c_w, rho, *_ = _weighted(case)
    return (c_w * rho**0.5 - max(1 - rho, 0.0) ** 0.5) / matching.theorem_ratio(case.a, case.b).ratio ** 0.5


@_states("theorem-3-2-first", "Theorem 3.2", "functions are bounded by gradients (sharper form)", "inequality")
def _functions_by_gradients(case: Case) -> float:
    return _theorem_3_2(case)[0]


@_states("theorem-3-2-second", "Theorem 3.2", "gradients are bounded by functions (sharper form)", "inequality")
def _gradients_by_functions(case: Case) -> float:
    return _theorem_3_2(case)[1]


def _theorem_3_2(case: Case) -> tuple[float, float]:
    """The left side divided by the right side of both inequalities, with the distributions of the proof.

    β is a proved bound for networks with one hidden layer. Random logistic networks take the place of the case's own,
    because their curvature has a bound in closed form.
    """
    n, d_a, d_b = case.x.shape[1], case.a.shape[1], case.b.shape[1]
    root = spectral.matrix_root(case.h_a, d_a)
    f_a = OneHiddenLayer.uniform(n, 12, d_a, case.generator, torch.float64)
    f_a = f_a._replace(w2=root @ f_a.w2, b2=root @ f_a.b2)  # whitened: then H = I
    f_b = OneHiddenLayer.uniform(n, 12, d_b, case.generator, torch.float64)
    x = case.x
    by_function = matching.function_matching(f_a(x), f_b(x))
    by_gradient = matching.gradient_matching(f_a.jacobian(x), f_b.jacobian(x))

    def difference(weight: Tensor, bias: Tensor) -> OneHiddenLayer:
        """f_a - (W f_b + c) is a network of the same kind, with both hidden layers side by side."""
        w1, b1 = torch.cat([f_a.w1, f_b.w1]), torch.cat([f_a.b1, f_b.b1])
        return OneHiddenLayer(w1, b1, torch.cat([f_a.w2, -weight @ f_b.w2], 1), f_a.b2 - weight @ f_b.b2 - bias)

    def smoothness(net: OneHiddenLayer) -> float:
        """‖J(x) - J(y)‖_F ≤ ‖W2‖₂ ‖diag(s'(·) - s'(·)) W1‖_F with |s''| ≤ 1 / (6√3) for the logistic function."""
        rows = net.w1.norm(dim=1)
        return (torch.linalg.matrix_norm(net.w2, 2) * rows.square().square().sum().sqrt() / (6 * 3**0.5)).item()

    h, h_prime = difference(by_function.weight, by_function.bias), difference(by_gradient.weight, torch.zeros(d_a))
    beta = max(smoothness(h), smoothness(h_prime))
    centre = x.mean(0)
    offsets = x - centre
    lengths = offsets.norm(dim=1)
    radius = lengths.max().item()  # of a ball that contains the support; any such ball will do
    tau = 0.3 * radius
    nodes, weights = np.polynomial.legendre.leggauss(24)
    inside = (1 - tau / lengths).clamp_min(0)
    pulled = 0.0
    for t, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        y = centre + torch.maximum(torch.tensor(t), inside)[:, None] * offsets
        pulled += weight * h_prime.jacobian(y).square().sum((1, 2)).mean().item()
    first = (by_function.distance**2 / (2 * radius**2)) / (pulled + beta**2 * (radius - tau) ** 3 / (3 * radius))
    # A random orthonormal frame and its negative have the same first two moments as the sphere; the proof uses these.
    frame = torch.linalg.qr(torch.randn(n, n, generator=case.generator, dtype=torch.float64))[0]
    steps = tau * torch.cat([frame, -frame])
    blurred = h((x[:, None] + steps).flatten(0, 1)).square().sum(1).mean().item()
    second = (by_gradient.distance**2 / (3 * n)) / (blurred / (2 * tau**2) + beta**2 * tau**2 / 4)
    return first, second


@_states("theorem-3-3", "Theorem 3.3", "|(17) - (16)| ≤ ‖f_T - y‖", "inequality")
def _labels(case: Case) -> float:
    f_t, f_s = case.f_a(case.x).detach(), case.f_b(case.x).detach()
    y = f_t + 0.3 * torch.randn(f_t.shape, generator=case.generator, dtype=torch.float64)
    true, surrogate = (matching.transfer_loss(f_s, target, case.h_a).distance for target in (y, f_t))
    error = torch.einsum("ni,ij,nj->n", f_t - y, case.h_a, f_t - y).mean().sqrt().item()
    return abs(true - surrogate) / error


@_states("appendix-b", "Appendix B", "m ≥ d: dist(T | S) ≤ dist(S | T) / σmin(W)", "inequality")
def _way_back(case: Case) -> float:
    s, t = (case.a, case.b) if case.a.shape[1] >= case.b.shape[1] else (case.b, case.a)
    back = matching.gradient_matching(s, t)
    bound = back.distance / torch.linalg.svdvals(back.weight)[-1].item()
    return matching.gradient_matching(t, s).distance / bound


@_states("varying-h", "Erratum on H(x)", "for H(x) the weighted normal equations give the best map")
def _varying(case: Case) -> float:
    n_samples, d_a, _ = case.a.shape
    roots = torch.randn(n_samples, d_a, d_a, generator=case.generator, dtype=torch.float64)
    found = matching.gradient_matching(case.a, case.b, roots.mT @ roots)
    # min_W Σ ‖C (J_a - W J_b)‖² as one least squares problem in vec W: rows C_ip (J_b)_qk, unknowns W_pq.
    design = torch.einsum("nip,nqk->nikpq", roots, case.b).flatten(3).flatten(0, 2).numpy()
    target = (roots @ case.a).flatten().numpy()
    residual = target - design @ np.linalg.lstsq(design, target, rcond=1e-12)[0]
    distance = float(np.linalg.norm(residual) / np.linalg.norm(target))
    return abs(found.relative - distance) / distance
