"""The machine: what it is called, what it can do at most, and the memory that a call takes."""

import ctypes
import platform
from pathlib import Path

import torch
from clock import seconds
from torch.nn import functional as F

from advtransfer.records.provenance import installed

PACKAGES = ("advtransfer", "torch", "torchattacks", "foolbox", "adversarial-robustness-toolbox")


def describe(device):
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        **({"instructions": torch.backends.cpu.get_cpu_capability()} if device.type == "cpu" else {}),
        "threads": torch.get_num_threads(),
        "versions": {name: found for name in PACKAGES if (found := installed(name))},
    }


def processor():
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({platform.machine()})" if names else platform.machine()


def limits(device, repeats=5):
    """Operations a second of a large matrix product and a 3 × 3 convolution, and bytes a second read and written.

    On a CPU the two kinds of operations come from different libraries, of which either can be the faster.
    """
    size, images, entries = (8192, 1024, 2**28) if device.type == "cuda" else (2048, 64, 2**25)
    source = torch.zeros(entries, device=device)
    target = torch.empty_like(source)
    calls, operations = {"copy": lambda: target.copy_(source)}, {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a = torch.randn(size, size, device=device).to(dtype)
        x, w = torch.randn(images, 512, 8, 8, device=device), torch.randn(512, 512, 3, 3, device=device)
        x, w = (v.to(dtype).contiguous(memory_format=torch.channels_last) for v in (x, w))
        calls[name, "matrix product"], operations[name, "matrix product"] = lambda a=a: a @ a, 2 * size**3
        calls[name, "convolution"] = lambda x=x, w=w: F.conv2d(x, w, padding=1)
        operations[name, "convolution"] = 2 * images * 64 * 9 * 512**2
    best = {name: fastest(call, device, repeats) for name, call in calls.items()}
    rates = {f"{kind}, {name}": count / best[name, kind] for (name, kind), count in operations.items()}
    return {"operations": rates, "copy": 2 * 4 * entries / best["copy"]}


def fastest(call, device, repeats, enough=20.0):
    """Least seconds of a warm-up and `repeats` runs, or of as many as began within `enough` seconds."""
    times = []
    while len(times) <= repeats and sum(times) < enough:  # what a machine emulates can take minutes
        times.append(seconds(call, device))
    return min(times)


def peak(call, device):
    """Bytes that a call adds, at most, to what was held before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    status = Path("/proc/self/status")
    if not status.exists():
        raise SystemExit("bench: the peak memory of a call is read from /proc, which this system does not have")
    ctypes.CDLL(None).malloc_trim(0)  # or the call would be given what earlier ones left
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = held(status, "VmRSS")
    call()
    return held(status, "VmHWM") - before


def held(status, what):
    return 1024 * int(status.read_text().partition(f"{what}:")[2].split()[0])
