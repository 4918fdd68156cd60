"""Table 1: five architectures trained on CIFAR-10, transferred to another data set, and attacked from a model of it.

The target model is trained on the target's own images and attacked. α1, α2 and α1∗α2 say how well its attacks carry
over to each source model as it was before fine-tuning; knowledge transfers by a new linear head on the source's
features. Each model is attacked once: the target's attacks serve every source.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import pandas as pd
import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor
from torch.nn import functional as F

from advtransfer import attacks, estimators, metrics, storage
from advtransfer.configs import Config as BaseConfig
from advtransfer.configs import Epsilon
from advtransfer.datasets import ImageDataset, generated, load, store
from advtransfer.datasets.sources import source
from advtransfer.experiments import table1
from advtransfer.experiments.evaluation import PASS, accuracy, attacked, deviation, logits, metric_columns, pixels, size
from advtransfer.models import images
from advtransfer.models.images import ImageModel
from advtransfer.prepare import prepare
from advtransfer.provenance import source_hash
from advtransfer.records import Arrays, Tables, recorded
from advtransfer.training import Precision, TrainingError, cached, fit_classifier

Architecture = Literal["fully_connected", "lenet", "alexnet", "resnet18", "resnet50"]
RESIDUAL = ("resnet18", "resnet50")  # with BatchNorm; the three others are plain
TARGET_MODEL = "resnet18"

TARGETS = {
    "cifar10-shift": "CIFAR-10 under a shift of colour and blur, not STL-10",
    "tiny-imagenet-10": "ten classes of Tiny ImageNet, not STL-10",
    "stl10": "STL-10",
    "generated": "made-up images",
}
"""What each target domain is, in words for the page."""


class Config(BaseConfig):
    """The image experiment; what it leaves out of the released protocol is set by the profile."""

    PROFILES: ClassVar = {
        "smoke": {
            "target": "generated", "width": 4, "plain_width": 16, "train_images": 200, "test_images": 100, "epochs": 3,
            "target_epochs": 6, "finetune_epochs": 2, "batch_size": 20, "attack_steps": 3, "samples": 50,
        },
        "quick": {},  # the values below
        "paper": {
            "target": "stl10", "width": 64, "plain_width": 64, "train_images": 50_000, "test_images": 10_000,
            "epochs": 100, "target_epochs": 100, "finetune_epochs": 10, "batch_size": 64, "lr": 0.1, "plain_lr": 0.1,
            "attack_steps": 50, "samples": 10_000,
        },
    }  # fmt: skip

    target: Literal["cifar10-shift", "tiny-imagenet-10", "stl10", "generated"] = Field(
        "cifar10-shift", description="data set to transfer to; generated: made-up images for both domains"
    )
    architectures: tuple[Architecture, ...] = Field(
        ("fully_connected", "lenet", "alexnet", "resnet18", "resnet50"), min_length=1, description="the source models"
    )
    width: int = Field(8, ge=1, le=256, description="channels of the residual networks' first stage; released: 64")
    plain_width: int = Field(32, ge=1, le=256, description="size of the three other networks, of 64 as released")
    train_images: int = Field(6000, ge=10, description="source images to train on, at most")
    test_images: int = Field(4000, ge=10, description="test images of each domain, at most")
    epochs: int = Field(4, ge=1, le=10_000, description="passes over the source images")
    target_epochs: int = Field(6, ge=1, le=10_000, description="passes of the target model over its own images")
    finetune_epochs: int = Field(2, ge=1, le=10_000, description="passes of a new head over the target's images")
    batch_size: int = Field(32, ge=2, description="images a step of training")
    lr: float = Field(0.05, gt=0, description="first learning rate of the residual networks and of all new heads")
    plain_lr: float = Field(0.05, gt=0, description="first learning rate of the networks without BatchNorm")
    batchnorm_adapts: bool = Field(True, description="let BatchNorm adapt to the target in fine-tuning, as released")
    precision: Precision = Field("float32", description="arithmetic of training: float32 or bfloat16")
    eps: Epsilon = Field(0.1, description="radius of the attack, for pixels in [0, 1]")
    attack: Literal["pgd", "mi_fgsm", "fgsm"] = Field("pgd", description="pgd, mi_fgsm or fgsm")
    norm: Literal["linf", "l2"] = Field("linf", description="norm of the ball: linf or l2")
    attack_steps: int = Field(10, ge=1, le=10_000, description="steps of the attack; fgsm has one")
    step_size: float = Field(0.1, gt=0, le=10, description="length of a step as a multiple of eps")
    attack_loss: Literal["cross_entropy", "deviation"] = Field(
        "cross_entropy", description="what attacks climb: cross_entropy or deviation (equation 3)"
    )
    samples: int = Field(500, ge=10, description="target test images to attack, at most")
    only_correct: bool = Field(True, description="attack only images that the target model classifies correctly")

    @field_validator("architectures")
    @classmethod
    def _different(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("each architecture once")
        return value

    @field_validator("batch_size")
    @classmethod
    def _one_batch(cls, value: int, info: ValidationInfo) -> int:
        if value > info.data.get("train_images", value):
            raise ValueError(f"at most the {info.data['train_images']} train_images")
        return value


def needed(config: Config) -> list[str]:
    """The data sets that must be in the data root."""
    real = config.target != "generated"
    return list(dict.fromkeys(["cifar10", source(config.target).derived_from or config.target])) if real else []


def inputs(config: Config) -> dict[str, str]:
    """The checksum of each data set's file, or ``"missing"``."""
    paths = {name: store.image_path(storage.data_root(), name) for name in needed(config)}
    return {name: storage.sha256(path) if path.is_file() else "missing" for name, path in paths.items()}


