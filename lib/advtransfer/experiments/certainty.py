"""What the first attacks prove: the bounds of `certificates` on random networks, and the examples that attain them."""

import math
from functools import partial
from itertools import permutations
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from advtransfer import certificates, matching
from advtransfer.experiments.statements import Case, Statement, states

STATEMENTS: list[Statement] = []
_states = partial(states, STATEMENTS)

MIXTURES = (0.0, 0.1, 0.3, 1.0, 3.0)
"""How much of model b is mixed into a source that otherwise is an affine function of model a."""

STEEPER = (1.0, 3.0, 10.0)
"""Factors of the first output of model a, which make ρ larger."""


def angles(jac_a: Tensor, jac_b: Tensor) -> tuple[float, float, float]:
    """ω, ω1 and ψ in radians, by arccosines of what equation 12 gives."""
    found = matching.theorem_ratio(jac_a, jac_b)
    return tuple(  # type: ignore[return-value]
        math.acos(min(1.0, square) ** 0.5) for square in (found.ratio, found.ratio_first / found.rho, found.rho)
    )


def sources(case: Case) -> list[Tensor]:
    """Jacobians of sources for model a, (N, d, n), from an affine function of f_a to one that is nearly f_b."""
    d_a, d_b = case.a.shape[1], case.b.shape[1]
    maps = torch.randn(len(MIXTURES), d_b, d_a, generator=case.generator, dtype=torch.float64)
    return [weight @ case.a + t * case.b for t, weight in zip(MIXTURES, maps, strict=True)]


@_states("angle", "New", "|ω - ω1| ≤ ψ, where sin ω is the relative distance", "inequality")
def _angle(case: Case) -> float:
    if case.a.shape[1] == 1:  # then ψ = 0, and both sides are zero up to rounding
        return 0.0
    omega, first, psi = angles(case.a, case.b)
    return abs(omega - first) / psi


@_states("angle-root", "New", "|√R - √R1| ≤ √((1 - ρ)(1 - R1/ρ)), above only for R1 ≤ ρ²", "inequality")
def _root(case: Case) -> float:
    found = matching.theorem_ratio(case.a, case.b)
    if case.a.shape[1] == 1:
        return 0.0
    difference = found.ratio**0.5 - found.ratio_first**0.5
    if difference > 0 and found.ratio_first > found.rho**2:
        return 0.0
    return abs(difference) / ((1 - found.rho) * (1 - found.ratio_first / found.rho)) ** 0.5


@_states("angle-combined", "New", "√R ≥ cos(arccos C_w + arccos √ρ)", "inequality")
def _combined(case: Case) -> float:
    found = certificates.first_attacks(case.a, case.b)
    if case.a.shape[1] == 1:  # then the left side is C_w, which prop-cw has as well
        return found.combined / matching.theorem_ratio(case.a, case.b).ratio ** 0.5
    bound = math.cos(math.acos(min(1.0, found.combined)) + math.acos(found.rho**0.5))
    return max(0.0, bound) / matching.theorem_ratio(case.a, case.b).ratio ** 0.5


@_states("first-attacks", "New", "R1 and ρ from first attacks alone are those of equation 12")
def _first_attacks(case: Case) -> float:
    found, expected = certificates.first_attacks(case.a, case.b), matching.theorem_ratio(case.a, case.b)
    return max(abs(found.rho - expected.rho), abs(found.ratio_first - expected.ratio_first))


class Orders(NamedTuple):
    """The orders of all pairs of sources for one attacked model."""

    rho: float
    pairs: int
    certified: int
    wrong: int
    """Certified orders that the distances contradict."""


def orders(case: Case) -> list[Orders]:
    """What is certified for model a, and for copies of it in which one output is steeper, so that ρ is larger."""
    jacs, found = sources(case), []
    for steeper in STEEPER:
        jac_a = torch.cat([steeper * case.a[:, :1], case.a[:, 1:]], 1)
        distances = [matching.gradient_matching(jac_a, jac).relative for jac in jacs]
        first = [certificates.first_attacks(jac_a, jac) for jac in jacs]
        certain = [(i, j) for i, j in permutations(range(len(jacs)), 2) if certificates.certified(first[i], first[j])]
        wrong = sum(distances[i] >= distances[j] for i, j in certain)
        found.append(Orders(first[0].rho, math.comb(len(jacs), 2), len(certain), wrong))
    return found


@_states("order", "New", "certified orders of two sources that are wrong")
def _order(case: Case) -> float:
    return float(sum(found.wrong for found in orders(case)))


def _turned(vector: Tensor) -> Tensor:
    """Jacobians (m, m, m) at m inputs: the gradients of output k are along input k, of the lengths of `vector`.

    The first length belongs to input k itself, the next to the one after it, and so on around.
    """
    index = (torch.arange(len(vector))[:, None] - torch.arange(len(vector))) % len(vector)
    return torch.diag_embed(vector[index])


def attacked(psi: float, m: int = 2) -> Tensor:
    """J_a of the book's example ex-angle with m inputs, (m, m, m)."""
    vector = torch.full((m,), math.tan(psi) / (m - 1) ** 0.5, dtype=torch.float64)
    vector[0] = 1
    return _turned(vector)


def source(zeta: float, m: int = 2) -> Tensor:
    """J_b of the example, (m, m, m): ω1 = |ζ| and ω = |ζ - ψ|."""
    vector = torch.full((m,), math.sin(zeta) / (m - 1) ** 0.5, dtype=torch.float64)
    vector[0] = math.cos(zeta)
    return _turned(vector)


