"""What a sample says about the metrics: the bounds of `concentration` on samples drawn many times, and heavy tails.

The points of a case are the population, so the truth is known, and samples are drawn from it with replacement.
"""

import math
from functools import cache, partial
from itertools import product

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from advtransfer import attacks, concentration, intervals, metrics, spectral
from advtransfer.experiments.statements import Case, Statement, states

STATEMENTS: list[Statement] = []
_states = partial(states, STATEMENTS)

SIZE, DRAWS, FEW, CONFIDENCE = 50, 400, 100, 0.95
HALF_WIDTHS = (0.1, 0.05, 0.02, 0.01)
EPS = 0.1
UNLIKELY = 1e-6
"""The probability with which chance alone may refute a true statement about frequencies."""


def matrices(case: Case) -> tuple[Tensor, Tensor]:
    """The matrices that α2 and α1∗α2 average, (N, d_a, d_b)."""
    delta = spectral.singular_attacks(case.a, k=1).delta[:, 0, :, None]
    u, w = (intervals.unit_rows((jac @ delta).squeeze(2)) for jac in (case.a, case.b))
    outer = torch.einsum("ni,nj->nij", u, w)
    return outer, case.euclidean.alpha1_samples[:, None, None] * outer


def samples(case: Case) -> Tensor:
    """Which of the case's points are in each sample, (DRAWS, SIZE)."""
    return torch.randint(len(case.x), (DRAWS, SIZE), generator=case.generator)


def _quantile(errors: Tensor) -> float:
    """The error that is exceeded as often as a bound may fail."""
    return errors.quantile(CONFIDENCE).item()


def allowed(repeats: int) -> float:
    """How many of `repeats` intervals may fail to hold the truth; more are unlikely if the interval is right."""
    return float(stats.binom.ppf(1 - UNLIKELY, repeats, 1 - CONFIDENCE))


@_states(
    "samples-square", "Finite samples", "over all samples of three from five points: E‖Ḡ - E G‖² and the bias of V"
)
def _mean_square(case: Case) -> float:
    drawn = torch.tensor(list(product(range(5), repeat=3)))  # (125, 3)
    worst = 0.0
    for g in matrices(case):
        few = g[:5]
        centre, means = few.mean(0), few[drawn].mean(1)
        stated = (few.square().sum((1, 2)).mean() - centre.square().sum()) / 3
        spread = (means - centre).square().sum((1, 2)).mean()
        bias = means.square().sum((1, 2)).mean() - centre.square().sum()
        worst = max(worst, abs(spread - stated).item(), abs(bias - stated).item())
    return worst


def _plug_in(case: Case, which: int) -> float:
    g = matrices(case)[which]
    means = g.flatten(1)[samples(case)].mean(1)
    metric = concentration.METRICS[1:3][which]
    bound = concentration.guaranteed_half_width(SIZE, metric=metric, confidence=CONFIDENCE)
    return _quantile((means.norm(dim=1) - g.mean(0).norm()).abs()) / bound


_BOUND = f"the {CONFIDENCE:.0%} quantile of the error of {{}}, N = {SIZE}, is at most its bound"


@_states("samples-alpha2", "Finite samples", _BOUND.format("α2"), "inequality")
def _alpha2(case: Case) -> float:
    return _plug_in(case, 0)


@_states("samples-alpha12", "Finite samples", _BOUND.format("α1∗α2"), "inequality")
def _alpha12(case: Case) -> float:
    return _plug_in(case, 1)


@_states("samples-alpha1", "Finite samples", _BOUND.format("α1 with exact attacks"), "inequality")
def _alpha1(case: Case) -> float:
    values = case.euclidean.alpha1_samples
    bound = concentration.guaranteed_half_width(SIZE, metric="alpha1", confidence=CONFIDENCE)
    return _quantile((values[samples(case)].mean(1) - values.mean()).abs()) / bound


# Heavy tails: the models of the book's example ex-heavy, with c = 1.


def f_a(x: Tensor) -> Tensor:
    """The attacked model, (N, 2) -> (N, 2)."""
    return torch.stack([x[:, 1], -x[:, 1]], 1)


def f_b(x: Tensor) -> Tensor:
    """The other model, (N, 2) -> (N, 2)."""
    half = x[:, 0].square() / 2
    return torch.stack([half + x[:, 1], -half + x[:, 1]], 1)


def inputs(n: int, generator: torch.Generator) -> Tensor:
    """Uniform points of the square [-1, 1]², (n, 2)."""
    return 2 * torch.rand(n, 2, generator=generator, dtype=torch.float64) - 1


def deviations(x: Tensor) -> tuple[Tensor, Tensor]:
    """Δ_ab and Δ_bb for one gradient step on cross-entropy, as the library makes it."""
    attack = partial(attacks.fgsm, eps=EPS, norm="l2", bounds=None)
    found = metrics.deviations([f_a, f_b], x, attack, pairs=[(0, 1), (1, 1)])
    return found[0, 1], found[1, 1]


def alpha1(x: Tensor) -> Tensor:
    """α1(x) in the limit of small ε, (..., 2) -> (...)."""
    return 1 / x[..., 0].abs()


@_states(
    "heavy-attack",
    "Heavy tails",
    r"the library's step on cross-entropy moves $f_b$ by "
    r"$\sqrt 2\, \varepsilon\, \bigl\lvert \lvert x_1 \rvert - \varepsilon / 2 \bigr\rvert$",
)
def _heavy_attack(case: Case) -> float:
    x = inputs(len(case.x), case.generator)
    borrowed, own = (d.norm(dim=1) for d in deviations(x))
    stated = 2**0.5 * EPS * (x[:, 0].abs() - EPS / 2).abs()
    return max((own - stated).abs().max().item(), (borrowed - 2**0.5 * EPS).abs().max().item()) / EPS


