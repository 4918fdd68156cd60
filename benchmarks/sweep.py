"""Sweeps: throughput of one and two workers, overhead of a run, and planning and collecting for 100,000 runs.

    python benchmarks/sweep.py [--runs 24] [--records 100000] [--repeats 2] [--part throughput,collect]

Throughput is of smoke runs of the theory checks by warm workers, in turns; the pool's start is told apart.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

import pandas as pd

from advtransfer.notebooks import read as notebooks
from advtransfer.records.record import Record
from advtransfer.records.runs import place
from advtransfer.sweeps import collect as collecting
from advtransfer.sweeps import compute as sweep
from advtransfer.sweeps import plan as plans
from advtransfer.sweeps import workers

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "theory_checks.md"


def timed(call):
    start = time.perf_counter()
    found = call()
    return time.perf_counter() - start, found


def throughput(runs, repeats):
    notebook = notebooks.read(NOTEBOOK)
    plan = plans.plan(notebook, {"profile": "smoke"}, {"seed": range(runs)})
    found = {1: [], 2: []}
    own = []
    for _ in range(repeats):
        for count in found:
            with tempfile.TemporaryDirectory() as cache:
                os.environ["ADVTRANSFER_CACHE"] = cache
                engine = workers.local(count, "cpu")
                pool = engine.start()
                for future in [pool.submit(time.sleep, 1) for _ in range(count)]:
                    future.result()  # every worker has started
                module = [pool.submit(workers.work, workers.Task(plan.module, (), "", False)) for _ in range(count * 4)]
                [future.result() for future in module]  # and has imported what it runs
                warm = workers.Engine(lambda pool=pool: pool, count)
                seconds, outcome = timed(lambda warm=warm: sweep.sweep(plan, warm_once(warm)))
                assert len(outcome.computed) == runs
                found[count].append(seconds)
                heads = [json.loads((place(plan.experiment, run.key) / "record.json").read_text()) for run in plan.runs]
                own += [head["provenance"]["seconds"] for head in heads] if count == 1 else []
    ratios = [one / two for one, two in zip(found[1], found[2], strict=True)]
    return {
        "runs": runs,
        "seconds by workers": {count: [round(s, 2) for s in each] for count, each in found.items()},
        "throughput of two over one": [round(ratio, 2) for ratio in ratios],
        "overhead of a run, s": round(statistics.median(found[1]) / runs - statistics.mean(own), 3),
    }


def warm_once(engine):
    return lambda: engine


def large(count):
    with tempfile.TemporaryDirectory() as cache:
        os.environ["ADVTRANSFER_CACHE"] = cache
        notebook = notebooks.read(NOTEBOOK)
        importing, _ = timed(lambda: notebook.config_type)
        grid = {"seed": range(count // 10), "samples": range(10, 20)}
        planning, plan = timed(lambda: plans.plan(notebook, {"profile": "smoke"}, grid))
        table = pd.DataFrame({"metric": ["alpha1", "alpha2"], "value": [0.25, 0.75], "n": [10, 10]})
        record = Record(plan.experiment, {"seed": 0}, {"metrics": table}, {}, {"note": "made up " * 60})
        folder = Path(cache) / "one"
        record.save(folder)
        head, body = ((folder / name).read_bytes() for name in ("record.json", "tables/metrics.csv"))
        for number, run in enumerate(plan.runs):
            path = place(plan.experiment, run.key)
            (path / "tables").mkdir(parents=True)
            (path / "record.json").write_bytes(head)
            (path / "tables" / "metrics.csv").write_bytes(body.replace(b"0.25", str(number / 7).encode()))
        listing, there = timed(lambda: plans.kept(plan))
        assert len(there) == len(plan.runs) == count
        collected, rows = timed(lambda: collecting.collect(plan, there))
        averaging, means = timed(lambda: collecting.over_seeds(rows, plan.axes))
        assert (len(rows), len(means)) == (2 * count, 20)
        return {
            "records": count,
            "most in one folder": max(map(len, map(os.listdir, place(plan.experiment, "00").parents[1].iterdir()))),
            "seconds": {
                "import the experiment": round(importing, 2), "plan": round(planning, 2),
                "list what is missing": round(listing, 2), "collect": round(collected, 2),
                "intervals": round(averaging, 2),
            },
            "peak memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--part", default="throughput,large")
    given = parser.parse_args()
    if "large" in given.part:
        print(json.dumps(large(given.records), indent=1), flush=True)
    if "throughput" in given.part:
        print(json.dumps(throughput(given.runs, given.repeats), indent=1))


if __name__ == "__main__":
    main()
