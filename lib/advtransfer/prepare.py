"""A copy of a model that is prepared for attacks: it computes outputs and the gradient of the input faster."""

import copy
import inspect
import warnings
from collections import Counter
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.fx import Node, Proxy, Tracer
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.nn.utils.fusion import fuse_conv_bn_eval

from advtransfer.modes import HALF, dtype_of
from advtransfer.names import first_line

_NORM_OF: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}
_PLAIN = (bool, int, float, str, type(None))


class NotFoldedWarning(UserWarning):
    """The model could not be traced, so its BatchNorm layers stay as they are."""


class Preparation(NamedTuple):
    """What was done to a model; the prepared copy has this as its attribute ``preparation``."""

    folded: int
    """Number of BatchNorm layers that were folded into a convolution."""
    kept: int
    """Number of BatchNorm layers that stay."""
    in_place: int
    """Number of ReLU layers that work in place, because nothing else needs their input."""
    note: str
    """Why the model could not be traced, in which case none of this was done; empty if it could."""


def prepare(model: nn.Module, *, dtype: torch.dtype | None = None, channels_last: bool = True) -> nn.Module:
    """Copy a model for evaluation and attacks: in eval mode, frozen, with BatchNorm folded into convolutions.

    In eval mode BatchNorm is an affine map of each channel. So it can become part of the weights of the convolution
    before it, if the output of that convolution goes nowhere else. Other BatchNorm layers stay: those before their
    convolution, those after a convolution that is called twice, and those without running statistics. The copy has the
    same class and the same submodules, but a folded BatchNorm is replaced by `nn.Identity`, so that ``forward`` cannot
    read its attributes such as ``eps``. A ReLU works in place if nothing else reads the output of the convolution or
    linear layer before it; an output that ``forward`` stores, such as ``self.features``, then holds the values after
    ReLU. The copy computes what the model does for its inputs alone, with every other argument at its default. Its
    attribute ``preparation`` says what was done.

    Parameters
    ----------
    model : nn.Module
        The model to copy. Its state, mode and hooks are not changed.
    dtype : torch.dtype, optional
        Floating-point dtype of the copy; by default that of the model. In half precision the copy converts its inputs.
        Use bfloat16 only on devices with instructions for it (on x86: AVX-512 BF16 or AMX); elsewhere it is emulated
        and many times slower.
    channels_last : bool
        Store the weights of two-dimensional convolutions channels-last, so that their outputs have this format, too. No
        call needs a conversion if the input also has it: ``x.contiguous(memory_format=torch.channels_last)``. Set it to
        False for a model that calls ``view`` on the outputs of a convolution, which torch refuses in this format.

    Returns
    -------
    nn.Module
        A copy on the same device, without gradients for its parameters.

    Raises
    ------
    TypeError
        `model` is not a module, or `dtype` is not a floating-point dtype.

    Warns
    -----
    NotFoldedWarning
        `torch.fx` cannot trace the model, or the model has hooks; the copy is correct but slower.

    Examples
    --------
    >>> prepare(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)))
    Sequential(
      (0): Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1))
      (1): Identity()
    )
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {type(model).__name__}; expected a torch.nn.Module")
    if dtype is not None and not dtype.is_floating_point:
        raise TypeError(f"dtype is {dtype}; expected a floating dtype")

    with torch.inference_mode(False):  # else the copy's weights could not take part in autograd
        prepared = copy.deepcopy(model)
        norms = [module for module in prepared.modules() if isinstance(module, tuple(_NORM_OF.values()))]
        treatable = any(isinstance(module, (*_NORM_OF.values(), nn.ReLU)) for module in prepared.modules())
        nodes, note = _trace(prepared) if treatable else ([], "")
        if note and norms:
            message = f"{type(model).__name__} keeps its BatchNorm, for it cannot be traced: {note}"
            warnings.warn(message, NotFoldedWarning, stacklevel=2)
        pairs, overwriting = _foldable(prepared, nodes), _overwriting(prepared, nodes)
        for conv, norm in pairs:
            folded = _fold(prepared.get_submodule(conv), prepared.get_submodule(norm), dtype)
            prepared.set_submodule(conv, folded)
            prepared.set_submodule(norm, nn.Identity())
        for relu in overwriting:
            cast(nn.ReLU, prepared.get_submodule(relu)).inplace = True
        prepared.eval().requires_grad_(False).to(dtype=dtype)
        if channels_last:
            convert_conv2d_weight_memory_format(prepared, torch.channels_last)
        if _half(prepared) and _convert not in prepared._forward_pre_hooks.values():
            prepared.register_forward_pre_hook(_convert, with_kwargs=True)
    done = Preparation(len(pairs), len(norms) - len(pairs), len(overwriting), note)
    object.__setattr__(prepared, "preparation", done)  # as it is not a parameter, buffer or module
    return prepared


def _half(module: nn.Module) -> torch.dtype | None:
    """The dtype of a module whose weights are all in half precision; None for any other."""
    dtype = dtype_of(module)
    return dtype if dtype in HALF else None


def _convert(
    module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A hook that converts floating-point inputs to half precision, if that is what the module has."""
    dtype = _half(module)

    def converted(value: Any) -> Any:
        return value.to(dtype) if dtype and isinstance(value, Tensor) and value.is_floating_point() else value

    return tuple(map(converted, inputs)), {name: converted(value) for name, value in named.items()}


