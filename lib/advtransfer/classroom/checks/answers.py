"""Compare an answer with the right one and with the usual wrong ones."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advtransfer.classroom.limits import SandboxError, Stopped
from advtransfer.models.mlp import tanh_network

Wrong = Tensor | float | Sequence[Tensor | float]
TOLERANCE = 1e-6  # relative; an answer computed in float32 is right, too
NUMBERS = 2**20  # in an answer; more are not looked at


class Mistake(AssertionError):
    """An answer is wrong; the message says how."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it: the message alone."""
        return [f"{type(self).__name__}: {self}"]


def random(seed: int) -> torch.Generator:
    """The generator from which a test draws its inputs."""
    return torch.Generator().manual_seed(seed)


def normal(generator: torch.Generator, *size: int) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(size, generator=generator, dtype=torch.float64)


def classifier(generator: torch.Generator) -> nn.Sequential:
    """A network with 6 inputs, one hidden layer and 3 outputs, in float64, whose outputs are not nearly linear."""
    network = tanh_network([6, 8, 3], generator)
    next(network.parameters()).data *= 3
    return network


def equal(name: str, found: Any, right: Tensor | float, mistakes: Mapping[str, Wrong]) -> None:
    """Raise unless `found` is `right`.

    Parameters
    ----------
    name : str
        The name of the student's function.
    found : Any
        What it returned.
    right : Tensor or float
        What it should return.
    mistakes : Mapping
        Maps each message to the result of the mistake that it names, or to a list of possible results.

    Raises
    ------
    Mistake
        `found` is wrong. The message is that of the first mistake with this result, or else says how far off it is.
    """
    expected = torch.as_tensor(right, dtype=torch.float64)
    answer = tensor(name, found)
    if answer.isfinite().all() and _close(answer, expected):
        return
    for message, wrong in mistakes.items():
        given = wrong if isinstance(wrong, Sequence) else [wrong]
        if any(_close(answer, torch.as_tensor(one, dtype=torch.float64)) for one in given):
            raise Mistake(f"{name}: {message}")
    if answer.shape != expected.shape:
        raise Mistake(f"{name} returned the shape {tuple(answer.shape)}; expected {tuple(expected.shape)}.")
    if not answer.isfinite().all():
        raise Mistake(f"{name} returned a value that is NaN or infinite; is there a division by zero?")
    far = (answer - expected).abs().max().item()
    raise Mistake(f"{name} is off by up to {far:.3g}, where the right values reach {expected.abs().max().item():.3g}.")


def tensor(name: str, found: Any) -> Tensor:
    """What a student's function returned, in float64.

    Raises
    ------
    Mistake
        It is not a number, a list of numbers, an array or a tensor; or it holds too many numbers.
    """
    if found is None:
        raise Mistake(f"{name} returned None; is the `return` missing?")
    found = found.to_numpy() if hasattr(found, "to_numpy") else found  # a column of pandas
    if (count := _count(found)) > NUMBERS:  # before anything is converted
        raise Mistake(f"{name} returned {count} numbers; expected at most {NUMBERS}.")
    try:
        return torch.as_tensor(found).detach().double()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise Mistake(f"{name} returned {type(found).__name__}; expected a number or a tensor.") from None


def number(name: str, found: Any) -> float:
    """What a student's function returned, as one finite number.

    Raises
    ------
    Mistake
        It is not one finite number.
    """
    value = tensor(name, found)
    if value.numel() != 1 or not math.isfinite(value.item()):
        raise Mistake(
            f"{name} returned {value.tolist() if value.numel() < 5 else tuple(value.shape)}; expected one number."
        )
    return value.item()


def _count(found: Any) -> int:
    """How many numbers there are in lists, arrays and tensors."""
    if isinstance(found, list | tuple):
        return sum(_count(item) for item in found)
    return int(found.numel()) if isinstance(found, Tensor) else found.size if isinstance(found, np.ndarray) else 1


def called(hint: str, name: str, function: Callable[..., Any], *args: Any) -> Any:
    """What the function returns.

    Raises
    ------
    Mistake
        It stopped with an error. The message ends with the hint, which says what is special about the arguments.
    Stopped, OSError, MemoryError
        Its time was up, or the machine has failed; neither is a mistake of this kind.
    """
    try:
        return function(*args)
    except (Stopped, SandboxError, OSError, MemoryError):
        raise
    except Exception as error:
        raise Mistake(f"{name} stopped ({str(error)[:120] or type(error).__name__}): {hint}") from None


def _close(found: Tensor, wanted: Tensor) -> bool:
    if found.shape != wanted.shape and not (found.numel() == wanted.numel() == 1):
        return False
    size = max(1.0, wanted.abs().nan_to_num().max().item()) if wanted.numel() else 1.0
    return torch.allclose(found.reshape(wanted.shape), wanted, rtol=0, atol=TOLERANCE * size, equal_nan=True)
