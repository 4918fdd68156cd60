"""Table 3: five sources that share 0 to 100% of the target's domain; the sources are attacked, S→T.

A source is a ResNet18 trained on four classes of CIFAR-10, k of them animals and 4 − k vehicles. The paper's text says
that the target is the vehicles of STL-10, while the released code takes four of its animals. The same five sources
serve both: a source that is 25% similar to the animals is 75% similar to the vehicles.
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from advtransfer.datasets import ImageDataset
from advtransfer.experiments import conclusions, evaluation, protocol
from advtransfer.experiments.protocol import TARGET_MODEL, Domains, ImageConfig, files, required
from advtransfer.models.images import ImageModel
from advtransfer.prepare import prepare
from advtransfer.records.record import Arrays, Tables
from advtransfer.records.runs import recorded
from advtransfer.training.loop import TrainingError

__all__ = ["SAMPLE_AXES", "TABLES", "Config", "derive", "files", "required", "run"]

DomainName = Literal["vehicles", "animals"]
DOMAINS: tuple[DomainName, ...] = ("vehicles", "animals")
SAMPLE_AXES = {f"{domain}_{name}": axis for domain in DOMAINS for name, axis in (("index", 0), ("deviations", 2))}
"""The arrays of which a published record may keep only some samples, and the axis of their samples."""

ANIMALS = (0, 1, 2, 3, 4)  # how many of each source's four classes are animals
SUBSETS = ((0, 1, 8, 9), (2, 1, 8, 9), (2, 3, 8, 9), (2, 3, 4, 9), (2, 3, 4, 5))
"""The positions of each source's classes in CIFAR-10's list of classes, as released."""

_CIFAR: dict[DomainName, tuple[int, ...]] = {"vehicles": (0, 1, 8, 9), "animals": (2, 3, 4, 5)}
_STL: dict[DomainName, tuple[int, ...]] = {"vehicles": (0, 2, 8, 9), "animals": (1, 3, 4, 5)}
TARGET_CLASSES = {"cifar10-shift": _CIFAR, "generated": _CIFAR, "stl10": _STL, "tiny-imagenet-10": _STL}
"""The positions of the target's classes in its own list: as released for animals, as in the text for vehicles."""

TABLES = ("models", "targets", "sources", "transfers", "samples", "correlations")
"""The tables of a record."""


class Config(ImageConfig):
    """The image experiment of Table 3."""

    PROFILES: ClassVar = {
        "smoke": protocol.SMOKE | {"train_images": 400},
        "quick": {"train_images": 2000, "test_images": 1000, "target_epochs": 8, "samples": 200, "gradients": 20},
        "paper": protocol.PAPER,
    }

    target_domains: Annotated[tuple[DomainName, ...], protocol.Once] = Field(
        DOMAINS, min_length=1, description="vehicles, as the text says, and animals, as released"
    )


def similarity(animals: int, domain: DomainName) -> int:
    """The percentage of a source's four classes that belong to the target's domain."""
    return 25 * (animals if domain == "animals" else 4 - animals)


@recorded
def run(config: Config) -> tuple[Tables, Arrays]:
    """Train, transfer and attack. `derive` computes the tables from the arrays."""
    whole = protocol.domains(config)
    sources: dict[int, ImageModel] = {}
    right: dict[int, np.ndarray] = {}
    for animals in ANIMALS:
        data = _source_images(config, whole, animals)
        try:
            model = _source(config, data, animals)
        except TrainingError:  # reported as not learnt, and left out of everything else
            right[animals] = np.zeros(len(data.y_test), bool)
            continue
        right[animals] = (evaluation.logits(prepare(model), data.x_test).argmax(1) == data.y_test).numpy()
        if evaluation.learnt(right[animals], len(data.classes)):
            sources[animals] = model
    if not sources:
        raise TrainingError("none of the five sources has learnt its images; expected at least one")
    arrays = {"kept": np.array([animals in sources for animals in ANIMALS])}
    arrays |= {f"source_right_{animals}": answers for animals, answers in right.items()}
    for domain in config.target_domains:
        data = _target_images(config, whole, domain)
        target_model = _target(config, data, domain)
        named = {f"{domain} from {animals} animals": model for animals, model in sources.items()}
        measured = evaluation.measure(config, target_model, named, data)
        arrays |= {f"{domain}_{name}": array for name, array in measured.items()}
    return derive(config, arrays), arrays


def pair(config: Config, domain: DomainName, animals: int) -> tuple[ImageModel, ImageModel, ImageDataset]:
    """The target model of a domain, the source that has learnt so many animals, and the images of the domain."""
    whole = protocol.domains(config)
    data = _target_images(config, whole, domain)
    source = _source(config, _source_images(config, whole, animals), animals)
    return _target(config, data, domain), source, data


def _source_images(config: Config, whole: Domains, animals: int) -> ImageDataset:
    places = SUBSETS[ANIMALS.index(animals)]
    return protocol.drawn(config, _some(whole.source, places), train=config.train_images)


def _source(config: Config, data: ImageDataset, animals: int) -> ImageModel:
    recipe = protocol.source_recipe(config, TARGET_MODEL, role=f"source of {animals} animals")
    return protocol.trained(config, recipe, data)


def _target_images(config: Config, whole: Domains, domain: DomainName) -> ImageDataset:
    return protocol.drawn(config, _some(whole.target, TARGET_CLASSES[config.target][domain]))


def _target(config: Config, data: ImageDataset, domain: DomainName) -> ImageModel:
    return protocol.trained(config, protocol.target_recipe(config, f"target of {domain}"), data)


def _some(data: ImageDataset, places: tuple[int, ...]) -> ImageDataset:
    return data.only([data.classes[place] for place in places])


def derive(config: Config, arrays: Arrays) -> Tables:
    """The tables of a record from its arrays alone.

    They are ``models`` (every source, whether it has learnt or not) and ``targets``; and, each with a column
    ``domain``, ``correlations`` (over sources), and ``sources``, ``transfers`` and ``samples`` of
    `evaluation.tables`, S→T.
    """
    models = pd.DataFrame(
        [
            {
                "animals": animals,
                **evaluation.accuracy("source_accuracy", arrays[f"source_right_{animals}"]),
                "learnt": bool(learnt),
            }
            for animals, learnt in zip(ANIMALS, arrays["kept"], strict=True)
        ]
    )
    targets, parts = [], []
    for domain in config.target_domains:
        own = {name.removeprefix(f"{domain}_"): a for name, a in arrays.items() if name.startswith(f"{domain}_")}
        about = models[models["learnt"]].drop(columns="learnt")
        about.insert(0, "similarity", [similarity(animals, domain) for animals in about["animals"]])
        targets.append({"domain": domain, **evaluation.accuracy("accuracy", own["target_right"])})
        tables = evaluation.tables(about, own, "S→T")
        tables["correlations"] = conclusions.over_sources(tables["sources"])
        parts.append({name: table.assign(domain=domain) for name, table in tables.items()})
    joined = {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in parts[0]}
    joined["sources"] = joined["sources"].sort_values(["domain", "similarity"], ignore_index=True)
    return {"models": models, "targets": pd.DataFrame(targets), **joined}
