"""How much of a network's Jacobian its first attack accounts for: ρ, and the fraction of equation 12, from all attacks
and from the first alone.

    python benchmarks/first_attacks.py [SERIES ...] [--seed 2] [--out data/results/first_attacks.json]

The networks are those of the published runs of images. They are trained if the cache does not have them, which takes
hours (see evidence.py); with them, a series takes minutes. Each series is stored when it is done, and not made again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evidence import POOL, config_of
from scipy import stats
from torch import Tensor

from advtransfer import matching, spectral
from advtransfer.experiments import evaluation, protocol, vision
from advtransfer.records.provenance import device, environment

OUT = Path(__file__).parents[1] / "data" / "results" / "first_attacks.json"
NAMES = [f"{name}{target}" for name in POOL for target in ("", "-shift")]


def share(jac: Tensor) -> dict[str, float]:
    """ρ of Jacobians (N, d, n), and a 95% interval over the samples."""
    first = spectral.singular_attacks(jac, k=1).sigma[:, 0].double().square().cpu().numpy()
    whole = jac.double().square().sum((1, 2)).cpu().numpy()

    def ratio(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        return a.mean(axis) / b.mean(axis)

    found = stats.bootstrap((first, whole), ratio, paired=True, rng=np.random.default_rng(0)).confidence_interval
    return {"rho": float(ratio(first, whole, 0)), "rho_low": float(found.low), "rho_high": float(found.high)}


def measured(name: str, seed: int) -> list[dict[str, Any]]:
    """A row for each source of a run and each direction."""
    config = config_of(f"vision/{name}", seed, smoke=False)
    data = vision.loaded(config)
    models = vision.trained(config, data)
    rows = protocol.sample(config, torch.arange(len(data.target.y_test)), config.gradients, "first attacks")
    x = evaluation.pixels(data.target.x_test[rows]).to(device())
    target = spectral.jacobian(models.target, x)
    of_target = share(target)
    about = {"series": name, "seed": seed, "target": config.target, "n": len(x), "device": environment()["device"]}
    found = []
    for architecture, model in models.sources.items():
        source = spectral.jacobian(model, x)
        for direction, pair, own in (("T→S", (target, source), of_target), ("S→T", (source, target), share(source))):
            ratio = matching.theorem_ratio(*pair)
            fractions = {"ratio": ratio.ratio, "ratio_first": ratio.ratio_first}
            found.append({**about, "architecture": architecture, "direction": direction, **own, **fractions})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("series", nargs="*", default=NAMES, metavar="SERIES", help=", ".join(NAMES))
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    if unknown := [name for name in options.series if name not in NAMES]:
        parser.error(f"unknown series {', '.join(unknown)}; expected some of {', '.join(NAMES)}")
    rows = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else []
    for name in options.series:
        if any(row["series"] == name and row["seed"] == options.seed for row in rows):
            continue
        rows += measured(name, options.seed)
        options.out.write_text(json.dumps(rows, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{name}, seed {options.seed}: {len(rows)} rows", flush=True)


if __name__ == "__main__":
    main()
