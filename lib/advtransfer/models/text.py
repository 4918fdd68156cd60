"""The text classifiers of Tables 2 and 4: BERT on word embeddings.

A model maps word embeddings (N, L, h), and not token ids, to logits, because an attack can perturb embeddings.
"""

from advtransfer.extras import require
from advtransfer.names import first_line

require("experiments", "transformers")

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, BertModel
from transformers.utils import logging

from advtransfer.checks import as_count
from advtransfer.models.initialisation import initialised_by
from advtransfer.models.tokens import Tokens, by_length, check_vocabulary, load_tokenizer
from advtransfer.modes import evaluating


class TextClassifier(nn.Module):
    """A BERT encoder with pooler, followed by dropout and a linear head."""

    def __init__(self, encoder: BertModel, num_classes: int) -> None:
        super().__init__()
        config = encoder.config
        self.encoder = encoder
        self.dropout = nn.Dropout(_first(config.classifier_dropout, config.hidden_dropout_prob))
        self.head = _head(config, num_classes)

    @classmethod
    def of(cls, model: BertForSequenceClassification) -> "TextClassifier":
        """A classifier of the transformers library; encoder, dropout and head are shared with it, not copied.

        Raises
        ------
        TypeError
            `model` is something else.
        """
        if not isinstance(model, BertForSequenceClassification):
            raise TypeError(f"the model is {type(model).__name__}; expected a BertForSequenceClassification")
        with initialised_by(None):  # the head that is drawn here is not kept
            classifier = cls(model.bert, model.classifier.out_features)
        classifier.dropout, classifier.head = model.dropout, model.classifier
        classifier.training = model.training  # the shared parts keep their own modes
        return classifier

    def whole(self) -> BertForSequenceClassification:
        """The same classifier as the transformers library has it, which reads token ids; the two share their parts."""
        config = copy.deepcopy(self.encoder.config)
        config.num_labels = self.head.out_features
        with torch.device("meta"):  # without weights, for they are replaced
            model = BertForSequenceClassification(config)
        model.bert, model.dropout, model.classifier = self.encoder, self.dropout, self.head
        model.training = self.training
        return model

    @property
    def word_embeddings(self) -> Tensor:
        """The word embeddings (V, h), one row per token of the vocabulary."""
        return self.encoder.embeddings.word_embeddings.weight

    def embed(self, ids: Tensor) -> Tensor:
        """Word embeddings (N, L, h) of ids (N, L), without position and type embeddings and before LayerNorm."""
        return self.encoder.embeddings.word_embeddings(ids)

    def forward(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Logits (N, classes) of word embeddings (N, L, h); only those where `mask` (N, L) is true matter.

        Raises
        ------
        ValueError
            The shapes do not match, or L is larger than the number of positions of the encoder.
        """
        if embeddings.ndim != 3 or mask.shape != embeddings.shape[:2]:
            given = f"embeddings are {tuple(embeddings.shape)}, mask is {tuple(mask.shape)}"
            raise ValueError(f"{given}; expected (N, L, h) and (N, L): embeddings and mask of the same texts")
        longest = self.encoder.config.max_position_embeddings
        if mask.shape[1] > longest:
            raise ValueError(
                f"the texts have {mask.shape[1]} tokens; expected at most {longest}, the positions of the model"
            )
        encoded = self.encoder(inputs_embeds=embeddings, attention_mask=mask)
        return self.head(self.dropout(encoded.pooler_output))

    def displaced(self, tokens: Tokens) -> "Displaced":
        """The classifier as attacks need it: a function of a displacement (N, L, h) of the tokens' word embeddings."""
        return Displaced(self, tokens)


class Displaced(nn.Module):
    """A classifier that maps a displacement (N, L, h) of the word embeddings of some tokens to logits (N, classes).

    Two classifiers with word embeddings of their own have this input in common, so that an attack on one can be tried
    on the other. It accepts only the whole batch. Padding does not change the logits and has zero gradient, so gradient
    steps leave it where it is. A random start does move it, and part of the radius is spent on it.

    Examples
    --------
    >>> from transformers import BertConfig
    >>> from advtransfer.models import text, tokens
    >>> sizes = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    >>> net = text.build(sizes, num_classes=2)
    >>> read = tokens.Tokens(*(torch.ones(2, 5, dtype=kind) for kind in (torch.int64, torch.bool, torch.bool)),
    ...                      torch.zeros(2, dtype=torch.bool))
    >>> net.displaced(read)(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 2])
    """

    mask: Tensor
    words: Tensor

    def __init__(self, classifier: TextClassifier, tokens: Tokens) -> None:
        super().__init__()
        place = classifier.word_embeddings.device
        self.classifier = classifier
        self.register_buffer("mask", tokens.mask.to(place), persistent=False)
        self.register_buffer("words", classifier.embed(tokens.ids.to(place)).detach(), persistent=False)
        self.training = classifier.training

    def forward(self, delta: Tensor) -> Tensor:
        """Logits (N, classes) of the texts with displaced words."""
        return self.classifier(self.words + delta, self.mask)


def build(
    checkpoint: Path | str | BertConfig, num_classes: int, generator: torch.Generator | None = None, *,
    new_head: bool = False,
) -> TextClassifier:  # fmt: skip
    """Build a classifier on a pretrained encoder, or on a random one.

    Parameters
    ----------
    checkpoint : path or BertConfig
        A folder with `config.json`, `vocab.txt` (or `tokenizer.json`) and `model.safetensors` (or
        `pytorch_model.bin`, from which only tensors are read); or the sizes of an encoder with random weights. If the
        folder holds a fine-tuned `BertForSequenceClassification`, its head is kept (but see `new_head`).
    num_classes : int
        Number of logits.
    generator : torch.Generator, optional
        Source of the random weights; the global random state is left alone. By default a fresh generator with seed 0.
    new_head : bool
        Draw the head anew in every case, as for a new task.

    Returns
    -------
    TextClassifier
        The classifier, in torch's default dtype on the CPU, in train mode.

    Raises
    ------
    ValueError
        The folder holds no BERT, lacks weights, has a vocabulary that does not fit, or holds a head of another
        number of classes; or `num_classes` is below 1.
    """
    as_count("num_classes", num_classes)
    with initialised_by(generator):
        if isinstance(checkpoint, BertConfig):
            return TextClassifier(BertModel(checkpoint), num_classes).train()
        loaded = _pretrained(Path(checkpoint))
        if isinstance(loaded, BertModel) or new_head:
            encoder = loaded if isinstance(loaded, BertModel) else loaded.bert
            return TextClassifier(encoder, num_classes).train()
    own = loaded.config.num_labels
    if own != num_classes:
        raise ValueError(
            f"{checkpoint} holds a classifier of {own} classes; expected num_classes = {own}, and for other classes "
            f"with_new_head(build(folder, {own}), {num_classes})"
        )
    return TextClassifier.of(loaded).train()


def check_classifier(model: object) -> None:
    """Raise unless `model` is a `TextClassifier`.

    Raises
    ------
    TypeError
        It is something else; for a model of transformers the message says how to wrap it.
    """
    if isinstance(model, TextClassifier):
        return
    how = ": wrap it, TextClassifier.of(model)" if isinstance(model, BertForSequenceClassification) else ""
    raise TypeError(f"the model is {type(model).__name__}; expected a models.text.TextClassifier{how}")


def with_new_head(model: TextClassifier, num_classes: int, generator: torch.Generator | None = None) -> TextClassifier:
    """Copy a classifier and give the copy a freshly initialised head, as at the start of transfer to another task.

    Parameters and errors are those of ``advtransfer.models.images.with_new_head``.
    """
    as_count("num_classes", num_classes)
    check_classifier(model)
    tuned = copy.deepcopy(model)
    with initialised_by(generator):
        head = _head(model.encoder.config, num_classes)
    tuned.head = head.to(model.head.weight).train(model.head.training)
    return tuned


def logits(model: TextClassifier, tokens: Tokens, *, batch_size: int = 64) -> Tensor:
    """Logits (N, classes) of texts, in the order of the texts, computed in eval mode on the model's device."""
    check_classifier(model)
    if not len(tokens.ids):
        return model.word_embeddings.new_zeros(0, model.head.out_features)
    device = model.word_embeddings.device
    with evaluating(model):
        batches = by_length(tokens.mask, batch_size)
        parts = [tokens.take(rows).to(device) for rows in batches]
        outputs = torch.cat([model(model.embed(part.ids), part.mask) for part in parts])
    return outputs[torch.cat(batches).argsort().to(device)]


def _first(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _head(config: BertConfig, num_classes: int) -> nn.Linear:
    """A linear layer, initialised as BERT initialises its own layers."""
    head = nn.Linear(config.hidden_size, num_classes)
    nn.init.normal_(head.weight, std=config.initializer_range)
    nn.init.zeros_(head.bias)
    return head


def bert_config(folder: Path) -> BertConfig:
    """The `config.json` of the BERT in a folder.

    Raises
    ------
    ValueError
        The folder holds no BERT.
    """
    try:
        settings, _ = BertConfig.get_config_dict(folder, local_files_only=True)
    except OSError:
        settings = {}
    if settings.get("model_type") != "bert":
        kind = settings.get("model_type", "missing")
        raise ValueError(f"{folder} holds no BERT: the model_type of its config.json is {kind}, expected bert")
    return BertConfig.from_dict(settings)


def _pretrained(folder: Path) -> BertModel | BertForSequenceClassification:
    """The encoder in a folder, or the whole classifier if there is one."""
    config = bert_config(folder)
    check_vocabulary(load_tokenizer(folder), config)
    named = config.architectures or ()
    if not named or any(name.endswith("ForSequenceClassification") for name in named):
        with initialised_by(None):  # what is drawn for a missing head is not kept
            model, missing, other = _weights(BertForSequenceClassification, folder, config)
        only_the_head = bool(missing) and all(name.startswith("classifier.") for name in missing)
        if named or not only_the_head:  # else the folder holds an encoder
            _check_whole(folder, missing)
            if other:
                raise ValueError(f"the weights in {folder} have layers that a {type(model).__name__} lacks: {other[0]}")
            return model
    model, missing, _ = _weights(BertModel, folder, config)
    _check_whole(folder, missing)
    return model


def _weights(kind: Any, folder: Path, config: BertConfig) -> tuple[Any, list[str], list[str]]:
    """A model with the weights in a folder; the names of those that are missing there, and of those of no use here."""
    try:
        with quiet():
            model, report = kind.from_pretrained(
                folder, config=config, output_loading_info=True, local_files_only=True, weights_only=True,
                dtype=torch.float32,
            )  # fmt: skip
    except Exception as error:  # a missing or damaged file may raise anything
        raise ValueError(
            f"the weights in {folder} cannot be read; expected those of its config.json ({first_line(error)})"
        ) from None
    return model, sorted(report["missing_keys"]), sorted(report["unexpected_keys"])


def _check_whole(folder: Path, missing: list[str]) -> None:
    if missing:
        raise ValueError(f"the weights in {folder} lack {len(missing)} tensors of a BERT, such as {missing[0]}")


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the progress bar and the loading report of transformers; missing weights are raised as an error anyway."""
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
