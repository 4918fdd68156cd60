"""Tests of the third assignment: Jacobians, gradient matching, and Theorem 3.1."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from advtransfer import matching, spectral
from advtransfer.classroom.checks.answers import Mistake, classifier, equal, normal, random, tensor

Function = Callable[..., Any]


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


def distance(gradient_distance: Function, *, seed: int) -> None:
    """`gradient_distance` is the relative distance of a from the nearest constant linear map of b."""
    a, b = _pair(seed)
    right = matching.gradient_matching(a, b)
    each = (a - a @ torch.linalg.pinv(b) @ b).square().sum().sqrt() / a.norm()
    mean_map = a.mean(0) @ torch.linalg.pinv(b.mean(0))
    equal("gradient_distance", gradient_distance(a.clone(), b.clone()), right.relative, {
        "this is the squared distance; take the root.": right.relative**2,
        "this is the share that is explained, R; expected the root of 1 − R.": right.r2,
        "it is not relative: divide by the root of the mean squared norm of J_a.": right.distance,
        "a and b are exchanged: J_a is what is to be matched.": matching.gradient_matching(b, a).relative,
        "every sample had a map W of its own; W is the same for all x.": each,
        "W was fitted to the mean Jacobians; fit it to all of them.": (a - mean_map @ b).norm() / a.norm(),
        "this is the distance without any map.": 1.0,
    })  # fmt: skip


def _parts(a: Tensor, b: Tensor, *, trace_norm: bool = False, attacks: int | None = None) -> tuple[Tensor, Tensor]:
    """M = E Σᵢ vᵢ ûᵢ ŵᵢᵀ and K; with `trace_norm` the printed form of v."""
    left, sigma, right = torch.linalg.svd(a, full_matrices=False)
    moved = b @ right.mT  # (N, d_b, k)
    weighted = left[..., :attacks] * sigma[:, None, :attacks] @ moved[..., :attacks].mT
    if trace_norm:
        weighted = weighted * (torch.linalg.matrix_norm(b, 2) / torch.linalg.matrix_norm(b))[:, None, None]
    return weighted.mean(0), (b @ b.mT).mean(0)


def _fraction(a: Tensor, b: Tensor, **form: Any) -> float:
    m, k = _parts(a, b, **form)
    return (m @ torch.linalg.pinv(k, rtol=1e-10, hermitian=True) @ m.T).trace().item() / _size(a)


def _size(a: Tensor) -> float:
    """E‖J‖²."""
    return a.square().sum().item() / len(a)


def ratio(theorem_ratio: Function, *, seed: int) -> None:
    """`theorem_ratio` is the fraction of equation 12, from the attacks."""
    a, b = _pair(seed)
    right = matching.theorem_ratio(a, b).ratio
    m, k = _parts(a, b)
    equal("theorem_ratio", theorem_ratio(a.clone(), b.clone()), right, {
        "only the first attack was used; the theorem needs all of them.": _fraction(a, b, attacks=1),
        "A1 has the trace norm of J_b in its denominator, as in print; it is the operator norm.":
            _fraction(a, b, trace_norm=True),
        "it is not divided by E‖J_a‖².": right * _size(a),
        "K stands where its pseudo-inverse belongs.": (m @ k @ m.T).trace().item() / _size(a),
        "this is the distance; expected R, the fraction under the root.": [1 - right, (1 - right) ** 0.5],
        "this is the root of R.": right**0.5,
        "a and b are exchanged: the attacks are on f_a.": matching.theorem_ratio(b, a).ratio,
    })  # fmt: skip


def broken(counterexample: Function) -> None:
    """`counterexample` gives Jacobians for which R is 1 and the printed form at most 0.3."""
    given = counterexample()
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise Mistake("the example is not two tensors; expected J_a and J_b.")
    a, b = (tensor("the example", jac) for jac in given)
    if any(j.ndim != 3 or not 0 < j.numel() <= 10_000 for j in (a, b)) or a.shape[::2] != b.shape[::2]:
        raise Mistake(f"the shapes are {tuple(a.shape)} and {tuple(b.shape)}; expected (N, d_a, n) and (N, d_b, n).")
    if not (a.isfinite().all() and b.isfinite().all()) or not a.any() or not b.any():
        raise Mistake("a Jacobian is zero or not finite; expected two models that an attack can move.")
    right, printed = _fraction(a, b), _fraction(a, b, trace_norm=True)
    if right < 0.99:
        raise Mistake(f"R is {right:.3f}; expected 1, that is, f_a must be a linear map of f_b.")
    if printed > 0.3:
        raise Mistake(f"the printed form gives {printed:.3f} where R is {right:.3f}; expected at most 0.3.")
