"""How models are run: in eval mode, which is restored afterwards, on a copy of their input, and on one thread."""

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

Model = Callable[[Tensor], Tensor]
HALF = {torch.float16, torch.bfloat16}
ROUNDING = 1e-3  # of the largest output: two passes of the same shape differ less

_LOCK = threading.Lock()
_LIMITED: list[threadpool_limits] = []  # the same limits for each block of `one_thread`
_HELD: dict[nn.Module, int] = {}  # modules in train mode, and how many blocks of `evaluating` hold them in eval mode


@contextmanager
def evaluating(*models: Model, gradients: bool = False) -> Iterator[None]:
    """Put every module among `models` into eval mode inside the block, and restore every submodule's mode afterwards.

    Inside the block autograd is on if `gradients` is true and off otherwise, whatever mode the caller is in (including
    inference mode). Blocks of several threads may hold the same module; the last of them restores its mode. Plain
    functions have no mode: to have a wrapper run in eval mode, make it a module, such as `Select`.

    Warns
    -----
    UserWarning
        A model is a bound method, such as ``model.forward``, of a module in train mode. That module is put into eval
        mode, too, but its hooks do not run.
    """
    modules = {m for model in models if (module := _module_of(model)) is not None for m in module.modules()}
    with _LOCK:
        held = [m for m in modules if m.training or m in _HELD]
        for module in held:
            _HELD[module] = _HELD.get(module, 0) + 1
            module.training = False
    try:
        with torch.inference_mode(False), torch.set_grad_enabled(gradients):
            yield
    finally:
        with _LOCK:
            for module in held:
                _HELD[module] -= 1
                if not _HELD[module]:
                    del _HELD[module]
                    module.training = True


def _module_of(model: Model) -> nn.Module | None:
    """The module that a model is, or of which it is a bound method; None for a plain function."""
    while isinstance(model, partial):
        model = model.func
    if isinstance(model, nn.Module):
        return model
    owner = getattr(model, "__self__", None)
    if not isinstance(owner, nn.Module):
        return None
    if owner.training:
        method = f"{type(owner).__name__}.{getattr(model, '__name__', '...')}"
        warnings.warn(f"the model is the bound method {method}: pass the module itself", stacklevel=4)
    return owner


