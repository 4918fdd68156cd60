"""Word-level T3: a perturbation of the word embeddings that is rounded to the nearest sentence at every step.

The model only ever sees sentences that can be written as text and read as the same tokens again (see `text.nearest`).
"""

from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import BertTokenizer

from advtransfer.checks import as_count, as_number
from advtransfer.models.text import TextClassifier, check_classifier
from advtransfer.models.tokens import Tokens, by_length, check_vocabulary, untokenise
from advtransfer.modes import evaluating
from advtransfer.text.nearest import NearestSentence, reads_back
from advtransfer.text.victim import check_logits, margin
from advtransfer.training.loop import Precision, check_choice


class WordAttack(NamedTuple):
    """The result of an attack on N texts, on the CPU; it includes texts that were not flipped."""

    ids: Tensor
    """(N, L) int64: ids after the attack. If a text was not flipped, they are the changed sentence of lowest loss."""
    texts: list[str]
    """The same N sentences as text."""
    flipped: Tensor
    """(N,) bool: whether the model predicts another class than for the clean text."""
    changed: Tensor
    """(N,) int64: number of tokens that differ from the clean text."""
    distance: Tensor
    """(N,): ℓ2 norm of the change of the word embeddings."""
    steps: Tensor
    """(N,) int64: number of gradients used; 0 for a text in which nothing may change."""
    roundtrip: Tensor
    """(N,) bool: whether the text is read as these ids again."""


