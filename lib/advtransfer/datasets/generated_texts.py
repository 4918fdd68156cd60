"""Made-up sentences, so that everything can run in seconds without a corpus. They are never presented as real."""

import numpy as np
import torch

from advtransfer.datasets.texts import TextDataset

SUBJECTS = ("film", "story", "actor", "scene", "music", "plot", "ending", "cast")
OTHER_SUBJECTS = ("meal", "waiter", "room", "soup", "service", "dessert", "table", "place")
GOOD = ("good", "lovely", "warm", "clever", "bright", "great")
BAD = ("bad", "dull", "cold", "clumsy", "weak", "awful")
PLAIN = ("the", "was", "and", "a", "very", "quite", "rather", "long", "short", "new")
GENERATED_WORDS = tuple(sorted({*SUBJECTS, *OTHER_SUBJECTS, *GOOD, *BAD, *PLAIN, "."}))
"""All words of the made-up sentences, in which words are separated by spaces."""


def generated_texts(*, seed: int, n_train: int, n_test: int, shift: bool = False) -> TextDataset:
    """Short sentences of praise (label 1) or blame (label 0): easy to learn, and clearly not real.

    Of the three judging words in a sentence, two fit its label, and one fits the other label.

    Parameters
    ----------
    seed : int
        Determines everything. The sentences are the same on every machine.
    n_train, n_test : int
        Numbers of sentences, half of each label, in a random order.
    shift : bool
        Make other sentences, with the same judging words about other subjects.

    Raises
    ------
    ValueError
        Fewer than two sentences in a split.
    """
    if min(n_train, n_test) < 2:
        raise ValueError(f"n_train is {n_train} and n_test {n_test}; expected at least one text per class (2)")
    rng = np.random.default_rng([seed, int(shift)])
    subjects = OTHER_SUBJECTS if shift else SUBJECTS

    def sentence(label: int) -> str:
        own, other = (GOOD, BAD) if label else (BAD, GOOD)
        judged = rng.permutation([*rng.choice(own, 2, replace=False), rng.choice(other)])
        parts = [
            f"the {rng.choice(PLAIN[-3:])} {rng.choice(subjects)} was {rng.choice(PLAIN[4:7])} {word}"
            for word in judged
        ]
        return f"{parts[0]} and {parts[1]} and {parts[2]} ."

    def split(n: int) -> tuple[tuple[str, ...], torch.Tensor]:
        y = rng.permutation(np.arange(n) % 2)
        return tuple(sentence(label) for label in y), torch.from_numpy(y.astype(np.int64))

    return TextDataset("generated", *split(n_train), *split(n_test), ("blame", "praise"), "made up from a word list")
