"""The training loop: a step for each loss, a state from which to resume, a progress bar, and the model's modes."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor, nn
from tqdm import tqdm

Weights = dict[str, Tensor]
Precision = Literal["float32", "bfloat16"]
TERMINAL = "ADVTRANSFER_TERMINAL"  # names the terminal for progress bars, since the output of a notebook is captured


class TrainingError(RuntimeError):
    """Training cannot continue."""


class Checkpoint(Protocol):
    """Where training keeps its state after each epoch (see `records.weights.Checkpoint`)."""

    def load(self) -> dict[str, Any] | None:
        """The state saved last, or None."""

    def save(self, state: dict[str, Any]) -> None:
        """Save a state of tensors, numbers and containers of these. The tensors go on changing: copy or write them."""


class Fit(NamedTuple):
    """The result of training, on the CPU."""

    last: Weights
    """The state of the model after the last epoch."""
    best: Weights
    """Its state after the epoch with the best accuracy, the earliest of equals; `last` if no accuracy is measured."""
    accuracy: Tensor
    """(epochs,) float64: the accuracy after each epoch; empty if none is measured."""


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
    settings: Mapping[str, Any] | None = None,
) -> Fit:
    """Take a gradient step for each loss, epoch after epoch.

    Parameters
    ----------
    model : Module
        The model whose parameters `optimiser` changes.
    losses : callable
        Called with a generator in each epoch; it gives the losses of the epoch's batches one after the other, each
        computed when it is needed. It draws the order of the batches, and everything else that is random, from the
        generator.
    optimiser, schedule : Optimizer, LRScheduler, optional
        Both take one step per loss.
    epochs, batches : int
        Number of epochs, and number of losses per epoch.
    lr : float
        The highest learning rate, for messages and to know a checkpoint of other training.
    seed : int
        Seed of the generator.
    label : str
        Label of the progress bar.
    measure : callable, optional
        Returns an accuracy; called after each epoch.
    checkpoint : Checkpoint, optional
        Keeps the state after each epoch. If it already has one, training continues from there, to the same result; but
        from the start if it was made on another kind of device, whose random numbers cannot be continued.
    settings : mapping, optional
        Whatever else the losses depend on, to know a checkpoint of other training.

    Raises
    ------
    ValueError
        The checkpoint is of training with another number of epochs or batches, seed, optimiser or schedule, or with
        other parameters of the optimiser, or other `settings`.
    TrainingError
        The losses of an epoch have no finite sum; this is checked at the end of each epoch.
    """
    device = next(model.parameters()).device
    own = _settings(optimiser, schedule) | dict(settings or {})
    asked = {"epochs": epochs, "batches": batches, "lr": lr, "seed": seed, **own}
    generator = torch.Generator().manual_seed(seed)  # on the CPU, so that it is the same for every device
    parts: dict[str, Any] = {"model": model, "optimiser": optimiser, **({"schedule": schedule} if schedule else {})}
    with progress(epochs * batches, label) as bar:
        best, accuracy = _resumed(checkpoint, asked, parts, generator, device)
        bar.update(len(accuracy) * batches)
        for epoch in range(len(accuracy) + 1, epochs + 1):
            total = torch.zeros((), device=device)  # summed on the device, and read once per epoch
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
                checkpoint.save({"asked": asked, **_state_of(parts, generator, device, best, accuracy)})
    last = weights_of(model)
    return Fit(last, best if measure else last, torch.tensor(accuracy if measure else [], dtype=torch.float64))


# The state between two epochs.


def _state_of(
    parts: dict[str, Any], generator: torch.Generator, device: torch.device, best: Weights, accuracy: list[float]
) -> dict[str, Any]:
    """What training needs to continue after an epoch: its parts, random states, best weights and accuracies."""
    return {
        **{name: part.state_dict() for name, part in parts.items()},
        "order_and_shifts": generator.get_state(),
        "device": device.type,
        "layers": torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state(),
        "best": best,
        "accuracy": accuracy,
    }


def _settings(
    optimiser: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler | None
) -> dict[str, Any]:
    """What optimiser and schedule were made with; how the step is computed, which differs by device, is left out."""
    names = set(optimiser.defaults) - {"fused", "foreach", "capturable", "lr"}
    return {
        "optimiser": type(optimiser).__name__,
        "schedule": type(schedule).__name__,
        **{name: [group[name] for group in optimiser.param_groups] for name in sorted(names)},
    }


def _resumed(
    checkpoint: Checkpoint | None, asked: dict[str, Any], parts: dict[str, Any], generator: torch.Generator,
    device: torch.device,
) -> tuple[Weights, list[float]]:  # fmt: skip
    """Restore the saved state, if there is one; return its best weights, and the accuracies of the epochs done."""
    state = checkpoint.load() if checkpoint else None
    if state is None or state.get("device") != device.type:
        return {}, []
    made = state["asked"]
    common = asked.keys() & made.keys()  # another version of torch may have other parameters
    if differing := sorted(name for name in common if made[name] != asked[name]):
        name = differing[0]
        raise ValueError(
            f"the checkpoint is of training with {name} = {made[name]}, and now {name} = {asked[name]}; "
            "expected the same training, or another checkpoint"
        )
    for name, part in parts.items():
        part.load_state_dict(state[name])
    generator.set_state(state["order_and_shifts"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["layers"], device)
    else:
        torch.set_rng_state(state["layers"])
    return state["best"], list(state["accuracy"])


def check_choice(name: str, value: str, kind: Any) -> None:
    """Raise a ValueError unless `value` is one of those that a literal type lists."""
    if value not in get_args(kind):
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, get_args(kind)))}")


def weights_of(model: nn.Module) -> Weights:
    """A copy of the model's state on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


# The progress bar, and the model's modes.


@contextmanager
def progress(total: int, label: str) -> Iterator[tqdm]:
    """A progress bar, on the terminal that the environment variable ``ADVTRANSFER_TERMINAL`` names, if it is set."""
    with ExitStack() as stack:
        there: dict[str, Any] = {}
        with suppress(KeyError, OSError):
            there = {"file": stack.enter_context(open(os.environ[TERMINAL], "w", encoding="utf-8")), "disable": False}
        yield stack.enter_context(tqdm(total=total, desc=label, leave=False, unit="batch", dynamic_ncols=True, **there))


@contextmanager
def trained_alone(
    model: nn.Module, parameters: Iterable[nn.Parameter] | None, adapt_norm: bool, seed: int
) -> Iterator[list[nn.Parameter]]:
    """Train mode inside the block, with gradients only for `parameters` (all if None); afterwards eval mode.

    All else is restored afterwards.
    """
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    trained = [parameter for parameter, _ in before] if parameters is None else list(parameters)
    chosen = set(map(id, trained))
    device = before[0][0].device
    try:
        for parameter, _ in before:
            parameter.requires_grad_(id(parameter) in chosen)
        for module in model.modules():
            module.training = adapt_norm or not isinstance(module, nn.modules.batchnorm._BatchNorm)
        tf32 = torch.backends.cudnn.allow_tf32  # as it was set: `flags` would allow it
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False, allow_tf32=tf32),
            torch.inference_mode(False),
            torch.enable_grad(),
        ):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed all GPUs
            if device.type == "cuda":
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            yield trained
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)
            parameter.grad = None
        model.eval()
