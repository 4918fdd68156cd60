r"""How many samples the metrics need: bounds that hold at every N, whatever the models.

α2 and α1∗α2 are norms of a mean of matrices :math:`G_i` no longer than a known L. If one sample is replaced, the norm
changes by at most 2 L / N, so McDiarmid's inequality bounds how far the plug-in estimate is from the metric. The mean
of α1(x) has such a bound (Hoeffding's) only if α1(x) does. Without one, its median and the ratio of the mean deviations
still have intervals that hold.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from advtransfer.checks import as_count, as_number, check_batch
from advtransfer.intervals import Interval
from advtransfer.names import unknown

Metric = Literal["alpha1", "alpha2", "alpha12", "median"]
METRICS: tuple[Metric, ...] = ("alpha1", "alpha2", "alpha12", "median")
SCALED = ("alpha1", "alpha12")
"""The metrics whose bound is in proportion to the largest possible α1(x)."""
SMALLEST = 1e-9
"""The smallest half-width for which a number of samples is computed."""


class RatioOfMeans(NamedTuple):
    """The ratio of two mean deviations with an interval that holds at every N."""

    value: float
    """The mean length of Δ12 over that of Δ22."""
    low: float
    high: float


def guaranteed_half_width(
    n: int, *, metric: Metric = "alpha2", confidence: float = 0.95, largest: float = 1.0
) -> float:
    r"""How far an estimate from n independent samples is from the truth at most, with the given confidence.

    With γ = 1 - confidence and L = `largest` it is :math:`L (1 + \sqrt{2 \ln(1/γ)}) / \sqrt n` for the plug-in
    estimates of α2 (where L = 1) and α1∗α2, bias included (`prop-how-many` of the book). For the mean of α1(x) it is
    :math:`L \sqrt{\ln(2/γ) / (2n)}` (`prop-bounded-mean`). For the median of α1(x) it is the same with L = 1, and is
    a difference of levels (`prop-median`): 0.05 says that the sample median lies between the quantiles of levels 0.45
    and 0.55.

    Parameters
    ----------
    n
        The number of samples N.
    metric
        ``"alpha2"``, ``"alpha12"``, ``"alpha1"`` or ``"median"``.
    confidence
        The probability, in (0, 1), with which the bound holds at least.
    largest
        L, the largest possible α1(x), for ``alpha1`` and ``alpha12``. It is 1 under the conditions of Proposition 2.2:
        exact attacks, measured with the loss that they maximise. Otherwise it must be known: the largest value of a
        sample is not a bound.

    Raises
    ------
    TypeError, ValueError
        An unknown metric, no samples, a confidence that is not in (0, 1), a `largest` that is not a positive number,
        or one given to a metric that does not depend on it.

    Examples
    --------
    >>> round(guaranteed_half_width(1000), 3)
    0.109
    """
    return _factor(metric, confidence, largest) / math.sqrt(as_count("n", n))


def needed_samples(
    half_width: float, *, metric: Metric = "alpha2", confidence: float = 0.95, largest: float = 1.0
) -> int:
    r"""The number of independent samples from which :func:`guaranteed_half_width` is at most `half_width`.

    For α2 it is :math:`\lceil (1 + \sqrt{2 \ln(1/γ)})^2 / h^2 \rceil` with γ = 1 - confidence (`prop-how-many` of the
    book). It is enough for every pair of models, and so more than most pairs need.

    Parameters
    ----------
    half_width
        The wanted half-width h, at least 1e-9; for ``median`` a difference of levels.
    metric, confidence, largest
        As for :func:`guaranteed_half_width`.

    Raises
    ------
    TypeError, ValueError
        A half-width that is not a number or too small; otherwise as for :func:`guaranteed_half_width`. If `largest` is
        infinite, no number of samples is enough.

    Examples
    --------
    >>> needed_samples(0.05), needed_samples(0.05, metric="alpha1")
    (4755, 738)
    """
    width = as_number("half_width", half_width)
    if width < SMALLEST:
        raise ValueError(f"half_width is {width:g}; expected at least {SMALLEST:g}")
    return math.ceil((_factor(metric, confidence, largest) / width) ** 2 * (1 - 1e-12))  # rounding asks for no more


def median_interval(values: Tensor, *, confidence: float = 0.95) -> Interval:
    """An interval for the median of α1(x), between two order statistics, which holds for every distribution.

    Its ends are the k-th smallest and the k-th largest value, where k is the largest number for which fewer than k of N
    tosses of a coin are heads with a probability of at most (1 - confidence) / 2 (`prop-median` of the book).

    Parameters
    ----------
    values
        α1(x) of independent samples, shape (N,), such as `alpha1_samples`. NaN, where α1(x) is undefined, is left out.
    confidence
        The probability, in (0, 1), with which the interval holds the median at least.

    Raises
    ------
    TypeError, ValueError
        Values that are not a floating-point vector, a confidence that is not in (0, 1), or too few values for it.

    Examples
    --------
    >>> median_interval(torch.arange(1.0, 21.0))
    Interval(low=6.0, high=15.0)
    """
    confidence = _checked(confidence)
    tail = (1 - confidence) / 2
    if not isinstance(values, Tensor) or not values.is_floating_point() or values.ndim != 1:
        given = (
            f"{values.dtype} of shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        )
        raise TypeError(f"values is {given}; expected a floating-point tensor of shape (N,)")
    ordered = values[~values.isnan()].sort().values
    n = len(ordered)
    k = int((stats.binom.cdf(np.arange(n), n, 0.5) <= tail).sum())
    if k < 1:
        least = math.ceil(1 - math.log2(1 - confidence))
        raise ValueError(f"values holds {n} values that are not NaN; expected at least {least} for a confidence of "
                         f"{confidence:g}")  # fmt: skip
    return Interval(ordered[k - 1].item(), ordered[n - k].item())


def ratio_interval(d12: Tensor, d22: Tensor, *, largest: float, confidence: float = 0.95) -> RatioOfMeans:
    r"""The mean length of Δ12 over that of Δ22, with an interval that holds if no deviation exceeds `largest`.

    α1 is the mean of a ratio, and may be infinite. This is the ratio of the means, which divides by nothing small. With
    g = L √(ln(2/γ) / (2N)) / (mean length of Δ22), the interval from r̂ is [(r̂ - g) / (1 + g), (r̂ + g) / (1 - g)],
    without an upper end if g ≥ 1 (`prop-ratio` of the book). All samples count; ``alpha1_ratio`` of
    :class:`~advtransfer.metrics.Transferability` leaves out those that the attack on model 2 does not move.

    Parameters
    ----------
    d12, d22
        Deviations of model 2 under the attacks on models 1 and 2, shapes (N, d2), of independent samples.
    largest
        L, a length that no deviation can exceed: √2 for probabilities, ε times a Lipschitz constant for others.
    confidence
        The probability, in (0, 1), with which the interval holds the ratio at least.

    Raises
    ------
    TypeError, ValueError
        Shapes that do not match, values that are not finite, a deviation longer than `largest`, a model 2 that its own
        attacks do not move at all, or a confidence that is not in (0, 1).

    Examples
    --------
    >>> d = torch.ones(2000, 1)
    >>> result = ratio_interval(d / 2, d, largest=1.0)
    >>> [round(end, 2) for end in result]
    [0.5, 0.46, 0.55]
    """
    tail, bound = 1 - _checked(confidence), as_number("largest", largest)
    check_batch("d12", d12, ndim=2)
    check_batch("d22", d22, ndim=2)
    if d12.shape != d22.shape:
        raise ValueError(
            f"d12 and d22 have shapes {tuple(d12.shape)} and {tuple(d22.shape)}; expected the same (N, d2)"
        )
    lengths = [torch.linalg.vector_norm(d.double(), dim=1) for d in (d12, d22)]
    longest = max(length.max().item() for length in lengths)
    if longest > bound * (1 + 1e-6):  # not by rounding
        raise ValueError(f"a deviation has the length {longest:.6g}; expected at most largest = {bound:g}")
    borrowed, own = (length.mean().item() for length in lengths)
    if own == 0:
        raise ValueError("d22 is zero at every sample; expected an attack that moves model 2 somewhere")
    ratio, g = borrowed / own, bound * math.sqrt(math.log(2 / tail) / (2 * len(d12))) / own
    return RatioOfMeans(ratio, max(0.0, (ratio - g) / (1 + g)), (ratio + g) / (1 - g) if g < 1 else math.inf)


def _factor(metric: str, confidence: float, largest: float) -> float:
    """The half-width of one sample, from which that of N is smaller by √N."""
    if metric not in METRICS:
        raise ValueError(unknown("metric", metric, METRICS))
    tail = 1 - _checked(confidence)
    if largest == math.inf and metric in SCALED:
        raise ValueError(
            f"largest is inf; expected a bound of α1(x): without one no number of samples is enough for {metric}; "
            "for 'median' there is one"
        )
    length = as_number("largest", largest)
    if length == 0 or (metric not in SCALED and length != 1):
        expected = "a positive number" if metric in SCALED else f"1, since {metric} does not depend on it"
        raise ValueError(f"largest is {length:g}; expected {expected}")
    if metric in ("alpha2", "alpha12"):
        return length * (1 + math.sqrt(2 * math.log(1 / tail)))
    return length * math.sqrt(math.log(2 / tail) / 2)


def _checked(confidence: float) -> float:
    number = as_number("confidence", confidence)
    if not 0 < number < 1:
        raise ValueError(f"confidence is {number:g}; expected a probability between 0 and 1, such as 0.95")
    return number
