"""A copy of a model made for attacks: only its outputs and the gradient to its input matter, and both come faster."""

import copy
import warnings
from collections import Counter

import torch
from torch import nn
from torch.fx import Node, symbolic_trace
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.nn.utils.fusion import fuse_conv_bn_eval

_NORM_OF = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}


class NotFoldedWarning(UserWarning):
    """The model could not be traced, and its BatchNorm stays as it is."""


def prepare(model: nn.Module, *, dtype: torch.dtype | None = None, channels_last: bool = True) -> nn.Module:
    """Copy a model for evaluation and attack: eval mode, frozen, BatchNorm folded into the convolutions before it.

    In eval mode BatchNorm is an affine map of each channel, and so becomes part of the weights of a convolution
    whose output goes nowhere else. All other BatchNorm stays: before its convolution, after a convolution that is
    called twice, without running statistics. The copy is of the same class with the same submodules;
    a folded BatchNorm is an `nn.Identity`.

    Parameters
    ----------
    model : nn.Module
        Left as it is: state, mode, hooks.
    dtype : torch.dtype, optional
        Floating dtype of the copy; by default that of the model. Inputs must come in the same dtype.
    channels_last : bool
        Store the weights of two-dimensional convolutions channels-last, which convolutions then keep up.

    Returns
    -------
    nn.Module
        A copy on the same device, without gradients for its parameters.

    Raises
    ------
    TypeError
        `model` is no module, or `dtype` no floating dtype.

    Warns
    -----
    NotFoldedWarning
        `torch.fx` cannot trace the model, or the model has forward hooks; the copy is correct, only slower.

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

    with torch.inference_mode(False):  # or the copy's weights could not take part in a gradient
        prepared = copy.deepcopy(model)
        for conv, norm in _foldable(prepared):
            folded = _fold(prepared.get_submodule(conv), prepared.get_submodule(norm), dtype)
            prepared.set_submodule(conv, folded)
            prepared.set_submodule(norm, nn.Identity())
        prepared.eval().requires_grad_(False).to(dtype=dtype)
        if channels_last:
            convert_conv2d_weight_memory_format(prepared, torch.channels_last)
    return prepared


def _fold(conv: nn.Module, norm: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """One convolution for the two, computed in float64, in `dtype` or else that of `conv`."""
    wide_conv, wide_norm = (copy.deepcopy(module).eval().double() for module in (conv, norm))
    folded = fuse_conv_bn_eval(wide_conv, wide_norm)  # type: ignore[type-var, arg-type]
    return folded.to(dtype or next(conv.parameters()).dtype)


def _foldable(model: nn.Module) -> list[tuple[str, str]]:
    """Names of the convolutions and the BatchNorms that can be folded into them."""
    modules = dict(model.named_modules())
    if not any(isinstance(module, tuple(_NORM_OF.values())) for module in modules.values()):
        return []
    try:
        nodes = _trace(model)
    except Exception as error:  # tracing runs the model's own code, which may raise anything
        reason = str(error).partition("\n")[0]
        message = f"{type(model).__name__} keeps its BatchNorm, for it cannot be traced: {reason}"
        warnings.warn(message, NotFoldedWarning, stacklevel=3)
        return []

    aliases = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    uses = Counter(node.target for node in nodes if node.op == "call_module")
    uses += Counter(str(node.target).rpartition(".")[0] for node in nodes if node.op == "get_attr")
    once = {name for name, module in modules.items() if uses[name] == aliases[id(module)] == 1}

    pairs = [(node.args[0], node) for node in nodes if node.args and isinstance(node.args[0], Node)]
    return [
        (str(conv.target), str(norm.target))
        for conv, norm in pairs
        if {conv.target, norm.target} <= once
        and len(conv.users) == 1
        and type(modules[norm.target]) is _NORM_OF.get(type(modules[conv.target]))
        and modules[norm.target].running_mean is not None
    ]


def _trace(model: nn.Module) -> list[Node]:
    """The calls that one forward pass makes."""
    if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):
        raise ValueError("it has forward hooks, which may change what passes between modules")
    return list(symbolic_trace(copy.deepcopy(model).eval()).graph.nodes)  # a copy, for forward may store what it sees