def source_of_nothing(psi: float, first: float) -> Tensor:
    """J_b (3, 3, 3) with ω1 = `first` and ω = π/2 for three inputs, where ω1 + ψ is at least π/2."""
    total = -math.cos(first) * 2**0.5 / math.tan(psi)  # the two other lengths, for which the products cancel
    half = math.sqrt(max(0.0, 2 * math.sin(first) ** 2 - total**2))
    vector = [math.cos(first), (total + half) / 2, (total - half) / 2]
    return _turned(torch.tensor(vector, dtype=torch.float64))


def source_of_all(psi: float, first: float) -> Tensor:
    """J_b (3, 6, 3) with ω1 = `first` and ω = 0 for three inputs, where ω1 is at most ψ."""
    own = torch.tensor([math.cos(psi), *[math.sin(psi) / 2**0.5] * 2], dtype=torch.float64)
    across = torch.tensor([math.sin(psi), *[-math.cos(psi) / 2**0.5] * 2], dtype=torch.float64)
    beside = torch.tensor([0.0, 0.5**0.5, -(0.5**0.5)], dtype=torch.float64)
    share = math.sqrt(max(0.0, math.cos(first) ** 2 - math.cos(psi) ** 2)) / math.sin(psi)
    return torch.cat([_turned(own), _turned(share * across + math.sqrt(max(0.0, 1 - share**2)) * beside)], 1)


def _uniform(case: Case, low: float, high: float) -> float:
    return low + (high - low) * torch.rand(1, generator=case.generator, dtype=torch.float64).item()


@_states("angle-attained", "New", "examples in which the distance is at either end of its interval", slack=1e-7)
def _attained(case: Case) -> float:
    quarter, made = math.pi / 2, []  # J_a, J_b, ω, and which end it is
    for m in (2, 5):
        psi = _uniform(case, 0.05, 0.95) * math.atan((m - 1) ** 0.5)
        below, above = _uniform(case, psi - quarter, 0), _uniform(case, psi, quarter)
        made.append((attacked(psi, m), source(below, m), psi - below, 1))
        made.append((attacked(psi, m), source(above, m), above - psi, 0))
    psi = _uniform(case, 0.05, 0.95) * math.atan(2**0.5)
    made.append((attacked(psi, 3), source_of_nothing(psi, _uniform(case, quarter - psi, quarter)), quarter, 1))
    made.append((attacked(psi, 3), source_of_all(psi, _uniform(case, 0, psi)), 0, 0))
    worst = 0.0
    for jac_a, jac_b, omega, end in made:
        first, distance = certificates.first_attacks(jac_a, jac_b), matching.gradient_matching(jac_a, jac_b).relative
        ends = certificates.distance_interval(first.ratio_first, first.rho)
        worst = max(worst, abs(distance - math.sin(omega)), abs(distance - ends[end]))
    return worst


@_states("order-attained", "New", "at ω1' - ω1 = 2ψ a tie; on one side certified, on the other reversed", slack=1e-7)
def _tie(case: Case) -> float:
    psi = _uniform(case, 0.05, 0.7)
    omega = _uniform(case, 0, math.pi / 2 - 2 * psi - 0.01)
    jac_a, near = attacked(psi), source(-omega)
    tie = matching.gradient_matching(jac_a, source(omega + 2 * psi)).relative
    error = abs(tie - matching.gradient_matching(jac_a, near).relative)
    for step in (-1e-3, 1e-3):
        far = source(omega + 2 * psi + step)
        first_near, first_far = (certificates.first_attacks(jac_a, jac) for jac in (near, far))
        nearer = matching.gradient_matching(jac_a, near).relative < matching.gradient_matching(jac_a, far).relative
        ranked = first_near.ratio_first > first_far.ratio_first
        certain = certificates.certified(first_near, first_far)
        error += not (ranked and nearer == certain == (step > 0))
    return error


@_states("no-order", "New", "a steep output of $f_b$ that $f_a$ does not see: C_w falls 100 times, the distance stays")
def _steep_output(case: Case) -> float:
    n, steep = case.b.shape[2], 100 * torch.linalg.matrix_norm(case.b, 2)
    wide_a = torch.nn.functional.pad(case.a, (0, 1))
    wide_b = torch.nn.functional.pad(case.b, (0, 1, 0, 1))
    wide_b[:, -1, n] = steep
    before, after = certificates.first_attacks(case.a, case.b), certificates.first_attacks(wide_a, wide_b)
    moved = (matching.gradient_matching(j, k).relative for j, k in ((case.a, case.b), (wide_a, wide_b)))
    first, second = moved
    return max(abs(first - second), abs(100 * after.combined / before.combined - 1))


def table(found: list[Orders]) -> pd.DataFrame:
    """How many orders were certified, and how many of them wrongly, by the share ρ of the first attack."""
    rows = pd.DataFrame(found)
    rows["share"] = pd.cut(rows["rho"], [0, 0.6, 0.8, 0.95, 1 - 1e-9, 2], labels=False)
    sums = {"rho": ["min", "max"], "pairs": "sum", "certified": "sum", "wrong": "sum"}
    result = rows.groupby("share").agg(sums).reset_index(drop=True)
    result.columns = ["rho_low", "rho_high", "pairs", "certified", "wrong"]
    return result
