"""Tests of the third assignment: Jacobians, gradient matching, and Theorem 3.1."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from advtransfer import matching, spectral
from advtransfer.classroom.checks.answers import Mistake, called, classifier, equal, normal, number, random, tensor
from advtransfer.classroom.quiet import without_source

Function = Callable[..., Any]
NUMBERS = 100_000  # in each Jacobian of the example
WIDE = 300  # outputs of a model of the example

SINGULAR = "one output of f_b is constant, so K has no inverse; use the pseudo-inverse K†."


@without_source
def jacobian(jacobian: Function, *, seed: int) -> None:
    """`jacobian` is (N, outputs, inputs), with respect to the input."""
    generator = random(seed)
    model, x = classifier(generator), normal(generator, 5, 6)
    right = spectral.jacobian(model, x)
    last = list(model.parameters())[-2:]
    outputs = model(x).sum(0)
    of_last = [torch.stack([torch.autograd.grad(o, p, retain_graph=True)[0] for o in outputs]) for p in last]
    equal("jacobian", jacobian(model, x.clone()), right, {
        "it is transposed: expected a row for each output and a column for each input.": right.mT,
        "the outputs were added up before the gradient; each has a row of its own.": right.sum(1),
        "only the first output was used.": [right[:, 0], right[:, :1]],
        "it was added up or averaged over the samples; each has its own Jacobian.": [right.sum(0), right.mean(0)],
        "the batch axis comes first: expected (N, outputs, inputs).": right.transpose(0, 1),
        "these are gradients with respect to the parameters; expected the input x.": of_last,
    })  # fmt: skip


def _pair(seed: int) -> tuple[Tensor, Tensor]:
    """Jacobians (8, 3, 6) and (8, 2, 6) that have something in common."""
    generator = random(seed)
    jac_b = normal(generator, 8, 2, 6)
    return normal(generator, 3, 2) @ jac_b + 0.7 * normal(generator, 8, 3, 6), jac_b


@without_source
def distance(gradient_distance: Function, *, seed: int, singular: bool = False) -> None:
    """`gradient_distance` is the relative distance of a from the nearest constant linear map of b.

    If `singular`, an output of b is constant.
    """
    a, b = _pair(seed)
    b = _with_a_constant_output(b) if singular else b
    right = matching.gradient_matching(a, b)
    each = (a - a @ torch.linalg.pinv(b) @ b).square().sum().sqrt() / a.norm()
    mean_map = a.mean(0) @ torch.linalg.pinv(b.mean(0))
    found = called(SINGULAR, "gradient_distance", gradient_distance, a.clone(), b.clone()) if singular else (
        gradient_distance(a.clone(), b.clone())
    )  # fmt: skip
    equal("gradient_distance", found, right.relative, {
        "this is the squared distance; take the root.": right.relative**2,
        "this is the share that is explained, R; expected the root of 1 − R.": right.r2,
        "it is not relative: divide by the root of the mean squared norm of J_a.":
            [right.distance, right.distance * len(a) ** 0.5],
        "it is divided by the norm of J_b; J_a is what is to be matched.": right.distance / _size(b) ** 0.5,
        "a and b are exchanged: J_a is what is to be matched.": matching.gradient_matching(b, a).relative,
        "every sample had a map W of its own; W is the same for all x.": each,
        "W was fitted to the mean Jacobians; fit it to all of them.": (a - mean_map @ b).norm() / a.norm(),
        "this is the distance without any map.": 1.0,
        f"it is NaN or infinite: {SINGULAR}": [float("nan"), float("inf")],
    })  # fmt: skip


def _with_a_constant_output(b: Tensor) -> Tensor:
    return torch.cat([b, torch.zeros_like(b[:, :1])], 1)


def _parts(
    a: Tensor, b: Tensor, *, trace_norm: bool = False, attacks: int | None = None, without: str = ""
) -> tuple[Tensor, Tensor]:
    """M = E Σᵢ vᵢ ûᵢ ŵᵢᵀ and K; with `trace_norm` the printed form of v, or v `without` σ_a or σ_b."""
    left, sigma, right = torch.linalg.svd(a, full_matrices=False)
    moved = b @ right.mT  # (N, d_b, k)
    if without == "σ_a":
        sigma = torch.ones_like(sigma)
    weighted = left[..., :attacks] * sigma[:, None, :attacks] @ moved[..., :attacks].mT
    if trace_norm:
        share = torch.linalg.matrix_norm(b, 2) / torch.linalg.matrix_norm(b)
        weighted = weighted * share.nan_to_num()[:, None, None]  # where f_b cannot be moved, the term is zero
    if without == "σ_b":
        weighted = weighted / torch.linalg.matrix_norm(b, 2)[:, None, None]
    return weighted.mean(0), (b @ b.mT).mean(0)


def _fraction(a: Tensor, b: Tensor, **form: Any) -> float:
    m, k = _parts(a, b, **form)
    return (m @ torch.linalg.pinv(k, rtol=1e-10, hermitian=True) @ m.T).trace().item() / _size(a)


def _size(a: Tensor) -> float:
    """E‖J‖²."""
    return a.square().sum().item() / len(a)


@without_source
def ratio(theorem_ratio: Function, *, seed: int, still: bool = False) -> None:
    """`theorem_ratio` is the fraction of equation 12, from the attacks.

    If `still`, an output of b is constant, and no attack on a moves b at the first sample.
    """
    a, b = _pair(seed)
    if still:
        b = _with_a_constant_output(b)
        a[0, :, 3:] = b[0, :, :3] = 0
    right = matching.theorem_ratio(a, b).ratio
    m, k = _parts(a, b)
    found = called(SINGULAR, "theorem_ratio", theorem_ratio, a.clone(), b.clone()) if still else (
        theorem_ratio(a.clone(), b.clone())
    )  # fmt: skip
    equal("theorem_ratio", found, right, {
        "only the first attack was used; the theorem needs all of them.": _fraction(a, b, attacks=1),
        "A1 has the trace norm of J_b in its denominator, as in print; it is the operator norm.":
            _fraction(a, b, trace_norm=True),
        "v lacks the factor σ_a.": _fraction(a, b, without="σ_a"),
        "v lacks the factor σ_b.": _fraction(a, b, without="σ_b"),
        "M was added up over the samples; it is their mean.": right * len(a) ** 2,
        "it is not divided by E‖J_a‖².": [right * _size(a), right * _size(a) / len(a), right * len(a)],
        "K stands where its pseudo-inverse belongs.": (m @ k @ m.T).trace().item() / _size(a),
        "this is the distance; expected R, the fraction under the root.": [1 - right, (1 - right) ** 0.5],
        "this is the root of R.": right**0.5,
        "a and b are exchanged: the attacks are on f_a.": matching.theorem_ratio(b, a).ratio,
        "0 / 0: an attack that does not move f_b has no direction; its term is zero.": float("nan"),
    })  # fmt: skip


@without_source
def small_ratio(theorem_ratio: Function, *, seed: int) -> None:
    """`theorem_ratio` has the right digits also where R is about 1e-18, which 1 − distance² rounds to 0."""
    generator = random(seed)
    common, rest = normal(generator, 8, 2, 3), normal(generator, 8, 2, 3)
    a = torch.cat([normal(generator, 3, 2) @ common, torch.zeros(8, 3, 3, dtype=torch.float64)], 2)
    b = torch.cat([1e-9 * common, rest], 2)
    right = _fraction(a, b)
    found = number("theorem_ratio", theorem_ratio(a.clone(), b.clone()))
    if abs(found) < 1e-12 and not abs(found / right - 1) < 1e-3:
        raise Mistake(
            f"theorem_ratio: R is {right:.3g} here and this is {found:.3g}: 1 − distance² keeps no digit of it; "
            "compute R from the attacks."
        )
    equal("theorem_ratio, divided by the right value,", found / right, 1.0, {})


@without_source
def broken(counterexample: Function) -> None:
    """`counterexample` gives Jacobians for which R is at least 0.99 and the printed form at most 0.3."""
    given = counterexample()
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise Mistake("the example is not two tensors; expected J_a and J_b.")
    a, b = (tensor("the example", jac) for jac in given)
    if a.ndim != 3 or b.ndim != 3 or a.shape[::2] != b.shape[::2]:
        raise Mistake(f"the shapes are {tuple(a.shape)} and {tuple(b.shape)}; expected (N, d_a, n) and (N, d_b, n).")
    if any(not 0 < jac.numel() <= NUMBERS or jac.shape[1] > WIDE for jac in (a, b)):
        raise Mistake(
            f"the shapes are {tuple(a.shape)} and {tuple(b.shape)}; expected at most {WIDE} outputs, and 1 to "
            f"{NUMBERS} numbers in each Jacobian."
        )
    if not (a.isfinite().all() and b.isfinite().all()) or not a.any() or not b.any():
        raise Mistake("a Jacobian is zero or not finite; expected two models that an attack can move.")
    a, b = a / a.abs().max(), b / b.abs().max()  # neither form depends on the scale, but squares overflow
    right, printed = _fraction(a, b), _fraction(a, b, trace_norm=True)
    if not right >= 0.99:
        raise Mistake(f"R is {right:.3f}; expected at least 0.99: f_a must be a linear map of f_b, or nearly so.")
    if not printed <= 0.3:
        raise Mistake(f"the printed form gives {printed:.3f} where R is {right:.3f}; expected at most 0.3.")
