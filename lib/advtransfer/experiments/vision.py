"""Table 1: five architectures, trained on CIFAR-10 and transferred to another data set, whose model is attacked.

The target model is trained on the target's own images and attacked. α1, α2 and α1∗α2 say how well its attacks carry
over to each source model as it was before fine-tuning. Knowledge is transferred by a new linear head on the source's
features. Each model is attacked once, and each attack is evaluated once on each model; the rest is arithmetic.
"""

from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from advtransfer.experiments import conclusions, evaluation, protocol
from advtransfer.experiments.protocol import Architecture, Domains, ImageConfig, files, required
from advtransfer.models import images
from advtransfer.models.images import ImageModel
from advtransfer.prepare import prepare
from advtransfer.records.record import Arrays, Tables
from advtransfer.records.runs import recorded
from advtransfer.training.loop import TrainingError

__all__ = ["SAMPLE_AXES", "TABLES", "Config", "derive", "files", "required", "run"]

SAMPLE_AXES = {"index": 0, "deviations": 2}
"""The arrays of which a published record may keep only some samples, and the axis of their samples."""

TABLES = ("models", "sources", "transfers", "samples", "correlations")
"""The tables of a record."""


class Config(ImageConfig):
    """The image experiment of Table 1."""

    PROFILES: ClassVar = {"smoke": protocol.SMOKE, "quick": {}, "paper": protocol.PAPER}

    architectures: Annotated[tuple[Architecture, ...], protocol.Once] = Field(
        ("fully_connected", "lenet", "alexnet", "resnet18", "resnet50"), min_length=1, description="the source models"
    )


@recorded
def run(config: Config) -> tuple[Tables, Arrays]:
    """Train, transfer and attack. `derive` computes the tables from the arrays."""
    data = loaded(config)
    arrays = measured(config, data, trained(config, data))
    return derive(config, arrays), arrays


def loaded(config: Config) -> Domains:
    """The images that `config` asks for."""
    whole = protocol.domains(config)
    source = protocol.drawn(config, whole.source, train=config.train_images)
    return Domains(source, protocol.drawn(config, whole.target))


class Models(NamedTuple):
    """The trained models of a run."""

    target: ImageModel
    sources: dict[str, ImageModel]
    """The sources that have learnt their images, by architecture."""
    about: Arrays
    """``kept`` (A,): whether each architecture has learnt its images; ``parameters`` (1 + A,): numbers of weights;
    ``source_right`` (A, own test images): which images are classified correctly."""


def trained(config: Config, data: Domains) -> Models:
    """The target model and the sources.

    Raises
    ------
    TrainingError
        No source has learnt its images.
    """
    target_model = protocol.trained(config, protocol.target_recipe(config), data.target)
    sources: dict[str, ImageModel] = {}
    right, parameters = [], [evaluation.size(target_model)]
    for name in config.architectures:
        try:
            model = protocol.trained(config, protocol.source_recipe(config, name), data.source)
        except TrainingError:  # reported as not learnt, and left out of everything else
            parameters.append(0)
            right.append(np.zeros(len(data.source.y_test), bool))
            continue
        parameters.append(evaluation.size(model))
        right.append((evaluation.logits(prepare(model), data.source.x_test).argmax(1) == data.source.y_test).numpy())
        if evaluation.learnt(right[-1], len(data.source.classes)):
            sources[name] = model
    if not sources:
        raise TrainingError(f"none of {', '.join(config.architectures)} has learnt its images; expected at least one")
    kept = np.array([name in sources for name in config.architectures])
    about = {"kept": kept, "parameters": np.array(parameters), "source_right": np.stack(right)}
    return Models(target_model, sources, about)


def measured(config: Config, data: Domains, models: Models, *, star: bool = False) -> Arrays:
    """Everything that is measured at single samples: `Models.about`, and what `evaluation.measure` returns.

    Raises
    ------
    TrainingError
        The target model classifies too few images correctly.
    """
    return {**models.about, **evaluation.measure(config, models.target, models.sources, data.target, only_star=star)}


def derive(config: Config, arrays: Arrays) -> Tables:
    """The tables of a record from its arrays alone.

    They are ``models`` (the target model and every source, whether it has learnt or not), ``correlations`` (over
    sources), and ``sources``, ``transfers`` and ``samples`` of `evaluation.tables`, T→S.
    """
    models = _models(config, arrays)
    about = models[(models["role"] == "source") & models["learnt"]].drop(columns=["role", "learnt"])
    about = about.rename(columns={name: f"source_{name}" for name in about.columns if name.startswith("accuracy")})
    tables = evaluation.tables(about, arrays, "T→S")
    return {"models": models, **tables, "correlations": conclusions.over_sources(tables["sources"])}


def _models(config: Config, arrays: Arrays) -> pd.DataFrame:
    recipes = [protocol.target_recipe(config), *(protocol.source_recipe(config, a) for a in config.architectures)]
    right, learnt = [arrays["target_right"], *arrays["source_right"]], [True, *arrays["kept"]]
    rows = [
        {
            "architecture": recipe.architecture,
            "label": images.LABELS[recipe.architecture],
            "role": recipe.role,
            "width": recipe.width,
            "epochs": recipe.epochs,
            "parameters": size,
            **evaluation.accuracy("accuracy", answers),
            "learnt": bool(well),
        }
        for recipe, size, answers, well in zip(recipes, arrays["parameters"], right, learnt, strict=True)
    ]
    return pd.DataFrame(rows)
