"""How the text experiment is run: its parameters, its corpora, and how classifiers are trained and transferred."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from transformers import BertConfig, BertTokenizer

from advtransfer.datasets import TextDataset, encoders, generated_texts, load_texts, textstore
from advtransfer.datasets.generated_texts import GENERATED_WORDS
from advtransfer.experiments.protocol import Once
from advtransfer.models import text as models
from advtransfer.models.text import TextClassifier
from advtransfer.models.tokens import Tokens, load_tokenizer, tiny_tokenizer, tokenise
from advtransfer.records import storage, weights
from advtransfer.records.configs import Config as BaseConfig
from advtransfer.records.configs import Epsilon
from advtransfer.records.provenance import device, digest
from advtransfer.training.loop import Precision
from advtransfer.training.text import fit_text

Source = Literal["mr", "yelp", "ag", "fake", "ag-two"]
LABELS: dict[str, str] = {
    "imdb": "IMDB",
    "mr": "MR",
    "yelp": "Yelp",
    "ag": "AG",
    "fake": "Fake",
    "ag-two": "AG, two classes",
}
TARGET = "imdb"
TWO = {"ag-two": ("ag", 2)}
"""Variants that keep only the first classes of a corpus, since the other corpora have two: (corpus, classes)."""
CODE = ("advtransfer.training.text", "advtransfer.models.text")  # what trained weights depend on
TINY = "tiny"
READ = ("config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
"""The files of an encoder's folder that are read beside its weights."""

RELEASED = {"mr": (1, 128, 32), "ag": (1, 128, 32), "ag-two": (1, 128, 32), "yelp": (2, 128, 32), "imdb": (3, 256, 32),
            "fake": (1, 256, 16)}  # fmt: skip
"""Number of epochs, largest number of tokens and batch size for each corpus in the released code."""


class TextConfig(BaseConfig):
    """The parameters of the text experiment."""

    encoder: str = Field(
        "minilm-l6",
        description="pretrained BERT: minilm-l6, a folder, a hub's name after `hf download NAME`, or tiny (random)",
    )
    sources: Annotated[tuple[Source, ...], Once] = Field(
        ("mr", "yelp", "ag", "fake", "ag-two"), min_length=1, description="corpora of the source models"
    )
    train_texts: int = Field(300, ge=10, description="training texts of a corpus, at most")
    test_texts: int = Field(256, ge=10, description="test texts of a corpus, at most")
    max_length: int = Field(56, ge=0, le=512, description="tokens of a text, at most; 0: as released, 128 or 256")
    epochs: int = Field(3, ge=0, le=1000, description="passes over a corpus; 0: as released, 1 to 3 by corpus")
    transfer_epochs: int = Field(1, ge=1, le=1000, description="passes of a transferred model over the target's texts")
    batch_size: int = Field(16, ge=0, description="texts per step of training; 0: as released, 32 (Fake 16)")
    lr: float = Field(1e-4, gt=0, description="highest learning rate of AdamW")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of units that dropout leaves out in training")
    precision: Precision = Field(
        "float32", description="arithmetic of training and word attacks: float32, or bfloat16 where the device has it"
    )
    samples: int = Field(20, ge=10, description="target test texts to attack, at most")
    word_steps: int = Field(20, ge=1, le=10_000, description="gradients per text in the word-level attack")
    patience: int = Field(10, ge=1, description="steps after which a flipped text is left, if none nearer was found")
    sentence_steps: int = Field(
        0, ge=0, le=10_000, description="gradients per text in the sentence-level attack; 0: none, for it needs spaCy"
    )
    sentence_samples: int = Field(50, ge=10, description="attacked texts that are attacked as sentences, too, at most")
    sentence_words: int = Field(15, ge=2, le=100, description="words of a piece of text that the autoencoder writes")
    sentence_pieces: int = Field(6000, ge=10, description="pieces of the target's texts that it learns, at most")
    sentence_vocabulary: int = Field(4000, ge=2, description="words that it knows, at most")
    sentence_epochs: int = Field(30, ge=1, le=1000, description="its passes over the pieces")
    sentence_dropout: float = Field(0.0, ge=0, lt=1, description="share of its decoder's units dropped in training")
    eps: Epsilon = Field(0.5, description="radius of the attack on embeddings, l2 over all of a text")
    embedding_steps: int = Field(5, ge=1, le=10_000, description="steps of PGD on embeddings")
    gradients: int = Field(16, ge=10, description="attacked texts whose Jacobians are matched, at most")

    @field_validator("encoder")
    @classmethod
    def _is_a_folder(cls, value: str) -> str:
        path = Path(value).expanduser()
        if path.is_dir() and value not in (TINY, *encoders.of_texts()):
            return str(path.absolute())  # the notebook runs in another folder
        if path.is_absolute() or value.startswith("."):
            raise ValueError("a folder that is there")
        return value


