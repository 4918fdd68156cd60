"""Tests of the fifth assignment: an effect, measured in pairs."""

from collections.abc import Callable
from typing import Any

import torch

from advtransfer.classroom.checks.answers import called, equal, normal, random
from advtransfer.classroom.quiet import without_source

Function = Callable[..., Any]


HINT = "the names, values and seeds of your own table were expected; use `knob`, `low`, `high` and `outcome`."


def _falls_on_the_whole(difference: torch.Tensor) -> bool:
    """Whether the effect is negative but not in every seed, so that a lost sign is seen."""
    return bool(difference.mean() < -0.2) and 1 < int((difference > 0).sum()) < len(difference) - 1


@without_source
def effect(paired_effect: Function, *, seed: int, renamed: bool = False) -> None:
    """`paired_effect` is the mean difference within seeds, and its standard error.

    If `renamed`, the rows are shuffled, and the knob, the outcome, the values and the seeds are not those of the sheet;
    columns `eps` and `alpha1` are there, too, but they tell something else; and the knob has values outside `low` to
    `high`.
    """
    generator = random(seed)
    n = 8 if not renamed else int(torch.randint(5, 9, (), generator=generator))
    knob, outcome, levels, seeds = "eps", "alpha1", [0.1, 0.2, 0.4], list(range(n))
    first, last = 0, 2
    if renamed:
        knob, outcome, levels = "steps", "loss", [2.0, 3.0, 5.0, 20.0, 40.0]
        first, last = 1, 3
        seeds = (100 + torch.randperm(50, generator=generator)[:n]).tolist()
    base, noise = normal(generator, n), 0.1 * normal(generator, len(levels), n)
    decoy = normal(generator, len(levels), n)
    values = torch.stack([base + 2 * k + noise[k] for k in range(len(levels))])
    while renamed and not _falls_on_the_whole(values[last] - values[first]):
        values = base + normal(generator, len(levels), n)
    rows = [
        {"eps": 0.1 * 2**k, "alpha1": decoy[k, i].item(), "seed": s, knob: level, outcome: values[k, i].item()}
        for k, level in enumerate(levels)
        for i, s in enumerate(seeds)
    ]
    if renamed:
        rows = [rows[i] for i in torch.randperm(len(rows), generator=generator)]
    arguments = paired_effect, rows, knob, levels[first], levels[last], outcome
    found = called(HINT, "paired_effect", *arguments) if renamed else paired_effect(*arguments[1:])

    def result(difference: torch.Tensor, count: int = n) -> torch.Tensor:
        return torch.stack([difference.mean(), difference.std() / count**0.5])

    def met(name: str, level: float) -> torch.Tensor:
        return torch.tensor([row[name] for row in rows if row[knob] == level], dtype=torch.float64)

    low, high = values[first], values[last]
    difference = high - low
    mean, error = result(difference)
    equal("paired_effect", found, result(difference), {
        "the error is that of two independent groups; runs with the same seed are pairs: take differences first.":
            torch.stack([mean, ((low.var() + high.var()) / n).sqrt()]),
        "the second number is the standard deviation; the standard error is that over the root of the number of seeds.":
            [torch.stack([mean, difference.std()]), torch.stack([mean, difference.std(correction=0)])],
        "the standard deviation was divided by n; with few seeds divide by n − 1.":
            torch.stack([mean, difference.std(correction=0) / n**0.5]),
        "the differences have lost their signs; the effect may be negative in some seeds, and on the whole.":
            [torch.stack([difference.abs().mean(), error]), result(difference.abs())],
        "only the differences of one sign were used; use those of all seeds.": [
            result(part, len(part)) for part in (difference[difference > 0], difference[difference < 0])
            if 1 < len(part) < n
        ],
        "the sign is wrong: the effect is the value at `high` less that at `low`.": torch.stack([-mean, error]),
        "rows were paired in the order in which they came; pair them by their seed.":
            result(met(outcome, levels[last]) - met(outcome, levels[first])),
        "this is the variance of the mean; take the root.": torch.stack([mean, error**2]),
        "the column alpha1 was used; use that which `outcome` names.": result(decoy[last] - decoy[first]),
        "the smallest and the largest value of the knob were used; use `low` and `high`.":
            result(values[-1] - values[0]),
        f"it is NaN: {HINT}": [torch.full((2,), torch.nan), torch.stack([mean, mean * torch.nan])],
        "only some of the seeds were used; use all that the rows have.":
            [result(difference[:m], m) for m in range(2, n)],
        "only the mean was returned; expected its standard error, too.": mean,
        "the two numbers are exchanged: first the mean, then its standard error.": torch.stack([error, mean]),
        "the number of runs was used; the standard error is over the number of seeds.":
            [torch.stack([mean, difference.std() / m**0.5]) for m in (2 * n, len(rows))],
    })  # fmt: skip
