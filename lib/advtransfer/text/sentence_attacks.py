"""The attack on whole sentences: move the vector of a text's dependency tree until its decoded words fool a victim.

The loss, its constants and the number of steps are known from the original method (T3 at the level of sentences);
Adam's learning rate is chosen here. Every word of the autoencoder is a token of the victim, so that gradients flow from
the victim's logits through a soft choice of words to the root.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from advtransfer.checks import as_count, as_number, check_batch
from advtransfer.models.tree_autoencoder import Forest, TreeAutoencoder, straight_through
from advtransfer.modes import evaluating
from advtransfer.text.victim import check_logits, margin
from advtransfer.training.text import check_labels

Victim = Callable[[Tensor, Tensor], Tensor]
"""A function of embeddings (N, L, k) and a mask (N, L), True where there is a token; it returns logits (N, d)."""
Ends = tuple[Tensor, Tensor] | None


class SentenceAttack(NamedTuple):
    """The result of the attack for each of N texts with M words in total, whether it was flipped or not.

    A text that was flipped is given at the smallest distance at which it was flipped; any other text is given as it was
    after the last step.
    """

    words: Tensor
    """(M,) int64: the words, in the order of the forest."""
    texts: tuple[str, ...]
    """N texts: the words with spaces between them."""
    z: Tensor
    """(N, H): the perturbation of the roots' vectors."""
    label: Tensor
    """(N,) int64: the class that was attacked."""
    flipped: Tensor
    """(N,) bool: whether the victim gives the words another class."""
    flipped_unperturbed: Tensor
    """(N,) bool: whether it does so even for the words decoded at z = 0, which only the autoencoder has changed."""
    distance: Tensor
    """(N,): ‖z‖₂."""
    changed: Tensor
    """(N,) int64: the number of words that differ from the text given."""


def attack_root(
    model: TreeAutoencoder,
    forest: Forest,
    victim: Victim,
    table: Tensor,
    vocabulary: Sequence[str],
    *,
    ends: Ends = None,
    labels: Tensor | None = None,
    c: float = 1e4,
    kappa: float = 0.0,
    steps: int = 100,
    lr: float = 0.1,
) -> SentenceAttack:
    """Attack texts at the roots of their dependency trees, by Adam on c · max(real − other + κ, 0) + ‖z‖².

    *real* is the victim's logit of the attacked class, and *other* is the largest of its other logits. The victim reads
    the words that the decoder ranks first; their gradient is that of a soft choice (`straight_through`). The result for
    a text does not depend on the other texts, and no random numbers are drawn.

    Parameters
    ----------
    model : TreeAutoencoder
        The autoencoder; it is run in eval mode.
    forest : Forest
        N texts, on the model's device.
    victim : callable
        Maps embeddings (N, L, k) and a mask (N, L), bool, to logits (N, d). A module is run in eval mode.
    table : Tensor, (V, k)
        The victim's embedding of each word of the autoencoder.
    vocabulary : sequence of str
        The V words, for the texts of the result.
    ends : (Tensor, Tensor), optional
        The victim's embeddings (k,) of the tokens before and after each text, such as [CLS] and [SEP].
    labels : Tensor, (N,) int64, optional
        The classes to move away from. By default the victim's own predictions on the words of `forest`.
    c, kappa : float
        Weight and margin of the loss.
    steps : int
        Number of Adam's steps.
    lr : float
        Adam's learning rate, in the units of a root's vector.

    Returns
    -------
    SentenceAttack

    Raises
    ------
    TypeError, ValueError
        An argument or the victim's logits are not as described. The error is raised before the first step.

    References
    ----------
    Wang et al. (2020), "T3: Tree-autoencoder constrained adversarial text generation for targeted attack".
    """
    c, kappa, lr = (as_number(name, value) for name, value in (("c", c), ("kappa", kappa), ("lr", lr)))
    steps = as_count("steps", steps)
    _check(model, table, vocabulary, ends, c=c, lr=lr)

    def logits_of(embedded: Tensor) -> Tensor:  # (M, k) -> (N, d)
        found = victim(*lay_out(embedded, forest, ends))
        return getattr(found, "logits", found)

    with evaluating(model, victim):  # type: ignore[arg-type]
        clean = logits_of(table[forest.words])
        check_logits(clean, len(forest.sizes))
        if labels is not None:
            check_labels(labels, len(forest.sizes), clean.shape[1])
        label = clean.argmax(dim=1) if labels is None else labels.to(clean.device).clone()
        root = model.encode(forest)  # (N, H)
        z = torch.zeros_like(root)
        adam = torch.optim.Adam([z], lr=lr)
        best = _Best(root, forest)

        for step in range(steps + 1):  # the last pass only evaluates
            with torch.enable_grad():
                z.requires_grad_()
                choice = model.decode(root + z, forest)  # (M, V)
                logits = logits_of(straight_through(choice, table))
                loss = c * (margin(logits, label) + kappa).clamp(min=0) + z.square().sum(dim=1)  # (N,)
                if step < steps:
                    z.grad = torch.autograd.grad(loss.sum(), z)[0]
            z.requires_grad_(False)
            best.see(choice.argmax(dim=1), z, (logits.argmax(dim=1) != label) & logits.isfinite().all(dim=1))
            if step < steps:
                adam.step()

    lines = best.words.split(forest.sizes.tolist())
    return SentenceAttack(
        words=best.words,
        texts=tuple(" ".join(vocabulary[word] for word in words.tolist()) for words in lines),
        z=best.z,
        label=label,
        flipped=best.distance < math.inf,
        flipped_unperturbed=best.at_start,
        distance=best.z.norm(dim=1),
        changed=torch.zeros_like(label).index_add(0, forest.tree, (best.words != forest.words).long()),
    )


