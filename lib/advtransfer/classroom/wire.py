"""How the grader and a submission talk: in frames of plain data over two pipes. Reading a frame runs no code.

A frame is the length of a JSON header, the header, and the bytes of the arrays that it names. Whatever comes from a
submission is taken to be hostile: every length, type, shape, depth and reference is checked before it is used.
"""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

HEADER_BYTES = 2**20
ARRAY_BYTES = 2**26  # of all arrays of a frame together
ARRAYS = 1000  # of a frame
DEPTH = 32  # of lists in lists
AXES = 8  # of an array
DTYPES = {name: np.dtype(name) for name in (
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64",
)}  # fmt: skip
LAYERS: dict[str, type[nn.Module]] = {layer.__name__: layer for layer in (nn.Flatten, nn.ReLU, nn.Sigmoid, nn.Tanh)}


class WireError(ValueError):
    """What was read is not a frame, or what should be sent is not plain data."""


def encode(message: Any) -> bytes:
    """A frame that holds `message`: numbers, text, lists, dicts, arrays, tensors and plain ``nn.Sequential`` models.

    Raises
    ------
    WireError
        `message` holds something else, whose type the error names, or more than fits into a frame.
    """
    arrays: list[np.ndarray] = []
    packed = _pack(message, arrays)
    shapes = [[str(array.dtype), list(array.shape)] for array in arrays]
    header = json.dumps({"value": packed, "arrays": shapes}).encode()
    if len(header) > HEADER_BYTES:
        raise WireError(
            f"the value has {len(header) / 2**20:.1f} MiB as text; expected at most {HEADER_BYTES >> 20} MiB "
            "(many numbers fit as one tensor)"
        )
    if (size := sum(array.nbytes for array in arrays)) > ARRAY_BYTES:
        raise WireError(f"the arrays have {size / 2**20:.1f} MiB; expected at most {ARRAY_BYTES >> 20} MiB")
    _measure(packed, len(arrays))
    return b"".join([len(header).to_bytes(8, "big"), header, *(array.tobytes() for array in arrays)])


def decode(read: Callable[[int], bytes], *, models: bool = False) -> Any:
    """The message of the next frame. Tuples come back as lists.

    Parameters
    ----------
    read : callable
        ``read(n)`` returns exactly n bytes; its errors are passed on.
    models : bool
        Whether to accept models, which only the submission's side does.

    Raises
    ------
    WireError
        The bytes are not a frame.
    """
    size = int.from_bytes(read(8), "big")
    if size > HEADER_BYTES:
        raise WireError(f"the header has {size} bytes; expected at most {HEADER_BYTES}")
    try:
        header = json.loads(read(size))
        kinds, value = [_kind(*kind) for kind in header["arrays"]], header["value"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise WireError(f"the header cannot be read ({type(error).__name__})") from None
    sizes = [math.prod(shape) * dtype.itemsize for dtype, shape in kinds]
    if sum(sizes) > ARRAY_BYTES:
        raise WireError(f"the arrays have more than {ARRAY_BYTES} bytes")
    _measure(value, len(kinds))
    arrays = [
        np.frombuffer(bytearray(read(n)), dtype).reshape(shape) for n, (dtype, shape) in zip(sizes, kinds, strict=True)
    ]
    try:
        return _unpack(value, arrays, models)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise WireError(f"the value cannot be read ({type(error).__name__})") from None


def _kind(name: Any, shape: Any) -> tuple[np.dtype, tuple[int, ...]]:
    """The type and the shape of an array. Each length is small, so that their product is a number of few digits."""
    if not isinstance(shape, list) or len(shape) > AXES or any(type(n) is not int for n in shape):
        raise WireError("an array has no shape")
    if any(not 0 <= n <= ARRAY_BYTES for n in shape):
        raise WireError("an array has an axis that is too long")
    return DTYPES[name], tuple(shape)


def _measure(value: Any, arrays: int) -> None:
    """Raise if the value is nested too deeply, or does not name each of its arrays once."""
    if arrays > ARRAYS:
        raise WireError(f"there are {arrays} arrays; expected at most {ARRAYS}")
    named: list[Any] = []
    level = [value]
    for _ in range(2 * DEPTH):  # a dict is two levels of lists
        inner: list[Any] = []
        for item in level:
            if isinstance(item, list):
                inner += item
            elif isinstance(item, dict):
                inner += [content for content in item.values() if type(content) is not int]
                named += [content for content in item.values() if type(content) is int]
        level = inner
        if not level:
            break
    else:
        raise WireError(f"the value is nested more than {DEPTH} deep")
    if len(named) != arrays or set(named) != set(range(arrays)):
        raise WireError("the value does not name each of its arrays once")


def _pack(value: Any, arrays: list[np.ndarray]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple | range):
        return [_pack(item, arrays) for item in value]
    if isinstance(value, dict):
        return {"dict": [[_pack(key, arrays), _pack(item, arrays)] for key, item in value.items()]}
    if isinstance(value, nn.Sequential):
        return {"model": [_pack_layer(layer, arrays) for layer in value]}
    tensor = isinstance(value, Tensor)
    if isinstance(value, Tensor):
        exact = value.float() if value.dtype == torch.bfloat16 else value  # which numpy does not know
        array = exact.detach().cpu().resolve_conj().numpy()
    else:
        array = value.to_numpy() if hasattr(value, "to_numpy") else value  # a column of pandas
    if not isinstance(array, np.ndarray) or array.dtype.name not in DTYPES:
        given = f"{type(value).__name__}" + (f" of {value.dtype}" if hasattr(value, "dtype") else "")
        raise WireError(f"the value is a {given}; expected numbers, text, lists, arrays or tensors")
    arrays.append(array)
    return {"tensor" if tensor else "array": len(arrays) - 1}


def _pack_layer(layer: nn.Module, arrays: list[np.ndarray]) -> Any:
    if isinstance(layer, nn.Linear):
        return ["Linear", _pack(layer.weight, arrays), _pack(layer.bias, arrays)]
    if type(layer).__name__ in LAYERS:
        return [type(layer).__name__]
    raise WireError(f"the model has a layer {type(layer).__name__}; expected Linear or one of {', '.join(LAYERS)}")


def _unpack(value: Any, arrays: list[np.ndarray], models: bool) -> Any:
    if isinstance(value, list):
        return [_unpack(item, arrays, models) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "dict":
        return {_unpack(key, arrays, models): _unpack(item, arrays, models) for key, item in content}
    if kind in ("array", "tensor") and type(content) is not int:  # such as true, which is an index, too
        raise WireError(f"an array is called {content!r}")
    if kind == "array":
        return arrays[content]
    if kind == "tensor":
        return torch.from_numpy(arrays[content])
    if kind == "model" and models:
        return nn.Sequential(*(_unpack_layer(layer, arrays) for layer in content))
    raise WireError(f"unknown kind {kind!r}")


def _unpack_layer(layer: list[Any], arrays: list[np.ndarray]) -> nn.Module:
    name, *parameters = layer
    if name != "Linear":
        return LAYERS[name]()
    weight, bias = (_unpack(parameter, arrays, False) for parameter in parameters)
    linear = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype)
    linear.weight.data = weight
    if bias is not None:
        linear.bias.data = bias
    return linear
