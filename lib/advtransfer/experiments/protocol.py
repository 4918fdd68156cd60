"""How the image experiments are run: their shared parameters, and how models are trained, fine-tuned and attacked.

This is the released protocol, with a switch wherever text and code disagree. Weights are cached under everything that
they depend on, so experiments that need the same model share it.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from torch import Tensor, nn

from advtransfer import attacks, metrics
from advtransfer.checks import expected_radius
from advtransfer.datasets import ImageDataset, generated, load, store
from advtransfer.datasets.sources import source
from advtransfer.models import images
from advtransfer.models.images import Architecture, ImageModel
from advtransfer.modes import Model, evaluating
from advtransfer.records import storage, weights
from advtransfer.records.configs import Config as BaseConfig
from advtransfer.records.configs import Epsilon
from advtransfer.records.provenance import device
from advtransfer.training.images import Perturb, Schedule, fit_classifier
from advtransfer.training.loop import Precision, TrainingError

Target = Literal["cifar10-shift", "tiny-imagenet-10", "stl10", "generated"]
RESIDUAL = ("resnet18", "resnet50")  # with BatchNorm; the three others are plain
TARGET_MODEL: Architecture = "resnet18"
SHIFTED: Target = "cifar10-shift"
CODE = ("advtransfer.training.images", "advtransfer.models.images")  # what trained weights depend on
ROBUST_CODE = (*CODE, "advtransfer.attacks")
PASS, PASS_ON_GPU = 100, 500  # images per pass of an attack
ROBUST_STEPS, ROBUST_STEP = 2, 0.75  # steps of PGD in adversarial training, and the length of each over the radius

SHORT = {
    "cifar10-shift": "shifted CIFAR-10",
    "tiny-imagenet-10": "Tiny ImageNet",
    "stl10": "STL-10",
    "generated": "made-up images",
}
"""The short name of each target domain, for the head of a column."""

SMOKE = {
    "target": "generated", "width": 4, "target_width": 4, "plain_width": 16, "train_images": 200, "test_images": 100,
    "epochs": 3, "plain_epochs": 3, "target_epochs": 6, "finetune_epochs": 2, "batch_size": 20, "attack_steps": 3,
    "samples": 50, "gradients": 10,
}  # fmt: skip
# The released protocol, in mixed precision where the released code computes in float32.
PAPER: dict[str, Any] = {
    "target": "stl10", "width": 64, "target_width": 64, "plain_width": 64, "train_images": 50_000,
    "test_images": 10_000, "epochs": 100, "plain_epochs": 100, "target_epochs": 100, "finetune_epochs": 10,
    "batch_size": 64, "lr": 0.1, "plain_lr": 0.1, "checkpoint": "best", "precision": "bfloat16", "attack_steps": 50,
    "samples": 10_000, "gradients": 500,
}  # fmt: skip


def _once(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) < len(values):
        raise ValueError("each once")
    return values


Once = AfterValidator(_once)


def pixel_radius(eps: float, norm: str = "linf") -> float:
    """A radius for images of 3 × 32 × 32 pixels in [0, 1], refused if it is larger than their box."""
    if instead := expected_radius(eps, norm, 1.0, 3 * 32 * 32):
        raise ValueError(instead)
    return eps


class ImageConfig(BaseConfig):
    """The parameters that all image experiments share; profiles set them, up to the sizes of the released protocol."""

    target: Target = Field(
        "cifar10-shift", description="data set to transfer to; generated: made-up images for both domains"
    )
    width: int = Field(8, ge=1, le=256, description="channels of the residual sources' first stage; released: 64")
    target_width: int = Field(8, ge=1, le=256, description="channels of the target model's first stage; released: 64")
    plain_width: int = Field(32, ge=1, le=256, description="size of the three other networks, of 64 as released")
    train_images: int = Field(6000, ge=10, description="source images to train on, at most")
    test_images: int = Field(4000, ge=10, description="test images of each domain, at most")
    epochs: int = Field(4, ge=1, le=10_000, description="passes of the residual sources over the source images")
    plain_epochs: int = Field(4, ge=1, le=10_000, description="passes of the sources without BatchNorm")
    target_epochs: int = Field(6, ge=1, le=10_000, description="passes of the target model over its own images")
    finetune_epochs: int = Field(2, ge=1, le=10_000, description="passes of a new head over the target's images")
    batch_size: int = Field(32, ge=2, description="images per step of training")
    lr: float = Field(0.05, gt=0, description="highest learning rate of the residual networks and of all new heads")
    plain_lr: float = Field(0.05, gt=0, description="highest learning rate of the networks without BatchNorm")
    schedule: Schedule = Field(
        "cosine", description="learning rate: cosine, as released, or one_cycle, which first rises"
    )
    weight_decay: float = Field(1e-4, ge=0, description="weight decay of SGD")
    augment: bool = Field(True, description="shift and mirror the source images at random in training")
    robust_eps: Annotated[float, Field(ge=0), AfterValidator(pixel_radius)] = Field(
        0.0, description="radius of the PGD examples on which the sources are trained; 0: the images themselves"
    )
    hold_out: bool = Field(
        False, description="train without the images of cifar10-shift for every target, so that targets share sources"
    )
    checkpoint: Literal["last", "best"] = Field(
        "last", description="weights kept: of the last epoch, or, as released, of the best test accuracy"
    )
    batchnorm_adapts: bool = Field(True, description="let BatchNorm adapt to the target in fine-tuning, as released")
    precision: Precision = Field(
        "float32", description="arithmetic of training and attacks: float32, or bfloat16 where the device has it"
    )
    attack: Literal["pgd", "mi_fgsm", "fgsm"] = Field("pgd", description="pgd, mi_fgsm or fgsm")
    norm: Literal["linf", "l2"] = Field("linf", description="norm of the ball: linf or l2")
    eps: Epsilon = Field(0.1, description="radius of the attack, for pixels in [0, 1]")
    attack_steps: int = Field(10, ge=1, le=10_000, description="steps of the attack; fgsm has one")
    step_size: float = Field(0.1, gt=0, le=10, description="length of a step as a multiple of eps")
    attack_loss: Literal["cross_entropy", "deviation"] = Field(
        "cross_entropy", description="what attacks climb: cross_entropy or deviation (equation 3)"
    )
    samples: int = Field(500, ge=10, description="target test images to attack, at most")
    only_correct: bool = Field(True, description="attack only images that the target model classifies correctly")
    gradients: int = Field(50, ge=10, description="attacked images whose Jacobians are matched, at most")

    @field_validator("eps")
    @classmethod
    def _in_the_box(cls, value: float, info: ValidationInfo) -> float:
        return pixel_radius(value, info.data.get("norm", "linf"))

    @field_validator("batch_size")
    @classmethod
    def _one_batch(cls, value: int, info: ValidationInfo) -> int:
        if value > info.data.get("train_images", value):
            raise ValueError(f"at most the {info.data['train_images']} train_images")
        return value


def required(config: ImageConfig) -> list[str]:
    """The data sets that must be in the data root."""
    real = config.target != "generated"
    return list(dict.fromkeys(["cifar10", source(config.target).derived_from or config.target])) if real else []


def files(config: ImageConfig) -> dict[str, Path]:
    """The file of each data set that is read."""
    return {name: store.image_path(storage.data_root(), name) for name in required(config)}


class Domains(NamedTuple):
    """The data of the source models and the data to which they are transferred."""

    source: ImageDataset
    target: ImageDataset


def domains(config: ImageConfig) -> Domains:
    """Load both data sets completely, or make them up.

    Raises
    ------
    DataUnavailable
        A data set is not in the data root; the message gives the command that fetches it.
    """
    if config.target == "generated":
        make = partial(generated, seed=config.seed, n_train=config.train_images, n_test=config.test_images)
        return Domains(make(), make(shift=True))
    shared = config.hold_out or config.target == SHIFTED
    return Domains(load("cifar10", without=SHIFTED if shared else None), load(config.target))


def drawn(config: ImageConfig, data: ImageDataset, *, train: int | None = None) -> ImageDataset:
    """At most `train` training images (None: all) and `test_images` test images, drawn at random but kept in order."""
    a = sample(config, torch.arange(len(data.x_train)), train or len(data.x_train), "training images")
    b = sample(config, torch.arange(len(data.x_test)), config.test_images, "test images")
    return replace(data, x_train=data.x_train[a], y_train=data.y_train[a], x_test=data.x_test[b], y_test=data.y_test[b])


def sample(config: ImageConfig, pool: Tensor, size: int, what: str) -> Tensor:
    """At most `size` elements of `pool`, drawn at random but kept in order."""
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(config.seed_of(what)))
    return pool[order[:size].sort()[0]]


# Training.


class Recipe(NamedTuple):
    """How a model is made: its architecture, its size, how long and how fast it learns, and from which images."""

    architecture: Architecture
    width: int
    epochs: int
    lr: float
    role: str
    augment: bool = True
    robust_eps: float = 0.0


def source_recipe(config: ImageConfig, architecture: Architecture, role: str = "source") -> Recipe:
    """How to make a source model, according to `config`."""
    residual, plain = (
        (config.width, config.epochs, config.lr),
        (config.plain_width, config.plain_epochs, config.plain_lr),
    )
    size = residual if architecture in RESIDUAL else plain
    return Recipe(architecture, *size, role, config.augment, config.robust_eps)


def target_recipe(config: ImageConfig, role: str = "target") -> Recipe:
    """How to make the target model, according to `config`."""
    return Recipe(TARGET_MODEL, config.target_width, config.target_epochs, config.lr, role)


def trained(config: ImageConfig, recipe: Recipe, data: ImageDataset) -> ImageModel:
    """A model trained on `data`, on the device, with the weights of its last or its best epoch.

    Raises
    ------
    TrainingError
        The loss did not stay finite.
    """
    seeds = [config.seed_of(what, recipe.role, recipe.architecture) for what in ("weights", "order")]
    generator = torch.Generator().manual_seed(seeds[0])
    model = images.build(
        recipe.architecture, num_classes=len(data.classes), width=recipe.width, generator=generator
    ).to(device())
    fit = partial(
        fit_classifier, model, data.x_train, data.y_train, watch=(data.x_test, data.y_test), epochs=recipe.epochs,
        lr=recipe.lr, augment=recipe.augment, perturb=adversary(config, recipe.robust_eps), seed=seeds[1],
        label=f"{images.LABELS[recipe.architecture]}, {recipe.role}", **_shared(config),
    )  # fmt: skip
    settings = {**recipe._asdict(), "seeds": seeds, "data": data.digest, **_shared(config)}
    if recipe.robust_eps:
        settings["perturbed"] = [ROBUST_STEPS, ROBUST_STEP]
    return _kept(config, model, settings, fit, code=ROBUST_CODE if recipe.robust_eps else CODE)


def _shared(config: ImageConfig) -> dict[str, Any]:
    """The settings that all training of a run shares."""
    return config.model_dump(mode="json", include={"batch_size", "precision", "schedule", "weight_decay"})


def adversary(config: ImageConfig, eps: float) -> Perturb | None:
    """The attack of adversarial training (Madry et al. 2018): PGD in the ℓ∞ ball of `eps`; None for a radius of 0."""
    if not eps:
        return None

    def perturb(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        with evaluating(model):
            climbed = _in_bfloat16(model) if config.precision == "bfloat16" else model
            return attacks.pgd(
                climbed, x, y=y, eps=eps, steps=ROBUST_STEPS, step_size=ROBUST_STEP * eps, generator=generator
            )

    return perturb


def fine_tuned(config: ImageConfig, model: ImageModel, name: str, data: ImageDataset) -> ImageModel:
    """A copy of a source model with a new head, fitted to the target's training images; the rest is not trained."""
    seeds = [config.seed_of(what, name) for what in ("head", "fine-tuning")]
    tuned = images.with_new_head(model, len(data.classes), torch.Generator().manual_seed(seeds[0]))
    fit = partial(
        fit_classifier, tuned, data.x_train, data.y_train, watch=(data.x_test, data.y_test),
        parameters=list(tuned.head.parameters()), adapt_norm=config.batchnorm_adapts, epochs=config.finetune_epochs,
        lr=config.lr, seed=seeds[1], label=f"{images.LABELS.get(name, name)}, new head", **_shared(config),
    )  # fmt: skip
    settings = {
        "source": weights.content(model.state_dict()),
        "seeds": seeds,
        "data": data.digest,
        "epochs": config.finetune_epochs,
        **config.model_dump(mode="json", include={"lr", "batchnorm_adapts"}),
        **_shared(config),
    }
    return _kept(config, tuned, settings, fit)


