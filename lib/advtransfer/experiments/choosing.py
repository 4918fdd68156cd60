"""Rank a pool of candidates for a target: the run behind ``python -m advtransfer rank`` and its page."""

import functools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field, field_validator

from advtransfer import ranking
from advtransfer.datasets import encoders, generated, store, textstore
from advtransfer.datasets.sources import source, sources
from advtransfer.experiments import protocol
from advtransfer.experiments.protocol import Architecture, ImageConfig
from advtransfer.matching import evenly
from advtransfer.models import images
from advtransfer.names import one_line, unknown
from advtransfer.ranking import Encoder, Labelled, LabelledTexts, image_target, pools, text_target, trial
from advtransfer.ranking.builders import build
from advtransfer.ranking.candidates import Candidate
from advtransfer.records import storage, weights
from advtransfer.records.configs import Config as BaseConfig
from advtransfer.records.configs import Epsilon
from advtransfer.records.provenance import digest, source_hash
from advtransfer.records.record import Arrays, Tables
from advtransfer.records.runs import recorded

__all__ = ["BOOK", "TABLES", "Config", "files", "required", "run"]

TABLES = ("candidates", "scores", "ranks", "left_out", "target")
"""The tables of a record."""

BOOK = "book"
ENCODERS = ("mobilenet-v2", "mobilenet-v2-bottleneck", "efficientnet-lite0", "squeezenet")
SMALL: tuple[Architecture, ...] = ("lenet", "alexnet", "resnet18")
TRAINED = {name: f"{images.LABELS[name]}, CIFAR-10" for name in SMALL}
UNTRAINED = "ResNet18, untrained"
IN_BOOK = (*ENCODERS, *TRAINED.values(), UNTRAINED)
"""The candidates of the book."""
ENCODER_SIZE = 96  # pixels to which the encoders enlarge small images: 224 takes five times as long


class Config(BaseConfig):
    """Which candidates to rank for which target, and how."""

    PROFILES: ClassVar = {
        "smoke": {
            "pool": "made-up", "data": "made-up", "labels": 60, "samples": 20, "gradients": 4, "steps": 2,
            "target_epochs": 2,
        },
        "quick": {},
        "paper": {"labels": 1000, "samples": 1000, "gradients": 100, "steps": 50, "truth": "full"},
    }  # fmt: skip

    pool: str = Field(BOOK, description="pool file; or book: the book's encoders and small networks; or made-up")
    data: str = Field(
        "tiny-imagenet-10",
        description="images: folder of class folders or .npz archive; texts: .csv or .parquet file, or folder of train "
        "and test; name in data list; or made-up",
    )
    size: int = Field(64, ge=8, le=1024, description="pixels per side to which pictures in a folder are resized")
    target: str = Field("", description="candidate of the pool to take as the target model; empty: train one")
    only: Annotated[tuple[str, ...], protocol.Once] = Field(
        ranking.NAMES, min_length=1, description="scores to compute, joined by commas"
    )
    labels: int = Field(500, ge=4, description="labelled target images or texts for the scores, at most")
    samples: int = Field(60, ge=2, description="target test images or texts to attack, at most")
    gradients: int = Field(20, ge=1, description="attacked ones whose Jacobians are matched, at most")
    outputs: int = Field(10, ge=1, le=1000, description="principal directions of the outputs that are matched")
    eps: Epsilon = Field(
        0.1, description="radius of the attack, for pixels in [0, 1]; texts: in mean lengths of a word's vector"
    )
    steps: int = Field(5, ge=1, le=10_000, description="steps of the attack")
    truth: Literal["probe", "full", "none"] = Field(
        "probe", description="what to judge by: probe (a linear layer), full (fine-tuning of all weights), none"
    )
    truth_samples: int = Field(
        1000, ge=20, description="target images or texts for the truth, at most, in training and in testing"
    )
    full_epochs: int = Field(5, ge=1, description="passes of fine-tuning all weights")
    target_epochs: int = Field(20, ge=1, description="passes of the target model over the target's images or texts")

    @field_validator("only")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in ranking.NAMES:
                raise ValueError(f"scores; {unknown('score', name, ranking.NAMES)}")
        return value


def required(config: Config) -> list[str]:
    """The data sets that must be in the data root; encoders of the book that are missing are left out, and named."""
    own = [config.data] if config.data in _known_data() else []
    own = [source(name).derived_from or name for name in own]
    return list(dict.fromkeys([*own, *(["cifar10"] if config.pool == BOOK else [])]))


def files(config: Config) -> dict[str, Path]:
    """The files that are read: the pool file with its weights and builders, and the target's images or texts."""
    root = storage.data_root()
    read = {name: store.image_path(root, name) for name in required(config) if name not in sources("text")}
    if config.data in sources("text"):
        read |= {split: textstore.folder(root, config.data) / f"{split}.parquet" for split in textstore.SPLITS}
    if config.pool == BOOK:
        folders = {name: encoders.folder(storage.data_root(), name) for name in ENCODERS}
        read |= {name: folder / encoders.WEIGHTS[0] for name, folder in folders.items()}
    elif config.pool != "made-up":
        pool = Path(config.pool).expanduser()
        read[str(pool)] = pool
        if pool.is_file():
            for candidate in pools.parse(pool).values():
                read |= {str(path): path for path in candidate.files(pool.parent)}
    place = Path(config.data).expanduser()
    if config.data not in _known_data() and place.exists():
        parts = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
        read |= {str(path): path for path in parts}
    return read


def _known_data() -> set[str]:
    return {*sources("images"), *sources("text")}


