"""The published runs, and how to make them again: each series with its parameters, one run per seed.

    python benchmarks/evidence.py [SERIES ...] [--seed 0] [--models NAME ...] [--list]

A run that is published already is left alone; `--list` says which are. `--models` only trains these models of the
runs (of images: target, resnet50, ...; of texts: imdb, mr, ...), so that several processes can share the work. A run
that was stopped goes on from the last epoch of the model that it was training, as long as the cache is there. On a CPU
it takes hours: start it with `nice`.
"""

import argparse
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from advtransfer.datasets.variants import VARIANTS
from advtransfer.experiments import (
    ablations,
    protocol,
    selection,
    selection_texts,
    similarity,
    synthetic,
    text,
    text_protocol,
    vision,
)
from advtransfer.models.images import ARCHITECTURES
from advtransfer.records import published

IMAGES = {
    "profile": "paper", "target": "tiny-imagenet-10", "hold_out": True, "width": 32, "plain_width": 64,
    "target_width": 32, "train_images": 50_000, "test_images": 5_000, "epochs": 24, "plain_epochs": 40,
    "target_epochs": 100, "finetune_epochs": 20, "batch_size": 256, "lr": 0.2, "plain_lr": 0.1, "schedule": "one_cycle",
    "weight_decay": 5e-4, "checkpoint": "last", "attack_steps": 20, "step_size": 0.1, "samples": 1000, "gradients": 100,
}  # fmt: skip
SLIM = IMAGES | {"width": 16, "plain_width": 32, "epochs": 8, "plain_epochs": 8}
SHIFT = {"target": "cifar10-shift"}
POOL = {
    "trained": IMAGES,
    "brief": IMAGES | {"epochs": 3, "plain_epochs": 3},
    "slim": SLIM,
    "unaugmented": SLIM | {"augment": False},
    "robust": SLIM | {"robust_eps": 2 / 255},
    "few": SLIM | {"train_images": 5_000, "epochs": 60, "plain_epochs": 60},
}
"""The recipes of the source models: five architectures in each."""
SKETCH = SLIM | {"width": 8, "plain_width": 16, "epochs": 3, "plain_epochs": 3}
SELECTED = {name: POOL[name] for name in ("slim", "few", "unaugmented", "brief", "robust")} | {"sketch": SKETCH}
"""The recipes of the study of scores; beside them are networks that were not trained at all."""
TUNED = {
    "tuned": {}, "brief": {"epochs": 1}, "few": {"train_texts": 200}, "pretrained": {"epochs": 0, "corpora": ("mr",)},
}  # fmt: skip
"""The ways of fine-tuning text models for the study of scores; the pretrained encoder as it is, is a control."""
FOR_SCORES = {"target_width": 16, "target_epochs": 30, "attack_steps": 10, "samples": 200, "gradients": 30}
FULLY_TUNED = ("tiny-imagenet-10", "cifar10-shift")  # the targets on which all weights are trained, too
RELEASED = IMAGES | {"width": 64, "target_width": 64}
SUBSETS = IMAGES | {"width": 16, "target_width": 16, "epochs": 20}
TEXTS = {
    "profile": "paper", "encoder": "minilm-l6", "sources": ("mr", "yelp", "ag", "fake", "ag-two"), "max_length": 128,
    "test_texts": 5000, "epochs": 2, "batch_size": 32, "lr": 1e-4, "dropout": 0.0, "samples": 300, "patience": 10,
    "embedding_steps": 10, "gradients": 50,
    "sentence_steps": 100, "sentence_words": 15, "sentence_pieces": 25_000, "sentence_vocabulary": 4000,
    "sentence_epochs": 12, "sentence_dropout": 0.0,
}  # fmt: skip


def _for_scores(recipe: dict[str, Any], target: str) -> dict[str, Any]:
    return recipe | FOR_SCORES | {"target": target, "full_epochs": 3 if target in FULLY_TUNED else 0}


class Series(NamedTuple):
    """What to run, with which parameters, and how many samples of it to publish."""

    experiment: types.ModuleType
    parameters: dict[str, Any]
    samples: int = 300


def _both(name: str, given: dict[str, Any], samples: int = 300) -> dict[str, Series]:
    """A series on each of the two targets."""
    return {
        f"vision/{name}": Series(vision, given, samples),
        f"vision/{name}-shift": Series(vision, given | SHIFT, samples),
    }


