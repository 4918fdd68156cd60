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
    """Yield a dict that is filled when the block has ended.

    It then holds ``seconds``; ``peak_memory`` of this process in bytes, since the block began where the system can
    tell (Linux), else since the process did; on a GPU ``peak_gpu_memory``, the bytes that PyTorch allocated; and
    ``energy`` in joules by meter, if there is one that can be read: ``intel-rapl:0`` and so on for the processors,
    ``gpu`` for the GPU in use. Meters count what everybody does on the device.
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
    unit = 1 if sys.platform == "darwin" else 1024
    cost["peak_memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    spent = {name: (after[name][0] - since) % full for name, (since, full) in before.items() if name in after}
    if spent:
        cost["energy"] = {name: round(joules, 3) for name, joules in spent.items()}


def _meters(gpu: Any) -> dict[str, tuple[float, float]]:
    """By name: what each meter of energy shows, and where it starts again from zero, in joules."""
    found = {}
    for zone in sorted(POWERCAP.glob("intel-rapl:?")):
        with suppress(OSError, ValueError):
            shown, full = (int((zone / name).read_text()) / 1e6 for name in ("energy_uj", "max_energy_range_uj"))
            found[zone.name] = shown, full
    if gpu:
        with suppress(ImportError):
            found |= _gpu_meter(gpu)
    return found


def _gpu_meter(gpu: Any) -> dict[str, tuple[float, float]]:
    import pynvml
    import torch

    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(gpu).uuid}")
        return {"gpu": (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, float("inf"))}
    return {}
