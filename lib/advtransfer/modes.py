"""How models are run: evaluated without leaving a trace, on one thread, in memory that is kept from step to step."""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

Model = Callable[[Tensor], Tensor]


@contextmanager
def evaluating(*models: Model, gradients: bool = False) -> Iterator[None]:
    """Put every module among `models` in eval mode inside the block, and each submodule back as it was after.

    Autograd is on inside the block if `gradients`, else off, whatever mode the caller is in (inference mode
    included). Plain functions have no mode and pass through.
    """
    modules = {m for model in models if isinstance(model, nn.Module) for m in model.modules()}
    training = [m for m in modules if m.training]
    try:
        for module in training:
            module.training = False
        with torch.inference_mode(False), torch.set_grad_enabled(gradients):
            yield
    finally:
        for module in training:
            module.training = True


def outputs_of(model: Model, x: Tensor) -> Tensor:
    """``model(x)``, checked to be of shape (N, d).

    Raises
    ------
    ValueError
        The outputs are not a matrix with one row a sample.
    """
    outputs = model(x)
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != len(x):
        given = f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(f"model outputs have {given}; expected (N, d) with N = {len(x)}")
    return outputs


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread inside the block: small tensors lose more by being shared out than they gain.

    On a busy machine the loss is tenfold and more; and a sum then has one order on every machine.
    """
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with threadpool_limits(1):  # numpy's and scipy's
            yield
    finally:
        torch.set_num_threads(before)


# Parameters of glibc's mallopt, from malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4


@contextmanager
def memory_kept() -> Iterator[None]:
    """Keep the CPU memory that is freed inside the block, so that the next step is given it again.

    Left alone, glibc returns large tensors to the system as soon as they are freed and asks for them anew, page by
    page, at every step, in which small networks lose much of their time. What was kept is there for later tensors;
    those of 32 MiB and more that do not fit into it come from the system again and are returned to it when freed, the
    most that glibc would come to by itself. Other C libraries are left as they are.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if tune is None:
        yield
        return
    try:
        tune(_MMAP_MAX, 0)
        tune(_TRIM_THRESHOLD, -1)  # never
        yield
    finally:
        tune(_MMAP_MAX, 65536)
        tune(_MMAP_THRESHOLD, 2**25)
        tune(_TRIM_THRESHOLD, 2**26)
