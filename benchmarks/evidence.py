"""The published runs, and how to make them again: each series with its parameters, one run per seed.

    python benchmarks/evidence.py [SERIES ...] [--seed 0] [--list]

A run that is published already is left alone; `--list` says which are. A run that was stopped goes on from the last
epoch of the model that it was training, as long as the cache is there. It takes hours: start it with `nice`.
"""

import argparse
import importlib
import sys
import time
import types
from typing import Any, NamedTuple

import torch

from advtransfer.experiments import ablations, similarity, vision
from advtransfer.pages import runs
from advtransfer.records import published

IMAGES = {
    "profile": "paper", "target": "tiny-imagenet-10", "hold_out": True, "width": 16, "plain_width": 64,
    "target_width": 16, "train_images": 50_000, "test_images": 5_000, "epochs": 24, "plain_epochs": 30,
    "target_epochs": 50, "finetune_epochs": 10, "batch_size": 128, "lr": 0.1, "plain_lr": 0.1, "schedule": "one_cycle",
    "weight_decay": 5e-4, "checkpoint": "last", "attack_steps": 20, "step_size": 0.1, "samples": 1000, "gradients": 100,
}  # fmt: skip
SLIM = IMAGES | {"width": 8, "plain_width": 32, "epochs": 10, "plain_epochs": 10}
SHIFT = {"target": "cifar10-shift"}
POOL = {
    "trained": IMAGES,
    "brief": IMAGES | {"epochs": 3, "plain_epochs": 3},
    "slim": SLIM,
    "unaugmented": SLIM | {"augment": False},
    "robust": SLIM | {"robust_eps": 2 / 255},
    "few": SLIM | {"train_images": 5_000, "epochs": 40, "plain_epochs": 40},
}
"""The recipes of the source models: five architectures in each."""


class Series(NamedTuple):
    """What to run, with which parameters."""

    experiment: types.ModuleType
    parameters: dict[str, Any]


SERIES = {
    **{f"vision/{name}": Series(vision, given) for name, given in POOL.items()},
    **{f"vision/{name}-shift": Series(vision, given | SHIFT) for name, given in POOL.items()},
    "similarity/trained": Series(similarity, IMAGES | {"epochs": 30}),
    "similarity/trained-shift": Series(similarity, IMAGES | {"epochs": 30} | SHIFT),
    "ablations/trained": Series(ablations, IMAGES),
}
PAGES = {"vision": "cifar_to_stl", "similarity": "similarity", "ablations": "ablations"}


def precision() -> str:
    """bfloat16 where this device computes it faster than float32."""
    fast = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if fast else "float32"


def publish(name: str, seed: int) -> None:
    """Compute one run of a series and publish it, unless that has been done."""
    experiment, series = name.split("/")
    if f"{series}-seed{seed}" in published.published(experiment):
        return
    module, parameters = SERIES[name]
    start = time.perf_counter()
    record = module.run(module.Config.from_profile(**parameters, seed=seed, precision=precision()))
    print(published.publish(record, f"{series}-seed{seed}", samples=300), flush=True)
    page = importlib.import_module(f"advtransfer.pages.{PAGES[experiment]}")
    print(runs.store_summary(experiment, page.summary), f"{(time.perf_counter() - start) / 60:.0f} min", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [[], *SERIES]  # the default, [], is compared with the choices, too
    parser.add_argument("series", nargs="*", choices=names, help=", ".join(SERIES), metavar="SERIES")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", action="store_true", help="say which runs are published, and stop")
    arguments = parser.parse_args()
    for name in arguments.series or SERIES:
        if arguments.list:
            experiment, series = name.split("/")
            made = published.published(experiment).series(series)
            print(f"{name:28}", "published: " + ", ".join(made) if made else "-")
        else:
            publish(name, arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
