"""Measure text models fine-tuned in one way on one target of texts: the question of `selection`, asked of texts.

The sources are one pretrained encoder, fine-tuned on each of several corpora. Each corpus is cut in two halves: sources
are trained on one, and the target consists of the other. So no source has seen a text of the target, even if it was
trained on the same corpus. Attack and naive target model are those of `advtransfer.ranking`; the target model takes the
word embeddings of the encoder before any fine-tuning, so sources of all ways are compared with one target model.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from advtransfer import matching
from advtransfer.datasets import TextDataset, generated_texts, load_texts
from advtransfer.experiments import protocol, text, text_protocol
from advtransfer.experiments.evaluation import filled, size
from advtransfer.experiments.selection import SCORES, reduced, scored
from advtransfer.experiments.text_protocol import TINY, Language
from advtransfer.extras import require
from advtransfer.models.text import logits
from advtransfer.ranking.measure import Settings, measure
from advtransfer.ranking.text_encoder import TextEncoder
from advtransfer.ranking.text_target import TextTarget
from advtransfer.ranking.texts import LabelledTexts, taken
from advtransfer.records.configs import Config as BaseConfig
from advtransfer.records.record import Arrays, Tables
from advtransfer.records.runs import recorded
from advtransfer.training.loop import Precision

__all__ = ["SAMPLE_AXES", "SCORES", "TABLES", "Config", "derive", "files", "required", "run"]

TABLES = ("sources",)
"""The tables of a record."""
SAMPLE_AXES: dict[str, int] = {}
"""A record of this experiment is small, and is published whole."""

Corpus = Literal["imdb", "mr", "yelp", "ag", "fake"]


class Config(BaseConfig):
    """The text models of one way of training on one target."""

    PROFILES: ClassVar = {
        "smoke": {
            "encoder": TINY, "corpora": ("mr", "imdb"), "train_texts": 120, "test_texts": 40, "target_texts": 40,
            "max_length": 40, "epochs": 2, "batch_size": 8, "lr": 5e-4, "labels": 40, "samples": 10, "gradients": 4,
            "steps": 2, "target_epochs": 1,
        },
        "quick": {},
        "paper": {
            "train_texts": 10_000, "test_texts": 5_000, "target_texts": 5_000, "max_length": 128, "samples": 300,
            "gradients": 50,
        },
    }  # fmt: skip

    encoder: str = Field(
        "minilm-l6", description="pretrained BERT: minilm-l6, a folder, a hub's name, or tiny (random)"
    )
    target: Corpus = Field("imdb", description="target corpus")
    corpora: Annotated[tuple[Corpus, ...], protocol.Once] = Field(
        ("imdb", "mr", "yelp", "ag", "fake"), min_length=1, description="corpora on which the sources are fine-tuned"
    )
    train_texts: int = Field(2000, ge=10, description="training texts of a source, at most")
    test_texts: int = Field(1000, ge=10, description="test texts of a source's own corpus, at most")
    target_texts: int = Field(600, ge=10, description="texts of the target, in training and in testing, at most")
    max_length: int = Field(64, ge=3, le=512, description="tokens of a text, at most")
    epochs: int = Field(3, ge=0, le=1000, description="passes over a corpus; 0: the pretrained encoder as it is")
    batch_size: int = Field(32, ge=1, description="texts per step of training")
    lr: float = Field(1e-4, gt=0, description="highest learning rate of AdamW")
    precision: Precision = Field("float32", description="arithmetic of training: float32 or bfloat16")
    labels: int = Field(300, ge=4, description="labelled target texts for the scores, at most")
    components: int = Field(128, ge=2, le=4096, description="principal components kept of wider features")
    samples: int = Field(100, ge=2, description="target test texts to attack, at most")
    gradients: int = Field(20, ge=1, description="attacked texts whose Jacobians are matched, at most")
    eps: float = Field(0.1, gt=0, le=1, description="l2 radius of the attack, in mean lengths of a word's vector")
    steps: int = Field(5, ge=1, description="steps of the attack")
    target_epochs: int = Field(10, ge=1, description="passes of the target model over the target's texts")


def _training(config: Config) -> text.Config:
    """How one source is trained, in the words of the text experiment."""
    return text.Config.from_profile(
        "quick", encoder=config.encoder, seed=config.seed, train_texts=config.train_texts,
        test_texts=config.test_texts, max_length=config.max_length, epochs=max(1, config.epochs),
        batch_size=config.batch_size, lr=config.lr, precision=config.precision,
        sources=tuple(name for name in config.corpora if name != "imdb") or ("mr",),
    )  # fmt: skip


def required(config: Config) -> list[str]:
    """What must be in the data root."""
    if config.encoder == TINY:
        return []
    encoder = [name for name in text_protocol.needed(_training(config)) if name == config.encoder]
    return [*dict.fromkeys((*config.corpora, config.target)), *encoder]


def files(config: Config) -> dict[str, Path | None]:
    """The files that are read."""
    if config.encoder == TINY:
        return {}
    corpora = text_protocol.files_of(dict.fromkeys((*config.corpora, config.target)))
    return {**corpora, **text_protocol.files_of_encoder(config.encoder)}


@recorded
def run(config: Config) -> tuple[Tables, Arrays]:
    """Train the sources and the target model, and measure. `derive` computes the table from the arrays."""
    require("rank", "sklearn")  # of some scores, which come last
    settings = Settings(
        labels=config.labels, samples=config.samples, gradients=config.gradients, eps=config.eps, steps=config.steps,
        target_epochs=config.target_epochs, seed=config.seed,
    )  # fmt: skip
    spoken = text_protocol.language(_training(config))
    whole = {name: _corpus(config, name) for name in (*config.corpora, config.target)}
    data = _drawn(config, _half(whole[config.target], 1), config.target_texts, config.target_texts)
    labelled = LabelledTexts(data.name, data.train, data.y_train, data.test, data.y_test, data.classes)
    sources = {name: _source(config, spoken, _half(whole[name], 0)) for name in config.corpora}
    plain = text_protocol.untrained(config.seed_of, spoken, data).eval()  # so that all ways have one target model
    target = TextTarget(labelled, settings, {"": TextEncoder(plain.whole(), spoken.tokenizer, config.max_length)})
    arrays: Arrays = {
        "labels": target.labels.numpy().astype(np.int16),
        "directions": np.array(target.directions),
        "target_accuracy": np.array(target.accuracy()),
    }
    moved: dict[tuple[int, int], torch.Tensor] = {}
    for place, (name, (encoder, right)) in enumerate(sources.items(), 1):
        found = measure(encoder, target)
        if "alpha_note" in found:
            raise ValueError(f"the source of {name} cannot be attacked: {found['alpha_note']}")
        features, outputs = torch.from_numpy(found["features"]), torch.from_numpy(found["outputs"])
        own = {
            "own_right": right, "features": reduced(features, config.components).half().numpy(),
            "probabilities": outputs.softmax(1).half().numpy(), "probe_right": found["right"], "gram": found["gram"],
            "parameters": np.array(size(encoder)), "width": np.array(features.shape[1]),
        }  # fmt: skip
        arrays |= {f"{name}_{what}": array for what, array in own.items()}
        places = {(0, 0): "d00", (0, place): "d01", (place, 0): "d10", (place, place): "d11"}
        moved |= {pair: torch.from_numpy(found[key]) for pair, key in places.items()}
    arrays["deviations"] = filled(moved, len(sources) + 1)
    return derive(config, arrays), arrays


def _corpus(config: Config, name: str) -> TextDataset:
    if config.encoder != TINY:
        return load_texts(name)
    number = 2 * max(config.train_texts, config.target_texts)
    made = generated_texts(
        seed=config.seed_of(name),
        n_train=number,
        n_test=max(config.test_texts, config.target_texts),
        shift=name != config.target,
    )
    return replace(made, name=name)


def _half(data: TextDataset, part: int) -> TextDataset:
    """A corpus with every other training text: those for sources (0) or those for the target (1)."""
    rows = torch.arange(part, len(data.train), 2)
    return replace(data, train=taken(data.train, rows), y_train=data.y_train[rows])


def _drawn(config: Config, data: TextDataset, train: int, test: int) -> TextDataset:
    return data.sample(train=train, test=test, seed=config.seed_of(data.name))


def _source(config: Config, spoken: Language, data: TextDataset) -> tuple[TextEncoder, np.ndarray]:
    """A fine-tuned classifier, and which test texts of its own corpus it classifies correctly."""
    training = _training(config)
    data = _drawn(config, data, config.train_texts, config.test_texts)
    tokens = text_protocol.read(training, spoken, data)
    if config.epochs:
        model = text_protocol.trained(training, spoken, data, tokens)
    else:
        model = text_protocol.untrained(config.seed_of, spoken, data).eval()
    right = logits(model, tokens.test).argmax(1).cpu() == tokens.y_test
    return TextEncoder(model.whole(), spoken.tokenizer, config.max_length), right.numpy()


# From the arrays.


def derive(config: Config, arrays: Arrays) -> Tables:
    """The table ``sources`` from the arrays alone: a row per source with its truth, its scores and its α."""
    rows: list[dict[str, object]] = []
    own = int(arrays["directions"])
    for place, name in enumerate(config.corpora, 1):
        gram = torch.from_numpy(arrays[f"{name}_gram"])
        distance = float(matching.distances(gram, [own, len(gram) - own])[0, 1])
        about = {"architecture": name, "label": text_protocol.LABELS[name], "untrained": config.epochs == 0}
        rows.append({**about, **scored(arrays, name, place, distance)})
    return {"sources": pd.DataFrame(rows)}