@recorded
def run(config: Config) -> tuple[Tables, Arrays]:
    """Measure and score every candidate; each is kept as soon as it is measured, so that a stopped run goes on.

    Tables: ``candidates``, ``scores``, ``ranks`` (`ranking.ranks`), ``left_out`` and ``target``, as in
    `ranking.Ranking`; ``candidates`` also has ``own_accuracy`` where the pool file gives it.
    """
    data = target_data(config)
    if isinstance(data, LabelledTexts) and config.pool in (BOOK, "made-up"):
        raise ValueError(
            f"{data.name} holds texts, and the candidates of {config.pool} read images; expected a pool file with "
            "models of texts"
        )
    pool, missing = candidates(config)
    target = None
    if config.target:
        if config.target not in pool:
            raise ValueError(f"target: {unknown('candidate', config.target, pool)}")
        target = pool.pop(config.target)
    trial.check_kinds(pool, data, target)
    settings = config.model_dump(
        include={"labels", "samples", "gradients", "outputs", "eps", "steps", "truth", "full_epochs", "target_epochs"}
    )
    found = ranking.score(
        pool, data, target=target, only=config.only, seed=config.seed, progress=True,
        keep=keeper(pool, data, target, {**settings, "seed": config.seed}), **settings,
    )  # fmt: skip
    left_out = pd.DataFrame([*found.left_out.to_dict("records"), *missing], columns=["name", "reason"])
    places = ranking.ranks(found)
    known = pools.own_accuracies(config.pool) if config.pool not in (BOOK, "made-up") else {}
    told = {"own_accuracy": found.candidates["candidate"].map(known)} if known else {}
    return {
        "candidates": found.candidates.assign(**told),
        "scores": found.scores,
        "ranks": places,
        "left_out": left_out.astype(str),
        "target": pd.DataFrame([found.target]),
    }, {}


def target_data(config: Config) -> Labelled | LabelledTexts:
    """The target's images or texts, with at most `truth_samples` in each part."""
    data: Labelled | LabelledTexts
    if config.data == "made-up":
        made = generated(seed=config.seed, n_train=120, n_test=120, shift=True)
        data = ranking.from_tensors(
            made.x_train, made.y_train, made.x_test, made.y_test, classes=made.classes, name="made-up images"
        )
    else:
        data = ranking.load(config.data, size=config.size, seed=config.seed)
    return data.fewer(config.truth_samples, config.seed)


def small_networks(config: Config) -> ImageConfig:
    """How the book's small candidates are trained."""
    return ImageConfig.from_profile("quick", seed=config.seed, target="cifar10-shift", hold_out=True)


def candidates(config: Config) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The candidates, and a row for each that is not there."""
    if config.pool == "made-up":
        return {name: Encoder(images.build(name, width=4), size=32) for name in SMALL}, []
    if config.pool != BOOK:
        return pools.read(config.pool), []
    pool: dict[str, Any] = {}
    if config.target and config.target not in IN_BOOK:
        raise ValueError(f"target: {unknown('candidate', config.target, IN_BOOK)}")  # before any training
    missing = []
    for name in ENCODERS:
        try:
            pool[name] = build(Candidate(encoder=name, size=ENCODER_SIZE), Path())
        except (OSError, RuntimeError) as error:
            missing.append({"name": name, "reason": one_line(error)})
    training = small_networks(config)
    data = protocol.drawn(training, protocol.domains(training).source, train=training.train_images)
    for name in SMALL:
        model = protocol.trained(training, protocol.source_recipe(training, name), data)
        pool[TRAINED[name]] = Encoder(model, size=32)
    untrained = torch.Generator().manual_seed(config.seed_of("untrained"))
    pool[UNTRAINED] = Encoder(images.build("resnet18", width=8, generator=untrained).eval(), size=32)
    return pool, missing


def _seen(encoder: Any, data: Labelled | LabelledTexts) -> list[str]:
    """What a candidate makes of four samples, to five digits: its code can change where its weights do not."""
    found = encoder.extract(data.inputs("train", evenly(len(data.y_train), 4)))
    return [f"{value:.4e}" for part in found for value in part.flatten().tolist()]


def keeper(
    pool: dict[str, Any], data: Labelled | LabelledTexts, target: Any, settings: dict[str, Any]
) -> Callable[[str, str, Callable[[], Arrays]], Arrays]:
    """A function for `ranking.score` that keeps what is measured of each candidate in the cache."""
    parts = ((data.x_train, data.y_train), (data.x_test, data.y_test))
    shared = {
        "settings": settings,
        "source": source_hash(image_target.__name__),
        "data": [weights.content({"x": x, "y": y}) for x, y in parts if isinstance(x, torch.Tensor)],
        "target": target.digest() if target is not None else "",
    }
    if isinstance(data, LabelledTexts):
        shared["source"] = source_hash(text_target.__name__)
        shared["data"] = [digest([*x, *y.tolist()]) for x, y in parts]
        if target is None:  # the target model has the word embeddings of one of the candidates that can be used
            useless = trial.failing(pool, data)
            able = {name: encoder for name, encoder in pool.items() if name not in useless}
            shared["target"] = text_target.most_shared(able, data).digest() if able else ""

    seen = functools.cache(lambda name: _seen(pool[name], data))

    def keep(name: str, what: str, compute: Callable[[], Arrays]) -> Arrays:
        key = digest({**shared, "what": what, "candidate": pool[name].digest(), "seen": seen(name)})
        path = storage.cache_root() / "candidates" / key[:2] / f"{key}.npz"
        if path.is_file():
            try:
                with np.load(path, allow_pickle=False) as archive:
                    return {part: archive[part] for part in archive.files}
            except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
                storage.tell(f"{path} is damaged ({error}): measured anew")
        arrays = compute()
        with storage.replacing(path) as draft:
            np.savez(draft, allow_pickle=False, **arrays)
        return arrays

    return keep