def _fold(conv: nn.Module, norm: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """One convolution that replaces both; it is computed in float64, and has `dtype` or else the dtype of `conv`."""
    wide_conv, wide_norm = (copy.deepcopy(module).eval().double() for module in (conv, norm))
    folded = fuse_conv_bn_eval(wide_conv, wide_norm)  # type: ignore[type-var, arg-type]
    return folded.to(dtype or next(conv.parameters()).dtype)


class _TensorProxy(Proxy):
    """A traced value that counts as a tensor, so that a branch on ``isinstance(x, Tensor)`` goes as it does for one."""

    __class__ = property(lambda self: Tensor)
    _is_param = _is_buffer = False  # which torch asks of a tensor that forward stores


class _Tracer(Tracer):
    proxy_buffer_attributes = True  # so that reading a buffer of a BatchNorm counts as a use

    def proxy(self, node: Node) -> Proxy:
        return _TensorProxy(node, self)

    def create_arg(self, a: Any) -> Any:
        return a.node if issubclass(type(a), Proxy) else super().create_arg(a)


def _trace(model: nn.Module) -> tuple[list[Node], str]:
    """The calls that one forward pass makes; or no calls, and the reason why the model cannot be traced."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    hooks = (hook for m in model.modules() for kind in kinds for hook in getattr(m, kind).values())
    if any(hook is not _convert for hook in hooks):
        return [], "it has hooks, which may read or change what passes between modules"
    try:
        # Arguments with a default keep it, since a branch may depend on them.
        arguments = inspect.signature(model.forward).parameters.items()
        fixed = {name: each.default for name, each in arguments if isinstance(each.default, _PLAIN)}
        # A copy is traced, because forward may store what it sees.
        return list(_Tracer().trace(copy.deepcopy(model).eval(), fixed).nodes), ""
    except Exception as error:  # tracing runs the model's own code, which may raise anything
        return [], first_line(error)


def _called_once(model: nn.Module, nodes: list[Node]) -> dict[str, nn.Module]:
    """The submodules that are called once and not used in any other way."""
    aliases = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    uses = Counter(node.target for node in nodes if node.op == "call_module")
    uses += Counter(str(node.target).rpartition(".")[0] for node in nodes if node.op == "get_attr")
    return {name: module for name, module in model.named_modules() if uses[name] == aliases[id(module)] == 1}


def _chains(nodes: list[Node]) -> list[tuple[Node, Node]]:
    """Pairs of calls of submodules, in which only the second reads the output of the first."""
    pairs = [(node.args[0], node) for node in nodes if node.op == "call_module" and node.args]
    return [
        (first, second)
        for first, second in pairs
        if isinstance(first, Node) and first.op == "call_module" and len(first.users) == 1
    ]


def _foldable(model: nn.Module, nodes: list[Node]) -> list[tuple[str, str]]:
    """Pairs of names: a convolution, and the BatchNorm that can be folded into it."""
    once = _called_once(model, nodes)
    return [
        (str(conv.target), str(norm.target))
        for conv, norm in _chains(nodes)
        if {conv.target, norm.target} <= set(once)
        and type(norm_layer := once[str(norm.target)]) is _NORM_OF.get(type(once[str(conv.target)]))
        and norm_layer.running_mean is not None
    ]


def _overwriting(model: nn.Module, nodes: list[Node]) -> list[str]:
    """Names of the ReLUs that may work in place.

    Nothing else reads the output of the convolution (with or without a folded BatchNorm) or linear layer before them,
    and no gradient needs that output.
    """
    once, bare = _called_once(model, nodes), {norm: conv for conv, norm in _foldable(model, nodes)}
    layers = (*_NORM_OF, nn.Linear)
    return [
        str(relu.target)
        for layer, relu in _chains(nodes)
        if {layer.target, relu.target} <= set(once)
        and type(once[str(relu.target)]) is nn.ReLU
        and (str(layer.target) in bare or type(once[str(layer.target)]) in layers)
    ]