SMOKE = {
    "encoder": TINY, "sources": ("mr", "yelp", "ag-two"), "train_texts": 200, "test_texts": 60, "max_length": 40,
    "epochs": 8, "transfer_epochs": 2, "batch_size": 8, "lr": 3e-3, "precision": "float32", "samples": 20,
    "word_steps": 5, "embedding_steps": 3, "gradients": 10,
}  # fmt: skip
PAPER: dict[str, Any] = {
    "encoder": "bert-base-uncased", "sources": ("mr", "yelp", "ag", "fake"), "train_texts": 1_000_000,
    "test_texts": 25_000, "max_length": 0, "epochs": 0, "transfer_epochs": 1, "batch_size": 0, "lr": 5e-5,
    "precision": "float32", "samples": 100, "word_steps": 100, "patience": 100, "sentence_steps": 100,
    "sentence_samples": 100, "sentence_words": 100, "sentence_pieces": 1_000_000, "sentence_vocabulary": 100_000,
    "sentence_dropout": 0.5, "embedding_steps": 20, "gradients": 100,
}  # fmt: skip


def corpora(config: TextConfig) -> list[str]:
    """The corpora that must be in the data root."""
    if config.encoder == TINY:
        return []
    return list(dict.fromkeys(TWO.get(name, (name, 0))[0] for name in (*config.sources, TARGET)))


def needed(config: TextConfig) -> list[str]:
    """Everything that must be in the data root: the corpora, and the encoder if it is one that is kept there."""
    return [*corpora(config), *([config.encoder] if config.encoder in encoders.of_texts() else [])]


def required(config: TextConfig) -> list[str]:
    """What must be in the data root, since nothing can be run without it: the target, a source, and the encoder."""
    return needed(config.model_copy(update={"sources": present(config)[:1] or config.sources[:1]}))


def present(config: TextConfig) -> tuple[Source, ...]:
    """The sources whose corpus is in the data root; all of them if no corpus has to be read."""
    there = {name for name in corpora(config) if textstore.folder(storage.data_root(), name).is_dir()}
    return tuple(name for name in config.sources if config.encoder == TINY or TWO.get(name, (name, 0))[0] in there)


def files(config: TextConfig) -> dict[str, Path | None]:
    """The files that are read; None for the weights of an encoder that cannot be found."""
    return {**files_of(corpora(config)), **(files_of_encoder(config.encoder) if config.encoder != TINY else {})}


def files_of(names: Iterable[str]) -> dict[str, Path]:
    """The files of corpora."""
    root = storage.data_root()
    return {
        f"{name}/{split}": textstore.folder(root, name) / f"{split}.parquet"
        for name in names
        for split in textstore.SPLITS
    }


def files_of_encoder(name: str) -> dict[str, Path | None]:
    """The files of an encoder; None for its weights if it cannot be found."""
    place = encoders.locate(name)
    paths = {"encoder": encoders.weights_file(place) if place else None}
    if place and name not in encoders.of_texts():  # those have checksums
        paths |= {f"encoder/{part}": place / part for part in READ if (place / part).is_file()}
    return paths


class Language(NamedTuple):
    """A tokenizer and the encoder that goes with it."""

    tokenizer: BertTokenizer
    checkpoint: Path | BertConfig
    content: str
    """What identifies the encoder's weights: a checksum, or how they are made."""


def language(config: TextConfig) -> Language:
    """The tokenizer and the encoder that `config` names.

    Raises
    ------
    DataUnavailable
        The encoder is not in the data root; the message gives the command that fetches it.
    ValueError
        There is neither a folder nor a downloaded encoder of that name; or it is no BERT, or it has fewer positions
        than a text may have tokens.
    """
    if config.encoder == TINY:
        tokenizer = tiny_tokenizer(GENERATED_WORDS)
        small = BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=64,
        )  # fmt: skip
        return Language(tokenizer, small, f"{TINY}, shared")
    folder = encoders.encoder_path(config.encoder) if config.encoder in encoders.of_texts() else None
    folder = folder or encoders.locate(config.encoder)
    if folder is None:
        raise ValueError(
            f"encoder is {config.encoder!r}; expected {', '.join(encoders.of_texts())}, {TINY}, the folder of a BERT "
            f"(config.json, vocab.txt and weights), or one of a model hub after: hf download {config.encoder}"
        )
    longest = max(sizes(config, name)[1] for name in (TARGET, *config.sources))
    if longest > (positions := models.bert_config(folder).max_position_embeddings):
        raise ValueError(
            f"a text may have {longest} tokens (max_length); expected at most {positions}, the positions of the "
            f"encoder {config.encoder}"
        )
    read = [path for name, path in files(config).items() if name.startswith("encoder") and path]
    content = [storage.fingerprint(path) for path in read]
    return Language(load_tokenizer(folder), folder, content[0] if len(content) == 1 else digest(content))


