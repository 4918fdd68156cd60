"""Any image model as a candidate: from pixels in [0, 1], at any size, to outputs and features."""

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advtransfer.modes import dtype_of, evaluating, outputs_of
from advtransfer.names import one_line, unknown
from advtransfer.prepare import prepare
from advtransfer.records import weights
from advtransfer.records.provenance import digest

FAILURES = (ValueError, TypeError, LookupError, AttributeError, RuntimeError)
"""What a strange model raises."""
PASS = 50  # images per pass
Features = str | Callable[[nn.Module, Tensor], Tensor] | None


class EncoderError(ValueError):
    """A model that cannot be ranked; the message says what it returned and what was expected."""


class Encoder(nn.Module):
    """A model with the size and the normalisation of its inputs, and the place of its features.

    Parameters
    ----------
    module
        Maps normalised images (N, 3, size, size) to outputs (N, d), or to an object with such ``.logits``. It gets the
        images in the dtype of its parameters; float16 or bfloat16 round what an attack changes.
    size
        Height and width of the images that the module takes; None if it takes any. Other sizes are interpolated,
        differentiably, so that an attack on the encoder's input pixels passes through.
    mean, std
        Per channel, of pixels in [0, 1]. Normalisation is part of the encoder, so that ε is in units of the pixels.
    features
        Where the features are: None takes the input of the last linear layer; a name is that of a layer, whose output
        is taken (maps (N, k, h, w) are averaged over their pixels); the empty name means the whole model; a
        function is called with the module and the normalised images.

    Raises
    ------
    EncoderError
        There is no such layer, or no linear one; or the module, or a part of it, is TorchScript.
    ValueError
        The size or the normalisation is not as described.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2))
    >>> encoder = Encoder(net, size=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> outputs, features = encoder.both(torch.zeros(4, 3, 32, 32))
    >>> outputs.shape, features.shape
    (torch.Size([4, 2]), torch.Size([4, 5]))
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        module: nn.Module,
        size: int | None = None,
        mean: Sequence[float] | np.ndarray | Tensor = (0.0, 0.0, 0.0),
        std: Sequence[float] | np.ndarray | Tensor = (1.0, 1.0, 1.0),
        features: Features = None,
    ) -> None:
        super().__init__()
        if size is not None and (not isinstance(size, Integral) or size < 1):
            raise ValueError(f"size is {size!r}; expected a number of pixels, or None for a model that takes any size")
        size = None if size is None else int(size)
        mean, std = _channels("mean", mean), _channels("std", std)
        if not (min(mean) >= 0 and max(mean) <= 1 and min(std) > 0 and max(std) <= 1):
            raise ValueError(
                f"mean is {tuple(mean)} and std {tuple(std)}; expected numbers from 0 to 1, and std above 0: they are "
                "those of pixels from 0 to 1, not from 0 to 255"
            )
        check_eager(module)
        self.module = module
        self.size = size
        place = next((weight.device for weight in module.parameters()), torch.device("cpu"))
        for name, values in (("mean", mean), ("std", std)):
            numbers = torch.tensor(values, dtype=torch.float32, device=place)
            self.register_buffer(name, numbers.reshape(1, -1, 1, 1), persistent=False)
        self._features = features
        self._layer, self._before = ("", False) if callable(features) else place_of(module, features)

    def digest(self) -> str:
        """A digest of what determines its results but for the code of its module: weights, normalisation, place."""
        place = self._features
        if callable(place):
            with suppress(OSError, TypeError):  # of a partial, or of a class, there is none
                place = inspect.getsource(place)
        buffers = {"mean": self.mean, "std": self.std}
        state = {name: tensor for name, tensor in self.module.state_dict().items() if isinstance(tensor, Tensor)}
        about = [str(self.module), str(self.size), str(place), weights.content({**state, **buffers})]
        return digest(about)

    @property
    def classifier(self) -> bool:
        """Whether the outputs are those of a head, and not the features themselves."""
        return callable(self._features) or self._before or bool(self._layer)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (N, d) of pixels (N, 3, height, width) in [0, 1]."""
        outputs = outputs_of(self.module, self._normalised(x))
        return outputs.to(torch.promote_types(outputs.dtype, x.dtype))

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (N, d) and features (N, k) of pixels (N, 3, height, width) in [0, 1].

        Raises
        ------
        EncoderError
            The outputs or the features are not a matrix with a row per image.
        """
        if callable(self._features):
            outputs = _outputs(self, x)
            with self.explained(x):
                features = self._features(self.module, self._normalised(x))
            return outputs, _matrix(features, len(x), "its features")
        with noting(self.module, self._layer, self._before) as noted:
            outputs = _outputs(self, x)
        if not noted:
            raise EncoderError(f"the layer {self._layer!r} was not used; expected one through which the images pass")
        return outputs, _matrix(noted[-1], len(x), f"the features at {self._layer or 'the whole model'!r}")

    def extract(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (N, d) and features (N, k) of uint8 images (N, 3, h, w), on the CPU.

        Raises
        ------
        EncoderError
            The outputs or features are not as described, or are not finite.
        """
        with evaluating(self):
            parts = [self.both(part.to(self.mean.device).float() / 255) for part in x.split(PASS)]
        outputs, features = (torch.cat(part).float().cpu() for part in zip(*parts, strict=True))
        check_finite(outputs, features, "images")
        return outputs, features

    def prepared(self) -> "Encoder":
        """A copy for attacks, whose module is that of `advtransfer.prepare.prepare`."""
        made = copy.copy(self)  # the next lines replace in the copy alone
        made._buffers = dict(self._buffers)
        made._modules = {**self._modules, "module": prepare(self.module)}
        return made

    @contextmanager
    def explained(self, x: Tensor) -> Iterator[None]:
        """Raise a one-line `EncoderError` where the module fails on images (N, 3, height, width)."""
        try:
            yield
        except FAILURES as error:
            reason = one_line(error)
            height, width = x.shape[-2:] if self.size is None else (self.size, self.size)
            hint = ""
            if "to have 1 channels" in reason:
                hint = "; expected a model of images with 3 channels"
            elif isinstance(error, RuntimeError):
                told = "" if self.size is None else f", not {self.size}"
                hint = f"; expected size, the pixels that the model takes{told}"
            raise EncoderError(f"the model cannot be used at {height} × {width} pixels: {reason}{hint}") from error

    def _normalised(self, x: Tensor) -> Tensor:
        if self.size is not None and x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        return ((x - self.mean) / self.std).to(dtype_of(self.module))


