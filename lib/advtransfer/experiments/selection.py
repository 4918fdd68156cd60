"""Measure the sources of one recipe on one target domain: everything that a choice among them may be based on.

The sources are five architectures trained on CIFAR-10. On a few labelled images of the target the record keeps their
features and probabilities, from which every score of `advtransfer.scores` follows, also one that is added later. Beside
these it keeps the deviations under attack, from which α follows, and the truth: which test images are classified
correctly by a linear probe on the frozen features, and after fine-tuning all weights.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor, nn

from advtransfer import matching, ranking
from advtransfer.datasets import ImageDataset, load, store
from advtransfer.datasets.variants import VARIANTS, made_from, variant
from advtransfer.experiments import evaluation, protocol
from advtransfer.experiments.protocol import SHIFTED, Architecture, Domains, ImageConfig
from advtransfer.extras import require
from advtransfer.models import images
from advtransfer.models.images import ImageModel
from advtransfer.ranking.measure import principal
from advtransfer.ranking.truth import probe
from advtransfer.records import storage
from advtransfer.records.provenance import device
from advtransfer.records.record import Arrays, Tables
from advtransfer.records.runs import recorded
from advtransfer.training.images import fit_classifier

__all__ = ["SAMPLE_AXES", "SCORES", "TABLES", "Config", "derive", "files", "required", "run"]

TABLES = ("sources",)
"""The tables of a record."""
SAMPLE_AXES: dict[str, int] = {}
"""A record of this experiment is small, and is published whole."""

Domain = Literal[
    "tiny-imagenet-10", "tiny-vehicles", "tiny-animals", "cifar10-shift", "cifar10-unseen", "cifar10-noise",
    "cifar10-blocks", "cifar10-negative", "generated",
]  # fmt: skip
assert set(VARIANTS) < set(Domain.__args__)  # type: ignore[attr-defined]


class Config(ImageConfig):
    """The sources of one recipe on one target domain."""

    PROFILES: ClassVar = {
        "smoke": protocol.SMOKE | {"labels": 60, "unseen": 60, "samples": 20},
        "quick": {},
        "paper": protocol.PAPER,
    }

    target: Domain = Field("tiny-imagenet-10", description="target domain")  # type: ignore[assignment]
    architectures: Annotated[tuple[Architecture, ...], protocol.Once] = Field(
        ("fully_connected", "lenet", "alexnet", "resnet18", "resnet50"), min_length=1, description="the source models"
    )
    untrained: bool = Field(False, description="leave the sources at their random weights, as a control")
    labels: int = Field(300, ge=20, le=10_000, description="labelled target images for the scores")
    components: int = Field(128, ge=2, le=4096, description="principal components kept of wider features")
    unseen: int = Field(2000, ge=20, description="target test images for the truth, at most")
    full_epochs: int = Field(0, ge=0, description="passes of fine-tuning all weights; 0: only the linear probe")
    full_lr: float = Field(0.02, gt=0, description="highest learning rate of fine-tuning all weights")


def required(config: Config) -> list[str]:
    """The data sets that must be in the data root."""
    return [] if config.target == "generated" else list(dict.fromkeys(["cifar10", made_from(config.target)]))


def files(config: Config) -> dict[str, Path]:
    """The file of each data set that is read."""
    return {name: store.image_path(storage.data_root(), name) for name in required(config)}


@recorded
def run(config: Config) -> tuple[Tables, Arrays]:
    """Train the sources and the target model, and measure. `derive` computes the table from the arrays."""
    require("rank", "sklearn")  # of some scores, which come last
    data = _domains(config)
    few = _stratified(config, data.target.y_train, config.labels)
    unseen = protocol.sample(config, torch.arange(len(data.target.x_test)), config.unseen, "truth")
    truth = replace(data.target, x_test=data.target.x_test[unseen], y_test=data.target.y_test[unseen])
    target_model = protocol.trained(config, protocol.target_recipe(config), data.target)
    sources: dict[str, ImageModel] = {name: _source(config, name, data.source) for name in config.architectures}
    arrays: Arrays = {"labels": data.target.y_train[few].numpy().astype(np.int16)}
    for name, model in sources.items():
        measured = _measured(config, name, model, data.source, truth, few)
        arrays |= {f"{name}_{what}": array for what, array in measured.items()}
    pairs = {pair for j in range(1 + len(sources)) for pair in ((0, j), (j, 0), (j, j))}
    arrays |= evaluation.attacked(config, target_model, sources, truth, pairs)
    return derive(config, arrays), arrays


def _domains(config: Config) -> Domains:
    if config.target == "generated":
        return protocol.domains(config)
    source = protocol.drawn(config, load("cifar10", without=SHIFTED), train=config.train_images)
    return Domains(source, protocol.drawn(config, variant(config.target)))


def _source(config: Config, name: Architecture, data: ImageDataset) -> ImageModel:
    recipe = protocol.source_recipe(config, name)
    if not config.untrained:
        return protocol.trained(config, recipe, data)
    generator = torch.Generator().manual_seed(config.seed_of("weights", recipe.role, name))
    model = images.build(name, num_classes=len(data.classes), width=recipe.width, generator=generator)
    return model.to(device()).eval()


def _stratified(config: Config, y: Tensor, size: int) -> Tensor:
    """Positions of about `size` images, equally many of each class, in order."""
    each = [protocol.sample(config, (y == k).nonzero().squeeze(1), size // int(y.max() + 1), f"class {k}")
            for k in y.unique()]  # fmt: skip
    return torch.cat(each).sort()[0]


def _measured(
    config: Config, name: str, model: ImageModel, own: ImageDataset, data: ImageDataset, few: Tensor
) -> Arrays:
    """What one source says about the target's labelled images, and the truth about it."""
    train, test = (_features(model, x) for x in (data.x_train, data.x_test))
    logits = evaluation.logits(model, data.x_train[few])
    found = {
        "own_right": evaluation.logits(model, own.x_test).argmax(1) == own.y_test,
        "features": reduced(train[few], config.components).half(),
        "probabilities": logits.softmax(1).half(),
        "probe_right": probe(train, data.y_train, test, seed=config.seed) == data.y_test,
        "parameters": torch.tensor(evaluation.size(model)),
        "width": torch.tensor(train.shape[1]),
    }
    if config.full_epochs:
        tuned = _fully_tuned(config, name, model, data)
        found["full_right"] = evaluation.logits(tuned, data.x_test).argmax(1) == data.y_test
    return {what: array.numpy() for what, array in found.items()}


