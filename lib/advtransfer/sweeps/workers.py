"""Where runs are computed (a process pool on this machine, a Dask cluster or Slurm), and what a worker does.

Any object with a ``submit`` like that of `concurrent.futures.Executor` can do the work, and decides in which order.
"""

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from threadpoolctl import threadpool_limits

from advtransfer.extras import require
from advtransfer.names import first_line
from advtransfer.records import runs, storage
from advtransfer.records.configs import Config
from advtransfer.records.record import Record

TIMEOUT = 10  # seconds in which a scheduler must answer


@dataclass(frozen=True)
class Task:
    """The task of a worker: runs of an experiment, each given by the key of its record and its parameters."""

    module: str
    runs: tuple[tuple[str, dict[str, Any]], ...]
    cache: str
    """The `cache_id` of the process that runs the sweep. A worker with the same cache does not have to send records."""
    wait: bool
    """Whether to wait for a run that another process is computing."""


@dataclass(frozen=True)
class Result:
    """The result of a run: the digest of its record, or why there is none."""

    key: str
    digest: str = ""
    record: Record | None = None
    """The record itself, if the worker does not share the cache."""
    busy: bool = False
    trouble: str = ""
    """A traceback; empty if all went well."""


@dataclass(frozen=True)
class Engine:
    """How to start an executor, and how much work to give it at a time."""

    start: Callable[[], Executor]
    slots: int
    """Number of tasks under way at once."""
    tasks: int | None = None
    """Number of tasks into which all runs are divided; None for one task per run."""
    close: Callable[[], object] = lambda: None


def work(task: Task) -> list[Result]:
    """Compute runs, and store each as soon as it is done; a run that fails does not stop the others."""
    experiment = importlib.import_module(task.module)
    shared = cache_id() == task.cache
    return [_one(experiment, key, given, shared, task.wait) for key, given in task.runs]


def _one(experiment: Any, key: str, given: dict[str, Any], shared: bool, wait: bool) -> Result:
    try:
        config: Config = experiment.Config.from_profile(**given)
        origin, own = runs.address(experiment, config)
        if own != key:
            raise RuntimeError(
                f"this worker would compute something else: its source is {origin['source'][:12]} and its data are "
                f"{origin['inputs']}; expected those of the process that runs the sweep (see ADVTRANSFER_DATA)"
            )
        record = experiment.run(config, wait=wait)
        return Result(key, record.digest, None if shared else record)
    except storage.Busy:
        return Result(key, busy=True)
    except (Exception, SystemExit):
        return Result(key, trouble=traceback.format_exc())


def cache_id(*, make: bool = False) -> str:
    """The random name of this cache; empty if it has none and `make` is False."""
    path = storage.cache_root() / "id"
    if make and not (path.exists() and path.stat().st_size):
        with storage.locked(path), storage.replacing(path) as draft:
            draft.write_text(uuid.uuid4().hex, encoding="utf-8")
    return path.read_text(encoding="utf-8") if path.exists() else ""


