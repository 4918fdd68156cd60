"""What the scores cost: seconds, processor seconds and memory of each, beside one bare eigendecomposition.

    python benchmarks/scores_speed.py [--samples 10000] [--features 2048] [--classes 100] [--probe] [--estimates]

The eigendecomposition is that of the Gram matrix of the same features in float64, the largest single step of LogME and
GBC; it is timed before and after all scores. Memory is what a call adds at most to what was held
before it. On a machine that does other work, take one thread (several wait for each other, and that counts as work),
and read the processor seconds. With --estimates,
interval and floor of all scores are timed as well, for one encoder of 500 samples, 1,280 features and 10 classes.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import torch
from machine import held, peak, processor

from advtransfer import scores

CLOSED = ("logme", "h_score", "transrate", "gbc", "leep", "nce", "parc")
STATUS = Path("/proc/self/status")
CPU = torch.device("cpu")


def data(n, d, classes, seed=0):
    """Features like those of a last hidden layer, probabilities of a thousand source classes, labels."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    x = torch.randn(n, d, generator=generator) + 0.15 * torch.randn(classes, d, generator=generator)[y]
    p = (2 * torch.randn(n, 1000, generator=generator)).scatter_add(1, y[:, None], torch.ones(n, 1)).softmax(1)
    return x.relu(), p, y


def calls(x, p, y):
    """Every score with its arguments, by name."""
    of = {name: partial(getattr(scores, name), x, y) for name in (*CLOSED, "knn") if name not in ("leep", "nce")}
    of |= {"leep": partial(scores.leep, p, y), "nce": partial(scores.nce, p.argmax(1), y)}
    return of | {"cka": partial(scores.cka, x, x[:, : x.shape[1] // 4])}


def timed(call):
    """Seconds, and processor seconds of all threads."""
    start = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--probe", action="store_true", help="the probe, too, which is not in closed form")
    parser.add_argument("--estimates", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    x, p, y = data(options.samples, options.features, options.classes)
    gram = x.double().T @ x.double() if len(x) > x.shape[1] else x.double() @ x.double().T
    print(
        f"{processor()}, {options.threads} threads; {len(x)} samples, {x.shape[1]} features, {options.classes} classes"
    )
    print(f"{'':16} seconds  processor s  adds GB")

    most = []

    def row(name, call):
        found: list[tuple[float, float]] = []
        added = peak(lambda: found.append(timed(call)), CPU)
        most.append(held(STATUS, "VmHWM"))
        print(f"{name:16} {found[0][0]:7.2f} {found[0][1]:12.2f} {added / 1e9:8.2f}", flush=True)
        return found[0]

    of = calls(x, p, y)
    if options.probe:
        of["probe"] = partial(scores.probe, x, y)
    floors = [row("decomposition", lambda: torch.linalg.eigh(gram))]
    times = {name: row(name, call) for name, call in of.items()}
    floors.append(row("decomposition", lambda: torch.linalg.eigh(gram)))
    total, own = (sum(times[name][k] for name in CLOSED) for k in (0, 1))
    floor = sum(spent for _, spent in floors) / 2
    print(f"all in closed form: {total:.1f} s, {own:.1f} processor s, those of {own / floor:.1f} decompositions")
    print(f"peak resident memory of the process: {max(most) / 1e9:.2f} GB")
    if options.estimates:
        x, p, y = data(500, 1280, 10)
        for name, call in calls(x, p, y).items():
            print(f"estimate of {name:10} {timed(lambda c=call: scores.estimate(c.func, *c.args))[1]:6.2f} processor s")
        for name, draws in (("n_leep", 10), ("probe", 10)):
            small = partial(scores.estimate, getattr(scores, name), x, y, permutations=draws, subsamples=draws)
            print(f"estimate of {name:10} {timed(small)[1]:6.2f} processor s, {draws} permutations and subsamples")


if __name__ == "__main__":
    main()
