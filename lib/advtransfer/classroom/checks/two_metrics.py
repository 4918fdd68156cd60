"""Tests of the second assignment: α1 and α2 from their definitions, and what each of them cannot see."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from advtransfer import metrics
from advtransfer.classroom.checks.answers import Mistake, called, equal, normal, random, tensor
from advtransfer.classroom.quiet import without_source

Function = Callable[..., Any]


def _deviations(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Δ_aa (N, d_a), Δ_ab and Δ_bb (N, d_b), related to each other; some samples move much less than others."""
    generator = random(seed)
    n, a, b = (int(torch.randint(low, high, (), generator=generator)) for low, high in ((11, 16), (3, 6), (4, 7)))
    d_aa = normal(generator, n, a)
    d_ab = d_aa @ normal(generator, a, b) + normal(generator, n, b)
    d_bb = d_ab + normal(generator, n, b)
    scale = 10 ** (-torch.rand(n, 1, generator=generator, dtype=torch.float64))
    return d_aa * scale, d_ab * scale, d_bb * scale


def _norms(d: Tensor) -> Tensor:
    return d.norm(dim=1)


def _units(d: Tensor) -> Tensor:
    return d / _norms(d)[:, None]


@without_source
def first(alpha1: Function, *, seed: int, still: int = 0) -> None:
    """`alpha1` is the mean ratio of norms, over the samples at which f_b can be moved.

    At `still` samples it cannot, and at the next one it can, but the attack on f_a does not move it.
    """
    _, d_ab, d_bb = _deviations(seed)
    d_bb *= 0.2 if still else 3  # so that α1 is above 1, or below it
    d_bb[:still] = 0
    d_ab[: still + (still > 0)] = 0
    ab, bb = _norms(d_ab[still:]), _norms(d_bb[still:])
    moved = ab > 0
    equal("alpha1", alpha1(d_ab.clone(), d_bb.clone()), (ab / bb).mean(), {
        "the norms are squared; take the root.": (ab**2 / bb**2).mean(),
        "this is the ratio of the means; expected the mean of the ratios, sample by sample.": ab.mean() / bb.mean(),
        "the norm was taken over the whole batch; each sample has its own.": d_ab.norm() / d_bb.norm(),
        "the fraction is upside down: its denominator is f_b's own attack.": (bb / ab).mean(),
        "the ratio was not averaged over the samples.": ab / bb,
        "samples at which f_b cannot be moved were counted as zero; leave them out.": (ab / bb).sum() / len(d_bb),
        "samples with Δ_ab = 0 were left out; only those with Δ_bb = 0 are, and the others count as zero.":
            (ab[moved] / bb[moved]).mean(),
        "a ratio above 1 was cut off; an attack of its own need not be the best one.":
            [(ab / bb).mean().clamp(max=1), (ab / bb).clamp(max=1).mean()],
        "0 / 0: leave out the samples at which f_b cannot be moved.": float("nan"),
    })  # fmt: skip


@without_source
def second(alpha2: Function, *, seed: int, still: int = 0) -> None:
    """`alpha2` is the Frobenius norm of the mean outer product of unit vectors; that of a zero deviation is zero.

    f_b does not move at `still` samples, and f_a not at the next ones.
    """
    d_aa, d_ab, _ = _deviations(seed)
    d_ab[:still] = d_aa[still : 2 * still] = 0
    n, left = len(d_aa), slice(2 * still, None)
    u, w = _units(d_aa[left]), _units(d_ab[left])
    mean = u.T @ w / n
    equal("alpha2", alpha2(d_aa.clone(), d_ab.clone()), mean.norm(), {
        "this is α2², as the paper's tables print it; take the root.": mean.norm() ** 2,
        "the deviations were not made unit vectors.": (d_aa.T @ d_ab / n).norm(),
        "the norm was taken before the mean, and an outer product of unit vectors has the norm 1.": 1.0,
        "this is the largest singular value; expected the Frobenius norm.": torch.linalg.matrix_norm(mean, 2),
        "the outer products were added up, not averaged.": (u.T @ w).norm(),
        "the matrix itself was returned; expected its norm.": [mean, mean.T],
        "each output was normalised over the batch; normalise each sample.":
            ((d_aa / d_aa.norm(dim=0)).T @ (d_ab / d_ab.norm(dim=0)) / len(d_aa)).norm(),
        "samples at which a deviation is zero were left out; they count in the mean, as zero.":
            [(u.T @ w).norm() / count for count in (n - still, n - 2 * still)],
        "0 / 0: a deviation that is zero has no direction; leave it zero.": float("nan"),
    })  # fmt: skip


@without_source
def pairs(alpha2_by_pairs: Function, *, seed: int, outputs: int = 0) -> None:
    """`alpha2_by_pairs` is α2 through Proposition 2.1, over all pairs of samples.

    With a number of `outputs` there are so many that no d_a × d_b matrix fits into memory.
    """
    d_aa, d_ab, _ = _deviations(seed)
    if outputs:
        generator = random(seed)
        d_aa, d_ab = normal(generator, 3, outputs), normal(generator, 3, outputs)
    u, w = _units(d_aa), _units(d_ab)
    products = (u @ u.T) * (w @ w.T)
    n = len(u)
    others = products.sum() - products.trace()
    hint = f"with {outputs} outputs no d_a × d_b matrix fits into memory; use the inner products of pairs."
    given = d_aa.clone(), d_ab.clone()
    found = called(hint, "alpha2_by_pairs", alpha2_by_pairs, *given) if outputs else alpha2_by_pairs(*given)
    equal("alpha2_by_pairs", found, products.mean().sqrt(), {
        "this is α2²; take the root.": products.mean(),
        "pairs of a sample with itself were left out; the average is over all N² pairs.":
            [root for mean in (others / n**2, others / (n * (n - 1))) for root in (mean, mean.clamp_min(0).sqrt())],
        "the deviations were not made unit vectors.": ((d_aa @ d_aa.T) * (d_ab @ d_ab.T)).mean().sqrt(),
        "the mean of a product is not the product of the means.":
            [(u @ u.T).mean() * (w @ w.T).mean(), ((u @ u.T).mean() * (w @ w.T).mean()).abs().sqrt()],
        "only pairs of a sample with itself were used, and each of them gives 1.": 1.0,
        "the products were added up, not averaged.": [products.sum(), products.sum().sqrt()],
        "the matrices were multiplied as matrices; multiply them entry by entry.":
            [root for mean in ((u @ u.T @ w @ w.T).mean(), (u @ u.T @ w @ w.T).trace() / n**2)
             for root in (mean, mean.abs().sqrt())],
    })  # fmt: skip


