"""Checks of inputs. Each error message is one line that says what was given and what was expected."""

import torch
from torch import Tensor


def check_batch(name: str, x: Tensor, *, ndim: int | None = None) -> None:
    """Raise unless `x` is a non-empty, finite floating-point batch of shape (N, ...) (of `ndim` axes, if given).

    Raises
    ------
    TypeError
        `x` is not a floating-point tensor.
    ValueError
        `x` has the wrong number of axes, no rows, or a value that is NaN or infinite.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        given = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name} is {given}; expected a floating-point tensor")
    if x.ndim == 0 or (ndim is not None and x.ndim != ndim):
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected {ndim or 'at least 1'} axes, samples first")
    if len(x) == 0:
        raise ValueError(f"{name} is an empty batch of shape {tuple(x.shape)}; expected at least one sample")
    if not x.sum().isfinite() and not torch.isfinite(x).all():  # the sum is cheaper, so it is tried first
        bad = int((~torch.isfinite(x)).sum())
        raise ValueError(f"{name} holds {bad} values that are NaN or infinite; expected finite values")
