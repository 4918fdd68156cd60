"""The smallest examples in which a statement, read as printed, fails. Every value is computed, none is typed in.

Most models here are linear, so the Jacobian is the same for all inputs, and every value can be checked by hand.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from advtransfer import attacks, matching, metrics, spectral


class Counterexample(NamedTuple):
    """One number, as the printed statement gives it and as it really is."""

    key: str
    """The label of the erratum it belongs to."""
    where: str
    example: str
    quantity: str
    printed: float
    """The value that the statement as printed gives or requires."""
    holds: float
    """The value computed independently of it."""


_EXAMPLES: list[Callable[[], Iterator[Counterexample]]] = []


def counterexamples() -> list[Counterexample]:
    """All counterexamples, in the order of the errata page."""
    return [found for example in _EXAMPLES for found in example()]


def _example(function: Callable[[], Iterator[Counterexample]]) -> Callable[[], Iterator[Counterexample]]:
    _EXAMPLES.append(function)
    return function


def _jac(*samples: list[list[float]]) -> Tensor:
    """Jacobians (N, d, n) of the given samples."""
    return torch.tensor(samples, dtype=torch.float64)


def printed_fraction(jac_a: Tensor, jac_b: Tensor, hessian_a: Tensor, hessian_b: Tensor) -> float:
    """The fraction inside equation 12 to the letter, with a Euclidean first inner product in A2.

    Deviations of zero H_b norm count as zero, so that H_b may be singular.
    """
    parts = spectral.singular_attacks(jac_a, hessian_a)
    own, other = parts.delta @ jac_a.mT, parts.delta @ jac_b.mT  # (N, k, d_a), (N, k, d_b)
    root_a, root_b = (spectral.matrix_root(h, len(h)) for h in (hessian_a, hessian_b))
    length_a, length_b = (own @ root_a).norm(dim=2), (other @ root_b).norm(dim=2)  # (N, k)
    # These have unit H_a norm, yet their inner product is Euclidean, as printed.
    own = torch.where(length_a > 0, 1 / length_a, 0)[..., None] * own
    other = torch.where(length_b > 0, 1 / length_b, 0)[..., None] * other
    v = parts.sigma * length_b  # σ_b⁽¹⁾ cancels against the denominator of A1
    m = torch.einsum("nk,nkd,nkm->dm", v, own, other) / len(v)
    kernel = matching.pinv((jac_b @ jac_b.mT).mean(0))
    norm_a = (root_a @ jac_a).square().sum((1, 2)).mean()
    return (torch.einsum("dm,mq,dq->", m, kernel, m) / norm_a).item()


@_example
def _how_often() -> Iterator[Counterexample]:
    found = metrics.from_jacobians(_jac([[1, 0]]), _jac([[0.5, 0.75**0.5]])).alpha1_samples
    yield Counterexample(
        "erratum-how-often",
        "After Proposition 2.1",
        "f_a = x1, f_b = x1 / 2 + x2 √3 / 2",
        "how often the attack transfers whole, α1 in print",
        found.mean().item(),
        (found > 0.999).double().mean().item(),
    )


@_example
def _alpha1_above_one() -> Iterator[Counterexample]:
    c = 3.0
    f_a = torch.nn.Linear(2, 2, bias=False, dtype=torch.float64)
    f_b = torch.nn.Linear(2, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        f_a.weight.copy_(torch.tensor([[0.0, 1.0], [0.0, -1.0]]))
        f_b.weight.copy_(torch.tensor([[1.0, c], [-1.0, c]]))
    x = torch.tensor([[0.5, 0.5]], dtype=torch.float64)

    def attack(model: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
        return attacks.pgd(model, points, eps=0.01, norm="l2", random_start=False, bounds=None)

    yield Counterexample(
        "erratum-alpha1-range",
        "Proposition 2.2",
        "attack: cross-entropy; measure: ℓ2; f_b = (x1 + 3 x2, -x1 + 3 x2), f_a = (x2, -x2)",
        "α1, at most 1 in print",
        1.0,
        metrics.transferability(f_a, f_b, x, attack).alpha1,
    )


@_example
def _hessians() -> Iterator[Counterexample]:
    def hessian_of_square(loss: Callable[[Tensor], Tensor]) -> float:
        # The square of a norm is smooth at zero, but autograd would meet 0/0 there, so a point nearby is used.
        near = torch.full((1,), 1e-6, dtype=torch.float64)
        return torch.autograd.functional.hessian(lambda u: loss(u) ** 2, near)[0, 0].item()

    where = "The small-ε regime"
    of_norm = hessian_of_square(lambda u: u.square().sum().sqrt())
    yield Counterexample(
        "erratum-hessian", where, "ℓ(u) = ‖u‖₂ on the line", "H, the Hessian of ℓ² in print", of_norm, 1.0
    )

    logits = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)

    def kl(u: Tensor) -> Tensor:
        log_p, log_q = logits.log_softmax(0), (logits + u).log_softmax(0)
        return (log_p.exp() * (log_p - log_q)).sum()

    zero = torch.zeros(3, dtype=torch.float64)
    squared = torch.autograd.functional.hessian(lambda u: kl(u) ** 2, zero)
    half = torch.autograd.functional.hessian(kl, zero) / 2
    yield Counterexample(
        "erratum-hessian",
        where,
        "KL divergence of softmax outputs, three classes",
        "largest eigenvalue of H",
        torch.linalg.eigvalsh(squared)[-1].item(),
        torch.linalg.eigvalsh(half)[-1].item(),
    )


@_example
def _operator_norm() -> Iterator[Counterexample]:
    a, b = _jac([[1, 0]]), _jac([[1, 0], [0, 1]])
    ratio = matching.theorem_ratio(a, b).ratio
    trace_norm, operator_norm = torch.linalg.matrix_norm(b).item(), torch.linalg.matrix_norm(b, 2).item()
    yield Counterexample(
        "erratum-operator-norm",
        "Equation 11",
        "f_a = x1, f_b = (x1, x2)",
        "R, with the trace norm in A1",
        ratio * (operator_norm / trace_norm) ** 2,
        matching.gradient_matching(a, b).r2,
    )


@_example
def _kl_gives_the_square() -> Iterator[Counterexample]:
    a, b, eps = _jac([[1, 0]]), _jac([[1, 1]]), 1e-4
    first_a, first_b = (spectral.singular_attacks(jac).delta[:, 0, :, None] for jac in (a, b))
    loss = [((b @ (eps * delta)) ** 2).item() for delta in (first_a, first_b)]
    yield Counterexample(
        "erratum-kl-square",
        "After equation 11",
        "ℓ(u) = u², f_a = x1, f_b = x1 + x2",
        "A1⁽¹⁾, said to be α1 of Definition 1",
        metrics.from_jacobians(a, b).alpha1,
        loss[0] / loss[1],
    )


@_example
def _ties() -> Iterator[Counterexample]:
    a, b = _jac([[1, 0], [0, 1]]), _jac([[1, 0]])

    def alpha1(delta: list[float]) -> float:
        d = torch.tensor(delta, dtype=torch.float64)
        own = spectral.singular_attacks(b).delta[:, 0]
        return metrics.from_deviations((a * d).sum(2), (b * d).sum(2), (b * own[:, None]).sum(2)).alpha1

    yield Counterexample(
        "erratum-ties",
        "Definition 1",
        "f_a = (x1, x2), f_b = x1: every direction is a best attack",
        "α1 with the attack e1, and with e2",
        alpha1([1.0, 0.0]),
        alpha1([0.0, 1.0]),
    )


@_example
def _inner_product() -> Iterator[Counterexample]:
    a, b = _jac([[1, 0]]), _jac([[1, 0], [0, 1]])
    h_a, h_b = torch.tensor([[0.5]]).double(), torch.eye(2).double()
    yield Counterexample(
        "erratum-inner-product",
        "Theorem 3.1",
        "f_a = x1, f_b = (x1, x2), H_a = 1/2",
        "R, with a Euclidean first inner product",
        printed_fraction(a, b, h_a, h_b),
        matching.gradient_matching(a, b, h_a).r2,
    )


@_example
def _singular_hessian() -> Iterator[Counterexample]:
    a, b = _jac([[0, 1]]), _jac([[1, 0], [0, 1]])
    h_a = torch.eye(1).double()
    for small in (0.0, 1e-3):
        yield Counterexample(
            "erratum-singular-h",
            "Theorem 3.1",
            f"f_a = x2, f_b = (x1, x2), H_b = diag(1, {small:g})",
            "relative distance",
            max(1 - printed_fraction(a, b, h_a, torch.diag(torch.tensor([1.0, small])).double()), 0.0) ** 0.5,
            matching.gradient_matching(a, b).relative,
        )


@_example
def _varying_hessian() -> Iterator[Counterexample]:
    a, b = _jac([[1]], [[3]]), _jac([[1]], [[1]])
    h = torch.tensor([[[1.0]], [[3.0]]]).double()
    mean_h = h.mean(0)
    yield Counterexample(
        "erratum-varying-h",
        "Theorem 3.1",
        "two inputs, J_a = 1 and 3, J_b = 1, H_a = 1 and 3",
        "the best W",
        matching.gradient_matching(a, b, mean_h).weight.item(),
        matching.gradient_matching(a, b, h).weight.item(),
    )


@_example
def _closer_to_one() -> Iterator[Counterexample]:
    key, where, k, c = "erratum-closer", "After Proposition 3.1", 10, 0.999
    a, b = torch.diag(torch.tensor([1.0] + [c] * (k - 1))).double()[None], torch.eye(k).double()[None, :1]
    result = metrics.from_jacobians(a, b)
    yield Counterexample(
        key,
        where,
        f"f_a = (x1, {c} x2, …, {c} x{k}), f_b = x1: α1 = {result.alpha1:g}, α2 = {result.alpha2:g}",
        "relative distance, small in print",
        0.0,
        matching.gradient_matching(a, b).relative,
    )
    a, b = _jac([[0, 1]]), _jac([[100, 0], [0, 1]])
    yield Counterexample(
        key,
        where,
        f"f_a = x2, f_b = (100 x1, x2): α1 = {metrics.from_jacobians(a, b).alpha1:g}",
        "relative distance, large in print",
        1.0,
        matching.gradient_matching(a, b).relative,
    )
    a, b = _jac([[1, 0]], [[1, 0]]), _jac([[1, 0]], [[-1, 0]])
    result = metrics.from_jacobians(a, b)
    yield Counterexample(
        key,
        where,
        f"∇f_b = ±∇f_a, half and half: α1 = {result.alpha1:g}, α2 = {result.alpha2:g}",
        "relative distance, small by α1 alone",
        0.0,
        matching.gradient_matching(a, b).relative,
    )
    a, b = _jac([[1, 0]]), _jac([[0.1, 1]])
    yield Counterexample(
        key,
        where,
        f"f_a = x1, f_b = 0.1 x1 + x2: α2 = {metrics.from_jacobians(a, b).alpha2:g}",
        "relative distance, small by α2 alone",
        0.0,
        matching.gradient_matching(a, b).relative,
    )
    m = 10
    isotropic = torch.eye(m).double()
    yield Counterexample(
        key,
        where,
        f"a model and itself, deviations in {m} directions alike",
        "α2, 1 for a perfect match",
        1.0,
        metrics.from_deviations(isotropic, isotropic, isotropic).alpha2,
    )


@_example
def _overshoot() -> Iterator[Counterexample]:
    a, b = _jac([[1, 0], [0, 0.5]], [[0.5, 0], [0, 1]]), _jac([[1, -1]], [[-1, 1]])
    yield Counterexample(
        "erratum-overshoot",
        "After Theorem 3.1",
        "two inputs, J_a = diag(1, ½) and diag(½, 1), J_b = (1, -1) and (-1, 1)",
        "R, from the first attacks alone",
        matching.theorem_ratio(a, b).ratio_first,
        matching.gradient_matching(a, b).r2,
    )


@_example
def _beta() -> Iterator[Counterexample]:
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    gradients = spectral.jacobian(lambda u: u.square(), x)
    yield Counterexample(
        "erratum-beta",
        "Assumption 1",
        "h(x) = x² on the line",
        "‖∇h(1) - ∇h(0)‖, at most |1 - 0| in print",
        1.0,
        (gradients[1] - gradients[0]).norm().item(),
    )


@_example
def _same_function_on_both_sides() -> Iterator[Counterexample]:
    x = torch.tensor([[0.0], [0.0], [2.0]], dtype=torch.float64)
    weight = matching.function_matching(x.square() / 2, x).weight
    jac_a, jac_b = x[:, :, None], torch.ones(3, 1, 1, dtype=torch.float64)
    yield Counterexample(
        "erratum-same-h",
        "Theorem 3.2",
        "f_a = x² / 2, f_b = x at the inputs 0, 0, 2",
        "the gradient matching distance, ‖∇h‖ in print",
        (jac_a - weight @ jac_b).square().mean().sqrt().item(),
        matching.gradient_matching(jac_a, jac_b).distance,
    )


@_example
def _way_back() -> Iterator[Counterexample]:
    x1, x2 = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 2).T[:, :, None]
    for words, f_s, f_t in (
        ("f_T = (x1, 3 x2), f_S = x1", x1, torch.cat([x1, 3 * x2], 1)),
        ("f_T = (x1, x2), f_S = (x1, x1)", torch.cat([x1, x1], 1), torch.cat([x1, x2], 1)),
    ):
        yield Counterexample(
            "erratum-way-back",
            "Section 3.3, S→T",
            f"{words}, inputs (±1, ±1)",
            "dist(T | S), by dist(S | T)",
            matching.function_matching(f_s, f_t).distance,
            matching.function_matching(f_t, f_s).distance,
        )