def _kept(
    config: ImageConfig,
    model: ImageModel,
    settings: dict[str, Any],
    fit: Callable[..., Any],
    code: tuple[str, ...] = CODE,
) -> ImageModel:
    """`model` with those weights of `fit` that `config` chooses (last or best), from the cache if they are there."""

    def train(checkpoint: weights.Checkpoint) -> weights.Weights:
        result = fit(checkpoint=checkpoint)
        states = {f"{which}/{n}": t for which in ("last", "best") for n, t in getattr(result, which).items()}
        return {**states, "accuracy": result.accuracy}

    both = weights.cached(settings, train, code=code)
    chosen = {n.partition("/")[2]: t for n, t in both.items() if n.startswith(f"{config.checkpoint}/")}
    weights.restore(model, chosen)
    return model.eval()


# Attacks.


def attack_of(config: ImageConfig, **options: Any) -> metrics.Attack:
    """The attack that `config` describes, changed by `options`. Its random start is the same for every model."""
    settings: dict[str, Any] = {"eps": config.eps, "norm": config.norm, "loss": config.attack_loss}
    if config.attack != "fgsm":
        settings |= {"steps": config.attack_steps, "step_size": config.step_size * config.eps}
    settings["random_start"] = config.attack == "pgd" or config.attack_loss == "deviation"
    return climbing(config, getattr(attacks, config.attack), **settings | options)


def climbing(config: ImageConfig, method: Callable[..., Tensor], **options: Any) -> metrics.Attack:
    """One of `attacks` as a function of model and images, which works in parts and in the precision of `config`."""

    def attack(model: Model, x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(config.seed_of("attack"))
        climbed = _in_bfloat16(model) if config.precision == "bfloat16" else model
        parts = x.split(PASS_ON_GPU if x.is_cuda else PASS)
        return torch.cat([method(climbed, part, generator=generator, **options) for part in parts])

    return attack


def _in_bfloat16(model: Model) -> Model:
    def mixed(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            return model(x).float()

    return mixed


def attackable(config: ImageConfig, correct: Tensor, outputs: int) -> Tensor:
    """Positions of the test images to attack, in order, drawn from all or from those that are classified correctly.

    Raises
    ------
    TrainingError
        There are fewer such images than the model has outputs.
    """
    pool = correct.nonzero().squeeze(1) if config.only_correct else torch.arange(len(correct))
    if len(pool) < outputs:
        raise TrainingError(
            f"the target model classifies {len(pool)} of {len(correct)} test images correctly; expected at least as "
            f"many samples as outputs ({outputs}): train it longer, or set only_correct=False"
        )
    return sample(config, pool, config.samples, "samples")