def corpus(config: TextConfig, name: str) -> TextDataset:
    """The texts of a corpus that `config` draws; they differ from seed to seed.

    Raises
    ------
    DataUnavailable
        The corpus is not in the data root.
    """
    if config.encoder == TINY:
        whole = generated_texts(
            seed=config.seed_of(name), n_train=config.train_texts, n_test=config.test_texts, shift=name != TARGET
        )
        return replace(whole, name=name)
    origin, classes = TWO.get(name, (name, None))
    whole = load_texts(origin)
    if classes:
        a, b = whole.y_train < classes, whole.y_test < classes
        whole = replace(
            whole, name=name, train=_some(whole.train, a), y_train=whole.y_train[a], test=_some(whole.test, b),
            y_test=whole.y_test[b], classes=whole.classes[:classes],
        )  # fmt: skip
    return whole.sample(train=config.train_texts, test=config.test_texts, seed=config.seed_of(name))


def _some(texts: tuple[str, ...], kept: Tensor) -> tuple[str, ...]:
    return tuple(text for text, keep in zip(texts, kept.tolist(), strict=True) if keep)


def sizes(config: TextConfig, name: str) -> tuple[int, int, int]:
    """Number of epochs, largest number of tokens and batch size for a corpus."""
    chosen = (config.epochs, config.max_length, config.batch_size)
    epochs, length, batch = (own or released for own, released in zip(chosen, RELEASED[name], strict=True))
    return epochs, length, batch


class Read(NamedTuple):
    """A corpus as tokens. Texts without a word are left out; `empty` is their number."""

    train: Tokens
    y_train: Tensor
    test: Tokens
    y_test: Tensor
    empty: int


def read(config: TextConfig, spoken: Language, data: TextDataset) -> Read:
    """The tokens of a corpus, with at most as many per text as `config` says."""
    length = sizes(config, data.name)[1]
    train, test = (tokenise(spoken.tokenizer, texts, length) for texts in (data.train, data.test))
    empty = int(train.empty.sum() + test.empty.sum())
    return Read(
        train.take(~train.empty), data.y_train[~train.empty], test.take(~test.empty), data.y_test[~test.empty], empty
    )


def untrained(seed_of: Callable[..., int], spoken: Language, data: TextDataset) -> TextClassifier:
    """A classifier of a corpus before training: the encoder that all share, and a head of its own."""
    generator = torch.Generator().manual_seed(seed_of("head", data.name))
    model = models.build(spoken.checkpoint, len(data.classes), generator, new_head=True)
    if isinstance(spoken.checkpoint, BertConfig):  # random weights, the same for all as if pretrained
        shared = torch.Generator().manual_seed(seed_of("encoder"))
        model.encoder = models.build(spoken.checkpoint, 1, shared).encoder
    return model


def trained(config: TextConfig, spoken: Language, data: TextDataset, tokens: Read) -> TextClassifier:
    """A classifier fine-tuned on a corpus.

    Raises
    ------
    TrainingError
        The loss did not stay finite.
    """
    model = untrained(config.seed_of, spoken, data).to(device())
    epochs = sizes(config, data.name)[0]
    settings = {"encoder": spoken.content, "role": "own", "tokens": _digest(tokens)}
    return _kept(config, model, data, tokens, epochs, settings)


def _digest(tokens: Read) -> str:
    """What training reads of a corpus: it depends on the tokenizer, too."""
    return weights.content({"ids": tokens.train.ids, "labels": tokens.y_train})


def transferred(
    config: TextConfig, model: TextClassifier, name: str, data: TextDataset, tokens: Read
) -> TextClassifier:
    """A copy of a source model with a new head, all of it fine-tuned on the target's training texts."""
    generator = torch.Generator().manual_seed(config.seed_of("new head", name))
    tuned = models.with_new_head(model, len(data.classes), generator)
    settings = {"source": weights.content(model.state_dict()), "role": f"from {name}", "tokens": _digest(tokens)}
    return _kept(config, tuned, data, tokens, config.transfer_epochs, settings)


def _kept(
    config: TextConfig, model: TextClassifier, data: TextDataset, tokens: Read, epochs: int, settings: dict[str, Any]
) -> TextClassifier:
    """`model` with its trained weights, from the cache if they are there."""
    _, length, batch = sizes(config, data.name)
    own = config.seed_of("order", data.name, settings["role"])
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = config.dropout
    fit: Callable[..., Any] = partial(
        fit_text, model, tokens.train, tokens.y_train, epochs=epochs, lr=config.lr, batch_size=batch,
        precision=config.precision, seed=own, label=f"{data.name}, {settings['role']}",
    )  # fmt: skip
    settings |= {
        "data": data.digest, "length": length, "epochs": epochs, "batch": batch, "lr": config.lr,
        "dropout": config.dropout, "precision": config.precision, "seed": own, "head": len(data.classes),
        "run": config.seed,
    }  # fmt: skip
    weights.restore(model, weights.cached(settings, lambda checkpoint: fit(checkpoint=checkpoint).last, code=CODE))
    return model.eval().requires_grad_(False)
