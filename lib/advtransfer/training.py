"""Training, with its result kept: the same settings and source never train twice."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from advtransfer import storage
from advtransfer.datasets.regression import Regression
from advtransfer.models.mlp import OneHiddenLayer
from advtransfer.provenance import digest, source_hash

Weights = dict[str, Tensor]
Precision = Literal["float32", "bfloat16"]


def cached(settings: dict[str, Any], train: Callable[[], Weights]) -> Weights:
    """The weights that `train` gives, from the cache if the same settings and source were trained before.

    Parameters
    ----------
    settings
        Everything the result depends on, as JSON values.
    train
        Trains and returns the weights.
    """
    key = digest({"settings": settings, "source": source_hash(__name__)})
    path = storage.cache_root() / "weights" / key[:2] / f"{key}.safetensors"
    if path.exists():
        return load_file(path)
    storage.writable_folder(path.parent)
    weights = {name: tensor.detach().contiguous().cpu() for name, tensor in train().items()}
    with storage.replacing(path) as draft:
        save_file(weights, draft)
    return weights


def fit_regression(
    net: OneHiddenLayer, data: Regression, *, steps: int, lr: float = 0.2, momentum: float = 0.9
) -> OneHiddenLayer:
    """Full-batch gradient descent with momentum on the mean squared error, as for the networks of section 4."""
    parameters = [w.clone().requires_grad_() for w in net]
    optimiser = torch.optim.SGD(parameters, lr=lr, momentum=momentum)
    with torch.enable_grad():
        for _ in range(steps):
            loss = torch.nn.functional.mse_loss(OneHiddenLayer(*parameters)(data.x), data.y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return OneHiddenLayer(*(w.detach() for w in parameters))


class TrainingError(RuntimeError):
    """Training that cannot go on."""


def fit_classifier(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    batch_size: int = 64,
    augment: bool = True,
    parameters: Iterable[nn.Parameter] | None = None,
    adapt_norm: bool = True,
    precision: Precision = "float32",
    seed: int = 0,
    label: str = "training",
) -> nn.Module:
    """Train a classifier of images in place: cross-entropy, SGD, a learning rate that falls to 0 along a cosine.

    Equal calls give equal weights, bit for bit, on one machine, and the global random state is left alone.
    A last batch that would be smaller than the others is left out of its epoch.

    Parameters
    ----------
    model : nn.Module
        Pixels in [0, 1], (N, 3, H, W), to logits. Train it where it is: on the CPU or on a GPU.
    x : Tensor, (N, 3, H, W) uint8
        Images; they are moved to the model's device whole, once.
    y : Tensor, (N,) int64
        Labels.
    epochs, lr, momentum, weight_decay, batch_size
        Of SGD; the learning rate is lowered after every batch.
    augment : bool
        Shift each image by up to 4 pixels, with black moving in, and mirror every other one.
    parameters : iterable of Parameter, optional
        What to train, e.g. ``model.head.parameters()``; by default everything. The rest has no gradient meanwhile.
    adapt_norm : bool
        Let BatchNorm normalise by the batch and update its running statistics, even where it is not trained;
        else it stays in eval mode.
    precision : {"float32", "bfloat16"}
        ``"bfloat16"`` computes in mixed precision; weights stay in float32.
    seed : int
        Of the order of images, of `augment` and of any random layer.
    label : str
        What the progress bar calls this.

    Returns
    -------
    nn.Module
        `model`, in eval mode; its convolutions are stored channels-last where that is safe.

    Raises
    ------
    TypeError, ValueError
        Images or labels are not as described, or fewer than one batch.
    TrainingError
        The loss is no longer finite; noticed at the end of the epoch.
    """
    _check_images(x, y, batch_size)
    device = next(model.parameters()).device
    x, y = x.to(device), y.to(device)
    memory_format = _memory_format(model, device)
    model.to(memory_format=memory_format)  # type: ignore[call-overload]
    batches = len(x) // batch_size
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same order and shifts on every device

    with _training(model, parameters, adapt_norm, seed) as trained:
        optimiser = torch.optim.SGD(trained, lr=lr, momentum=momentum, weight_decay=weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=epochs * batches)
        progress = tqdm(total=epochs * batches, desc=label, leave=False, unit="batch")
        for epoch in range(1, epochs + 1):
            order = torch.randperm(len(x), generator=generator).to(device)
            shift, flip = (draw.to(device) for draw in _draw_augmentation(len(x), generator))
            total = torch.zeros((), device=device)  # summed here, and read once an epoch
            for index in order[: batches * batch_size].split(batch_size):
                images = crop_and_flip(x[index], shift[index], flip[index]) if augment else x[index]
                with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                    logits = model((images.float() / 255).contiguous(memory_format=memory_format))
                loss = F.cross_entropy(logits.float(), y[index])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                total += loss.detach()
                progress.update()
            if not total.isfinite():
                progress.close()
                raise TrainingError(
                    f"{label}: the loss is {total.item()} in epoch {epoch} of {epochs}; expected it to stay finite: "
                    f"try a learning rate below {lr}"
                )
        progress.close()
    return model


PADDING = 4  # black pixels around an image, from which it is cropped again


def crop_and_flip(x: Tensor, shift: Tensor, flip: Tensor) -> Tensor:
    """Cut each image out of its padded self and mirror some: all of a batch at once, on its device.

    Parameters
    ----------
    x
        Images (N, C, H, W).
    shift
        (N, 2), from 0 to 2·`PADDING`: rows and columns between the corner of the padded image and that of the cut;
        `PADDING` leaves an image in place.
    flip
        (N,) bool: mirror this one left to right.

    Returns
    -------
    Tensor
        Like `x`, held channels-last.
    """
    n, _, height, width = x.shape
    padded = F.pad(x, (PADDING,) * 4)
    rows = shift[:, :1] + torch.arange(height, device=x.device)  # (N, H)
    across = torch.arange(width, device=x.device)
    columns = shift[:, 1:] + torch.where(flip[:, None], across.flip(0), across)  # (N, W)
    each = torch.arange(n, device=x.device)[:, None, None]
    return padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)  # from (N, H, W, C)


def _memory_format(model: nn.Module, device: torch.device) -> torch.memory_format:
    """Channels-last, which is faster, unless oneDNN would write past its memory for it.

    On the CPU the weights' gradient of a strided 1 × 1 convolution of few channels, held channels-last, is wrong or
    crashes the process (https://github.com/uxlfoundation/oneDNN/issues/6035): below 8 channels with AVX2, and as
    the cause is a block of channels that is not full, perhaps below 16 with AVX-512.
    """
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    unsafe = any(conv.kernel_size == (1, 1) and max(conv.stride) > 1 and conv.in_channels < 16 for conv in convolutions)
    return torch.contiguous_format if unsafe and device.type == "cpu" else torch.channels_last


def _draw_augmentation(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Shifts (n, 2) and flips (n,) for `crop_and_flip`."""
    shift = torch.randint(2 * PADDING + 1, (n, 2), generator=generator)
    return shift, torch.rand(n, generator=generator) < 0.5


@contextmanager
def _training(
    model: nn.Module, parameters: Iterable[nn.Parameter] | None, adapt_norm: bool, seed: int
) -> Iterator[list[nn.Parameter]]:
    """Train mode and gradients for what is trained, and for nothing else; afterwards eval mode and all as it was."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    trained = [parameter for parameter, _ in before] if parameters is None else list(parameters)
    chosen = set(map(id, trained))
    device = before[0][0].device
    try:
        for parameter, _ in before:
            parameter.requires_grad_(id(parameter) in chosen)
        for module in model.modules():
            module.training = adapt_norm or not isinstance(module, nn.modules.batchnorm._BatchNorm)
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            torch.backends.cudnn.flags(deterministic=True, benchmark=False),
            torch.inference_mode(False),
            torch.enable_grad(),
        ):
            torch.manual_seed(seed)
            yield trained
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)
            parameter.grad = None
        model.eval()


def _check_images(x: Tensor, y: Tensor, batch_size: int) -> None:
    if x.dtype != torch.uint8 or x.ndim != 4:
        raise TypeError(f"x is {x.dtype} of shape {tuple(x.shape)}; expected uint8 images (N, C, H, W)")
    if y.dtype != torch.int64 or y.shape != x.shape[:1]:
        raise TypeError(f"y is {y.dtype} of shape {tuple(y.shape)}; expected int64 labels ({len(x)},)")
    if len(x) < batch_size:
        raise ValueError(f"there are {len(x)} images; expected at least one batch of {batch_size}")