class Domains(NamedTuple):
    """Where the source models come from, and where they go."""

    source: ImageDataset
    target: ImageDataset


def domains(config: Config) -> Domains:
    """Load both data sets and draw what `config` asks for; the target's training images are always all there.

    Raises
    ------
    DataUnavailable
        One is not in the data root; the message gives the command that fetches it.
    """
    if config.target == "generated":
        make = partial(generated, seed=config.seed, n_train=config.train_images, n_test=config.test_images)
        return Domains(make(), make(shift=True))
    held_out = config.target if source(config.target).derived_from == "cifar10" else None
    origin, target = load("cifar10", without=held_out), load(config.target)
    return Domains(
        _drawn(config, origin, config.train_images, config.test_images),
        _drawn(config, target, len(target.x_train), config.test_images),
    )


def _drawn(config: Config, data: ImageDataset, train: int, test: int) -> ImageDataset:
    """At most so many images of each split, drawn at random and in their order."""
    a = _sample(config, torch.arange(len(data.x_train)), train, "training images")
    b = _sample(config, torch.arange(len(data.x_test)), test, "test images")
    return replace(data, x_train=data.x_train[a], y_train=data.y_train[a], x_test=data.x_test[b], y_test=data.y_test[b])


def _sample(config: Config, pool: Tensor, size: int, what: str) -> Tensor:
    """At most `size` of `pool`, drawn at random and in their order."""
    drawn = torch.randperm(len(pool), generator=torch.Generator().manual_seed(_seed(config, what)))
    return pool[drawn[:size].sort()[0]]


@recorded
def run(config: Config) -> tuple[Tables, Arrays]:
    """Train, transfer and attack.

    Tables ``sources`` (a row an architecture), ``target``, ``correlations`` (over the rows, here and in print);
    arrays ``alpha1`` and ``loss`` (architectures, samples), ``index`` (samples) among the target's test images.
    """
    data = domains(config)
    attack = attack_of(config)
    rows, samples = [], []

    target_model = _trained(config, TARGET_MODEL, data.target, "target")
    target = prepare(target_model)
    target_logits = logits(target, data.target.x_test)
    chosen = _chosen(config, target_logits.argmax(1) == data.target.y_test)
    x = pixels(data.target.x_test[chosen])
    delta_target = attacked(target, attack, x)
    d11 = deviation(target, x, delta_target)

    for name in config.architectures:
        trained = _trained(config, name, data.source, "source")
        tuned = logits(prepare(_fine_tuned(config, name, trained, data)), data.target.x_test)
        losses = F.cross_entropy(tuned, data.target.y_test, reduction="none").double()
        model = prepare(trained)
        d12, d22 = deviation(model, x, delta_target), deviation(model, x, attacked(model, attack, x))
        found = metrics.from_deviations(d11, d12, d22)
        own = accuracy("source_accuracy", logits(model, data.source.x_test), data.source.y_test)
        by_sample = table1.correlation(found.alpha1_samples.numpy(), losses[chosen].numpy())
        rows.append(
            {
                "architecture": name,
                "label": images.LABELS[name],
                "parameters": size(trained),
                **own,
                "trained": own["source_accuracy_low"] > 1 / len(data.source.classes),
                **accuracy("transfer_accuracy", tuned, data.target.y_test),
                "transfer_loss": losses.mean().item(),
                **metric_columns(found, estimators.intervals(d11, d12, d22)),
                **table1.prefixed("pearson", by_sample),
                "n": found.n,
                "undefined": found.undefined,
            }
        )
        samples.append((found.alpha1_samples, losses[chosen]))

    sources = pd.DataFrame(rows)
    about = {
        "label": images.LABELS[TARGET_MODEL],
        "parameters": size(target_model),
        **accuracy("accuracy", target_logits, data.target.y_test),
        "attacked": len(chosen),
        "train_images": len(data.target.x_train),
        "test_images": len(data.target.x_test),
        "source_train_images": len(data.source.x_train),
        "source_test_images": len(data.source.x_test),
    }
    tables = {"sources": sources, "target": pd.DataFrame([about]), "correlations": table1.correlations(sources)}
    alpha1, loss = (torch.stack(each).numpy() for each in zip(*samples, strict=True))
    return tables, {"alpha1": alpha1, "loss": loss, "index": chosen.numpy()}


