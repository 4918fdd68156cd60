"""Sentences that can be written as text: the nearest one to perturbed embeddings, and two of them side by side.

A sentence can be written if the tokenizer reads its text as the same tokens again. So a token is only replaced by one
of its own kind (a whole word, or a continuation such as ``##ing``), and a word stays as it was if its new pieces would
be read differently.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import BertTokenizer

from advtransfer.models.tokens import special_ids, tokenise

SCORES = 2**22  # number of candidates' scores in memory at once


class Candidates(NamedTuple):
    """The tokens that may replace others, by kind."""

    words: Tensor
    """Ids of whole words, which are read as themselves if they stand alone."""
    continuations: Tensor
    """Ids of pieces ``##x``, which continue a word."""


def candidates(tokenizer: BertTokenizer) -> Candidates:
    """All tokens of a vocabulary that can be read from a text: none that is special, unused or split when read."""
    vocabulary = tokenizer.get_vocab()
    pieces = [token for token in vocabulary if token.startswith("##") and len(token) > 2]
    words = sorted(vocabulary.keys() - set(pieces) - set(tokenizer.all_special_tokens))
    read = tokenizer(words, add_special_tokens=False)["input_ids"] if words else []
    backend = tokenizer.backend_tokenizer

    def carries_on(piece: str) -> bool:
        word = "a" + piece[2:]
        parts = backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(word))
        return [part for part, _ in parts] == [word]

    whole = [vocabulary[word] for word, ids in zip(words, read, strict=True) if ids == [vocabulary[word]]]
    inner = [vocabulary[piece] for piece in pieces if carries_on(piece)]
    return Candidates(*(torch.tensor(sorted(kind), dtype=torch.int64) for kind in (whole, inner)))


class NearestSentence:
    """Finds the nearest sentence to perturbed embeddings, among those that can be written."""

    def __init__(self, weights: Tensor, tokenizer: BertTokenizer) -> None:
        tokens = tokenizer.convert_ids_to_tokens(list(range(len(weights))))
        self.continues = torch.tensor([token.startswith("##") for token in tokens], device=weights.device)
        self.kinds = []  # for words and for continuations: ids (V,), embeddings (h, V) and −‖w‖² / 2 (V,)
        for ids in (kind.to(weights.device) for kind in candidates(tokenizer)):
            self.kinds.append((ids, weights[ids].T.contiguous(), -weights[ids].square().sum(1) / 2))

        @lru_cache(maxsize=100_000)
        def comes_back(pieces: tuple[int, ...]) -> bool:
            word = "".join(tokens[k].removeprefix("##") for k in pieces)
            return tokenizer(word, add_special_tokens=False)["input_ids"] == list(pieces)

        self.comes_back = comes_back

    def __call__(self, clean: Tensor, x0: Tensor, z: Tensor, free: Tensor, most: Tensor) -> Tensor:
        """The ids (n, L) nearest to x₀ + z.

        Tokens change only where `free`, only to tokens of the same kind, and at most `most` (n,) of them in each text.
        """
        nearest, gain = clean.clone(), torch.zeros_like(x0[:, :, 0])
        continues = self.continues[clean]
        for (ids, weights, half), here in zip(self.kinds, (free & ~continues, free & continues), strict=True):
            if not len(ids) or not here.any():
                continue
            start, points = x0[here], x0[here] + z[here]  # (P, h)
            score, best = _best(points, weights, half)
            # A change lowers ‖x₀ + z − e‖² by twice this gain: the score of the new token less that of the clean one.
            nearest[here], gain[here] = ids[best], score - (points * start).sum(1) + start.square().sum(1) / 2
        # If only so many tokens may change, the nearest sentence changes those that gain most.
        moved = (nearest != clean) & (gain > 0)
        order = torch.argsort(gain.where(moved, -torch.inf), dim=1, descending=True, stable=True)
        rank = order.argsort(1)
        return self._written(clean, nearest.where(moved & (rank < most[:, None]), clean), continues)

    def _written(self, clean: Tensor, ids: Tensor, continues: Tensor) -> Tensor:
        """`ids`, but with the clean word wherever the new pieces of a word would be read differently."""
        new, old = ids.tolist(), clean.tolist()
        for row, start, end in _pieced(continues):
            pieces = new[row][start:end]
            if pieces != old[row][start:end] and not self.comes_back(tuple(pieces)):
                ids[row, start:end] = clean[row, start:end]
        return ids


def _best(points: Tensor, weights: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """For each point p (P, h), the largest p·w − ‖w‖² / 2 over the columns w of `weights` (h, V), and the column."""
    rows = max(1, SCORES // len(half))
    parts = [torch.addmm(half, part, weights).max(1) for part in points.split(rows)]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def _pieced(continues: Tensor) -> Iterator[tuple[int, int, int]]:
    """Row, start and end of every word of several pieces; `continues` (n, L) says which pieces continue a word."""
    for row, flags in enumerate(continues.tolist()):
        start = 0
        for k in range(1, len(flags) + 1):
            if k == len(flags) or not flags[k]:
                if k - start > 1:
                    yield row, start, k
                start = k


def marked(before: Tensor, after: Tensor, tokenizer: BertTokenizer) -> tuple[str, str]:
    """Two texts of ids (L,) as Markdown, with words that differ inside ``<mark>``; special tokens are left out.

    Every punctuation mark is written as an entity, so that nothing is taken for HTML or Markdown.
    """
    shown = ~torch.isin(before, special_ids(tokenizer))
    texts = [tokenizer.convert_ids_to_tokens(ids[shown].tolist()) for ids in (before, after)]
    words: list[list[list[str]]] = []  # for each word, its pieces in both texts
    for pair in zip(*texts, strict=True):
        if words and pair[0].startswith("##"):
            words[-1].append(list(pair))
        else:
            words.append([list(pair)])
    sides: tuple[list[str], list[str]] = ([], [])
    for word in words:
        both = ["".join(piece.removeprefix("##") for piece in side) for side in zip(*word, strict=True)]
        for side, text in zip(sides, both, strict=True):
            safe = re.sub(r"[!-/:-@\[-`{-~]", lambda sign: f"&#{ord(sign[0])};", text)
            side.append(safe if both[0] == both[1] else f"<mark>{safe}</mark>")
    return " ".join(sides[0]), " ".join(sides[1])


def reads_back(tokenizer: BertTokenizer, texts: list[str], ids: Tensor, mask: Tensor) -> Tensor:
    """(N,) bool: whether a text, if it is read again, has these ids (N, L)."""
    again = tokenise(tokenizer, texts, ids.shape[1] + 1)
    rows = zip(again.ids, again.mask, ids, mask, strict=True)
    return torch.tensor([a[m].tolist() == b[n].tolist() for a, m, b, n in rows])
