"""Training of image classifiers, with data on the device, by SGD with momentum under a schedule."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advtransfer.modes import evaluating
from advtransfer.training.loop import Checkpoint, Fit, Precision, check_choice, descend, trained_alone

Schedule = Literal["cosine", "one_cycle"]
Perturb = Callable[[nn.Module, Tensor, Tensor, torch.Generator], Tensor]
"""Maps a model, pixels (N, C, H, W) in [0, 1], labels (N,) and a generator to a perturbation of the pixels."""


def fit_classifier(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    schedule: Schedule = "cosine",
    batch_size: int = 64,
    augment: bool = True,
    perturb: Perturb | None = None,
    parameters: Iterable[nn.Parameter] | None = None,
    adapt_norm: bool = True,
    precision: Precision = "float32",
    watch: tuple[Tensor, Tensor] | None = None,
    checkpoint: Checkpoint | None = None,
    captured: bool | None = None,
    seed: int = 0,
    label: str = "training",
) -> Fit:
    """Train a classifier in place, by SGD with momentum and a learning rate that ends at zero.

    Images stay uint8 on the model's device and are augmented there, a whole batch at once. Each epoch sees the images
    in a new order, and leaves out the last ones if they do not fill a batch. The global random state is left as it was.

    Parameters
    ----------
    model : nn.Module
        Maps pixels (N, C, H, W) in [0, 1] to logits (N, classes).
    x : Tensor, (N, C, H, W), uint8
        Images.
    y : Tensor, (N,), int64
        Labels.
    epochs : int
        Passes over the images.
    lr, momentum, weight_decay : float
        Parameters of SGD; `lr` is the highest learning rate.
    schedule : {"cosine", "one_cycle"}
        ``"cosine"`` begins at `lr` and falls along half a cosine. ``"one_cycle"`` rises to `lr` in the first 3/10 of
        all steps and then falls; momentum moves the opposite way, between 0.85 and 0.95, whatever `momentum` is (Smith
        and Topin 2019; `OneCycleLR`).
    batch_size : int
        Images per step.
    augment : bool
        Shift each image by up to 4 pixels, with black filling in, and mirror it with probability 1/2.
    perturb : callable, optional
        Train on perturbed images: what ``perturb(model, pixels, labels, generator)`` returns is added to each batch of
        pixels. With PGD this is adversarial training (Madry et al. 2018).
    parameters : iterable of Parameter, optional
        The parameters to train, e.g. ``model.head.parameters()``; by default all. The others get no gradient.
    adapt_norm : bool
        Let BatchNorm normalise by the batch and update its running statistics, even if its parameters are not trained;
        otherwise it stays in eval mode.
    precision : {"float32", "bfloat16"}
        ``"bfloat16"`` computes in mixed precision; weights stay in float32.
    watch : (Tensor, Tensor), optional
        Images and labels like `x` and `y`, on which accuracy is measured after each epoch.
    checkpoint : Checkpoint, optional
        Keeps the state after each epoch. If it already has one, training continues from there, to the same result.
    captured : bool, optional
        Capture the forward and the backward pass as CUDA graphs, so that a step starts a few kernels and not hundreds;
        by default on a GPU. The result is the same.
    seed : int
        Seed of the order of the images, of the augmentation and of any random layer.
    label : str
        Label of the progress bar.

    Returns
    -------
    Fit
        Weights and accuracies. `model` itself ends in the last state, in eval mode; its convolutions are stored
        channels-last where that is safe.

    Raises
    ------
    TypeError, ValueError
        Images or labels are not as described, or there is not even one batch of images; or, at the first batch, a label
        is not below the number of logits.
    TrainingError
        The loss is no longer finite; this is checked at the end of each epoch.
    """
    check_choice("schedule", schedule, Schedule)
    check_choice("precision", precision, Precision)
    if min(epochs, batch_size) < 1:
        raise ValueError(f"epochs is {epochs}, batch_size {batch_size}; expected at least 1")
    for name, images, labels in (("x", x, y), *([("watch", *watch)] if watch else [])):
        _check_images(name, images, labels)
    if len(x) < batch_size:
        raise ValueError(f"there are {len(x)} images; expected at least one batch of {batch_size}")
    device = next(model.parameters()).device
    x, y = x.to(device), y.to(device)
    seen = (watch[0].to(device), watch[1].to(device)) if watch else None
    memory_format = _memory_format(model, device)
    model.to(memory_format=memory_format)  # type: ignore[call-overload]
    forward: nn.Module = _Mixed(model, device.type, precision)
    batches = len(x) // batch_size
    largest = max(int(labels.max()) for labels in (y, *([watch[1]] if watch else [])))

    def losses(generator: torch.Generator) -> Iterator[Tensor]:
        order = torch.randperm(len(x), generator=generator).to(device)
        shift, flip = (draw.to(device) for draw in _draw_augmentation(len(x), generator))
        for index in order[: batches * batch_size].split(batch_size):
            images = crop_and_flip(x[index], shift[index], flip[index]) if augment else x[index]
            pixels = (images.float() / 255).contiguous(memory_format=memory_format)
            if perturb:
                pixels = pixels + perturb(model, pixels, y[index], generator)
            logits = forward(pixels)
            if largest >= logits.shape[1]:
                raise ValueError(f"a label is {largest}; expected below {logits.shape[1]}, the number of logits")
            yield F.cross_entropy(logits, y[index])

    with trained_alone(model, parameters, adapt_norm, seed) as trained:
        if device.type == "cuda" if captured is None else captured:
            sample = torch.zeros(batch_size, *x.shape[1:], device=device)
            _capture(forward, sample.contiguous(memory_format=memory_format))
        fused = device.type == "cuda"
        optimiser = torch.optim.SGD(trained, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=fused)
        steps = epochs * batches
        scheduler: torch.optim.lr_scheduler.LRScheduler = (
            torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps)
            if schedule == "cosine"
            else torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=lr, total_steps=steps + 1)
        )
        return descend(
            model, losses, optimiser, scheduler, epochs=epochs, batches=batches, lr=lr, seed=seed, label=label,
            measure=partial(_accuracy, model, *seen, precision, memory_format) if seen else None, checkpoint=checkpoint,
            settings={
                "augment": augment, "perturb": perturb is not None, "adapt_norm": adapt_norm, "precision": precision,
            },
        )  # fmt: skip


class _Mixed(nn.Module):
    """A model computed in a precision, with outputs in float32."""

    def __init__(self, model: nn.Module, kind: str, precision: Precision) -> None:
        super().__init__()
        self.model, self.kind, self.precision = model, kind, precision

    def forward(self, pixels: Tensor) -> Tensor:
        enabled = self.precision == "bfloat16"
        with torch.autocast(self.kind, torch.bfloat16, enabled=enabled, cache_enabled=False):
            return self.model(pixels).float()


def _capture(forward: nn.Module, sample: Tensor) -> None:
    """From now on, replay CUDA graphs of the module's passes; nothing else of it changes."""
    kept, state = [buffer.clone() for buffer in forward.buffers()], torch.cuda.get_rng_state(sample.device)
    torch.cuda.make_graphed_callables(forward, (sample,), allow_unused_input=True)  # as of a head that is replaced
    torch.cuda.set_rng_state(state, sample.device)
    for buffer, before in zip(forward.buffers(), kept, strict=True):
        buffer.copy_(before)  # the passes before the capture are no training


