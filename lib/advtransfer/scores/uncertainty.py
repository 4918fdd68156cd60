r"""How sure a score is, and what it would be if the labels meant nothing."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

Score = Callable[[Tensor, Tensor], float]
"""A score of inputs (N, ...) and labels (N,), or the features (N, D') of another model."""


@dataclass(frozen=True)
class Estimate:
    """A score with an interval, its floor and its cost."""

    value: float
    """The score of all samples."""
    low: float
    """Lower end of the interval; NaN without subsamples."""
    high: float
    """Upper end of it."""
    floor: float
    """The mean of the score with permuted labels, as it is without any connection; NaN without permutations."""
    floor_high: float
    """The permuted score (in order of size) that a score without any connection exceeds with probability 1 - `level`
    at most, if there are at least level / (1 - level) permutations; their maximum for fewer."""
    seconds: float
    """Seconds that an evaluation of the score takes on all samples, the median over true and permuted labels."""
    labels: int
    """Number of labelled samples, N."""
    draws: tuple[float, ...] = ()
    """Values on the subsamples, moved to lie around the value and scaled to its spread. Two models whose estimates have
    the same labels, numbers and seed are drawn together: the spread of the differences is that of the difference."""


def estimate(
    score: Score,
    inputs: Tensor,
    labels: Tensor,
    *,
    permutations: int = 20,
    subsamples: int = 50,
    fraction: float = 0.8,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    r"""A score with an interval from subsamples, and its floor from permuted labels.

    Subsamples of m = f N samples are drawn *without* replacement, the same share of each class. Let S² be the variance
    between samples of their influence on the score, so that the score of N samples has the variance S²/N. The score of
    a subsample then varies about that of all N samples with the variance :math:`\frac{S^2}m (1 - \frac mN)`, where the
    second factor is there because the samples are finitely many. The variance of the score is therefore

    .. math::
       \frac{S^2}N = \frac{f}{1 - f}\, \mathrm{Var}(\text{score of a subsample}),

    which is the delete-d jackknife with d = N - m. The interval is the score of all samples ± Student's quantile (with
    `subsamples` - 1 degrees of freedom) times the root of that variance.

    The variance is taken about the mean of the subsamples, not about the score of all samples. Many scores have another
    expectation for m samples than for N; that difference shifts all subsamples alike, and does not count as spread. The
    interval is for the expectation of the score at *this* N and these class frequencies. Where the expectation does not
    depend on N, as for PARC, or hardly, as for CKA, it is an interval for the value of the whole population, too. All
    other scores drift: LEEP and NCE fall to their limit like 1/N, GBC and the plain H-score fall, k-NN and the probe
    rise, and LogME, TransRate and the regularised H-score change with D/N.

    The formula takes S² to be the same for m samples as for N. If N < D, that of TransRate grows with N, so that f = ½
    gives half of its spread; a large f is safe, so the default is 0.8. What the formula adds to the variance of scores
    that depend on pairs of samples makes intervals too wide, not too narrow: a term over pairs counts (1 + f)/f times.
    In simulations (N = 120 with D = 6 and 200, N = 500 with D = 1280), widths were 0.9 to 1.3 times the right ones, and
    intervals with a level of 95% covered 94% to 99.5%. Those of k-NN, the probe and N-LEEP were 1.3 to 1.8 times too
    wide and covered at least 98%; the folds of the probe and the start of N-LEEP's clusters are drawn anew for each
    subsample, and count as spread. A class of one or two samples adds nothing to the spread.

    A bootstrap with replacement would not do: duplicates are each other's nearest neighbours, and lower the rank.

    Parameters
    ----------
    score
        Called as ``score(inputs, labels)``; use :func:`functools.partial` for other arguments.
    inputs
        (N, ...): what the score takes first, such as features (N, D), probabilities or source labels.
    labels
        (N,) integers; or, for :func:`~advtransfer.scores.cka`, target features (N, D'), which are not stratified.
    permutations
        Number of permutations of the labels, or 0 to leave the floor out. 20 are enough for a level of 95%.
    subsamples
        Number of subsamples, at least 2, or 0 to leave the interval out. For costly scores a dozen will do: Student's
        quantile then widens the interval by a tenth.
    fraction
        f. Of each class, f times its samples are drawn, rounded. One at least is left out, and two are drawn, as far
        as there are so many.
    level
        Coverage of the interval, and level of `floor_high`.
    seed
        Seed of subsamples and permutations.

    Raises
    ------
    ValueError
        Numbers out of range, lengths that differ, or inputs that `score` refuses: as a whole, in a subsample (the
        message says so) or with permuted labels.

    Notes
    -----
    Politis et al. (1999), key ``politis1999``, and Shao and Wu (1989), key ``shao1989``.

    Examples
    --------
    >>> from advtransfer.scores import knn
    >>> labels = torch.arange(40) % 2
    >>> found = estimate(knn, labels[:, None] + torch.linspace(-1, 1, 40)[:, None].sin(), labels)
    >>> found.low <= found.value <= found.high, found.labels
    (True, 40)
    """
    if permutations < 0 or subsamples < 0 or subsamples == 1:
        raise ValueError(
            f"permutations = {permutations}, subsamples = {subsamples}; expected 0 or more, and 0 or at least 2"
        )
    if not 0 < fraction < 1 or not 0 < level < 1:
        raise ValueError(f"fraction = {fraction}, level = {level}; expected numbers between 0 and 1")
    if len(inputs) != len(labels):
        raise ValueError(f"there are {len(inputs)} inputs and {len(labels)} labels; expected as many")
    value, *spent = _timed(score, inputs, labels)
    generator = torch.Generator().manual_seed(seed)
    n, half = len(labels), float("nan")
    draws: tuple[float, ...] = ()
    if subsamples:
        strata = _strata(labels)
        drawn = []
        for _ in range(subsamples):
            index = _subsample(strata, fraction, generator)
            if len(index) == n:
                raise ValueError(f"fraction = {fraction:g} leaves out none of the {n} samples; expected a smaller one")
            place = index.to(inputs.device)
            try:
                drawn.append(score(inputs[place], labels[index.to(labels.device)]))
            except ValueError as error:
                raise ValueError(f"a subsample of {len(index)} of the {n} samples is refused: {error}") from error
        share = len(index) / n
        factor = (share / (1 - share)) ** 0.5
        spread = float(np.std(drawn, ddof=1)) * factor
        draws = tuple((value + factor * (np.array(drawn) - np.mean(drawn))).tolist())
        half = float(stats.t.ppf((1 + level) / 2, subsamples - 1)) * spread
    mixed = []
    for _ in range(permutations):
        permuted = labels[torch.randperm(n, generator=generator, device=generator.device).to(labels.device)]
        found, seconds = _timed(score, inputs, permuted)
        mixed.append(found)
        spent.append(seconds)
    floor = floor_high = float("nan")
    if mixed:
        floor = float(np.mean(mixed))
        floor_high = float(np.sort(mixed)[min(math.ceil(level * (permutations + 1) - 1e-9), permutations) - 1])
    return Estimate(value, value - half, value + half, floor, floor_high, float(np.median(spent)), n, draws)


def _timed(score: Score, inputs: Tensor, labels: Tensor) -> tuple[float, float]:
    """The score, and the seconds that it took."""
    inputs, labels = (v.clone() if isinstance(v, Tensor) else v for v in (inputs, labels))  # it may write into them
    start = time.perf_counter()
    return score(inputs, labels), time.perf_counter() - start


def _strata(labels: Tensor) -> list[Tensor]:
    """The positions of the samples of each class, on the CPU; of all samples for features in place of labels."""
    if labels.is_floating_point():
        return [torch.arange(len(labels), device="cpu")]
    y = labels.cpu()
    return [(y == name).nonzero().flatten() for name in y.unique()]


def _subsample(strata: list[Tensor], fraction: float, generator: torch.Generator) -> Tensor:
    """A share of each stratum, drawn without replacement, in the order of the samples."""
    sizes = [max(min(2, len(s)), min(round(fraction * len(s)), len(s) - 1)) for s in strata]
    orders = [torch.randperm(len(s), generator=generator, device=generator.device) for s in strata]
    return torch.cat([s[order[:m]] for s, order, m in zip(strata, orders, sizes, strict=True)]).sort().values
