"""How long Figure 2 takes: the ten scales of one released CSV, beside the same numbers one sample at a time.

    python benchmarks/figure2.py [--repeats 9] [--threads 2] [--samples 200]

It needs the authors' released files in the data root (data/README.md). The plain way is written here from the
definitions, with none of the library's metrics: a loop over samples with one SVD each, the gradient map by least
squares over all N·n equations. It is timed on fewer samples of one scale, and scaled up in proportion, which is fair to
it: its cost is a constant a sample.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from advtransfer.datasets import released
from advtransfer.datasets.regression import Regression
from advtransfer.experiments.synthetic import accumulated_scale, released_columns
from advtransfer.models.mlp import OneHiddenLayer


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def one_by_one(target: OneHiddenLayer, source: OneHiddenLayer, data: Regression, level: int) -> list[float]:
    """One row of a released CSV from the definitions: a Jacobian and an SVD for each sample and model."""
    ratios: dict[str, list[float]] = {"st": [], "ts": []}
    outer: dict[str, list[np.ndarray]] = {"st": [], "ts": []}
    jac_s, jac_t, hidden, losses = [], [], [], []
    for x, y in zip(data.x, data.y, strict=True):
        j_s, j_t = (
            torch.autograd.functional.jacobian(lambda z, f=f: f(z[None])[0], x).numpy() for f in (source, target)
        )
        for name, a, b in (("st", j_s, j_t), ("ts", j_t, j_s)):
            delta, own = np.linalg.svd(a)[2][level], np.linalg.svd(b)[2][0]
            d11, d12, d22 = a @ delta, b @ delta, b @ own
            ratios[name].append(float(np.linalg.norm(d12) / np.linalg.norm(d22)))
            outer[name].append(np.outer(d11 / np.linalg.norm(d11), d12 / np.linalg.norm(d12)))
        jac_s.append(j_s.T)
        jac_t.append(j_t.T)
        hidden.append(source.hidden(x[None])[0].numpy())
        losses.append(float(((target(x[None])[0] - y) ** 2).sum()))
    n = len(data.x)
    row = [float(np.mean(ratios[name])) for name in ("st", "ts")]
    row += [float(np.linalg.norm(np.mean(outer[name], axis=0))) for name in ("st", "ts")]
    row += [
        float(np.linalg.norm(np.mean(np.array(ratios[name])[:, None, None] * outer[name], axis=0)))
        for name in ("st", "ts")
    ]
    row.append(left_over(np.column_stack([hidden, np.ones(n)]), data.y.numpy()) / n**0.5)
    row.append(float(np.mean(losses)) ** 0.5)
    row.append(left_over(np.concatenate(jac_s), np.concatenate(jac_t)) / n**0.5)
    return row


def left_over(design: np.ndarray, target: np.ndarray) -> float:
    """The norm of what least squares leaves."""
    return float(np.linalg.norm(target - design @ np.linalg.lstsq(design, target, rcond=None)[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="timed runs, after two that are not")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--samples", type=int, default=200, help="samples of the plain way, of 5000")
    options = parser.parse_args()
    if not released.digests():
        sys.exit(f"the authors' released files are not in {released.folder()}; data/README.md says where they are from")
    torch.set_num_threads(options.threads)
    exact = released.data()
    data = Regression(*(part.float() for part in exact))  # as the released script has them
    few = Regression(*(part[: options.samples] for part in exact))
    print(f"{options.threads} threads; median of {options.repeats} runs after two to warm up")
    for result in released.results():
        target = OneHiddenLayer(*released.network(result.target_m))
        run = lambda r=result, t=target: released_columns(r, t, data)  # noqa: E731
        ours = run()
        run()
        times = [seconds(run) for _ in range(options.repeats)]
        columns = result.table.columns[1:]
        difference = (ours[columns] - result.table[columns]).abs().to_numpy().max()

        source, v = (
            OneHiddenLayer(*w)
            for w in (released.network(result.source_m), released.direction(result.source_m, result.target_m))
        )
        moved = source.moved(accumulated_scale(1), v)
        plain = seconds(lambda t=target, s=moved, level=result.level: one_by_one(t, s, few, level))
        scaled = 10 * plain * len(exact.x) / len(few.x)
        again = released_columns(result._replace(table=result.table[:2]), target, few).iloc[1][columns]
        apart = np.abs(again.to_numpy() - one_by_one(target, moved, few, result.level)).max()

        median = statistics.median(times)
        print(
            f"\n{result.name}\n"
            f"  ten scales of 5000 samples: {median:.2f} s (fastest {min(times):.2f}, slowest {max(times):.2f})\n"
            f"  largest difference from the published values: {difference:.1e}\n"
            f"  one sample at a time: {plain:.2f} s for {len(few.x)} samples of one scale,"
            f" hence {scaled:.0f} s for all (scaled up, not run)\n"
            f"  ratio: {scaled / median:.0f}; largest difference between the two, on those samples: {apart:.1e}"
        )


if __name__ == "__main__":
    main()
