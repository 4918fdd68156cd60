"""One short visit to a CUDA machine: its tests, its speeds, and published runs, each of them whole at any stop.

    PYTHONPATH=lib python benchmarks/gpu.py [SERIES:SEED ...] [--minutes 9] [--steps tests speeds runs] [--smoke]

It needs no network: only the data root (`$ADVTRANSFER_DATA`) and, beside torch, the packages of the core and of the
extra `experiments`. By default it makes Table 1 at the released widths, on both targets. The runs share the GPU in
several processes, because one process alone cannot start kernels fast enough; they are made in the given order. Logs
and speeds are in `_build/gpu`, records in `data/results`. Started again, it goes on with what is missing.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import torch

from advtransfer.datasets import available
from advtransfer.models.images import ARCHITECTURES
from advtransfer.records import published

HERE = Path(__file__).parent
OUT = HERE.parent / "_build" / "gpu"
TESTS = [f"tests/test_{name}.py" for name in ("attacks", "matching", "metrics", "training")]
SPEEDS = ("resnet18-256", "resnet50-256", "all-pairs")
RUNS = ("vision/released:0", "vision/released-shift:0")
NEEDS = ("cifar10", "tiny-imagenet-10")
TOGETHER = (("resnet50",), ("resnet18",), tuple(name for name in ARCHITECTURES if not name.startswith("resnet")))
"""The sources that one process trains, the slowest first."""
LAG = 4  # runs whose models are trained before the first of them is published


class Job(NamedTuple):
    """A command, and what it is called."""

    name: str
    command: list[str]


def jobs(runs: list[str], options: list[str]) -> Iterator[Job]:
    """Train the models of each run in several processes; publish it a few runs later, when they should be there."""
    script = [sys.executable, str(HERE / "evidence.py"), *options]
    waiting: list[Job] = []
    targets = set()
    for run in runs:
        series, seed = run.split(":")
        this = [*script, series, "--seed", seed]
        kind = series.endswith("-shift"), "released" in series, seed
        if series.startswith("vision/"):
            sources = () if series.endswith("-shift") else TOGETHER  # both targets have the same sources
            for models in [*sources, *([] if kind in targets else [("target",)])]:
                yield Job(f"{run}, {', '.join(models)}", [*this, "--models", *models])
            targets.add(kind)
        waiting.append(Job(run, this))
        if len(waiting) > LAG:
            yield waiting.pop(0)
    yield from waiting


class Visit:
    """What is left of the time, and what runs in it."""

    def __init__(self, minutes: float) -> None:
        self.start = time.monotonic()
        self.end = self.start + 60 * minutes
        self.environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(HERE.parent / "lib"), os.environ.get("PYTHONPATH", "")]),
            "TQDM_DISABLE": "1",
            "OMP_NUM_THREADS": "1",  # more processes than cores would wait for each other's threads
        }

    def say(self, what: str) -> None:
        now = time.monotonic()
        print(f"{now - self.start:4.0f} s, {max(self.end - now, 0):4.0f} s left: {what}", flush=True)

    def run(self, job: Job) -> str:
        """Run a job to its end, or to the end of the time, and return how it went."""
        left, begun = self.end - time.monotonic(), time.monotonic()
        if left <= 0:
            return "not begun"
        log = OUT / (job.name.replace("/", "-").replace(":", "-seed").replace(", ", "-") + ".log")
        with log.open("w", encoding="utf-8") as file:
            try:
                code = subprocess.run(
                    job.command, cwd=HERE.parent, env=self.environment, stdout=file, stderr=file, timeout=left
                ).returncode
            except subprocess.TimeoutExpired:
                return "stopped, for the time is over"
        lines = log.read_text(encoding="utf-8").splitlines() or [""]
        if code:
            return f"failed with code {code}, see {log}: {lines[-1]}"
        return f"done in {time.monotonic() - begun:.0f} s"

    def together(self, queue: list[Job], workers: int) -> None:
        """Run jobs side by side, in their order."""
        with ThreadPoolExecutor(workers) as pool:
            running: dict[Future[str], Job] = {pool.submit(self.run, job): job for job in queue}
            for number, future in enumerate(as_completed(running), start=1):
                self.say(f"{number} of {len(queue)}: {running[future].name}: {future.result()}")


def check(options: argparse.Namespace) -> None:
    """Stop at once where something is missing."""
    if not options.smoke and not torch.cuda.is_available():
        sys.exit("gpu: PyTorch sees no CUDA device; expected one (--smoke tries the course without)")
    missing = [name for name in NEEDS if not available(name)]
    if missing and not options.smoke:
        sys.exit(f"gpu: the data root lacks {missing}; fetch with: python -m advtransfer data fetch cifar10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", default=RUNS, metavar="SERIES:SEED", help="by default " + " ".join(RUNS))
    parser.add_argument("--minutes", type=float, default=9, help="when to stop, done or not")
    parser.add_argument("--steps", nargs="+", default=["tests", "speeds", "runs"], choices=["tests", "speeds", "runs"])
    parser.add_argument("--workers", type=int, default=8, help="processes that share the GPU")
    parser.add_argument("--results", type=Path, default=published.RESULTS, help="folder of the published records")
    parser.add_argument("--smoke", action="store_true", help="made-up images and tiny models, on any machine")
    options = parser.parse_args()
    check(options)
    OUT.mkdir(parents=True, exist_ok=True)
    visit = Visit(options.minutes)
    visit.say(torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU: this only tries the course")
    shared = ["--results", str(options.results), *(["--smoke"] if options.smoke else [])]
    if "tests" in options.steps:
        pytest = [sys.executable, "-m", "pytest", "--noconftest", "-p", "no:cacheprovider", "-k", "gpu", *TESTS]
        visit.say("the tests on a GPU: " + visit.run(Job("tests", pytest)))
    if "speeds" in options.steps:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        short = ["--steps", "2", "--repeats", "3"] if options.smoke else []
        workloads = SPEEDS if device == "cuda" else ("lenet-256",)
        bench = [sys.executable, str(HERE / "bench.py"), *workloads, "--device", device, "--out", str(OUT), *short]
        visit.say("the speeds: " + visit.run(Job("speeds", bench)))
    if "runs" in options.steps:
        visit.together(list(jobs(list(options.runs), shared)), options.workers)
    visit.say("the end")


if __name__ == "__main__":
    main()