@_states("heavy-largest", "Heavy tails", "P(max α1(x) / N ≤ t) → exp(-c/t), up to noise and 1/N", "inequality")
def _heavy_largest(case: Case) -> float:
    drawn = alpha1(inputs(SIZE * DRAWS, case.generator)).view(DRAWS, SIZE)
    largest = np.sort(drawn.amax(1).numpy() / SIZE)
    # P(max ≤ t N) = (1 - 1/(t N))^N is within 1/N of its limit.
    limit, steps = np.exp(-1 / largest), np.arange(DRAWS + 1) / DRAWS
    distance = max(np.abs(steps[1:] - limit).max(), np.abs(steps[:-1] - limit).max())
    return float(distance / (math.sqrt(math.log(2 / UNLIKELY) / (2 * DRAWS)) + 1 / SIZE))


@_states("heavy-median", "Heavy tails", "the interval of the median misses it no more often than it may", "inequality")
def _heavy_median(case: Case) -> float:
    drawn = [concentration.median_interval(alpha1(inputs(SIZE, case.generator))) for _ in range(FEW)]
    return sum(not low <= 2 <= high for low, high in drawn) / allowed(FEW)


@_states("heavy-levels", "Heavy tails", _BOUND.format("the level of the median"), "inequality")
def _heavy_levels(case: Case) -> float:
    medians = alpha1(inputs(SIZE * DRAWS, case.generator)).view(DRAWS, SIZE).quantile(0.5, dim=1)
    bound = concentration.guaranteed_half_width(SIZE, metric="median", confidence=CONFIDENCE)
    return _quantile((1 / medians - 0.5).abs()) / bound  # P(α1(x) > t) = 1/t


@_states("heavy-ratio", "Heavy tails", _BOUND.format("the ratio of mean deviations"), "inequality")
def _heavy_ratio(case: Case) -> float:
    own = inputs(SIZE * DRAWS, case.generator)[:, 0].abs().view(DRAWS, SIZE).mean(1)
    # Deviations over √2 ε: the borrowed one is 1, which is also the longest, and the ratio of expectations is 2.
    xi = math.sqrt(math.log(2 / (1 - CONFIDENCE)) / (2 * SIZE)) / own
    return _quantile((1 / own - 2).abs() / (3 * xi))


@_states(
    "no-number", "Heavy tails", "1 - γ ≤ the probability that N samples miss the mean, for every N tried", "inequality"
)
def _no_number(case: Case) -> float:
    return _missing_a_rare_value()


@cache
def _missing_a_rare_value() -> float:
    """1 - γ over the exact probability of a miss, for numbers of samples that are enough if α1(x) ≤ 1."""
    worst = 0.0
    for width in HALF_WIDTHS:
        n = concentration.needed_samples(width, metric="alpha1", confidence=CONFIDENCE)
        rare = 1 - CONFIDENCE ** (1 / n)
        counts = np.arange(n + 1)
        missed = np.abs((1 + 2 * width / rare * counts / n) - (1 + 2 * width)) > width
        worst = max(worst, CONFIDENCE / stats.binom.pmf(counts[missed], n, rare).sum())
    return worst


def least_samples(half_width: float) -> int:
    """The number of samples from which on the mean of signs is within `half_width` of zero with confidence 95%.

    No rule for α2 that holds for every pair of models can do with fewer (`rem-signs` of the book).
    """
    most = concentration.needed_samples(half_width, confidence=CONFIDENCE)
    n = np.arange(1, most + 1)
    # The mean of k signs +1 and n - k signs -1 is below -h if k < n (1 - h) / 2.
    outside = 2 * stats.binom.cdf(np.ceil(n * (1 - half_width) / 2 - 1e-9) - 1, n, 0.5)
    return int(n[outside > 1 - CONFIDENCE].max()) + 1


def needed() -> pd.DataFrame:
    """How many samples each metric needs for a half-width, and the least that any rule for α2 needs."""
    return pd.DataFrame(
        {
            "half_width": width,
            "alpha1": concentration.needed_samples(width, metric="alpha1", confidence=CONFIDENCE),
            "alpha2": concentration.needed_samples(width, metric="alpha2", confidence=CONFIDENCE),
            "least": least_samples(width),
            "confidence": CONFIDENCE,
        }
        for width in HALF_WIDTHS
    )


def heavy_tails(repeats: int, seed: int) -> pd.DataFrame:
    """Three summaries of α1(x) in the example, on samples of growing size drawn `repeats` times.

    `low`, `middle` and `high` are the 10th, 50th and 90th percentile over samples; `largest` is the middle share of the
    largest value in the sum. The library attacks each sample, with one gradient step. `truth` is found by hand.
    """
    truth = {"mean": math.inf, "median": 1 / (0.5 - EPS / 2), "ratio": 1 / (0.5 - EPS / 2 + EPS**2 / 4)}
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for n in (100, 1000, 10_000):
        values: dict[str, list[float]] = {"mean": [], "median": [], "ratio": []}
        shares = []
        for _ in range(repeats):
            borrowed, own = (d.norm(dim=1) for d in deviations(inputs(n, generator)))
            ratio = borrowed / own
            values["mean"].append(ratio.mean().item())
            values["median"].append(ratio.median().item())
            values["ratio"].append((borrowed.mean() / own.mean()).item())
            shares.append((ratio.max() / ratio.sum()).item())
        for name, found in values.items():
            low, middle, high = np.quantile(found, [0.1, 0.5, 0.9])
            about = {"n": n, "summary": name, "truth": truth[name], "largest": np.median(shares)}
            rows.append({**about, "low": low, "middle": middle, "high": high})
    return pd.DataFrame(rows)