def _features(model: ImageModel, x: Tensor) -> Tensor:
    class Body(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole = model

        def forward(self, x: Tensor) -> Tensor:
            return self.whole.features(x)

    return evaluation.logits(Body(), x)


def reduced(features: Tensor, components: int) -> Tensor:
    """The features, or if they are wider the scores on their first principal components; labels play no part."""
    basis = principal(features, components)
    return features if basis is None else (features - features.mean(0)) @ basis


def _fully_tuned(config: Config, name: str, model: ImageModel, data: ImageDataset) -> ImageModel:
    tuned = images.with_new_head(
        model, len(data.classes), torch.Generator().manual_seed(config.seed_of("full head", name))
    )
    fit_classifier(
        tuned, data.x_train, data.y_train, epochs=config.full_epochs, lr=config.full_lr, schedule="one_cycle",
        batch_size=config.batch_size, weight_decay=config.weight_decay, precision=config.precision,
        seed=config.seed_of("full", name), label=f"{images.LABELS[name]}, all weights",
    )  # fmt: skip
    return tuned


# From the arrays.

SCORES = {
    name: ranking.SCORES[name]
    for name in ("LogME", "LEEP", "NCE", "N-LEEP", "H-score", "TransRate", "GBC", "PARC", "1-NN", "probe")
}
"""The estimators, each of which follows from what the record keeps of a source."""


def derive(config: Config, arrays: Arrays) -> Tables:
    """The table ``sources`` from the arrays alone: a row per source with its truth, its scores and its α."""
    classes = int(arrays["labels"].max()) + 1
    sizes = [classes] + [10 if config.target != "generated" else classes] * len(config.architectures)
    matched = matching.distances(torch.from_numpy(arrays["gram"]), sizes)
    rows: list[dict[str, object]] = []
    for place, name in enumerate(config.architectures, 1):
        about = {"architecture": name, "label": images.LABELS[name], "untrained": config.untrained}
        rows.append({**about, **scored(arrays, name, place, float(matched[0, place]))})
    return {"sources": pd.DataFrame(rows)}


def scored(arrays: Arrays, name: str, place: int, distance: float) -> dict[str, object]:
    """Size, accuracies, α, distance and scores of the source `name`, which is at `place` among the attacked models.

    Features are centred. Otherwise LogME and PARC would not be the same thing for wide sources and for narrow ones.
    """
    own = {key.removeprefix(f"{name}_"): array for key, array in arrays.items() if key.startswith(f"{name}_")}
    row: dict[str, object] = {"parameters": int(own["parameters"]), "width": int(own["width"])}
    for column in ("source", "probe", "full"):
        right = own.get("own_right" if column == "source" else f"{column}_right")
        if right is not None:
            row |= evaluation.accuracy(f"{column}_accuracy", right)
    for way, pair in (("", (0, place)), ("back_", (place, 0))):
        row |= {way + key: value for key, value in evaluation.metric_columns(arrays, *pair).items()}
    row["distance"] = distance
    own_deviation = arrays["deviations"][place, place].astype("float64")
    row["own_deviation"] = float(np.linalg.norm(own_deviation, axis=1).mean())
    labels = torch.from_numpy(arrays["labels"].astype("int64"))
    features, probabilities = (torch.from_numpy(own[what].astype("float64")) for what in ("features", "probabilities"))
    features = features - features.mean(0)  # those of wide sources are kept so, and LogME has no intercept
    probabilities = probabilities / probabilities.sum(1, keepdim=True)  # half precision has rounded them
    inputs = {"features": features, "probabilities": probabilities, "answers": probabilities.argmax(1)}
    for title, score in SCORES.items():
        row[title] = score.function(inputs[score.reads], labels)
    return row
