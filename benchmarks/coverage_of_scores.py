"""How often the intervals of transferability scores hold the truth, and scores without any signal pass their floor.

    python benchmarks/coverage_of_scores.py [--simulations 400] [--sizes 120x6 120x200 500x1280] [--scores logme ...]

The samples come from Gaussian classes with fixed means, of which a source sees noisy probabilities and a target model
noisy features. The truth of an interval is the expectation of the score at this N, taken as the mean over samples that
are independent of those of the intervals. Beside it stands the expectation at 4 N: where the two differ, the score
drifts. The floor is tried on the same samples with labels in random order. A row is a score at one N and D; shares are
estimates from the simulations, with Wilson's intervals. An hour on two cores.
"""

import argparse
import math
from functools import partial

import numpy as np
import torch
from scipy import stats

from advtransfer import scores

LEVEL = 0.95
SCORES = {  # what each takes, and its keywords; n_leep and the probe are small here, because they take seconds
    "logme": ("features", {}),
    "h_score": ("features", {}),
    "transrate": ("features", {}),
    "gbc": ("features", {}),
    "leep": ("probabilities", {}),
    "nce": ("source_labels", {}),
    "n_leep": ("features", {"components_per_class": 2}),
    "parc": ("features", {}),
    "cka": ("features", {}),
    "knn": ("features", {}),
    "probe": ("features", {"folds": 3}),
}


def sample(n, d, classes, seed):
    """Features (n, d), probabilities, source labels and target features of the same samples, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(classes, d, generator=torch.Generator().manual_seed(99), dtype=torch.float64) / d**0.5

    def noise(width):
        return torch.randn(n, width, generator=generator, dtype=torch.float64)

    labels = torch.arange(n) % classes  # the class frequencies are fixed, as those of a target task are
    features = means[labels] + noise(d) / (1 + torch.arange(d)) ** 0.5
    logits = noise(2 * classes)
    logits[torch.arange(n), labels] += 1.5
    return {
        "features": features,
        "probabilities": logits.softmax(1),
        "source_labels": logits.argmax(1),
        "target_features": features[:, :4] + 0.5 * noise(4),
        "labels": labels,
    }


def arguments(name, drawn):
    """A score and its two arguments from a sample."""
    first, keywords = SCORES[name]
    second = "target_features" if name == "cka" else "labels"
    return partial(getattr(scores, name), **keywords), drawn[first], drawn[second]


def expectation(name, n, d, classes, draws):
    """Mean and standard deviation of a score over samples of their own."""
    found = []
    for k in range(draws):
        score, x, y = arguments(name, sample(n, d, classes, 10**6 + k))
        found.append(score(x, y))
    return float(np.mean(found)), float(np.std(found, ddof=1))


def simulated(name, n, d, classes, simulations, *, level=LEVEL, permutations=20, subsamples=50, fraction=0.8):
    """A row: how the intervals and the floor of a score did in simulations."""
    truth, spread = expectation(name, n, d, classes, 2 * simulations)
    later, _ = expectation(name, 4 * n, d, classes, max(4, simulations // 20))
    held = passed = 0
    widths = []
    for seed in range(simulations):
        score, x, y = arguments(name, sample(n, d, classes, seed))
        keywords = {"level": level, "seed": seed, "fraction": fraction}
        found = scores.estimate(score, x, y, permutations=0, subsamples=subsamples, **keywords)
        held += found.low <= truth <= found.high
        widths.append(found.high - found.value)
        mixed = y[torch.randperm(n, generator=torch.Generator().manual_seed(seed + 10**7))]
        null = scores.estimate(score, x, mixed, permutations=permutations, subsamples=0, **keywords)
        passed += null.value > null.floor_high
    width = math.sqrt(np.mean(np.square(widths))) / stats.t.ppf((1 + level) / 2, subsamples - 1)
    return {
        "score": name,
        "n": n,
        "d": d,
        "expected": truth,
        "expected at 4 n": later,
        "spread": spread,
        "spread estimated / true": width / spread,
        "held": wilson(held, simulations),
        "above the floor": wilson(passed, simulations),
    }


def wilson(hits, draws):
    """A share, and the ends of its interval."""
    return hits / draws, *map(float, stats.binomtest(int(hits), draws).proportion_ci(method="wilson"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=400)
    parser.add_argument("--sizes", nargs="+", default=["120x6", "120x200"], help="NxD")
    parser.add_argument("--scores", nargs="+", default=list(SCORES), choices=list(SCORES))
    parser.add_argument("--classes", type=int, default=3)
    options = parser.parse_args()
    print("score        N     D   expected   at 4 N  spread  est/true   held              above the floor")
    for size in options.sizes:
        n, d = map(int, size.split("x"))
        for name in options.scores:
            row = simulated(name, n, d, options.classes, options.simulations)
            held, above = (f"{p:.3f} [{a:.3f}, {b:.3f}]" for p, a, b in (row["held"], row["above the floor"]))
            print(
                f"{name:9} {n:4} {d:5} {row['expected']:10.4f} {row['expected at 4 n']:8.4f} {row['spread']:7.4f} "
                f"{row['spread estimated / true']:7.2f}   {held}  {above}",
                flush=True,
            )


if __name__ == "__main__":
    main()
