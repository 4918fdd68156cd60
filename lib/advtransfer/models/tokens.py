"""Texts as the tokens that a BERT reads."""

from advtransfer.extras import require

require("experiments", "transformers")

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertTokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Tokens(NamedTuple):
    """N texts as token ids, padded to the length L of the longest."""

    ids: Tensor
    """(N, L) int64: the ids of the tokens."""
    mask: Tensor
    """(N, L) bool: whether a token stands at this position, and not padding."""
    special: Tensor
    """(N, L) bool: whether [CLS], [SEP], [MASK] or padding stands there. [UNK] replaces a word and is not special."""
    truncated: Tensor
    """(N,) bool: whether the text was too long and was cut off."""

    @property
    def empty(self) -> Tensor:
        """(N,) bool: whether the text has no tokens other than special ones."""
        return self.special.all(1)

    def take(self, rows: Tensor) -> "Tokens":
        """The texts at `rows` (indices, or a mask (N,)), padded to the longest of them."""
        mask = self.mask[rows]
        length = int(mask.sum(1).max()) if len(mask) else 0
        return Tokens(self.ids[rows, :length], mask[:, :length], self.special[rows, :length], self.truncated[rows])

    def to(self, device: torch.device) -> "Tokens":
        """The same tokens on another device."""
        return Tokens(*(field.to(device) for field in self))


def load_tokenizer(folder: Path) -> BertTokenizer:
    """The tokenizer in the folder of a checkpoint, such as ``advtransfer.models.text.build`` takes.

    Raises
    ------
    ValueError
        The folder has no vocabulary.
    """
    if not any((folder / name).is_file() for name in ("vocab.txt", "tokenizer.json")):
        raise ValueError(f"{folder} has no vocabulary; expected vocab.txt or tokenizer.json in it")
    return BertTokenizer.from_pretrained(folder, local_files_only=True, **case(folder))


def case(folder: Path) -> dict[str, Any]:
    """``do_lower_case`` of a BERT's tokenizer, for ``from_pretrained``; empty if the folder's config says it itself.

    If nothing in the folder says it, a vocabulary with hardly any capital letter is one of texts in lower case. Empty,
    too, if the tokenizer is of another kind.
    """
    parts = {}
    for name in ("tokenizer_config", "tokenizer"):
        path = folder / f"{name}.json"
        parts[name] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    if "do_lower_case" in parts["tokenizer_config"]:
        return {}
    whole = parts["tokenizer"]
    normaliser = whole.get("normalizer") or {}
    if "lowercase" in normaliser:
        return {"do_lower_case": bool(normaliser["lowercase"])}
    words, path = whole.get("model", {}).get("vocab"), folder / "vocab.txt"
    if not whole and path.is_file():
        words = dict.fromkeys(path.read_text("utf-8").split("\n"))
    if not isinstance(words, dict):
        return {}
    capital = sum(word != word.lower() for word in words if not word.startswith("["))
    return {"do_lower_case": capital < 0.05 * len(words)}


def tiny_tokenizer(words: Sequence[str]) -> BertTokenizer:
    """A tokenizer whose vocabulary is the special tokens and then `words` (continuations written as ``##ing``)."""
    return BertTokenizer(vocab={word: k for k, word in enumerate(dict.fromkeys((*SPECIAL, *words)))})


def check_vocabulary(tokenizer: BertTokenizer, config: BertConfig) -> None:
    """Raise unless the vocabularies of tokenizer and model have the same size.

    Raises
    ------
    ValueError
        The sizes differ.
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
        N strings. A string without words is kept as [CLS] [SEP]; `Tokens.empty` marks it.
    max_length
        Largest number of tokens per text, including [CLS] and [SEP]; `Tokens.truncated` marks the texts that are cut.

    Raises
    ------
    TypeError
        `texts` is a string, or not all of its elements are strings.
    ValueError
        There is no text, or `max_length` is below 3.
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
    """The ids of the special tokens, without [UNK], which replaces a word."""
    return torch.tensor(sorted(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}))


def untokenise(tokenizer: BertTokenizer, ids: Tensor, mask: Tensor) -> list[str]:
    """The texts of ids (N, L), without the first and last token in `mask` (N, L); a space separates the words."""
    # The tokenizer's own decode would move punctuation and turn "do not" into "don't".
    inner = [row[kept].tolist()[1:-1] for row, kept in zip(ids.cpu(), mask.cpu(), strict=True)]
    return [" ".join(tokenizer.convert_ids_to_tokens(row)).replace(" ##", "") for row in inner]


def by_length(mask: Tensor, batch_size: int) -> list[Tensor]:
    """The indices of texts with this mask (N, L), in batches from short to long texts, which need little padding."""
    return list(mask.sum(1).argsort(stable=True).split(batch_size))
