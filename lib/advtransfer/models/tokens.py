"""Texts as the tokens that a BERT reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertTokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Tokens(NamedTuple):
    """N texts as ids, padded to L, the length of the longest."""

    ids: Tensor
    """(N, L) int64"""
    mask: Tensor
    """(N, L) bool: a token, not padding."""
    special: Tensor
    """(N, L) bool: [CLS], [SEP], [MASK] or padding. [UNK] stands for a word and is not special."""
    truncated: Tensor
    """(N,) bool: the text was longer and lost its end."""

    @property
    def empty(self) -> Tensor:
        """(N,) bool: the text has no token besides special ones."""
        return self.special.all(1)

    def take(self, rows: Tensor) -> "Tokens":
        """The texts `rows` (indices, or bool (N,)), padded to the longest of them."""
        mask = self.mask[rows]
        length = int(mask.sum(1).max()) if len(mask) else 0
        return Tokens(self.ids[rows, :length], mask[:, :length], self.special[rows, :length], self.truncated[rows])

    def to(self, device: torch.device) -> "Tokens":
        """The same on another device."""
        return Tokens(*(field.to(device) for field in self))


def load_tokenizer(folder: Path) -> BertTokenizer:
    """The tokenizer of a folder as for :func:`build`.

    Raises
    ------
    ValueError
        The folder has no vocabulary.
    """
    if not any((folder / name).is_file() for name in ("vocab.txt", "tokenizer.json")):
        raise ValueError(f"{folder} has no vocabulary; expected vocab.txt or tokenizer.json in it")
    return BertTokenizer.from_pretrained(folder, local_files_only=True)


def tiny_tokenizer(words: Sequence[str]) -> BertTokenizer:
    """A tokenizer that knows `words` (continuations as ``##ing``) after the special tokens, in this order."""
    return BertTokenizer(vocab={word: k for k, word in enumerate(dict.fromkeys((*SPECIAL, *words)))})


def check_vocabulary(tokenizer: BertTokenizer, config: BertConfig) -> None:
    """Raise unless every id of the tokenizer is one of the model's, and the other way round.

    Raises
    ------
    ValueError
        They differ in size.
    """
    if len(tokenizer) != config.vocab_size:
        raise ValueError(
            f"the tokenizer knows {len(tokenizer)} tokens and the model {config.vocab_size}; "
            "expected the same vocabulary"
        )


def tokenise(tokenizer: BertTokenizer, texts: Sequence[str], max_length: int) -> Tokens:
    """Turn texts into ids, each between [CLS] and [SEP].

    Parameters
    ----------
    tokenizer
        A BERT tokenizer.
    texts
        N strings. One without words stays in, as [CLS] [SEP], and is marked by `Tokens.empty`.
    max_length
        Tokens a text at most, [CLS] and [SEP] included; what is cut is marked in `Tokens.truncated`.

    Raises
    ------
    TypeError
        Something other than a string is among the texts.
    ValueError
        No text, or a `max_length` below 3.
    """
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        kinds = sorted({type(text).__name__ for text in texts})
        raise TypeError(f"texts is {type(texts).__name__} of {', '.join(kinds)}; expected a sequence of strings")
    if not len(texts) or max_length < 3:
        raise ValueError(f"{len(texts)} texts and max_length {max_length}; expected at least one text and 3 tokens")
    full = tokenizer(list(texts), add_special_tokens=False, padding=False, truncation=False, verbose=False)["input_ids"]
    first, last, pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
    rows = [torch.tensor([first, *ids[: max_length - 2], last]) for ids in full]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
    lengths = torch.tensor([len(row) for row in rows])
    return Tokens(
        ids=ids,
        mask=torch.arange(ids.shape[1]) < lengths[:, None],
        special=torch.isin(ids, special_ids(tokenizer)),
        truncated=torch.tensor([len(ids) > max_length - 2 for ids in full]),
    )


def special_ids(tokenizer: BertTokenizer) -> Tensor:
    """The ids of the special tokens; [UNK] stands for a word and is none of them."""
    return torch.tensor(sorted(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}))


def untokenise(tokenizer: BertTokenizer, ids: Tensor, mask: Tensor) -> list[str]:
    """The texts of ids (N, L) between the first and the last token of `mask` (N, L), words apart by one space."""
    # Not the library's decode, which moves punctuation and turns "do not" into "don't".
    inner = [row[kept].tolist()[1:-1] for row, kept in zip(ids.cpu(), mask.cpu(), strict=True)]
    return [" ".join(tokenizer.convert_ids_to_tokens(row)).replace(" ##", "") for row in inner]


def by_length(mask: Tensor, batch_size: int) -> list[Tensor]:
    """Batches of the indices of texts with this mask (N, L), from short texts to long: little padding."""
    return list(mask.sum(1).argsort(stable=True).split(batch_size))