PADDING = 4  # width of the black border around an image, from which it is cropped again


def crop_and_flip(x: Tensor, shift: Tensor, flip: Tensor) -> Tensor:
    """Crop each image of a batch from its padded version, and mirror some; all at once, on the images' device.

    Parameters
    ----------
    x
        Images (N, C, H, W).
    shift
        (N, 2), from 0 to 2·`PADDING`: the row and the column of the padded image at which the crop begins; `PADDING`
        leaves an image in place.
    flip
        (N,) bool: whether to mirror the image left to right.

    Returns
    -------
    Tensor
        Images with the shape and dtype of `x`, stored channels-last.
    """
    n, _, height, width = x.shape
    padded = F.pad(x, (PADDING,) * 4)
    rows = shift[:, :1] + torch.arange(height, device=x.device)  # (N, H)
    across = torch.arange(width, device=x.device)
    columns = shift[:, 1:] + torch.where(flip[:, None], across.flip(0), across)  # (N, W)
    each = torch.arange(n, device=x.device)[:, None, None]
    return padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)  # from (N, H, W, C)


def _accuracy(
    model: nn.Module, x: Tensor, y: Tensor, precision: Precision, memory_format: torch.memory_format
) -> float:
    """The share of images classified correctly, computed as in training but in eval mode."""
    size = 2500 if x.is_cuda else 500  # images per pass
    with evaluating(model), torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        right = [
            (model((a.float() / 255).contiguous(memory_format=memory_format)).argmax(1) == b).sum()
            for a, b in zip(x.split(size), y.split(size), strict=True)
        ]
    return int(torch.stack(right).sum()) / len(y)


def _memory_format(model: nn.Module, device: torch.device) -> torch.memory_format:
    """Channels-last, which is faster, except where oneDNN would write beyond its memory.

    On the CPU, if a strided 1 × 1 convolution with few channels is stored channels-last, the gradient of its weights is
    wrong or crashes the process (https://github.com/uxlfoundation/oneDNN/issues/6035). This happens below 8 channels
    with AVX2. The cause is a block of channels that is not full, so with AVX-512 it may happen below 16 channels.
    """
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    unsafe = any(conv.kernel_size == (1, 1) and max(conv.stride) > 1 and conv.in_channels < 16 for conv in convolutions)
    return torch.contiguous_format if unsafe and device.type == "cpu" else torch.channels_last


def _draw_augmentation(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Shifts (n, 2) and flips (n,) for `crop_and_flip`."""
    shift = torch.randint(2 * PADDING + 1, (n, 2), generator=generator)
    return shift, torch.rand(n, generator=generator) < 0.5


def _check_images(name: str, x: Tensor, y: Tensor) -> None:
    if x.dtype != torch.uint8 or x.ndim != 4:
        raise TypeError(f"{name} is {x.dtype} of shape {tuple(x.shape)}; expected uint8 images (N, C, H, W)")
    if y.dtype != torch.int64 or y.shape != x.shape[:1]:
        raise TypeError(f"{name}'s labels are {y.dtype} of shape {tuple(y.shape)}; expected int64 labels ({len(x)},)")
    if not len(y):
        raise ValueError(f"{name} has 0 labels; expected at least one")
    if y.min() < 0:
        raise ValueError(f"{name} has {len(y)} labels, of which one is {y.min()}; expected classes from 0")
