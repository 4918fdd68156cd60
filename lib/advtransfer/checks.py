"""Checks of inputs. Each error message is one line that says what was given and what was expected."""

import math
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

Bounds = tuple[float, float] | None


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
        first = " (of a batch such as (inputs, labels), pass the first member)" if isinstance(x, list | tuple) else ""
        raise TypeError(f"{name} is {given}; expected a floating-point tensor{first}")
    if x.ndim == 0 or (ndim is not None and x.ndim != ndim):
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected {ndim or 'at least 1'} axes, samples first")
    if len(x) == 0:
        raise ValueError(f"{name} is an empty batch of shape {tuple(x.shape)}; expected at least one sample")
    if not x.sum().isfinite() and not torch.isfinite(x).all():  # the sum is cheaper, so it is tried first
        bad = int((~torch.isfinite(x)).sum())
        raise ValueError(f"{name} holds {bad} values that are NaN or infinite; expected finite values")


def as_number(name: str, value: Any) -> float:
    """A length such as a radius as a float, from a number of any kind or a tensor or array without axes.

    Raises
    ------
    TypeError
        `value` is not a number.
    ValueError
        It is negative, NaN or infinite.
    """
    number = value.item() if isinstance(value, Tensor | np.ndarray) and value.ndim == 0 else value
    if not isinstance(number, Real | Decimal) or isinstance(number, bool):
        raise TypeError(f"{name} is {value!r}; expected a number")
    length = float(number)
    if not 0 <= length < math.inf:
        raise ValueError(f"{name} is {length:g}; expected a finite number, at least 0")
    return length


def as_count(name: str, value: Any, *, least: int = 1, most: int | None = None) -> int:
    """A number of samples or steps, from a whole number of any kind.

    Raises
    ------
    TypeError
        `value` is not a whole number.
    ValueError
        It is less than `least` or more than `most`.
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected a whole number")
    count = int(value)
    if count < least or (most is not None and count > most):
        expected = f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(f"{name} is {count}; expected {expected}")
    return count


def check_jacobians(**jacs: Tensor) -> None:
    """Raise unless these are finite Jacobians (N, d, n) at the same samples and inputs; d may differ.

    Raises
    ------
    TypeError, ValueError
        As for `check_batch`, with the argument's name; or the shapes do not match.
    """
    for name, jac in jacs.items():
        check_batch(name, jac, ndim=3)
    if len({jac.shape[::2] for jac in jacs.values()}) > 1:
        given = ", ".join(f"{name} has shape {tuple(jac.shape)}" for name, jac in jacs.items())
        raise ValueError(f"{given}; expected (N, d, n) with the same N and n")


def check_box(x: Tensor, bounds: Bounds, eps: float, norm: str) -> tuple[float, float]:
    """The box as (low, high), infinite if `bounds` is None, for a batch that lies in it and a radius that fits in it.

    Values may lie outside by rounding, up to four units in the last place of the larger bound: so do pixels that were
    normalised and brought back.

    Raises
    ------
    ValueError
        Bounds that are not (low, high), values outside, or a radius from which every ball contains the whole box.
    """
    if x.ndim < 2 or not math.prod(x.shape[1:]):
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (N, ...), samples first, of at least one input each")
    if bounds is None:
        return -math.inf, math.inf
    try:
        low, high = map(float, bounds)
    except (TypeError, ValueError, RuntimeError):  # such as a tensor of a bound per channel
        low, high = math.nan, math.nan
    if not low < high:
        given = " ".join(repr(bounds).split())
        raise ValueError(f"bounds is {given}; expected (low, high) with low < high, or None")
    least, most = map(float, x.detach().aminmax())
    rounding = 4 * torch.finfo(x.dtype).eps * max(abs(bound) for bound in (low, high, 0.0) if math.isfinite(bound))
    if least < low - rounding or most > high + rounding:
        raise ValueError(
            f"x spans [{least:.4g}, {most:.4g}]; expected values within bounds {bounds}: put normalisation "
            "inside the model, or pass the bounds of the normalised values, or None"
        )
    if instead := expected_radius(eps, norm, high - low, x[0].numel()):
        raise ValueError(f"eps is {eps:g}; expected {instead}")
    return low, high


def expected_radius(eps: float, norm: str, width: float, n: int) -> str:
    """What to expect instead of a radius that is larger than a box of n axes; empty for one that is not.

    Examples
    --------
    >>> expected_radius(8, "linf", 1.0, 3072)
    'at most 1, the width of the box: did you mean 8/255?'
    """
    largest = width if norm == "linf" else width * math.sqrt(n)
    if eps <= largest * (1 + 1e-6):
        return ""
    meant = f"{eps:g}/255" if width == 1 else f"{eps:g}/255 of the width, {eps / 255 * width:.4g}"
    guess = f": did you mean {meant}?" if eps / 255 * width <= largest else ""
    return f"at most {largest:.4g}, the {'width' if norm == 'linf' else 'diagonal'} of the box{guess}"
