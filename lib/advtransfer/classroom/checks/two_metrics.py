"""Tests of the second assignment: α1 and α2 from their definitions, and what each of them cannot see."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from advtransfer import metrics
from advtransfer.classroom.checks.answers import Mistake, equal, normal, random, tensor

Function = Callable[..., Any]


def _deviations(seed: int, still: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Δ_aa (N, 3), Δ_ab and Δ_bb (N, 4), related to each other; the first `still` rows of the last two are zero."""
    generator = random(seed)
    d_aa = normal(generator, 12, 3)
    d_ab = d_aa @ normal(generator, 3, 4) + normal(generator, 12, 4)
    d_bb = d_ab + normal(generator, 12, 4)
    d_ab[:still] = d_bb[:still] = 0
    return d_aa, d_ab, d_bb


def _norms(d: Tensor) -> Tensor:
    return d.norm(dim=1)


def first(alpha1: Function, *, seed: int, still: int = 0) -> None:
    """`alpha1` is the mean ratio of norms, over the samples at which f_b can be moved (`still` of them cannot)."""
    _, d_ab, d_bb = _deviations(seed, still)
    ab, bb = _norms(d_ab[still:]), _norms(d_bb[still:])
    equal("alpha1", alpha1(d_ab.clone(), d_bb.clone()), (ab / bb).mean(), {
        "the norms are squared; take the root.": (ab**2 / bb**2).mean(),
        "this is the ratio of the means; expected the mean of the ratios, sample by sample.": ab.mean() / bb.mean(),
        "the norm was taken over the whole batch; each sample has its own.": d_ab.norm() / d_bb.norm(),
        "the fraction is upside down: its denominator is f_b's own attack.": (bb / ab).mean(),
        "the ratio was not averaged over the samples.": ab / bb,
        "samples at which f_b cannot be moved were counted as zero; leave them out.": (ab / bb).sum() / len(d_bb),
        "0 / 0: leave out the samples at which f_b cannot be moved.": float("nan"),
    })  # fmt: skip


def second(alpha2: Function, *, seed: int, still: int = 0) -> None:
    """`alpha2` is the Frobenius norm of the mean outer product of unit vectors, over the samples that both move."""
    d_aa, d_ab, _ = _deviations(seed, still)
    u, w = (d[still:] / _norms(d[still:])[:, None] for d in (d_aa, d_ab))
    mean = u.T @ w / len(u)
    equal("alpha2", alpha2(d_aa.clone(), d_ab.clone()), mean.norm(), {
        "this is α2², as the paper's tables print it; take the root.": mean.norm() ** 2,
        "the deviations were not made unit vectors.": (d_aa[still:].T @ d_ab[still:] / len(u)).norm(),
        "the norm was taken before the mean, and an outer product of unit vectors has the norm 1.": 1.0,
        "this is the largest singular value; expected the Frobenius norm.": torch.linalg.matrix_norm(mean, 2),
        "the outer products were added up, not averaged.": (u.T @ w).norm(),
        "the matrix itself was returned; expected its norm.": [mean, mean.T],
        "each output was normalised over the batch; normalise each sample.":
            ((d_aa / d_aa.norm(dim=0)).T @ (d_ab / d_ab.norm(dim=0)) / len(d_aa)).norm(),
        "samples that do not move were counted as zero; leave them out.": mean.norm() * len(u) / len(d_aa),
        "0 / 0: leave out the samples at which a model does not move.": float("nan"),
    })  # fmt: skip


def pairs(alpha2_by_pairs: Function, *, seed: int) -> None:
    """`alpha2_by_pairs` is α2 through Proposition 2.1, over all pairs of samples."""
    d_aa, d_ab, _ = _deviations(seed)
    u, w = (d / _norms(d)[:, None] for d in (d_aa, d_ab))
    products = (u @ u.T) * (w @ w.T)
    n = len(u)
    others = products.sum() - products.trace()
    equal("alpha2_by_pairs", alpha2_by_pairs(d_aa.clone(), d_ab.clone()), products.mean().sqrt(), {
        "this is α2²; take the root.": products.mean(),
        "pairs of a sample with itself were left out; the average is over all N² pairs.":
            [root for mean in (others / n**2, others / (n * (n - 1))) for root in (mean, mean.clamp_min(0).sqrt())],
        "the deviations were not made unit vectors.": ((d_aa @ d_aa.T) * (d_ab @ d_ab.T)).mean().sqrt(),
        "the mean of a product is not the product of the means.":
            [(u @ u.T).mean() * (w @ w.T).mean(), ((u @ u.T).mean() * (w @ w.T).mean()).sqrt()],
    })  # fmt: skip


