"""Training of the tree autoencoder, and how many words come back out of it."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from advtransfer.fitting import (
    Checkpoint,
    Weights,
    check_finite,
    progress,
    resumed,
    state_of,
    trained_alone,
    weights_of,
)
from advtransfer.models.tree_autoencoder import Forest, TreeAutoencoder
from advtransfer.modes import evaluating

UNKNOWN = 0  # the number of the unknown word (see `datasets.parsing.Vocabulary`)


class AutoencoderFit(NamedTuple):
    """What training gave, on the CPU."""

    weights: Weights
    """The state of the model after the last epoch."""
    accuracy: Tensor
    """(epochs,) float64: the share of words of `held_out` that come back, after each epoch; empty without."""


def fit_autoencoder(
    model: TreeAutoencoder,
    forest: Forest,
    *,
    epochs: int,
    lr: float = 1e-3,
    batch_size: int = 32,
    held_out: Forest | None = None,
    checkpoint: Checkpoint | None = None,
    seed: int = 0,
    label: str = "tree autoencoder",
) -> AutoencoderFit:
    """Train an autoencoder in place: Adam on the cross-entropy of each word, given the right words above it.

    The unknown word is never asked for, so that the model learns not to say it. The global random state is left as
    it was.

    Parameters
    ----------
    model : TreeAutoencoder
        Afterwards in eval mode, on its device.
    forest : Forest
        Trees to learn; moved to the model's device.
    epochs : int
        Passes over the trees, each in a new order.
    lr : float
        Adam's rate.
    batch_size : int
        Trees a step; the last step of an epoch takes the rest.
    held_out : Forest, optional
        Other trees, on which `reconstructed` is measured after each epoch.
    checkpoint : Checkpoint, optional
        Keeps the state after each epoch. If it holds one, training goes on from there, to the same result.
    seed : int
        Of the order and of dropout.
    label : str
        What the progress bar calls this.

    Raises
    ------
    ValueError
        `epochs`, `batch_size` or `lr` is not positive, or a word or relation is not one of the model's.
    TrainingError
        The loss is no longer finite; noticed at the end of the epoch.
    """
    for name, value in {"epochs": epochs, "batch_size": batch_size, "lr": lr}.items():
        if value <= 0:
            raise ValueError(f"{name} is {value}; expected a number above 0")
    device = model.above_root.device
    forest = forest.to(device)
    n_trees = len(forest.sizes)
    batches = -(-n_trees // batch_size)
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same on every device

    with trained_alone(model, None, True, seed) as trained, progress(epochs * batches, label) as bar:
        optimiser = torch.optim.Adam(trained, lr=lr)
        parts = {"model": model, "optimiser": optimiser}
        _, accuracy = resumed(checkpoint, parts, generator, device)
        bar.update(len(accuracy) * batches)
        for epoch in range(len(accuracy) + 1, epochs + 1):
            total = torch.zeros((), device=device)  # summed here, and read once an epoch
            for trees in torch.randperm(n_trees, generator=generator).to(device).split(batch_size):
                batch = forest.select(trees)
                losses = F.cross_entropy(model(batch), batch.words, ignore_index=UNKNOWN, reduction="sum")
                loss = losses / (batch.words != UNKNOWN).sum().clamp(min=1)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.detach()
                bar.update()
            check_finite(total, label, epoch, epochs, lr)
            accuracy.append(float(reconstructed(model, held_out).double().mean()) if held_out else float("nan"))
            if checkpoint and epoch < epochs:
                checkpoint.save(state_of(parts, generator, device, {}, accuracy))
    measured = torch.tensor(accuracy if held_out else [], dtype=torch.float64)
    return AutoencoderFit(weights_of(model), measured)


def reconstructed(model: TreeAutoencoder, forest: Forest, *, batch_size: int = 100) -> Tensor:
    """Which words come back: (M,) bool, from the root's vector alone, with the model's own words passed down.

    An unknown word counts as lost, even where the model says so. `batch_size` is in trees.
    """
    device = model.above_root.device
    forest = forest.to(device)
    right = []
    with evaluating(model):
        for trees in torch.arange(len(forest.sizes), device=device).split(batch_size):
            batch = forest.select(trees)
            said = model.decode(model.encode(batch), batch).argmax(dim=1)
            right.append((said == batch.words) & (said != UNKNOWN))
    return torch.cat(right)
