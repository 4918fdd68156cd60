"""How the published sources are trained: beside the released recipe at equal cost, and half as many epochs again.

    python benchmarks/schedules.py [--epochs 12] [--out data/results/schedules.json]

Equal cost means the same network, images and number of passes. The longer training asks whether the plain networks have
come to rest. It takes about an hour on two cores; each part is stored when it is done, and not made again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from evidence import IMAGES, config_of

from advtransfer.experiments import vision
from advtransfer.models import images
from advtransfer.records.provenance import device, environment
from advtransfer.training.images import fit_classifier

OUT = Path(__file__).parents[1] / "data" / "results" / "schedules.json"
WIDTH = 16  # of the ResNet18 with which the recipes are compared
RECIPES: dict[str, dict[str, Any]] = {
    "released": {"schedule": "cosine", "lr": 0.1, "weight_decay": 1e-4, "batch_size": 64},
    "one-cycle": {
        "schedule": IMAGES["schedule"], "lr": IMAGES["lr"], "weight_decay": IMAGES["weight_decay"],
        "batch_size": IMAGES["batch_size"],
    },
}  # fmt: skip
PLAIN = ("fully_connected", "lenet", "alexnet")


def curve(architecture: str, width: int, epochs: int, recipe: dict[str, Any]) -> list[float]:
    """Accuracy on CIFAR-10's test images after each epoch."""
    config = config_of("vision/trained", 0, smoke=False)
    data = vision.loaded(config).source
    model = images.build(architecture, width=width, generator=torch.Generator().manual_seed(0)).to(device())
    fit = fit_classifier(
        model, data.x_train, data.y_train, epochs=epochs, watch=(data.x_test, data.y_test), precision=config.precision,
        label=architecture, **recipe,
    )  # fmt: skip
    return fit.accuracy.tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12, help="passes in the comparison with the released recipe")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    wanted = [("recipes", "resnet18", WIDTH, options.epochs, name) for name in RECIPES]
    longer = IMAGES["plain_epochs"] * 3 // 2
    wanted += [("longer", name, IMAGES["plain_width"], longer, "one-cycle, plain") for name in PLAIN]
    rows = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else []
    for part, architecture, width, epochs, name in wanted:
        about = {"part": part, "architecture": architecture, "width": width, "epochs": epochs, "recipe": name}
        if any(about.items() <= row.items() for row in rows):
            continue
        recipe = RECIPES.get(name) or RECIPES["one-cycle"] | {"lr": IMAGES["plain_lr"]}
        found = curve(architecture, width, epochs, recipe)
        rows.append({**about, **recipe, "accuracy": found, "device": environment()["device"]})
        options.out.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        print(f"{part}, {architecture}, {name}: {found[-1]:.3f}", flush=True)


if __name__ == "__main__":
    main()