def unbiased(alpha2_squared_unbiased: Function, *, seed: int) -> None:
    """`alpha2_squared_unbiased` is (N V − 1) / (N − 1)."""
    d_aa, d_ab, d_bb = _deviations(seed)
    value, n = metrics.from_deviations(d_aa, d_ab, d_bb).alpha2 ** 2, len(d_aa)
    right = (n * value - 1) / (n - 1)
    equal("alpha2_squared_unbiased", alpha2_squared_unbiased(d_aa.clone(), d_ab.clone()), right, {
        "this is the plug-in value V, in which each sample is paired with itself.": value,
        "without the N pairs of a sample with itself, the mean is over N (N − 1) pairs.": value - 1 / n,
        "this is the root; expected α2², which may be negative.": abs(right) ** 0.5,
        "V is α2 squared; the plain α2 was put in its place.": (n * value**0.5 - 1) / (n - 1),
    })  # fmt: skip


def both(alpha12: Function, *, seed: int) -> None:
    """`alpha12` is the norm of the mean outer product weighted by α1(x)."""
    d_aa, d_ab, d_bb = _deviations(seed)
    right = metrics.from_deviations(d_aa, d_ab, d_bb)
    u, w = (d / _norms(d)[:, None] for d in (d_aa, d_ab))
    squared = (u * (_norms(d_ab) / _norms(d_bb))[:, None] ** 2).T @ w / len(u)
    equal("alpha12", alpha12(d_aa.clone(), d_ab.clone(), d_bb.clone()), right.alpha12, {
        "this is the product of α1 and α2; the star is part of a name, and α1(x) weighs each sample.":
            right.alpha1 * right.alpha2,
        "this is the square; take the root.": right.alpha12**2,
        "the weights are squared norms; take the root.": squared.norm(),
    })  # fmt: skip


def blind(example: Function, *, to: str) -> None:
    """`example` gives deviations that one metric calls perfect while the other is near 0.

    Parameters
    ----------
    to : {"alpha1", "alpha2"}
        The metric that must be at least 0.99; the other one must be at most 0.1.
    """
    given = example()
    if not isinstance(given, list | tuple) or len(given) != 3:
        raise Mistake("the example is not three tensors; expected Δ_aa, Δ_ab and Δ_bb.")
    d_aa, d_ab, d_bb = (tensor("the example", d) for d in given)
    if any(d.ndim != 2 or not 0 < len(d) <= 1000 or d.shape[1] > 10 for d in (d_aa, d_ab, d_bb)):
        raise Mistake("the example is too large or not a matrix; expected (N, d) with N up to 1000 and d up to 10.")
    if len(d_aa) != len(d_ab) or d_ab.shape != d_bb.shape:
        shapes = ", ".join(str(tuple(d.shape)) for d in (d_aa, d_ab, d_bb))
        raise Mistake(f"the shapes are {shapes}; expected (N, d_a) and twice (N, d_b).")
    if not all(d.isfinite().all() and (_norms(d) > 1e-9).all() for d in (d_aa, d_ab, d_bb)):
        raise Mistake("the example has a deviation that is zero or not finite; expected every sample to move.")
    if (_norms(d_ab) > _norms(d_bb) * (1 + 1e-9)).any():
        raise Mistake("Δ_ab is longer than Δ_bb somewhere, but no attack moves f_b further than f_b's own best one.")
    found = metrics.from_deviations(d_aa, d_ab, d_bb)
    good, bad = (found.alpha1, found.alpha2) if to == "alpha1" else (found.alpha2, found.alpha1)
    names = ("α1", "α2") if to == "alpha1" else ("α2", "α1")
    if good < 0.99 or bad > 0.1:
        raise Mistake(f"{names[0]} is {good:.3f} and {names[1]} is {bad:.3f}; expected ≥ 0.99 and ≤ 0.1.")
