"""Seconds that calls take, a GPU's queue included, one beside the other."""

import statistics
import time

import torch


def seconds(call, device):
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def interleaved(calls, repeats, device, warm_up=1):
    """Lists of seconds by name: each round makes every call once, so that what slows the machine slows all of them."""
    for call in list(calls.values()) * warm_up:
        call()
    rounds = [{name: seconds(call, device) for name, call in calls.items()} for _ in range(repeats)]
    return {name: [found[name] for found in rounds] for name in calls}


def compared(times, baseline):
    """A row a name: its median, and median, least and most of its ratios to the baseline, round by round."""
    rows = []
    for name, found in times.items():
        ratios = [own / base for own, base in zip(found, times[baseline], strict=True)]
        rows.append(
            {
                "name": name,
                "seconds": statistics.median(found),
                "ratio": statistics.median(ratios),
                "least": min(ratios),
                "most": max(ratios),
            }
        )
    return rows


def demand(what, error, most):
    """An error that is small enough to time what has it."""
    if not error <= most:
        raise SystemExit(f"bench: {what} is off by {error:.2g}; expected at most {most:g} of the float64 reference")
    return error
