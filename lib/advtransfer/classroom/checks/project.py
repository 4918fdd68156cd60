"""Tests of the fifth assignment: an effect, measured in pairs."""

from collections.abc import Callable
from typing import Any

import torch

from advtransfer.classroom.checks.answers import equal, normal, random

Function = Callable[..., Any]


def effect(paired_effect: Function, *, seed: int, shuffled: bool = False) -> None:
    """`paired_effect` is the mean difference within seeds, and its standard error; rows may be `shuffled`."""
    generator = random(seed)
    base, noise = normal(generator, 6), 0.1 * normal(generator, 3, 6)
    values = {eps: base + eps * 2 + noise[k] for k, eps in enumerate((0.1, 0.2, 0.4))}
    rows = [{"eps": e, "seed": s, "alpha1": v[s].item()} for e, v in values.items() for s in range(6)]
    if shuffled:
        rows = [rows[i] for i in torch.randperm(len(rows), generator=generator)]
    low, high = values[0.1], values[0.4]
    difference = high - low
    mean, error = difference.mean(), difference.std() / 6**0.5
    met = {e: [row["alpha1"] for row in rows if row["eps"] == e] for e in (0.1, 0.4)}
    in_order = torch.tensor(met[0.4]).double() - torch.tensor(met[0.1]).double()
    equal("paired_effect", paired_effect(rows, "eps", 0.1, 0.4, "alpha1"), torch.stack([mean, error]), {
        "the error is that of two independent groups; runs with the same seed are pairs: take differences first.":
            torch.stack([mean, ((low.var() + high.var()) / 6).sqrt()]),
        "the second number is the standard deviation; the standard error is that over the root of the number of seeds.":
            [torch.stack([mean, difference.std()]), torch.stack([mean, difference.std(correction=0)])],
        "the standard deviation was divided by n; with few seeds divide by n − 1.":
            torch.stack([mean, difference.std(correction=0) / 6**0.5]),
        "the sign is wrong: the effect is the value at `high` less that at `low`.": torch.stack([-mean, error]),
        "rows were paired in the order in which they came; pair them by their seed.":
            torch.stack([in_order.mean(), in_order.std() / 6**0.5]),
        "this is the variance of the mean; take the root.": torch.stack([mean, error**2]),
    })  # fmt: skip