def attack_of(config: Config) -> metrics.Attack:
    """The attack that `config` describes; the same for every model, its random start included."""
    options: dict[str, Any] = {"eps": config.eps, "norm": config.norm, "loss": config.attack_loss}
    if config.attack != "fgsm":
        options |= {"steps": config.attack_steps, "step_size": config.step_size * config.eps}
    options["random_start"] = config.attack == "pgd" or config.attack_loss == "deviation"
    method = getattr(attacks, config.attack)

    def attack(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(_seed(config, "attack"))
        return torch.cat([method(model, part, generator=generator, **options) for part in x.split(PASS)])

    return attack


def _chosen(config: Config, correct: Tensor) -> Tensor:
    """Positions of the test images to attack, in order: drawn among all or among those classified correctly."""
    pool = correct.nonzero().squeeze(1) if config.only_correct else torch.arange(len(correct))
    if len(pool) < 3:
        raise TrainingError(
            f"the target model classifies {len(pool)} of {len(correct)} test images correctly; expected at least 3 to "
            "attack: train it longer, or set only_correct=False"
        )
    return _sample(config, pool, config.samples, "samples")


# Training: every model is kept, and found again by all that it depends on.


def _trained(config: Config, name: str, data: ImageDataset, role: Literal["source", "target"]) -> ImageModel:
    """An architecture trained on `data`."""
    settings = _settings(config, name, data, role)
    generator = torch.Generator().manual_seed(_seed(config, "weights", role, name))
    model = images.build(name, num_classes=len(data.classes), width=settings["width"], generator=generator)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    fit = partial(
        fit_classifier, model, data.x_train, data.y_train,
        epochs=settings["epochs"], lr=settings["lr"], batch_size=config.batch_size, precision=config.precision,
        seed=_seed(config, role, name), label=f"{images.LABELS[name]}, {role}",
    )  # fmt: skip
    model.load_state_dict(cached(settings, lambda: fit().state_dict()))
    return model.eval()


def _fine_tuned(config: Config, name: str, source_model: ImageModel, data: Domains) -> ImageModel:
    """A source model with a new head, fitted to the target's training images; the rest of it is not trained."""
    generator = torch.Generator().manual_seed(_seed(config, "head", name))
    model = images.with_new_head(source_model, len(data.target.classes), generator)
    settings = {
        "source": _settings(config, name, data.source, "source"),
        "target": data.target.digest,
        "epochs": config.finetune_epochs,
        "lr": config.lr,
        "adapt_norm": config.batchnorm_adapts,
    }
    fit = partial(
        fit_classifier, model, data.target.x_train, data.target.y_train,
        parameters=list(model.head.parameters()), adapt_norm=config.batchnorm_adapts,
        epochs=config.finetune_epochs, lr=config.lr, batch_size=config.batch_size, precision=config.precision,
        seed=_seed(config, "fine-tuning", name), label=f"{images.LABELS[name]}, new head",
    )  # fmt: skip
    model.load_state_dict(cached(settings, lambda: fit().state_dict()))
    return model.eval()


def _settings(config: Config, name: str, data: ImageDataset, role: Literal["source", "target"]) -> dict[str, Any]:
    """All that the weights of a trained model depend on."""
    return {
        "models": source_hash(images.__name__),
        "role": role,
        "architecture": name,
        "width": config.width if name in RESIDUAL else config.plain_width,
        "data": data.digest,
        "epochs": config.epochs if role == "source" else config.target_epochs,
        "lr": config.lr if name in RESIDUAL else config.plain_lr,
        **config.model_dump(mode="json", include={"seed", "batch_size", "precision"}),
    }


def _seed(config: Config, *what: str) -> int:
    """A seed for each random thing, so that leaving one out changes no other."""
    return int.from_bytes(hashlib.sha256(repr((config.seed, *what)).encode()).digest()[:4])
