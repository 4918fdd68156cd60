"""The theory checks: every statement on random networks, every counterexample, and the small-ε theory as ε grows."""

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from advtransfer import attacks, matching, metrics, spectral
from advtransfer.experiments import certainty, remarks, sampling, statements
from advtransfer.experiments.counterexamples import counterexamples
from advtransfer.experiments.statements import Case, random_case
from advtransfer.modes import evaluating, one_thread
from advtransfer.records.configs import Config as BaseConfig
from advtransfer.records.record import Arrays, Tables
from advtransfer.records.runs import recorded

STATEMENTS = [*statements.STATEMENTS, *remarks.STATEMENTS, *sampling.STATEMENTS, *certainty.STATEMENTS]

TABLES = ("statements", "counterexamples", "growing_eps", "cross_entropy", "needed", "heavy_tails", "orders")
"""The tables of a record."""


class Config(BaseConfig):
    """Sizes of the random networks on which the statements are verified."""

    PROFILES: ClassVar = {
        "smoke": {"networks": 1, "samples": 40, "radii": 4, "attack_steps": 20, "repeats": 10},
        "quick": {"networks": 10, "samples": 200, "radii": 13, "attack_steps": 60, "repeats": 100},
        "paper": {"networks": 50, "samples": 1000, "radii": 21, "attack_steps": 200, "repeats": 1000},
    }

    networks: int = Field(10, ge=1, le=1000, description="random pairs of networks per size and inner product")
    samples: int = Field(200, ge=10, le=100_000, description="points at which each pair is compared")
    inputs: int = Field(12, ge=2, le=1000, description="n, the number of inputs of the wider pairs")
    radii: int = Field(13, ge=2, le=100, description="radii ε in the figure on growing ε")
    attack_steps: int = Field(60, ge=1, le=10_000, description="steps of the attacks at each radius")
    repeats: int = Field(100, ge=2, le=100_000, description="samples of each size drawn from the heavy tail")


@recorded
@one_thread()
def run(config: Config) -> tuple[Tables, Arrays]:
    """Verify everything once; see the tables' columns for what is measured."""
    tables = {
        "statements": _statements(config),
        "counterexamples": pd.DataFrame([found._asdict() for found in counterexamples()]),
        "growing_eps": _growing_eps(config),
        "cross_entropy": _cross_entropy(config),
        "needed": sampling.needed(),
        "heavy_tails": sampling.heavy_tails(config.repeats, config.seed),
        "orders": certainty.table([found for case in _cases(config) for found in certainty.orders(case)]),
    }
    return tables, {}


def _cases(config: Config) -> Iterator[Case]:
    """Every combination of sizes, directions and inner products, `networks` times over."""
    n = config.inputs
    pairs = [
        ([6, 15, 3], [6, 15, 15, 4]),
        ([n, 20, 20, 10], [n, 20, 1]),
        ([n, 20, 5], [n, 20, 20, 5]),
    ]
    both = [direction for a, b in pairs for direction in ((a, b), (b, a))]
    hessians: tuple[Literal["I", "PD", "PSD"], ...] = ("I", "PD", "PSD")
    combinations = list(product(range(config.networks), both, hessians))
    seeds = np.random.SeedSequence(config.seed).generate_state(len(combinations)).tolist()
    for seed, (_, (a, b), hessian) in zip(seeds, combinations, strict=True):
        yield random_case(a, b, config.samples, hessian, seed)


def _statements(config: Config) -> pd.DataFrame:
    """The worst number of each statement over all cases, and how many cases there were."""
    worst = dict.fromkeys((s.key for s in STATEMENTS), 0.0)
    cases = 0
    for case in _cases(config):
        cases += 1
        for statement in STATEMENTS:
            value = statement.measure(case)
            if math.isnan(value) or value > worst[statement.key]:  # NaN is the worst of all, and stays
                worst[statement.key] = value
    return pd.DataFrame(
        {
            "key": s.key,
            "where": s.where,
            "form": s.form,
            "kind": s.kind,
            "worst": worst[s.key],
            "tolerance": s.tolerance,
            "verified": worst[s.key] <= s.tolerance,
            "cases": cases,
        }
        for s in STATEMENTS
    )


def _growing_eps(config: Config) -> pd.DataFrame:
    """The metrics at radius ε beside their limit, for the best attack found and for PGD as it is used in practice."""
    rows = []
    for network in range(config.networks):
        seed = int(np.random.SeedSequence([config.seed, network]).generate_state(1)[0])
        case = random_case([6, 15, 3], [6, 15, 15, 4], config.samples, "I", seed)
        for eps in np.geomspace(1e-4, 10, config.radii):
            results = {
                "best attack": _strongest(case, float(eps), config.attack_steps),
                "PGD": _pgd(case, float(eps), config.attack_steps, seed),
            }
            for name, result in results.items():
                rows.append(
                    {
                        "network": network,
                        "eps": float(eps),
                        "attack": name,
                        "alpha1": result.alpha1,
                        "alpha2": result.alpha2,
                        "alpha12": result.alpha12,
                        "alpha1_limit": case.euclidean.alpha1,
                        "alpha2_limit": case.euclidean.alpha2,
                        "alpha12_limit": case.euclidean.alpha12,
                        "above_one": int((result.alpha1_samples > 1 + 1e-9).sum()),
                        "n": result.n,
                    }
                )
    return pd.DataFrame(rows)


