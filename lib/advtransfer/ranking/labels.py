"""What labelled images and labelled texts share: the error, the split into halves, and fair shares of the classes."""

import torch
from torch import Tensor


class DataError(ValueError):
    """Images, texts or labels that cannot be used; the message says what was found and what was expected."""


def halves(y: Tensor, names: tuple[str, ...], seed: int, what: str = "image") -> tuple[Tensor, Tensor]:
    """Positions of two halves with the same share of each class, in order."""
    generator = torch.Generator().manual_seed(seed)
    first = []
    for label in range(len(names)):
        members = (y == label).nonzero().squeeze(1)
        if len(members) < 2:
            raise DataError(
                f"the class {names[label]} has {len(members)} {what}; expected at least two, one of them for testing"
            )
        first.append(members[torch.randperm(len(members), generator=generator)[: (len(members) + 1) // 2]])
    chosen = torch.zeros(len(y), dtype=torch.bool)
    chosen[torch.cat(first)] = True
    return chosen.nonzero().squeeze(1), (~chosen).nonzero().squeeze(1)


def scarce(y: Tensor, names: tuple[str, ...], least: int) -> dict[str, int]:
    """The number of samples of each class that has fewer than `least`, by its name."""
    counts = torch.bincount(y, minlength=len(names)).tolist()
    return {name: count for name, count in zip(names, counts, strict=True) if count < least}


def stratified(y: Tensor, size: int, seed: int) -> Tensor:
    """Positions of at most `size` samples, spread over the classes as evenly as these allow, in order."""
    generator = torch.Generator().manual_seed(seed)
    turns = torch.empty(len(y))  # when a sample is taken: the first of every class, then the second, ...
    for label in y.unique():
        members = (y == label).nonzero().squeeze(1)
        turns[members[torch.randperm(len(members), generator=generator)]] = torch.arange(len(members)).float()
    return turns.argsort(stable=True)[:size].sort()[0]
