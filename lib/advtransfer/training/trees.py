"""Training of the tree autoencoder, and which words it reconstructs."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from advtransfer.models.tree_autoencoder import Forest, TreeAutoencoder
from advtransfer.modes import evaluating
from advtransfer.training.loop import Checkpoint, Fit, descend, trained_alone

UNKNOWN = 0  # the number of the unknown word (see `datasets.parsing.Vocabulary`)


def fit_autoencoder(
    model: TreeAutoencoder,
    forest: Forest,
    *,
    epochs: int,
    lr: float = 1e-3,
    batch_size: int = 32,
    checkpoint: Checkpoint | None = None,
    seed: int = 0,
    label: str = "tree autoencoder",
) -> Fit:
    """Train an autoencoder in place, by Adam on the cross-entropy of each word, given the right words above it.

    The unknown word does not count in the loss, so that the model learns not to use it. The global random state is left
    as it was.

    Parameters
    ----------
    model : TreeAutoencoder
        The model to train; it stays on its device, and is in eval mode afterwards.
    forest : Forest
        The trees to learn, which are moved to the model's device.
    epochs : int
        Passes over the trees, each in a new order.
    lr : float
        Adam's learning rate.
    batch_size : int
        Trees per step; the last step of an epoch takes those that remain.
    checkpoint : Checkpoint, optional
        Keeps the state after each epoch. If it already has one, training continues from there, to the same result.
    seed : int
        Seed of the order of the trees and of dropout.
    label : str
        Label of the progress bar.

    Raises
    ------
    ValueError
        `epochs`, `batch_size` or `lr` is not positive, or a word or relation is not one of the model's.
    TrainingError
        The loss is no longer finite; this is checked at the end of each epoch.
    """
    for name, value in {"epochs": epochs, "batch_size": batch_size, "lr": lr}.items():
        if value <= 0:
            raise ValueError(f"{name} is {value}; expected a number above 0")
    device = model.above_root.device
    forest = forest.to(device)
    n_trees = len(forest.sizes)

    def losses(generator: torch.Generator) -> Iterator[Tensor]:
        for trees in torch.randperm(n_trees, generator=generator).to(device).split(batch_size):
            batch = forest.select(trees)
            total = F.cross_entropy(model(batch), batch.words, ignore_index=UNKNOWN, reduction="sum")
            yield total / (batch.words != UNKNOWN).sum().clamp(min=1)

    with trained_alone(model, None, True, seed) as trained:
        return descend(
            model, losses, torch.optim.Adam(trained, lr=lr), epochs=epochs, batches=-(-n_trees // batch_size), lr=lr,
            seed=seed, label=label, checkpoint=checkpoint,
        )  # fmt: skip


def reconstructed(model: TreeAutoencoder, forest: Forest, *, batch_size: int = 100) -> Tensor:
    """Which words are reconstructed, (M,) bool, from the root's vector alone: the model passes down its own words.

    An unknown word counts as lost, even if the model predicts the unknown word. `batch_size` is a number of trees.
    """
    device = model.above_root.device
    forest = forest.to(device)
    right = []
    with evaluating(model):
        for trees in torch.arange(len(forest.sizes), device=device).split(batch_size):
            batch = forest.select(trees)
            decoded = model.decode(model.encode(batch), batch).argmax(dim=1)
            right.append((decoded == batch.words) & (decoded != UNKNOWN))
    return torch.cat(right)
