"""Training of text classifiers: AdamW with a linear warm-up and decay."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertModel, get_linear_schedule_with_warmup

from advtransfer.models.text import TextClassifier
from advtransfer.models.tokens import Tokens
from advtransfer.training.loop import Checkpoint, Fit, Precision, check_choice, descend, trained_alone

WINDOW = 16  # number of batches within which texts are sorted by length


def fit_text(
    model: TextClassifier,
    tokens: Tokens,
    labels: Tensor,
    *,
    epochs: int,
    lr: float = 5e-5,
    batch_size: int = 32,
    warmup: float = 0.1,
    weight_decay: float = 0.01,
    parameters: Iterable[nn.Parameter] | None = None,
    precision: Precision = "float32",
    checkpoint: Checkpoint | None = None,
    seed: int = 0,
    label: str = "training",
) -> Fit:
    """Train a text classifier in place, by AdamW with a linear warm-up and a linear decay to zero.

    Each epoch sees every text once, in a new order and in batches of similar length, which are padded to their longest
    text. There is no weight decay for biases and LayerNorm. The global random state is left as it was.

    Parameters
    ----------
    model : TextClassifier
        The model to train, on its device.
    tokens : Tokens
        N texts.
    labels : Tensor, (N,), int64
        Their classes.
    epochs : int
        Passes over the texts.
    lr, weight_decay : float
        Parameters of AdamW; `lr` is the highest learning rate.
    batch_size : int
        Texts per step.
    warmup : float
        Share of the steps in which the learning rate rises from zero.
    parameters : iterable of Parameter, optional
        The parameters to train, e.g. ``model.head.parameters()``; by default all. The others get no gradient.
    precision : {"float32", "bfloat16"}
        ``"bfloat16"`` computes in mixed precision; the weights keep their dtype.
    checkpoint : Checkpoint, optional
        Keeps the state after each epoch. If it already has one, training continues from there, to the same result.
    seed : int
        Seed of the order of the texts and of dropout.
    label : str
        Label of the progress bar.

    Returns
    -------
    Fit
        The weights. `model` itself ends in the last state, in eval mode.

    Raises
    ------
    TypeError, ValueError
        The labels are not one class per text, or a number is out of range; this is raised before training.
    TrainingError
        The loss is NaN or infinite after an epoch.
    """
    if min(epochs, batch_size) < 1 or not 0 <= warmup <= 1:
        given = f"epochs is {epochs}, batch_size {batch_size}, warmup {warmup}"
        raise ValueError(f"{given}; expected at least 1 for the first two and a share in [0, 1]")
    check_choice("precision", precision, Precision)
    classes = model.head.out_features
    if not len(tokens.ids):
        raise ValueError("tokens holds no texts; expected at least one")
    check_labels(labels, len(tokens.ids), classes)
    device = model.word_embeddings.device
    labels = labels.to(device)
    lengths = tokens.mask.sum(1).cpu()
    batches = -(-len(labels) // batch_size)
    steps = epochs * batches

    def losses(generator: torch.Generator) -> Iterator[Tensor]:
        for rows in _batches(lengths, batch_size, generator):
            part = tokens.take(rows).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                outputs = model(model.embed(part.ids), part.mask)
            yield F.cross_entropy(outputs.to(torch.promote_types(outputs.dtype, torch.float32)), labels[rows])

    with _plain_attention(model), trained_alone(model, parameters, True, seed) as trained:
        groups = [
            {"params": [weight for weight in trained if weight.ndim > 1], "weight_decay": weight_decay},
            {"params": [weight for weight in trained if weight.ndim <= 1], "weight_decay": 0.0},
        ]
        optimiser = torch.optim.AdamW(groups, lr=lr, fused=True)
        rising = min(round(warmup * steps), steps - 1)  # the first step has the learning rate 0
        schedule = get_linear_schedule_with_warmup(optimiser, rising, steps)
        return descend(
            model, losses, optimiser, schedule, epochs=epochs, batches=batches, lr=lr, seed=seed, label=label,
            checkpoint=checkpoint, settings={"warmup": warmup, "precision": precision},
        )  # fmt: skip


@contextmanager
def _plain_attention(model: nn.Module) -> Iterator[None]:
    """On a CPU, BERT's attention as single operations: there torch's fused attention has a slow backward pass."""
    encoders = [part for part in model.modules() if isinstance(part, BertModel) and part.device.type == "cpu"]
    before = [encoder.config._attn_implementation for encoder in encoders]
    for encoder in encoders:
        encoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        for encoder, name in zip(encoders, before, strict=True):
            encoder.set_attn_implementation(name)


def _batches(lengths: Tensor, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Every index once, in random batches of similar lengths. A random order is sorted by length within windows."""
    windows = torch.randperm(len(lengths), generator=generator).split(WINDOW * batch_size)
    batches = [part for rows in windows for part in rows[lengths[rows].argsort(stable=True)].split(batch_size)]
    return [batches[k] for k in torch.randperm(len(batches), generator=generator)]


def check_labels(labels: Tensor, n: int, classes: int) -> None:
    """Raise a TypeError or a ValueError unless these are the labels (n,) of n texts, int64 from 0 to `classes` - 1."""
    if labels.dtype != torch.int64 or labels.shape != (n,):
        given = f"{labels.dtype} of shape {tuple(labels.shape)}"
        raise TypeError(f"the labels are {given}; expected int64 labels ({n},)")
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        spans = f"[{int(labels.min())}, {int(labels.max())}]"
        raise ValueError(f"the labels span {spans}; expected [0, {classes - 1}], the model's classes")
