"""The training loop: a step down each loss, a state to go on from, a bar, and how the model is held meanwhile."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from advtransfer.modes import memory_kept

Weights = dict[str, Tensor]
Precision = Literal["float32", "bfloat16"]
TERMINAL = "ADVTRANSFER_TERMINAL"  # the terminal of whoever waits for a notebook: its kernel's own output is captured


class TrainingError(RuntimeError):
    """Training that cannot go on."""


class Checkpoint(Protocol):
    """Where a training under way keeps its state after each epoch (see `weights.Checkpoint`)."""

    def load(self) -> dict[str, Any] | None:
        """The state kept last, or None."""

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state of tensors, numbers and containers of them."""


class Fit(NamedTuple):
    """What training gave, on the CPU."""

    last: Weights
    """The state of the model after the last epoch."""
    best: Weights
    """Its state after the epoch with the best accuracy, the earliest of equals; `last` where nothing is watched."""
    accuracy: Tensor
    """(epochs,) float64: accuracy after each epoch on what is watched; empty without."""


def descend(
    model: nn.Module,
    losses: Callable[[torch.Generator], Iterable[Tensor]],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
    *,
    epochs: int,
    batches: int,
    lr: float,
    seed: int,
    label: str,
    measure: Callable[[], float] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Fit:
    """Take a step down each loss, epoch after epoch.

    Parameters
    ----------
    model : Module
        What `optimiser` moves.
    losses : callable
        The losses of an epoch's batches, one after the other, each computed when it is asked for. It draws its order,
        and whatever else is random, from the generator that it is given.
    optimiser, schedule : Optimizer, LRScheduler, optional
        Both take a step a loss.
    epochs, batches : int
        Passes, and losses a pass.
    lr : float
        The rate, for the message of an error.
    seed : int
        Of the generator.
    label : str
        What the progress bar calls this.
    measure : callable, optional
        The accuracy to watch, after each epoch.
    checkpoint : Checkpoint, optional
        Keeps the state after each epoch. If it holds one, training goes on from there, to the same result.

    Raises
    ------
    TrainingError
        The losses of an epoch have no finite sum; noticed at its end.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same on every device
    parts: dict[str, Any] = {"model": model, "optimiser": optimiser, **({"schedule": schedule} if schedule else {})}
    with memory_kept(), progress(epochs * batches, label) as bar:
        best, accuracy = _resumed(checkpoint, parts, generator, device)
        bar.update(len(accuracy) * batches)
        for epoch in range(len(accuracy) + 1, epochs + 1):
            total = torch.zeros((), device=device)  # summed here, and read once an epoch
            for loss in losses(generator):
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                if schedule:
                    schedule.step()
                total += loss.detach()
                bar.update()
            if not total.isfinite():
                raise TrainingError(
                    f"{label}: the loss is {total.item()} in epoch {epoch} of {epochs}; expected it to stay finite: "
                    f"try a learning rate below {lr}"
                )
            accuracy.append(measure() if measure else float("nan"))
            if measure and accuracy[-1] > max(accuracy[:-1], default=-1.0):
                best = weights_of(model)
            if checkpoint and epoch < epochs:
                checkpoint.save(_state_of(parts, generator, device, best, accuracy))
    last = weights_of(model)
    return Fit(last, best if measure else last, torch.tensor(accuracy if measure else [], dtype=torch.float64))


# The state between two epochs.


def _state_of(
    parts: dict[str, Any], generator: torch.Generator, device: torch.device, best: Weights, accuracy: list[float]
) -> dict[str, Any]:
    """What training needs to go on after an epoch: its parts, random streams, best weights and accuracies."""
    return {
        **{name: part.state_dict() for name, part in parts.items()},
        "order_and_shifts": generator.get_state(),
        "layers": torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state(),
        "best": best,
        "accuracy": accuracy,
    }


def _resumed(
    checkpoint: Checkpoint | None, parts: dict[str, Any], generator: torch.Generator, device: torch.device
) -> tuple[Weights, list[float]]:
    """Put everything where a kept state left it; its best weights, and the accuracy after each epoch done."""
    state = checkpoint.load() if checkpoint else None
    if state is None:
        return {}, []
    for name, part in parts.items():
        part.load_state_dict(state[name])
    generator.set_state(state["order_and_shifts"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["layers"], device)
    else:
        torch.set_rng_state(state["layers"])
    return state["best"], list(state["accuracy"])


def weights_of(model: nn.Module) -> Weights:
    """A copy of the model's state on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


# How the model is held meanwhile.


@contextmanager
def progress(total: int, label: str) -> Iterator[tqdm]:
    """A bar with what is left, on the terminal of whoever waits."""
    with ExitStack() as stack:
        there: dict[str, Any] = {}
        with suppress(KeyError, OSError):
            there = {"file": stack.enter_context(open(os.environ[TERMINAL], "w", encoding="utf-8")), "disable": False}
        yield stack.enter_context(tqdm(total=total, desc=label, leave=False, unit="batch", dynamic_ncols=True, **there))


@contextmanager
def trained_alone(
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