def lay_out(embedded: Tensor, forest: Forest, ends: Ends = None) -> tuple[Tensor, Tensor]:
    """Arrange the words' embeddings (M, k) as padded texts.

    Returns
    -------
    (Tensor, Tensor)
        Embeddings (N, L, k), zero after the end of a text, and the mask (N, L), bool. With `ends`, L is larger by two.
    """
    sizes, first = forest.sizes, int(ends is not None)
    n, length = len(sizes), int(sizes.max()) + 2 * first
    laid = embedded.new_zeros(n, length, embedded.shape[1])
    laid = laid.index_put((forest.tree, forest.place + first), embedded)
    lengths = sizes + 2 * first
    if ends is not None:
        row = torch.arange(n, device=sizes.device)
        laid[:, 0] = ends[0]
        laid[row, lengths - 1] = ends[1]
    return laid, torch.arange(length, device=sizes.device) < lengths[:, None]


class _Best:
    """For each text, the nearest words that flipped it, or else the last words."""

    def __init__(self, root: Tensor, forest: Forest) -> None:
        self.tree = forest.tree
        self.words = forest.words.clone()  # (M,)
        self.z = torch.zeros_like(root)
        self.distance = torch.full_like(root[:, 0], math.inf)  # (N,), infinite until the text is flipped
        self.at_start = self.distance.isfinite()  # (N,), flipped at z = 0

    def see(self, words: Tensor, z: Tensor, flipped: Tensor) -> None:
        """Take note of the words (M,) decoded at z (N, H), which flip the texts in the mask `flipped` (N,)."""
        distance = z.norm(dim=1)
        self.at_start = self.at_start | (flipped & (distance == 0))
        nearer = flipped & (distance < self.distance)
        shown = nearer | self.distance.isinf()
        self.distance = torch.where(nearer, distance, self.distance)
        self.z = torch.where(shown[:, None], z, self.z)
        self.words = torch.where(shown[self.tree], words, self.words)


def _check(model: TreeAutoencoder, table: Tensor, vocabulary: Sequence[str], ends: Ends, **numbers: float) -> None:
    check_batch("table", table, ndim=2)
    n_words, width = table.shape
    if not n_words == len(vocabulary) == model.words.num_embeddings:
        given = f"table has {n_words} rows and vocabulary {len(vocabulary)} words"
        raise ValueError(f"{given}; expected {model.words.num_embeddings} of each, as many as the autoencoder knows")
    if ends is not None and any(end.shape != (width,) for end in ends):
        shapes = " and ".join(str(tuple(end.shape)) for end in ends)
        raise ValueError(f"ends have the shapes {shapes}; expected ({width},), like the rows of table")
    for name, value in numbers.items():
        if value == 0:
            raise ValueError(f"{name} is 0; expected a finite number above 0")
