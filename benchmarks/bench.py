"""Every speed that the book shows, in one run on one machine: a table to read, and a record of each workload.

    python benchmarks/bench.py [WORKLOAD ...] [--device cuda] [--repeats 7] [--steps 10] [--out FOLDER] [--list]

Medians of interleaved repeats, ratios round by round. What is timed is compared with a float64 reference in the same
run, and the run ends with an error where it is off. The other libraries come with `make test` (tests/peers.txt).
"""

import argparse
import json
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import attack_speed
import pool_speed
import torch
from apart import KEEP_MEMORY, apart
from clock import compared, interleaved
from machine import describe, limits, peak

from advtransfer.datasets import DataUnavailable
from advtransfer.records.storage import replacing

RESULTS = Path(__file__).parents[1] / "data" / "results" / "bench"
WEIGHED = ("torchattacks", "ours, PGD ℓ∞", "ours, PGD ℓ∞, bfloat16")  # whose memory is measured, of resnet18-64


def attack_record(name, given, device, options, machine):
    model, batch, steps, repeats, detailed = given
    steps, repeats = options.steps or steps, options.repeats or repeats
    setting = attack_speed.Setting(model, batch, device)
    about = attack_speed.described(setting, detailed)
    share = bfloat16_share(machine["limit"]["operations"])
    slow = [key for key, (_, half) in about.items() if half and share < 1]
    about = {key: contender for key, contender in about.items() if key not in slow}
    make = partial(attack_speed.calls, model, batch, device, steps)
    with apart(make, [*about, *attack_speed.FLOORS], dict.fromkeys(attack_speed.KEPT.values(), KEEP_MEMORY)) as calls:
        found = {key: calls[key](result=True).to(device) for key in about}
        errors = attack_speed.check(setting, steps, {key: (delta, *about[key]) for key, delta in found.items()})
        rows = interleaved(calls, repeats, device, warm_up=device.type == "cuda")  # the check is one
    baseline = "torchattacks" if "torchattacks" in calls else "floor: passes of the model"
    rows = compared(rows, baseline)
    return {
        "settings": {"model": model, "batch": batch, "steps": steps},
        "repeats": repeats,
        "baseline": baseline,
        "rows": [{**row, "error": errors.get(row["name"])} for row in rows],
        "gradient_error": {key: error for key, error in errors.items() if key not in calls},
        "shares": shares(rows, steps, attack_speed.operations(setting, about), machine["limit"]["operations"]),
        "peak_memory": {k: memory(name, k, options) for k in WEIGHED if k in about} if weighs(name, device) else {},
        "left_out": dict.fromkeys(slow, f"the machine computes in bfloat16 at {share:.2g} of its rate in float32"),
    }


def bfloat16_share(limit):
    """How fast the machine computes in bfloat16, to float32: less than 1 where it has no instructions for it."""
    best = (max(rate for kind, rate in limit.items() if kind.endswith(dtype)) for dtype in ("bfloat16", "float32"))
    return next(best) / next(best)


def shares(rows, steps, operations, limit):
    """How near ours comes to what the machine can do: counted operations a second over the fastest measured."""
    found, seconds = [], {row["name"]: row["seconds"] for row in rows}
    for (name, dtype), count in operations.items():
        rate = steps * count / seconds[name]
        of, most = max(((kind, r) for kind, r in limit.items() if kind.endswith(dtype)), key=lambda pair: pair[1])
        found.append({"name": name, "rate": rate, "share": rate / most, "of": of})
    return found


def weighs(workload, device):
    """Whether peak memory is measured: of one workload, where the system tells it."""
    return workload == "resnet18-64" and tells_memory(device)


def tells_memory(device):
    return device.type == "cuda" or Path("/proc/self/clear_refs").exists()


def memory(workload, contender, options):
    """Peak memory of one call of two steps, in a process of its own."""
    command = [sys.executable, __file__, workload, "--device", options.device, "--weigh", contender]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])


def weigh(workload, contender, device):
    model, batch, *_ = workloads(device)[workload]
    return peak(attack_speed.calls(model, batch, device, 2)[contender], device)


def workloads(device):
    return attack_speed.ON_GPU if device.type == "cuda" else attack_speed.WORKLOADS


def measure(name, device, options, machine):
    if name == "growth":
        repeats = options.repeats or 7
        found = {"repeats": repeats, "growth": pool_speed.growth(repeats, device)}
        return found | ({"memory": pool_speed.memory(device)} if tells_memory(device) else {})
    if name in pool_speed.SHARED:
        call, repeats = pool_speed.SHARED[name]
        rows = call(options.repeats or repeats, device)
        return {
            "settings": {"what": call.__doc__}, "repeats": options.repeats or repeats,
            "baseline": next(row["name"] for row in rows if row["ratio"] == 1), "rows": rows,
        }  # fmt: skip
    return attack_record(name, workloads(device)[name], device, options, machine)


def show(record):
    print(f"\n{record['workload']}: {record.get('settings', '')}, {record['repeats']} repeats")
    for row in record.get("rows", []):
        error = "" if row.get("error") is None else f"  off by {row['error']:.1e}"
        spread = f"{row['ratio']:7.3f} ({row['least']:.3f} to {row['most']:.3f})"
        print(f"  {row['name']:38} {row['seconds']:9.4f} s {spread}{error}")
    for share in record.get("shares", []):
        print(
            f"  {share['name']}: {share['rate'] / 1e9:.0f} GFLOP/s, {share['share']:.0%} of the fastest {share['of']}"
        )
    for name, held in record.get("peak_memory", {}).items():
        print(f"  peak memory, {name}: {held / 2**20:.0f} MiB")
    for name, reason in record.get("left_out", {}).items():
        print(f"  {name}: not measured, for {reason}")
    for line in record.get("growth", []):
        print(f"  {line['axis']:32} slope {line['slope']:.2f}")
    for size, held in zip(*record.get("memory", {"": (), " ": ()}).values(), strict=True):
        print(f"  peak memory at N = {size:6}: {held / 2**20:.1f} MiB")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", help="by default all")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--repeats", type=int, help="rounds, instead of each workload's own number")
    parser.add_argument("--steps", type=int, help="steps of the attacks, likewise")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the records")
    parser.add_argument("--list", action="store_true", help="name the workloads and stop")
    parser.add_argument("--weigh", help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = torch.device(options.device)
    names = [*workloads(device), *pool_speed.SHARED, "growth"]
    if unknown := sorted(set(options.workloads) - set(names)):
        parser.error(f"no workload {unknown[0]!r}; expected some of {', '.join(names)}")
    if options.list:
        print("\n".join(names))
        return
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    if options.weigh:
        print(weigh(options.workloads[0], options.weigh, device))
        return
    machine = {**describe(device), "limit": limits(device)}
    print(f"{machine['device']}, {machine['threads']} threads")
    for name in options.workloads or names:
        try:
            found = measure(name, device, options, machine)
        except DataUnavailable as error:
            print(f"\n{name}: not measured, {error}")
            continue
        record = {"workload": name, "kind": device.type, "machine": machine, **found}
        show(record)
        with replacing(options.out / f"{device.type}-{name}.json") as draft:
            text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
            draft.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