@without_source
def unbiased(alpha2_squared_unbiased: Function, *, seed: int, negative: bool = False) -> None:
    """`alpha2_squared_unbiased` is (N V − 1) / (N − 1); for models that have nothing in common it may be `negative`."""
    d_aa, d_ab, d_bb = _deviations(seed)
    n = len(d_aa)
    generator = random(seed)
    while negative:
        d_aa, d_ab = (normal(generator, *d.shape) for d in (d_aa, d_ab))
        negative = metrics.from_deviations(d_aa, d_ab, d_bb).alpha2 ** 2 > 0.9 / n
    value = metrics.from_deviations(d_aa, d_ab, d_bb).alpha2 ** 2
    right = (n * value - 1) / (n - 1)
    equal("alpha2_squared_unbiased", alpha2_squared_unbiased(d_aa.clone(), d_ab.clone()), right, {
        "this is the plug-in value V, in which each sample is paired with itself.": value,
        "without the N pairs of a sample with itself, the mean is over N (N − 1) pairs.": value - 1 / n,
        "a negative estimate was cut off at 0, which adds a bias again.": 0.0,
        "a negative estimate has lost its sign.": abs(right),
        "this is the root; expected α2², which may be negative.": abs(right) ** 0.5,
        "V is α2 squared; the plain α2 was put in its place.": (n * value**0.5 - 1) / (n - 1),
        "this is divided by N; there are N − 1 other samples for each.": (n * value - 1) / n,
    })  # fmt: skip


@without_source
def both(alpha12: Function, *, seed: int) -> None:
    """`alpha12` is the norm of the mean outer product weighted by α1(x)."""
    d_aa, d_ab, d_bb = _deviations(seed)
    right = metrics.from_deviations(d_aa, d_ab, d_bb)
    u, w = _units(d_aa), _units(d_ab)
    ratio = _norms(d_ab) / _norms(d_bb)

    def mean(weights: Tensor) -> Tensor:
        return (u * weights[:, None]).T @ w / len(u)

    squared = mean(ratio**2)
    equal("alpha12", alpha12(d_aa.clone(), d_ab.clone(), d_bb.clone()), right.alpha12, {
        "this is the product of α1 and α2; the star is part of a name, and α1(x) weighs each sample.":
            right.alpha1 * right.alpha2,
        "this is the square; take the root.": right.alpha12**2,
        "the weights are squared norms; take the root.": squared.norm(),
        "the samples have no weights, so this is α2.": right.alpha2,
        "the weights are upside down: their denominator is f_b's own attack.": mean(_norms(d_bb) / _norms(d_ab)).norm(),
        "the outer products were added up, not averaged.": right.alpha12 * len(u),
        "the weights are the lengths of Δ_ab; divide them by those of Δ_bb.": mean(_norms(d_ab)).norm(),
        "the matrix itself was returned; expected its norm.": [mean(ratio), mean(ratio).T],
    })  # fmt: skip


@without_source
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
    if any(d.ndim != 2 or not 0 < len(d) <= 1000 or not 0 < d.shape[1] <= 10 for d in (d_aa, d_ab, d_bb)):
        raise Mistake("the example is too large or not a matrix; expected (N, d) with N up to 1000 and d up to 10.")
    if len(d_aa) != len(d_ab) or d_ab.shape != d_bb.shape:
        shapes = ", ".join(str(tuple(d.shape)) for d in (d_aa, d_ab, d_bb))
        raise Mistake(f"the shapes are {shapes}; expected (N, d_a) and twice (N, d_b).")
    if not all(d.isfinite().all() for d in (d_aa, d_ab, d_bb)):
        raise Mistake("the example has a value that is NaN or infinite; expected finite deviations.")
    scale = max(d_ab.abs().max(), d_bb.abs().max())  # neither metric depends on it, but squares overflow
    d_aa, d_ab, d_bb = d_aa / d_aa.abs().max(), d_ab / scale, d_bb / scale
    if not all((_norms(d) > 0).all() for d in (d_aa, d_ab, d_bb)):
        raise Mistake("the example has a deviation that is zero; expected every sample to move.")
    if (_norms(d_ab) > _norms(d_bb) * (1 + 1e-6)).any():
        raise Mistake("Δ_ab is longer than Δ_bb somewhere, but no attack moves f_b further than f_b's own best one.")
    found = metrics.from_deviations(d_aa, d_ab, d_bb)
    good, bad = (found.alpha1, found.alpha2) if to == "alpha1" else (found.alpha2, found.alpha1)
    names = ("α1", "α2") if to == "alpha1" else ("α2", "α1")
    if not (good >= 0.99 and bad <= 0.1):
        raise Mistake(f"{names[0]} is {good:.3f} and {names[1]} is {bad:.3f}; expected ≥ 0.99 and ≤ 0.1.")
