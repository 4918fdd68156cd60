"""How models are run: in eval mode, which is restored afterwards, and on one thread."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

Model = Callable[[Tensor], Tensor]


@contextmanager
def evaluating(*models: Model, gradients: bool = False) -> Iterator[None]:
    """Put every module among `models` into eval mode inside the block, and restore every submodule's mode afterwards.

    Inside the block autograd is on if `gradients` is true and off otherwise, whatever mode the caller is in (including
    inference mode). Plain functions have no mode and are left alone.
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
        The outputs are not a matrix with one row per sample.
    """
    outputs = model(x)
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != len(x):
        given = f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(f"model outputs have {given}; expected (N, d) with N = {len(x)}")
    return outputs


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread inside the block.

    For small tensors, sharing the work among threads costs more time than it saves; on a busy machine it takes ten
    times as long or more. On one thread the terms of a sum are also added in the same order on every machine.
    """
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with threadpool_limits(1):  # numpy's and scipy's
            yield
    finally:
        torch.set_num_threads(before)
