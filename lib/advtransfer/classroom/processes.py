"""What the processes of the classroom share: they compute on one thread, and end with all that they have started."""

import os
import signal
import subprocess
from contextlib import suppress

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a group, the rest of its group, and its pipes."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            pipe.close()  # type: ignore[union-attr]
