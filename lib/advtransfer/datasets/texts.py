"""Text corpora, read from the data root; nothing here downloads."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from advtransfer.datasets import textstore
from advtransfer.datasets.sources import source
from advtransfer.datasets.textstore import Corpus
from advtransfer.records.storage import data_root


@dataclass(frozen=True, eq=False, repr=False)
class TextDataset:
    """Texts and labels of a named corpus.

    Attributes
    ----------
    name : str
        Which corpus it is.
    train, test : tuple of str
        N texts each, none of them empty.
    y_train, y_test : Tensor
        (N,) int64.
    classes : tuple of str
        The names of the labels.
    note : str
        Where these texts come from and how they were split, for captions; taken from ``text/INFO.json``.
    dropped : int
        How many texts were left out because they were empty.
    """

    name: str
    train: tuple[str, ...]
    y_train: Tensor
    test: tuple[str, ...]
    y_test: Tensor
    classes: tuple[str, ...]
    note: str = "not noted"
    dropped: int = 0

    @cached_property
    def digest(self) -> str:
        """The content digest (`textstore.content_digest`)."""
        return textstore.content_digest(Corpus(self.train, self.y_train.numpy(), self.test, self.y_test.numpy()))

    def sample(self, *, train: int | None = None, test: int | None = None, seed: int = 0) -> "TextDataset":
        """Draw at most this many training and test texts (None: all) at random, without repetition, in their order.

        Raises
        ------
        ValueError
            A number is below 1.
        """
        chosen = {}
        for stream, (split, n, texts) in enumerate((("train", train, self.train), ("test", test, self.test))):
            if n is not None and n < 1:
                raise ValueError(f"{split} is {n}; expected a number of {split} texts of {self.name}, at least 1")
            chosen[split] = np.sort(np.random.default_rng([seed, stream]).permutation(len(texts))[:n])
        a, b = chosen["train"], chosen["test"]
        return replace(
            self,
            train=tuple(self.train[i] for i in a),
            y_train=self.y_train[torch.from_numpy(a)],
            test=tuple(self.test[i] for i in b),
            y_test=self.y_test[torch.from_numpy(b)],
        )

    def __repr__(self) -> str:
        sizes = f"{len(self.train):,} training and {len(self.test):,} test texts"
        dropped = f", {self.dropped:,} empty ones left out" if self.dropped else ""
        return f"TextDataset({self.name!r}: {sizes}, {len(self.classes)} classes{dropped})"


def load_texts(name: str, root: Path | str | None = None) -> TextDataset:
    """Load a text corpus from the data root.

    Parameters
    ----------
    name : str
        ``imdb``, ``mr``, ``yelp``, ``ag`` or ``fake``.
    root : path, optional
        The data root; ``advtransfer.records.storage.data_root()`` if not given.

    Raises
    ------
    ValueError
        No corpus has that name.
    DataUnavailable
        The corpus is missing, or is not a table of texts and labels; the message says what to do.
    """
    wanted = source(name, "text")
    base = data_root(root)
    corpus, dropped = textstore.read(base, wanted)
    y_train, y_test = torch.from_numpy(corpus.y_train), torch.from_numpy(corpus.y_test)
    return TextDataset(name, corpus.train, y_train, corpus.test, y_test, wanted.classes, corpus.note, dropped)
