"""How models draw their initial weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def initialised_by(generator: torch.Generator | None) -> Iterator[None]:
    """Let layers that are built inside the block draw their weights from `generator`, on the CPU in every case."""
    generator = generator or torch.Generator().manual_seed(0)
    seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs as well
        yield