def cores() -> int:
    """The number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local(workers: int | None = None) -> Engine:
    """One process per core or per GPU of this machine, each with its share of the threads.

    Where the environment variable ``ADVTRANSFER_DEVICE`` names a GPU, there is one process.

    Raises
    ------
    ValueError
        `workers` is less than one.
    """
    import torch  # imported here, so that a call for help need not wait for it

    device = os.environ.get("ADVTRANSFER_DEVICE")
    gpus = 0 if device else torch.cuda.device_count()
    usual = gpus or (cores() if device in (None, "cpu") else 1)
    count = workers if workers is not None else usual
    if count < 1:
        raise ValueError(f"--workers is {count}; expected at least 1")
    names = [device or (f"cuda:{number % gpus}" if gpus else "cpu") for number in range(count)]
    return Engine(lambda: _Pool(names, max(1, cores() // count)), count)


class _Pool(ProcessPoolExecutor):
    """One process per device. The processes end with a shutdown, and also if this process is killed."""

    def __init__(self, devices: Sequence[str], threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        names = context.SimpleQueue()
        for name in devices:
            names.put(name)
        parent_alive, self._alive = context.Pipe(duplex=False)
        super().__init__(len(devices), context, _settle, (names, threads, parent_alive))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures)
        self._alive.close()


def _settle(devices: Any, threads: int, parent_alive: Connection) -> None:
    """The first steps of a worker: take a device and its threads, and make sure that it ends with its parent."""
    os.environ |= {"ADVTRANSFER_DEVICE": devices.get(), "OMP_NUM_THREADS": str(threads), "TQDM_DISABLE": "1"}
    sys.stdout = sys.stderr  # what a user's builder prints is no result of the sweep
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the parent, which then shuts the pool down
    threading.Thread(target=_end_with, args=(parent_alive,), daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    threadpool_limits(threads)


def _end_with(parent_alive: Connection) -> None:
    """End this process when the parent closes its end of the pipe, or dies."""
    with suppress(EOFError):
        parent_alive.recv_bytes()
    os._exit(1)


def dask(address: str) -> Engine:
    """The workers of a Dask cluster; `address` is that of its scheduler, such as ``tcp://host:8786``.

    Raises
    ------
    MissingExtraError
        Dask is not installed.
    ValueError
        No scheduler answers, or a worker runs several tasks in threads of one process.
    """
    require("dask", "distributed")
    from distributed import Client

    try:
        client = Client(address, timeout=TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        given = f"no Dask scheduler answers at {address} ({first_line(error)})"
        raise ValueError(f"{given}; expected e.g. tcp://host:8786") from None
    if crowded := [name for name, threads in client.nthreads().items() if threads > 1]:
        client.close()
        raise ValueError(f"the Dask worker {crowded[0]} has several threads; expected dask worker --nthreads 1, "
                         "because the settings of PyTorch apply to a whole process")  # fmt: skip

    return Engine(client.get_executor, slots=1000, close=client.close)


def slurm(workers: int, options: Sequence[str] = (), *, cluster: str | None = None) -> Engine:
    """Slurm jobs through submitit, `workers` at a time, each with a share of the runs; all must see the same cache.

    Parameters
    ----------
    options
        ``NAME=VALUE``, as submitit calls them: ``slurm_partition=gpu``, ``timeout_min=120``, ``gpus_per_node=1``.
    cluster
        None for Slurm; ``"local"`` or ``"debug"`` to try the same on this machine.

    Raises
    ------
    MissingExtraError
        Submitit is not installed.
    ValueError
        Slurm is not available, or an option is unknown.
    """
    require("slurm", "submitit")
    import submitit

    folder = storage.writable_folder(storage.cache_root() / "slurm")
    pairs = [option.partition("=")[::2] for option in options]
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster or "slurm")
        executor.update_parameters(**{name: int(value) if value.isdigit() else value for name, value in pairs})
    except (RuntimeError, NameError, TypeError, ValueError) as error:
        raise ValueError(f"Slurm cannot be used as asked: {first_line(error)}") from None
    return Engine(lambda: _Jobs(executor, workers), workers, tasks=4 * workers)


class _Jobs(ThreadPoolExecutor):
    """One thread per submitit job; the thread waits for the job."""

    def __init__(self, executor: Any, workers: int) -> None:
        super().__init__(workers)
        self._executor, self._jobs = executor, list[Any]()

    def submit(self, call: Callable, /, *given: Any, **named: Any) -> Any:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        def wait() -> Any:
            job = self._executor.submit(call, *given, **named)
            self._jobs.append(job)
            try:
                return job.result()
            except FailedJobError:  # it ran, and raised
                raise
            except UncompletedJobError as error:  # it was killed, or ran out of time
                raise BrokenExecutor(str(error)) from error

        return super().submit(wait)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=True)
        for job in self._jobs:
            if not job.done():
                job.cancel(check=False)
