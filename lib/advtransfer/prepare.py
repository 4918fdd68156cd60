"""A copy of a model made for attacks: only its outputs and the gradient to its input matter, and both come faster."""

import copy
import warnings
from collections import Counter
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.fx import Node, Tracer
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.nn.utils.fusion import fuse_conv_bn_eval

from advtransfer.winograd import WinogradConv2d

_NORM_OF: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}


class NotFoldedWarning(UserWarning):
    """The model could not be traced, and its BatchNorm stays as it is."""


class NotCompiledWarning(UserWarning):
    """`torch.compile` failed, and the model is run as it is."""


class Preparation(NamedTuple):
    """What was done to a model; the prepared copy has it as its attribute ``preparation``."""

    folded: int
    """BatchNorms that are part of a convolution now."""
    kept: int
    """BatchNorms that stay."""
    in_place: int
    """ReLUs that write over what they read, which nothing else needs."""
    winograd: int
    """Convolutions that take fewer products where that is faster (`winograd.WinogradConv2d`)."""
    note: str
    """Why the model could not be traced, so that nothing of this was done; empty if it could."""


def prepare(
    model: nn.Module, *, dtype: torch.dtype | None = None, channels_last: bool = True, compile: bool | str = False
) -> nn.Module:
    """Copy a model for evaluation and attack: eval mode, frozen, BatchNorm folded into the convolutions before it.

    In eval mode BatchNorm is an affine map of each channel, and so becomes part of the weights of a convolution
    whose output goes nowhere else. All other BatchNorm stays: before its convolution, after a convolution that is
    called twice, without running statistics. The copy is of the same class with the same submodules, in which
    a folded BatchNorm is an `nn.Identity`. A ReLU that alone reads a convolution or linear layer works in place.
    A convolution of 3 × 3 taps is a `WinogradConv2d`, which on a CPU takes fewer products where it has many channels;
    not in a compiled copy, nor in one that is not channels-last. What was done is in the copy's attribute
    ``preparation``.

    Parameters
    ----------
    model : nn.Module
        Left as it is: state, mode, hooks.
    dtype : torch.dtype, optional
        Floating dtype of the copy; by default that of the model. Inputs must come in the same dtype. bfloat16 is for
        devices with instructions for it, on x86 AVX-512 BF16 or AMX: elsewhere it is emulated, many times slower.
    channels_last : bool
        Store the weights of two-dimensional convolutions channels-last, which convolutions then keep up. Images that
        come so too, ``x.contiguous(memory_format=torch.channels_last)``, spare each call a conversion.
    compile : bool or str
        Run the copy through `torch.compile`, with this backend if it is a name. The copy is then wrapped (``.model``),
        and where compiling fails, at the first call, it is run as it is. Compiling takes long, for each model and
        mode, so it is for long attacks; measure whether it helps.

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
    NotCompiledWarning
        At the first call: `torch.compile` cannot treat the model, or finds no C++ compiler.

    Examples
    --------
    >>> prepare(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)))
    Sequential(
      (0): WinogradConv2d(3, 4, kernel_size=(3, 3), stride=(1, 1))
      (1): Identity()
    )
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {type(model).__name__}; expected a torch.nn.Module")
    if dtype is not None and not dtype.is_floating_point:
        raise TypeError(f"dtype is {dtype}; expected a floating dtype")

    with torch.inference_mode(False):  # or the copy's weights could not take part in a gradient
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
        plain = channels_last and not compile
        fewer = [layer for layer in prepared.modules() if plain and WinogradConv2d.takes(layer)]
        for layer in fewer:
            WinogradConv2d.replace(layer)
        if channels_last:
            convert_conv2d_weight_memory_format(prepared, torch.channels_last)
    done = Preparation(len(pairs), len(norms) - len(pairs), len(overwriting), len(fewer), note)
    if compile:
        prepared = _Compiled(prepared, "inductor" if compile is True else compile)
    object.__setattr__(prepared, "preparation", done)  # no parameter, buffer or module
    return prepared


class _Compiled(nn.Module):
    """A model through `torch.compile`, or as it is from the moment that this fails."""

    def __init__(self, model: nn.Module, backend: str) -> None:
        super().__init__()
        self.model = model
        self._run = torch.compile(model, backend=backend)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of the model."""
        try:
            return cast(Tensor, self._run(x))
        except Exception as error:  # compilers raise anything; what the model itself raises comes with the next line
            outputs: Tensor = self.model(x)
            if self._run is not self.model:
                self._run = self.model
                reason = str(error).partition("\n")[0]
                message = f"{type(self.model).__name__} is run as it is, for it cannot be compiled: {reason}"
                warnings.warn(message, NotCompiledWarning, stacklevel=2)
            return outputs


def _fold(conv: nn.Module, norm: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """One convolution for the two, computed in float64, in `dtype` or else that of `conv`."""
    wide_conv, wide_norm = (copy.deepcopy(module).eval().double() for module in (conv, norm))
    folded = fuse_conv_bn_eval(wide_conv, wide_norm)  # type: ignore[type-var, arg-type]
    return folded.to(dtype or next(conv.parameters()).dtype)


class _Tracer(Tracer):
    """Does not look into what `prepare` itself puts in place, either."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, WinogradConv2d) or super().is_leaf_module(m, module_qualified_name)


def _trace(model: nn.Module) -> tuple[list[Node], str]:
    """The calls that one forward pass makes; or none, and why it cannot be traced."""
    if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):
        return [], "it has forward hooks, which may change what passes between modules"
    try:
        # A copy, for forward may store what it sees.
        return list(_Tracer().trace(copy.deepcopy(model).eval()).nodes), ""
    except Exception as error:  # tracing runs the model's own code, which may raise anything
        return [], str(error).partition("\n")[0] or type(error).__name__


def _called_once(model: nn.Module, nodes: list[Node]) -> dict[str, nn.Module]:
    """The submodules that are called once, and not read otherwise."""
    aliases = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    uses = Counter(node.target for node in nodes if node.op == "call_module")
    uses += Counter(str(node.target).rpartition(".")[0] for node in nodes if node.op == "get_attr")
    return {name: module for name, module in model.named_modules() if uses[name] == aliases[id(module)] == 1}


def _chains(nodes: list[Node]) -> list[tuple[Node, Node]]:
    """Pairs of calls of which the second alone reads the first."""
    pairs = [(node.args[0], node) for node in nodes if node.args]
    return [(first, second) for first, second in pairs if isinstance(first, Node) and len(first.users) == 1]


def _foldable(model: nn.Module, nodes: list[Node]) -> list[tuple[str, str]]:
    """Names of the convolutions and the BatchNorms that can be folded into them."""
    once = _called_once(model, nodes)
    return [
        (str(conv.target), str(norm.target))
        for conv, norm in _chains(nodes)
        if {conv.target, norm.target} <= set(once)
        and type(norm_layer := once[str(norm.target)]) is _NORM_OF.get(type(once[str(conv.target)]))
        and norm_layer.running_mean is not None
    ]


def _overwriting(model: nn.Module, nodes: list[Node]) -> list[str]:
    """Names of the ReLUs that alone read a convolution, folded or bare, or a linear layer: no gradient needs these."""
    once, bare = _called_once(model, nodes), {norm: conv for conv, norm in _foldable(model, nodes)}
    layers = (*_NORM_OF, nn.Linear)
    return [
        str(relu.target)
        for layer, relu in _chains(nodes)
        if {layer.target, relu.target} <= set(once)
        and type(once[str(relu.target)]) is nn.ReLU
        and (str(layer.target) in bare or type(once[str(layer.target)]) in layers)
    ]