class Objective(NamedTuple):
    """What the attack minimises: c · max(real − other + κ, 0) + ‖e − x₀‖²."""

    model: TextClassifier
    c: float
    kappa: float
    precision: Precision

    def __call__(self, ids: Tensor, mask: Tensor, x0: Tensor, real: Tensor | None) -> tuple[Tensor, ...]:
        """Predictions (n,), ‖e − x₀‖² (n,), values (n,) and their gradient at e (n, L, h).

        If `real` is None, the predicted class is used.
        """
        e = self.model.embed(ids).detach().requires_grad_()
        with torch.autocast(e.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            logits = self.model(e, mask).to(x0.dtype)
        if real is None:
            check_logits(logits, len(ids))
        predicted = logits.argmax(1)
        square = (e - x0).square().sum((1, 2))
        value = self.c * (margin(logits, predicted if real is None else real) + self.kappa).clamp_min(0) + square
        (grad,) = torch.autograd.grad(value.sum(), e)
        return predicted, square.detach(), value.detach(), grad.to(x0.dtype)


def word_attack(
    model: TextClassifier,
    tokens: Tokens,
    tokenizer: BertTokenizer,
    *,
    steps: int = 100,
    lr: float = 0.2,
    c: float = 10.0,
    kappa: float = 10.0,
    clip: float = 0.5,
    keep: Tensor | None = None,
    max_changed: float | None = None,
    patience: int | None = None,
    precision: Precision = "float32",
    batch_size: int = 32,
) -> WordAttack:
    """Change the words of texts until the model predicts another class, while the embeddings move a small distance.

    Adam minimises c · max(f_real − f_other + κ, 0) + ‖e − x₀‖² over a perturbation z of the word embeddings x₀. Here e
    are the embeddings of the sentence nearest to x₀ + z, and the gradient at e is used for z. Of the flipped sentences
    on the way, the one nearest to x₀ is kept. The texts of a batch do not affect each other.

    Parameters
    ----------
    model : TextClassifier
        Attacked in eval mode, against its own prediction, and left as it was.
    tokens : Tokens
        N texts. Every token that is not special may change.
    tokenizer : BertTokenizer
        The model's tokenizer.
    steps : int
        Number of gradients per text.
    lr, c, kappa, clip : float
        Adam's learning rate, c and κ above, and the ℓ2 norm to which the gradient of a text is clipped.
    keep : Tensor, (N, L), bool, optional
        Tokens that must not change.
    max_changed : int or float, optional
        How many tokens of a text may differ at once: a number, or (a float up to 1) a share of those that may
        change, rounded down but at least one. By default all.
    patience : int, optional
        Stop with a flipped text if this many steps give no nearer flipped sentence. By default all steps are taken.
    precision : {"float32", "bfloat16"}
        ``"bfloat16"`` runs the model in mixed precision, in which `flipped` is then determined.
    batch_size : int
        Number of texts at a time, grouped by length.

    Returns
    -------
    WordAttack

    Raises
    ------
    ValueError
        A number is out of range, `keep` has the wrong shape, or the tokenizer has another vocabulary than the model;
        or the logits are not finite, or of one class alone.

    References
    ----------
    Wang et al. (2020), "T3: Tree-autoencoder constrained adversarial text generation for targeted attack".
    """
    check_classifier(model)
    _check(tokens, keep, max_changed, precision, steps=steps, batch_size=batch_size, patience=patience)
    lr, clip, c, kappa = _lengths(lr=lr, clip=clip, c=c, kappa=kappa)
    check_vocabulary(tokenizer, model.encoder.config)
    longest, places = int(tokens.mask.sum(1).max()), model.encoder.config.max_position_embeddings
    if longest > places:  # before the short texts are attacked
        raise ValueError(f"a text has {longest} tokens; expected at most {places}, the positions of the model")
    device = model.word_embeddings.device
    tokens = tokens.to(torch.device("cpu"))
    free = ~tokens.special if keep is None else ~(tokens.special | keep.cpu())
    most = _budget(free, max_changed)
    ids = tokens.ids.clone()
    flipped = torch.zeros(len(ids), dtype=torch.bool)
    words = _wide(model.word_embeddings.detach())
    distance = torch.zeros(len(ids), dtype=words.dtype)
    used = torch.zeros(len(ids), dtype=torch.int64)
    with evaluating(model, gradients=True):
        snap, objective = NearestSentence(words, tokenizer), Objective(model, c, kappa, precision)
        for batch in by_length(tokens.mask, batch_size):
            rows = batch[free[batch].any(1)]
            if len(rows) == 0:
                continue
            part = tokens.take(rows).to(device)
            length = part.ids.shape[1]
            results = _descend(
                objective, snap, part, free[rows, :length].to(device), most[rows].to(device),
                steps=steps, lr=lr, clip=clip, patience=patience or steps,
            )  # fmt: skip
            ids[rows, :length], flipped[rows], distance[rows], used[rows] = (value.cpu() for value in results)
    texts = untokenise(tokenizer, ids, tokens.mask)
    changed = (ids != tokens.ids).sum(1)
    return WordAttack(ids, texts, flipped, changed, distance, used, reads_back(tokenizer, texts, ids, tokens.mask))


def _descend(
    objective: Objective,
    snap: NearestSentence,
    tokens: Tokens,
    free: Tensor,
    most: Tensor,
    *,
    steps: int,
    lr: float,
    clip: float,
    patience: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Attack one batch: the ids (n, L) of the kept sentences, flipped (n,), distance (n,), gradients used (n,)."""
    clean = tokens.ids
    x0 = _wide(objective.model.embed(clean).detach())  # (n, L, h)
    z = torch.zeros_like(x0)
    adam = torch.optim.Adam([z], lr=lr)
    n = len(clean)
    kept, flipped, used = clean.clone(), clean.new_zeros(n, dtype=torch.bool), clean.new_zeros(n)
    square = x0.new_zeros(n)  # ‖e − x₀‖² of the kept sentence
    lowest = x0.new_full((n,), torch.inf)  # its loss, or its ‖e − x₀‖² once it is flipped
    since = clean.new_zeros(n)  # steps since the last nearer flip
    active = torch.arange(n, device=clean.device)
    real = None
    for _ in range(steps):
        ids = snap(clean[active], x0[active], z[active], free[active], most[active])
        measured = objective(ids, tokens.mask[active], x0[active], None if real is None else real[active])
        predicted, far, loss, grad = measured
        real = predicted if real is None else real  # the first sentence is the clean one
        flips = predicted != real[active]
        # A flipped sentence beats all others; among flipped ones distance counts, among others the loss.
        value = torch.where(flips, far, torch.where((ids != clean[active]).any(1), loss, torch.inf))
        better = (flips & ~flipped[active]) | ((flips == flipped[active]) & (value < lowest[active]))
        chosen = active[better]
        kept[chosen], square[chosen], lowest[chosen] = ids[better], far[better], value[better]
        flipped[chosen] = flips[better]
        since[active] = torch.where(better & flips, 0, since[active] + 1)
        used[active] += 1

        grad = grad * free[active, :, None]
        norm = torch.linalg.vector_norm(grad, dim=(1, 2), keepdim=True)
        z.grad = torch.zeros_like(z).index_copy_(0, active, grad * (clip / norm).clamp(max=1))
        adam.step()
        active = active[~(flipped[active] & (since[active] >= patience))]
        if len(active) == 0:
            break
    return kept, flipped, square.sqrt(), used


def _wide(values: Tensor) -> Tensor:
    """In single precision at least, since in half precision Adam would divide zero by zero."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _budget(free: Tensor, max_changed: float | None) -> Tensor:
    """How many tokens of each text may change, (N,) int64."""
    available = free.sum(1)
    if isinstance(max_changed, float):
        return (available.double() * max_changed + 1e-9).long().clamp_min(1)  # 0.84 of 75 is 63, whatever the rounding
    return available if max_changed is None else torch.full_like(available, max_changed)


def _lengths(**numbers: float) -> list[float]:
    """The numbers as floats: κ at least 0, all others above 0."""
    found = {name: as_number(name, value) for name, value in numbers.items()}
    for name, value in found.items():
        if value == 0 and name != "kappa":
            raise ValueError(f"{name} is 0; expected a number above 0")
    return list(found.values())


def _check(
    tokens: Tokens, keep: Tensor | None, max_changed: float | None, precision: str, **counts: int | None
) -> None:
    for name, value in counts.items():
        if value is not None:
            as_count(name, value)
    check_choice("precision", precision, Precision)
    if max_changed is not None and not isinstance(max_changed, Real):
        raise TypeError(f"max_changed is {max_changed!r}; expected a number of tokens (int) or a share in (0, 1]")
    if max_changed is not None and not (0 < max_changed <= 1 if isinstance(max_changed, float) else max_changed >= 1):
        raise ValueError(f"max_changed is {max_changed!r}; expected a number of tokens (int) or a share in (0, 1]")
    if not len(tokens.ids):
        raise ValueError("tokens holds no texts; expected at least one")
    if keep is not None and (keep.dtype != torch.bool or keep.shape != tokens.ids.shape):
        given = f"{keep.dtype} of {tuple(keep.shape)}"
        raise ValueError(f"keep is {given}; expected bool {tuple(tokens.ids.shape)}, like the tokens")