class Select(nn.Module):
    """A model whose outputs (N, d) are chosen from what another model returns.

    As a module it takes part in `evaluating`, unlike a lambda around the model.

    Examples
    --------
    >>> pair = lambda x: (x.sum(1, keepdim=True), "more")
    >>> Select(pair, lambda out: out[0])(torch.ones(1, 3))
    tensor([[3.]])
    """

    def __init__(self, model: Callable[[Tensor], Any], choose: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.choose = choose

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (N, d) of inputs (N, ...)."""
        return self.choose(self.model(x))


def outputs_of(model: Model, x: Tensor) -> Tensor:
    """The outputs (N, d) of a model, or the attribute ``logits`` of what it returns.

    The model gets a copy of `x`, and its outputs are copied, since it may write into both. Outputs in half precision
    are returned in the dtype of `x`.

    Raises
    ------
    TypeError
        The model fails, and its parameters have another dtype than `x`.
    ValueError
        The outputs are not a matrix with one row per sample.
    """
    try:
        found = model(x.clone())
    except RuntimeError as error:
        module = _module_of(model)
        own = _dtypes(module) if module is not None else set()
        if not own or x.dtype in own or "type" not in str(error).lower():  # it fails for another reason
            raise
        names = ", ".join(sorted(map(str, own)))
        converting = ""
        if len(own) == 1 and own <= HALF:  # which a prepared module converts to, when it is called itself
            whole = "the module itself, and not its method" if hasattr(module, "preparation") else ""
            converting = f", or attack {whole or 'the copy that prepare.prepare makes'}"
        raise TypeError(
            f"x is {x.dtype}, and the model's parameters are {names}; expected the same dtype: convert one of them"
            f"{converting}"
        ) from error
    outputs = found if isinstance(found, Tensor) else getattr(found, "logits", found)
    if not isinstance(outputs, Tensor):
        raise ValueError(
            f"the model returns {_described(found)}; expected a tensor (N, d), or an object with such .logits: "
            f"pass advtransfer.modes.Select(model, lambda out: {_place(found, len(x))})"
        )
    if outputs.ndim != 2 or len(outputs) != len(x):
        raise ValueError(f"model outputs have shape {tuple(outputs.shape)}; expected (N, d) with N = {len(x)}")
    if outputs.is_floating_point():
        outputs = outputs.to(torch.promote_types(outputs.dtype, x.dtype))
    return outputs.clone()


def _dtypes(module: nn.Module) -> set[torch.dtype]:
    return {weight.dtype for weight in module.parameters() if weight.is_floating_point()}


def dtype_of(module: nn.Module) -> torch.dtype | None:
    """The floating-point dtype of a module's parameters; None if they have several, or there is none."""
    found = _dtypes(module)
    return found.pop() if len(found) == 1 else None


def halved(x: Tensor) -> Tensor:
    """A batch of the same shape (N, ...) whose second half is its first half again, for `unsteady`."""
    kept = (len(x) + 1) // 2
    return torch.cat([x[:kept], x[: len(x) - kept]])


def unsteady(found: Tensor, again: Tensor, what: str = "outputs") -> str:
    """Why outputs are not those of each sample alone; an empty text if the first half of the samples shows nothing.

    A model that draws random numbers in eval mode gives them anew in each pass. BatchNorm in train mode reads the whole
    batch. A function around a module, whose mode nobody can set, may do both.

    Parameters
    ----------
    found
        Outputs (N, d) of a batch.
    again
        Outputs (N, d) of the same batch, or of the one with other samples in its second half (`halved`).
    what
        What they are, for the text.

    Examples
    --------
    >>> x = torch.tensor([[1.0], [2.0]])
    >>> unsteady(x - x.mean(0), halved(x) - halved(x).mean(0))[:60]
    'its outputs for one sample differ by 0.5 between two passes,'
    """
    kept = (len(found) + 1) // 2
    apart, largest = float((found[:kept] - again[:kept]).abs().max()), float(found.abs().max())
    if not apart > ROUNDING * largest:
        return ""
    return (
        f"its {what} for one sample differ by {apart:.2g} between two passes, and the largest is {largest:.2g}: the "
        "model is random, or reads the other samples of a batch; expected dropout and BatchNorm in eval mode"
    )


def _described(found: object) -> str:
    if isinstance(found, Mapping):
        return f"{type(found).__name__} with {', '.join(map(repr, found))}"
    return f"{type(found).__name__} of {len(found)}" if isinstance(found, tuple | list) else type(found).__name__


def _place(found: object, rows: int) -> str:
    """Where the outputs are in what a model has returned as `out`: its logits, or else its first matrix (rows, d)."""
    if isinstance(found, Mapping):
        parts = {f"out[{name!r}]": part for name, part in found.items()}
    elif isinstance(found, tuple | list):
        parts = {f"out[{k}]": part for k, part in enumerate(found)}
    else:
        parts = {f"out.{name}": part for name, part in getattr(found, "__dict__", {}).items()}
    fitting = [
        place
        for place, part in parts.items()
        if place == "out['logits']" or (isinstance(part, Tensor) and part.ndim == 2 and len(part) == rows)
    ]
    return next(iter(sorted(fitting, key=lambda place: "logits" not in place)), "...")


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread inside the block.

    For small tensors, sharing the work among threads costs more time than it saves; on a busy machine it takes ten
    times as long or more. On one thread the terms of a sum are also added in the same order on every machine.
    """
    before = torch.get_num_threads()  # of this thread
    with _LOCK:  # numpy's and scipy's are those of the process: the first block limits them, and the last restores
        _LIMITED.append(_LIMITED[0] if _LIMITED else threadpool_limits(1))
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)
        with _LOCK:
            limits = _LIMITED.pop()
            if not _LIMITED:
                limits.restore_original_limits()
