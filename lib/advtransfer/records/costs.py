"""What a computation costs: seconds, memory, and energy where the machine measures it."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from advtransfer.records.provenance import device

POWERCAP = Path("/sys/class/powercap")


@contextmanager
def metered() -> Iterator[dict[str, Any]]:
    """Yield a dict that is filled when the block ends.

    It then holds ``seconds``; ``peak_memory`` of this process in bytes, counted from the start of the block where the
    system allows it (Linux), otherwise from the start of the process; on a GPU ``peak_gpu_memory``, the most bytes
    that PyTorch had allocated; and ``energy`` in joules for each meter that can be read: ``intel-rapl:0`` and so on
    for the processors, ``gpu`` for the GPU in use. A meter counts all work on its device, not only this process.
    """
    import torch

    gpu = chosen if (chosen := device()).type == "cuda" else None
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if gpu:
        torch.cuda.reset_peak_memory_stats(gpu)
    before, start = _meters(gpu), time.perf_counter()
    cost: dict[str, Any] = {}
    yield cost
    if gpu:
        torch.cuda.synchronize(gpu)
        cost["peak_gpu_memory"] = torch.cuda.max_memory_allocated(gpu)
    after = _meters(gpu)
    cost["seconds"] = round(time.perf_counter() - start, 3)
    cost["peak_memory"] = _peak_memory()
    spent = {name: (after[name][0] - since) % full for name, (since, full) in before.items() if name in after}
    if spent:
        cost["energy"] = {name: round(joules, 3) for name, joules in spent.items()}


def _peak_memory() -> int:
    """In bytes. On Linux since ``clear_refs``; `getrusage` would also count what the parent had before this process."""
    with suppress(OSError, LookupError, ValueError):
        about = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return 1024 * int(about["VmHWM"].split()[0])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _meters(gpu: Any) -> dict[str, tuple[float, float]]:
    """The reading of each energy meter by name, and the value at which it returns to zero, both in joules."""
    readings = {}
    for zone in sorted(POWERCAP.glob("intel-rapl:?")):
        with suppress(OSError, ValueError):
            shown, full = (int((zone / name).read_text()) / 1e6 for name in ("energy_uj", "max_energy_range_uj"))
            readings[zone.name] = shown, full
    if gpu:
        with suppress(ImportError):
            readings |= _gpu_meter(gpu)
    return readings


def _gpu_meter(gpu: Any) -> dict[str, tuple[float, float]]:
    import pynvml
    import torch

    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(gpu).uuid}")
        return {"gpu": (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, float("inf"))}
    return {}
