"""Training of the tree autoencoder, and how many words come back out of it."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from advtransfer.fitting import Checkpoint, Fit, descend, trained_alone
from advtransfer.models.tree_autoencoder import Forest, TreeAutoencoder
from advtransfer.modes import evaluating

UNKNOWN = 0  # the number of the unknown word (see `datasets.parsing.Vocabulary`)


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
) -> Fit:
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

    def losses(generator: torch.Generator) -> Iterator[Tensor]:
        for trees in torch.randperm(n_trees, generator=generator).to(device).split(batch_size):
            batch = forest.select(trees)
            found = F.cross_entropy(model(batch), batch.words, ignore_index=UNKNOWN, reduction="sum")
            yield found / (batch.words != UNKNOWN).sum().clamp(min=1)

    with trained_alone(model, None, True, seed) as trained:
        return descend(
            model, losses, torch.optim.Adam(trained, lr=lr), epochs=epochs, batches=-(-n_trees // batch_size), lr=lr,
            seed=seed, label=label, checkpoint=checkpoint,
            measure=partial(_share, model, held_out) if held_out else None,
        )  # fmt: skip


def _share(model: TreeAutoencoder, forest: Forest) -> float:
    return float(reconstructed(model, forest).double().mean())


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
