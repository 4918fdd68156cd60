"""The machine: what it is called, what it can do at most, and the memory that a call takes."""

import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from clock import interleaved
from torch.nn import functional as F

PACKAGES = ("advtransfer", "torch", "torchattacks", "foolbox", "adversarial-robustness-toolbox")


def describe(device):
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "versions": {name: found for name in PACKAGES if (found := installed(name))},
    }


def processor():
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({platform.machine()})" if names else platform.machine()


def installed(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def limits(device, repeats=5):
    """Operations a second of a large matrix product, by dtype, and bytes a second of a copy, each read and written.

    The product is also written as a 1 × 1 convolution: on a CPU that takes another library, at times the faster.
    """
    size, entries = (8192, 2**28) if device.type == "cuda" else (2048, 2**25)
    source = torch.zeros(entries, device=device)
    target = torch.empty_like(source)
    calls = {"copy": lambda: target.copy_(source)}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.randn(2, size, size, device=device).to(dtype)
        image = a.view(1, size, 1, size).contiguous(memory_format=torch.channels_last)
        calls[dtype, "product"] = lambda a=a, b=b: a @ b
        calls[dtype, "convolution"] = lambda a=image, b=b[:, :, None, None]: F.conv2d(a, b)
    best = {name: min(times) for name, times in interleaved(calls, repeats, device, warm_up=2).items()}
    products = {
        str(dtype).removeprefix("torch."): 2 * size**3 / min(best[dtype, way] for way in ("product", "convolution"))
        for dtype in (torch.float32, torch.bfloat16)
    }
    return {"matrix_product": products, "copy": 2 * 4 * entries / best["copy"]}


def highest_memory():
    """Bytes this process has held at most."""
    about = Path("/proc/self/status")  # Linux hands the other number down from the process that started this one
    if about.exists():
        return 1024 * int(about.read_text().partition("VmHWM:")[2].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak(call, device):
    """Bytes that a call adds to what was held before: on a CPU, in a process that has done nothing larger."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    before = highest_memory()
    call()
    return highest_memory() - before