def _cross_entropy(config: Config) -> pd.DataFrame:
    """What changes for KL and cross-entropy, one row per network: H varies with x, and Definition 1 gives a square."""
    rows = []
    for network in range(config.networks):
        seed = int(np.random.SeedSequence([config.seed, network]).generate_state(1)[0])
        case = random_case([6, 15, 3], [6, 15, 15, 4], config.samples, "I", seed)
        h_a, h_b = _fisher(case.f_a(case.x)), _fisher(case.f_b(case.x))
        first_a, first_b = (spectral.singular_attacks(jac, h, k=1) for jac, h in ((case.a, h_a), (case.b, h_b)))
        moved = (spectral.matrix_root(h_b, case.b.shape[1]) @ case.b @ first_a.delta.mT).flatten(1).norm(dim=1)
        a1 = moved / first_b.sigma[:, 0]
        eps = 1e-3
        by_a, by_b = (_kl(case.f_b, case.x, eps * found.delta[:, 0]) for found in (first_a, first_b))
        constant = matching.gradient_matching(case.a, case.b).weight
        best = matching.gradient_matching(case.a, case.b, h_a)
        left = spectral.matrix_root(h_a, case.a.shape[1]) @ (case.a - constant @ case.b)
        rows.append(
            {
                "network": network,
                "a1": a1.mean().item(),
                "a1_squared": a1.square().mean().item(),
                "definition_1_kl": (by_a / by_b).mean().item(),
                "excess": (left.square().sum((1, 2)).mean() / best.distance**2 - 1).item(),
                "alpha1_above_one": _alpha1_above_one(case),
            }
        )
    return pd.DataFrame(rows)


def _fisher(logits: Tensor) -> Tensor:
    """The Hessian at zero of KL between softmax outputs: diag(p) - p pᵀ, (N, d) -> (N, d, d)."""
    p = logits.detach().softmax(1)
    return torch.diag_embed(p) - p[:, :, None] * p[:, None]


def _kl(model: Callable[[Tensor], Tensor], x: Tensor, delta: Tensor) -> Tensor:
    """KL of the softmax outputs at x from those at x + δ, (N,)."""
    with evaluating(model):
        clean, moved = model(x).log_softmax(1), model(x + delta).log_softmax(1)
    return (clean.exp() * (clean - moved)).sum(1)


def _alpha1_above_one(case: Case) -> float:
    """The share of samples with α1(x) > 1 for sign-PGD on cross-entropy, with ℓ2 deviations as in the experiments."""

    def attack(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return attacks.pgd(model, x, eps=0.1, steps=20, bounds=None)

    found = metrics.transferability(case.f_a, case.f_b, case.x, attack)
    return (found.alpha1_samples > 1).double().mean().item()


def _pgd(case: Case, eps: float, steps: int, seed: int) -> metrics.Transferability:
    generator = torch.Generator().manual_seed(seed)

    def attack(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return attacks.pgd(
            model, x, eps=eps, steps=steps, norm="l2", loss="deviation", bounds=None, generator=generator
        )

    return metrics.transferability(case.f_a, case.f_b, case.x, attack, batch_size=len(case.x))


def _strongest(case: Case, eps: float, steps: int) -> metrics.Transferability:
    """The better of two ascents along the sphere, from ±ε δ⁽¹⁾. For small ε this is the maximiser of equation 3."""
    starts = {
        model: spectral.singular_attacks(jac, k=1).delta[:, 0]
        for model, jac in ((case.f_a, case.a), (case.f_b, case.b))
    }

    def attack(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with evaluating(model, gradients=True):
            clean = model(x).detach()
            ends = []
            for sign in (1, -1):
                delta = sign * eps * starts[model]
                for _ in range(steps):  # of the conditional gradient method on the ball
                    delta.requires_grad_()
                    gradient = torch.autograd.grad((model(x + delta) - clean).square().sum(), delta)[0]
                    delta = eps * torch.nn.functional.normalize(gradient, dim=1).detach()
                ends.append(delta)
            moved = torch.stack([(model(x + delta) - clean).norm(dim=1) for delta in ends]).detach()
        return torch.where((moved[0] >= moved[1])[:, None], ends[0], ends[1])

    return metrics.transferability(case.f_a, case.f_b, case.x, attack, batch_size=len(case.x))