SERIES = {
    **_both("trained", IMAGES, 1000),
    **_both("brief", POOL["brief"]),
    **_both("slim", POOL["slim"]),
    **_both("unaugmented", POOL["unaugmented"]),
    **_both("robust", POOL["robust"]),
    **_both("few", POOL["few"]),
    **_both("released", RELEASED, 1000),
    "similarity/trained": Series(similarity, SUBSETS, 1000),
    "similarity/trained-shift": Series(similarity, SUBSETS | SHIFT, 1000),
    "ablations/trained": Series(ablations, SUBSETS | {"samples": 300, "gradients": 50}, samples=120),
    "text/whole": Series(text, TEXTS),
    **{
        f"selection/{name}-{target}": Series(selection, _for_scores(recipe, target))
        for name, recipe in {**SELECTED, "untrained": SLIM | {"untrained": True}}.items()
        for target in VARIANTS
    },
    **{
        f"selection_texts/{name}-{target}": Series(selection_texts, given | {"target": target})
        for name, given in TUNED.items()
        for target in ("imdb", "mr", "yelp", "ag", "fake")
    },
}


def precision() -> str:
    """bfloat16 where this device computes it faster than float32."""
    fast = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if fast else "float32"


def config_of(name: str, seed: int, smoke: bool) -> Any:
    """The parameters of one run of a series; for `smoke`, of one that takes the same course in seconds."""
    given, arithmetic = SERIES[name].parameters, precision()
    if smoke:
        kept = ("augment", "robust_eps", "schedule", "hold_out", "untrained")
        given = {"profile": "smoke", **{key: given[key] for key in kept if key in given}}
        arithmetic = arithmetic if torch.cuda.is_available() else "float32"
    return SERIES[name].experiment.Config.from_profile(**given, seed=seed, precision=arithmetic)


def models_of(name: str) -> tuple[str, ...]:
    """The models of a series that can be trained before its run."""
    experiment, parameters, _ = SERIES[name]
    if experiment is text:
        return (text_protocol.TARGET, *parameters["sources"])
    return ("target", *ARCHITECTURES) if experiment in (vision, ablations) else ()


def train(name: str, config: Any, models: list[str]) -> None:
    """Train these models of a run, and keep their weights in the cache."""
    one = _texts(config) if SERIES[name].experiment is text else _images(config)
    for model in models:
        start = time.perf_counter()
        one(model)
        print(f"{name}, seed {config.seed}, {model}: trained, {time.perf_counter() - start:.0f} s", flush=True)


def _images(config: Any) -> Callable[[Any], object]:
    data = vision.loaded(config)

    def one(model: Any) -> object:
        if model == "target":
            return protocol.trained(config, protocol.target_recipe(config), data.target)
        return protocol.trained(config, protocol.source_recipe(config, model), data.source)

    return one


def _texts(config: Any) -> Callable[[Any], object]:
    """Sources are transferred, too."""
    spoken = text_protocol.language(config)
    target = text_protocol.corpus(config, text_protocol.TARGET)

    def one(model: Any) -> object:
        data = text_protocol.corpus(config, model)
        trained = text_protocol.trained(config, spoken, data, text_protocol.read(config, spoken, data))
        if model == text_protocol.TARGET:
            return trained
        return text_protocol.transferred(config, trained, model, target, text_protocol.read(config, spoken, target))

    return one


def publish(name: str, config: Any, results: Path) -> None:
    """Compute one run of a series and publish it, unless that has been done."""
    experiment, series = name.split("/")
    if f"{series}-seed{config.seed}" in published.published(experiment, results):
        return
    start = time.perf_counter()
    record = SERIES[name].experiment.run(config)
    published.publish(record, f"{series}-seed{config.seed}", samples=SERIES[name].samples, results=results)
    print(f"{name}, seed {config.seed}: published, {time.perf_counter() - start:.0f} s", flush=True)


def compare_with_released(results: Path) -> None:
    """Store our values of the synthetic experiment minus those that the authors released."""
    from advtransfer.pages import synthetic as page

    page.differences(synthetic.recomputed()).to_csv(results / page.DIFFERENCES, index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [[], *SERIES]  # the default, [], is compared with the choices, too
    parser.add_argument("series", nargs="*", choices=names, help=", ".join(SERIES), metavar="SERIES")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="only train these")
    parser.add_argument("--results", type=Path, default=published.RESULTS, help="folder of the published records")
    parser.add_argument("--smoke", action="store_true", help="made-up images and tiny models, to try the course")
    parser.add_argument("--list", action="store_true", help="say which runs are published, and stop")
    parser.add_argument("--released", action="store_true", help="only compare with the authors' released results")
    options = parser.parse_args()
    if options.released:
        return compare_with_released(options.results)
    for name in (options.series or SERIES) if options.models else ():
        if unknown := sorted({*options.models} - {*models_of(name)}):
            known = ", ".join(models_of(name)) or "no --models, for they are trained in its run"
            parser.error(f"--models: {name} does not have {', '.join(unknown)}; expected {known}")
    for name in options.series or SERIES:
        config = config_of(name, options.seed, options.smoke)
        if options.list:
            experiment, series = name.split("/")
            made = published.published(experiment, options.results).series(series)
            print(f"{name:28}", "published: " + ", ".join(made) if made else "-")
        elif options.models:
            train(name, config, options.models)
        else:
            publish(name, config, options.results)


if __name__ == "__main__":
    sys.exit(main())