@contextmanager
def noting(module: nn.Module, layer: str, before: bool) -> Iterator[list[Any]]:
    """Note what a layer returns inside the block, or (`before`) what it is given."""
    noted: list[Any] = []
    place = module.get_submodule(layer)
    hook = (
        place.register_forward_pre_hook(lambda module, given: noted.append(_copied(given[0])))
        if before
        else place.register_forward_hook(lambda module, given, found: noted.append(_copied(found)))
    )
    try:
        yield noted
    finally:
        hook.remove()


def _copied(found: Any) -> Any:
    """A copy of a tensor, or of the first of several: layers after it may work in place."""
    if isinstance(found, tuple | list) and found:
        return (_copied(found[0]),)
    return found.clone() if isinstance(found, Tensor) else found


def _channels(name: str, values: Sequence[float] | np.ndarray | Tensor) -> tuple[float, ...]:
    """One or three numbers of any kind as floats."""
    try:
        found = tuple(map(float, values))
    except (TypeError, ValueError):
        found = ()
    if len(found) not in (1, 3):
        raise ValueError(f"{name} is {values!r}; expected three numbers, one per channel")
    return found


def check_eager(module: nn.Module) -> None:
    """Raise an `EncoderError` for TorchScript, which can neither be looked into nor prepared for attacks."""
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            where = f"its part {name}" if name else "it"
            raise EncoderError(f"{where} is TorchScript; expected a plain torch.nn.Module, whose layers can be read")


def place_of(module: nn.Module, features: str | None) -> tuple[str, bool]:
    """The layer whose output is taken, or (True) whose input."""
    layers = dict(module.named_modules())
    if features is not None:
        if features not in layers:
            raise EncoderError(unknown("layer", features, [name for name in layers if name]))
        return features, False
    linear = [name for name, layer in layers.items() if isinstance(layer, nn.Linear)]
    if not linear:
        raise EncoderError(
            "the model has no linear layer, whose input would be the features; expected features=..., the name of one "
            f"of its layers ({', '.join([name for name, _ in module.named_children()]) or 'it has none'}), '' for its "
            "outputs, or (in Python) a function"
        )
    return linear[-1], True


def _outputs(encoder: Encoder, x: Tensor) -> Tensor:
    with encoder.explained(x):
        return outputs_of(encoder, x)


def _matrix(features: Any, rows: int, what: str) -> Tensor:
    """Features (N, k); maps (N, k, h, w) are averaged over their pixels, and the first member of a tuple is taken."""
    if isinstance(features, tuple | list) and features:
        features = features[0]
    if isinstance(features, Tensor) and features.ndim == 4:
        features = features.mean((2, 3))
    elif isinstance(features, Tensor) and features.ndim == 3:  # tokens (N, t, k), of which the first stands for all
        features = features[:, 0]
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != rows:
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise EncoderError(f"{what} are {shape}; expected a tensor (N, k) with N = {rows}")
    return features


def check_finite(outputs: Tensor, features: Tensor, of: str) -> None:
    """Raise an `EncoderError` where outputs (N, d) or features (N, k) are NaN or infinite."""
    for name, found in (("outputs", outputs), ("features", features)):
        if bad := int((~found.isfinite()).any(1).sum()):
            raise EncoderError(f"its {name} are not finite at {bad} of {len(found)} {of}; expected finite numbers")
