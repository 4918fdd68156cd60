"""Any text model as a candidate: a model with its tokenizer, from texts to outputs and features."""

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from advtransfer.models.tokens import Tokens, by_length
from advtransfer.modes import evaluating, outputs_of
from advtransfer.names import one_line
from advtransfer.ranking.encoder import FAILURES, EncoderError, check_eager, check_finite, noting, place_of
from advtransfer.records import weights
from advtransfer.records.provenance import digest

PASS = 32  # texts per pass


class TextEncoder(nn.Module):
    """A text model with its tokenizer, and the place of its features.

    Parameters
    ----------
    module
        Called as ``module(input_ids=..., attention_mask=...)``. A classifier returns logits (N, d), or an object with
        such ``.logits``. A model of transformers without a head for sequences (``AutoModel``) returns the
        ``.last_hidden_state`` (N, L, k), whose mean over the tokens is both output and feature.
    tokenizer
        The tokenizer of transformers that goes with it.
    max_length
        Largest number of tokens per text; longer texts are cut. If the model has fewer positions, these are the limit.
    features
        The name of a layer whose output is taken, averaged over the tokens. None takes the input of the classifier's
        last linear layer (where that layer reads each token, as in decoders: at the last token), or without a head the
        mean of the last hidden state over the tokens.

    Raises
    ------
    EncoderError
        There is no such layer, or the model has fewer word embeddings than the tokenizer has tokens.
    ValueError
        `max_length` is below 3.

    Examples
    --------
    >>> from transformers import BertConfig, BertForSequenceClassification
    >>> from advtransfer.models.tokens import tiny_tokenizer
    >>> words = tiny_tokenizer(["good", "bad", "film"])
    >>> config = BertConfig(vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    >>> encoder = TextEncoder(BertForSequenceClassification(config), words)
    >>> outputs, features = encoder.both(encoder.read(["good film", "bad film"]))
    >>> outputs.shape, features.shape
    (torch.Size([2, 2]), torch.Size([2, 8]))
    """

    def __init__(
        self, module: nn.Module, tokenizer: PreTrainedTokenizerBase, max_length: int = 128, features: str | None = None
    ) -> None:
        super().__init__()
        check_eager(module)
        if not isinstance(max_length, int) or max_length < 3:
            raise ValueError(f"max_length is {max_length!r}; expected at least 3 tokens")
        self.module, self.tokenizer = module, tokenizer
        self.max_length = min(max_length, tokenizer.model_max_length, _positions(module))
        self.size = self.max_length
        headless = isinstance(module, PreTrainedModel) and "ForSequenceClassification" not in type(module).__name__
        self.classifier = not headless
        """Whether the outputs are those of a head, and not the features themselves."""
        self._layer, self._before = place_of(module, features) if self.classifier or features else ("", False)
        table = self.word_embeddings
        if table is not None and len(table) < len(tokenizer):
            raise EncoderError(
                f"the tokenizer knows {len(tokenizer)} tokens and the model {len(table)}; expected the tokenizer that "
                "goes with the model"
            )

    @property
    def word_embeddings(self) -> Tensor | None:
        """The word embeddings (V, h) of a model of transformers; None if the module does not expose them."""
        if not isinstance(self.module, PreTrainedModel):
            return None
        return getattr(self.module.get_input_embeddings(), "weight", None)

    def digest(self) -> str:
        """A digest of everything that determines its results: structure, weights, tokenizer, length and place."""
        words: Any = sorted(self.tokenizer.get_vocab().items())
        if backend := getattr(self.tokenizer, "backend_tokenizer", None):
            words = json.loads(backend.to_str()) | {"truncation": None, "padding": None}  # these tell the last call
        state = {name: tensor for name, tensor in self.module.state_dict().items() if isinstance(tensor, Tensor)}
        place = [self.max_length, self._layer, self._before, self.classifier, self._pad]
        return digest([str(self.module), type(self.tokenizer).__name__, words, place, weights.content(state)])

    @property
    def _pad(self) -> int:
        """The token that fills up a batch: the one by which the model tells where a text ends, if it has one."""
        known = getattr(getattr(self.module, "config", None), "pad_token_id", None)
        return known if isinstance(known, int) and known >= 0 else self.tokenizer.pad_token_id or 0

    def read(self, texts: Sequence[str]) -> Tokens:
        """The tokens of N texts, at most `max_length` of each, padded on the right."""
        rows = self.tokenizer(
            list(texts), truncation=True, max_length=self.max_length, padding=False, return_attention_mask=False,
            verbose=False,
        )["input_ids"]  # fmt: skip
        pad = self._pad
        ids = nn.utils.rnn.pad_sequence([torch.tensor(row, dtype=torch.int64) for row in rows], True, pad)
        lengths = torch.tensor([len(row) for row in rows])
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        special = torch.isin(ids, torch.tensor(sorted({*self.tokenizer.all_special_ids, pad}))) | ~mask
        return Tokens(ids, mask, special, lengths >= self.max_length)

    def forward(self, tokens: Tokens) -> Tensor:
        """Outputs (N, d) of tokens."""
        return self._outputs(tokens.mask, input_ids=tokens.ids)

    def both(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Outputs (N, d) and features (N, k) of tokens.

        Raises
        ------
        EncoderError
            The outputs or the features are not a matrix with a row per text.
        """
        if not self.classifier and not self._layer:
            outputs = self(tokens)
            return outputs, outputs
        with noting(self.module, self._layer, self._before) as noted:
            outputs = self(tokens)
        if not noted:
            raise EncoderError(f"the layer {self._layer!r} was not used; expected one through which the texts pass")
        found = noted[-1][0] if isinstance(noted[-1], tuple) else noted[-1]
        if isinstance(found, Tensor) and found.shape[:2] == tokens.mask.shape and found.ndim == 3:
            found = _last(found, tokens.mask) if self._before else mean_over_tokens(found, tokens.mask)
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(tokens.ids):
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise EncoderError(
                f"the features at {self._layer!r} are {shape}; expected a tensor (N, k) or (N, L, k) with N = "
                f"{len(tokens.ids)} texts of L = {tokens.mask.shape[1]} tokens"
            )
        return outputs, found

    def extract(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Outputs (N, d) and features (N, k) of texts, in their order, on the CPU.

        Raises
        ------
        EncoderError
            The outputs or features are not as described, or are not finite.
        """
        there = next((parameter.device for parameter in self.parameters()), torch.device("cpu"))
        tokens = self.read(texts)
        batches = by_length(tokens.mask, PASS)
        with evaluating(self):
            parts = [self.both(tokens.take(rows).to(there)) for rows in batches]
        order = torch.cat(batches).argsort()
        outputs, features = (torch.cat(part).float().cpu()[order] for part in zip(*parts, strict=True))
        check_finite(outputs, features, "texts")
        return outputs, features

    def embed(self, tokens: Tokens) -> Tensor:
        """The word embeddings (N, L, h) of tokens, before positions and types are added."""
        return self.module.get_input_embeddings()(tokens.ids)  # type: ignore[operator]

    def displaced(self, tokens: Tokens) -> "Displaced":
        """The encoder as attacks need it: a function of a displacement (N, L, h) of these texts' word embeddings."""
        return Displaced(self, tokens)

    def _outputs(self, mask: Tensor, **inputs: Tensor) -> Tensor:
        x = next(iter(inputs.values()))
        try:
            found = self.module(**inputs, attention_mask=mask.long())
            if self.classifier:
                return outputs_of(lambda x: found, x)
            return mean_over_tokens(found.last_hidden_state, mask)
        except FAILURES as error:
            reason = one_line(error)
            raise EncoderError(f"the model cannot be used: {reason}") from error


class Displaced(nn.Module):
    """An encoder as a function of a displacement of the word embeddings of a batch of texts."""

    def __init__(self, encoder: TextEncoder, tokens: Tokens) -> None:
        super().__init__()
        self.encoder, self.mask = encoder, tokens.mask
        with torch.no_grad():
            self.words = encoder.embed(tokens)

    def forward(self, delta: Tensor) -> Tensor:
        """Outputs (N, d) at a displacement (N, L, h)."""
        return self.encoder._outputs(self.mask, inputs_embeds=(self.words + delta).to(self.words.dtype))


def _positions(module: nn.Module) -> int:
    """How many tokens the model can read."""
    config = getattr(module, "config", None)
    most = getattr(config, "max_position_embeddings", None)
    if not isinstance(most, int) or most < 1:
        return 10**9
    for name, layer in module.named_modules():
        if name.endswith("position_embeddings") and getattr(layer, "padding_idx", None) is not None:
            return most - int(layer.padding_idx) - 1  # RoBERTa counts from there
    return most


def mean_over_tokens(x: Tensor, mask: Tensor) -> Tensor:
    """The mean of token vectors (N, L, k) where `mask` (N, L) is true."""
    kept = mask[:, :, None].to(x)
    return (x * kept).sum(1) / kept.sum(1)


def _last(x: Tensor, mask: Tensor) -> Tensor:
    """The vector (N, k) of the last token of each text; padding is on the right."""
    return x[torch.arange(len(x), device=x.device), mask.sum(1) - 1]
