"""Turn the published weights of an encoder of images into safetensors, once, when they are fetched.

They are published as pickles, and a pickle can name any function to be called. Both readers here refuse every name
that tensors and arrays do not need. What they read is kept as safetensors, a format that holds numbers alone: nothing
is unpickled when an encoder is loaded. The same weights give the same bytes on every machine, so the result has a
checksum in ``data/sources.toml`` like any other file.
"""

import io
import pickle
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save

Weights = dict[str, np.ndarray]

_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],  # numpy 2 has moved it
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def as_safetensors(data: bytes, form: str) -> bytes:
    """Convert a file of weights to safetensors; names and layouts of the tensors stay as they were published.

    Parameters
    ----------
    data : bytes
        The file.
    form : str
        One of `READERS`.

    Raises
    ------
    ValueError
        The file cannot be read, holds something other than weights, or names something else to be called. The message
        is one line.
    """
    try:
        weights = READERS[form](data)
    except Exception as error:  # a damaged pickle may raise anything
        reason = textwrap.shorten(str(error), 200, placeholder=" …") or type(error).__name__
        raise ValueError(f"the weights cannot be read as {form}: {reason}") from error
    return save({name: np.asarray(array, order="C") for name, array in weights.items()})


def state_dict(data: bytes) -> Weights:
    """Weights that ``torch.save`` has written: a dict of tensors."""
    found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(found, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise ValueError(f"found a {type(found).__name__}; expected a dict of tensors")
    return {name: tensor.numpy() for name, tensor in found.items()}


def layer_arrays(data: bytes) -> Weights:
    """A pickle of ``{layer: [kernel, bias]}`` as numpy arrays, as ``<layer>.weight`` and ``<layer>.bias``."""
    weights: Weights = {}
    for layer, (kernel, bias) in _ArraysOnly(io.BytesIO(data)).load().items():
        weights |= {f"{layer}.weight": kernel, f"{layer}.bias": bias}
    if wrong := [name for name, array in weights.items() if getattr(array, "dtype", None) != np.float32]:
        raise ValueError(f"{wrong[0]} is not an array of float32")
    return weights


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that can make arrays of numpy, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}; expected nothing but arrays of numpy")
        return _KNOWN[module, name]


READERS: dict[str, Callable[[bytes], Weights]] = {"state-dict": state_dict, "layer-arrays": layer_arrays}
