"""The time of a submission, without the time in which others had the processor (Linux)."""

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Spent(NamedTuple):
    """Seconds that a process and all that it has started have spent so far; zero where there is no ``/proc``."""

    computing: float
    """Together."""
    waiting: float
    """Ready, while the processor was with somebody else: that of the process which waited longest."""


def spent(pid: int) -> Spent:
    """What the process `pid` and its descendants have spent."""
    computing = waiting = 0.0
    for one in [pid, *descendants(pid)]:
        place = Path("/proc") / str(one)
        with suppress(OSError, ValueError, IndexError):  # it has just ended
            fields = (place / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            computing += sum(map(int, fields[11:15])) / TICKS  # of its own, and of its children that have ended
            waiting = max(waiting, int((place / "schedstat").read_text(encoding="ascii").split()[1]) / 1e9)
    return Spent(computing, waiting)


def descendants(pid: int) -> list[int]:
    """What the process has started, and what that has started, and so on."""
    found = [pid]
    for one in found:
        with suppress(OSError):
            found += map(int, Path(f"/proc/{one}/task/{one}/children").read_text(encoding="ascii").split())
    return found[1:]
