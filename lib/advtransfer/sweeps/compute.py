"""A sweep: compute the runs of a plan that have no record yet, and write the results of all.

A sweep has no state other than the records. After a kill, the same command continues it.
"""

import os
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from advtransfer.notebooks.read import Notebook
from advtransfer.records import storage
from advtransfer.records.configs import ConfigError
from advtransfer.records.record import Record, RecordError
from advtransfer.records.runs import place
from advtransfer.sweeps import collect
from advtransfer.sweeps import plan as plans
from advtransfer.sweeps.plan import Plan, Run, kept
from advtransfer.sweeps.tables import shown
from advtransfer.sweeps.workers import Engine, Result, Task, cache_id, work

DIGITS = 12  # of the key of a failed run, in the name of its traceback
ATTEMPTS = 2  # at a run by itself, after the worker that computed it together with others has died
PARTS = {"sweep": ("parquet", "csv", "ipynb", "html"), "sweep-runs": ("parquet", "csv")}  # of the files of a sweep
LOST = "its worker died while it computed this run; is there enough memory?"

Job = tuple[Run, ...]


@dataclass(frozen=True)
class Outcome:
    """What a sweep did: the runs that had a record, the runs that it computed, and the tracebacks of failed runs."""

    found: frozenset[str]
    computed: frozenset[str]
    failed: dict[str, str]

    @property
    def done(self) -> frozenset[str]:
        """The keys of all runs that have a record now."""
        return self.found | self.computed


def sweep(plan: Plan, start: Callable[[], Engine], anew: Collection[str] = ()) -> Outcome:
    """Compute the runs of `plan` that have no record, or a broken one if they are in `anew`.

    `start` is called only if there are some.

    A failed run does not stop the others. If a worker dies, its run is tried again by itself, and then given up. A run
    that another process is computing is left to that process, and checked again at the end.

    Raises
    ------
    PermissionError
        A run is missing and the cache cannot be written; this is checked before anything is computed.
    """
    found = kept(plan) - set(anew)
    missing = [run for run in plan.runs if run.key not in found]
    if not missing:
        return Outcome(frozenset(found), frozenset(), {})
    storage.writable_folder(storage.cache_root())
    engine = start()
    computed, failed = set[str](), dict[str, str]()
    try:
        with _bar(len(plan.runs), len(found)) as bar:
            for result in _results(plan, missing, engine, set(anew)):
                if trouble := result.trouble or _keep(plan, result):
                    failed[result.key] = trouble
                else:
                    computed.add(result.key)
                bar.update()
    finally:
        engine.close()
    return Outcome(frozenset(found), frozenset(computed), failed)


def check_folder(plan: Plan, notebook: Notebook, out: Path) -> None:
    """Check that `write` would replace no other file in `out` than those of a sweep whose runs are all in `plan`.

    Raises
    ------
    ValueError
        There is a sweep with other runs, or a file that no sweep has written. The message is one line.
    """
    for files in _files(plan, out):
        there = [path for path in files if path.exists()]
        earlier = _parameters(files[0])
        if there and earlier is None:
            raise ValueError(f"{there[0]} was not written by a sweep of {plan.name}; expected another folder in --out")
        if earlier and not _contains(plan, notebook, earlier):
            raise ValueError(
                f"{out} holds a sweep of {plan.name} with other parameters; expected another folder in --out"
            )


def _files(plan: Plan, out: Path) -> list[list[Path]]:
    """All files of a sweep apart from tracebacks, each table with what is made from it."""
    return [[out / f"{plan.name}-{part}.{end}" for end in ends] for part, ends in PARTS.items()]


def _parameters(table: Path) -> dict[str, Any] | None:
    """The parameters of the sweep that has written a table (``.parquet``); None if no sweep has."""
    try:
        return pd.read_parquet(table, columns=[]).attrs["sweep"]
    except (OSError, ValueError, LookupError):
        return None


def _contains(plan: Plan, notebook: Notebook, earlier: dict[str, Any]) -> bool:
    """Whether all runs of a sweep with the parameters `earlier` are among those of `plan`."""
    try:
        runs = plans.plan(notebook, earlier["fixed"], earlier["grid"]).runs
    except ConfigError:  # as after a parameter got another name
        return False
    return earlier["experiment"] == plan.module and {run.key for run in runs} <= {run.key for run in plan.runs}


def write(plan: Plan, outcome: Outcome, rows: pd.DataFrame, out: Path) -> list[Path]:
    """Write the tables of a sweep into `out`, as Parquet and CSV, and tracebacks into ``failed``; return the tables.

    What an earlier sweep of the same notebook has left there is replaced (see `check_folder`).

    ``NAME-sweep`` holds means with intervals over seeds, ``NAME-sweep-runs`` the rows of every run. The Parquet files
    hold the parameters of the sweep, too, as ``attrs["sweep"]`` of the table: ``experiment``, ``fixed`` and ``grid``.

    Raises
    ------
    ValueError
        There are records, but their table has no rows, or no numbers.
    """
    if outcome.done and rows.empty:
        raise ValueError(f"this table of the records of {plan.name} has no rows; expected another one in --table")
    storage.writable_folder(out)
    earlier = [*out.glob(f"failed/{plan.name}-{'[0-9a-f]' * DIGITS}.txt")]
    if rows.empty:
        earlier += [path for files in _files(plan, out) for path in files]
    for path in earlier:
        path.unlink(missing_ok=True)
    for key, trouble in outcome.failed.items():
        with storage.replacing(traceback_of(plan, key, out)) as draft:
            draft.write_text(trouble, encoding="utf-8")
    if rows.empty:
        return []
    means = collect.summarise(rows, plan.axes, shown(plan.module).labels)
    about = {"experiment": plan.module, "fixed": plan.fixed, "grid": plan.grid}
    return [*_both(means, about, out / f"{plan.name}-sweep"), *_both(rows, about, out / f"{plan.name}-sweep-runs")]


def traceback_of(plan: Plan, key: str, out: Path) -> Path:
    """The file with the traceback of a failed run."""
    return out / "failed" / f"{plan.name}-{key[:DIGITS]}.txt"


def _both(table: pd.DataFrame, about: dict[str, Any], stem: Path) -> list[Path]:
    table = table.copy(deep=False)
    table.attrs["sweep"] = about
    files = [stem.with_name(f"{stem.name}.{end}") for end in ("parquet", "csv")]
    with storage.replacing(files[0]) as draft:
        table.to_parquet(draft)
    with storage.replacing(files[1]) as draft:
        table.to_csv(draft, index=False)
    return files


class _Pool:
    """The executor of an engine. It is started with the first task, and again after its workers have died."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._executor: Executor | None = None

    def submit(self, task: Task) -> Future[list[Result]]:
        if self._executor is None:
            self._executor = self._engine.start()
        return self._executor.submit(work, task)

    def let_go(self, *, wait: bool = False) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait)
        self._executor = None


def _results(plan: Plan, missing: Sequence[Run], engine: Engine, anew: set[str]) -> Iterator[Result]:
    """The results as they arrive: of all runs at once, then of the busy ones, then of the lost ones one by one."""
    pool = _Pool(engine)
    try:
        busy, lost = list[Run](), list[Run]()
        jobs = _shares(missing, engine.tasks)
        for run, result in _perform(plan, jobs, pool, engine.slots, wait=False):
            if result is None:
                lost.append(run)
            elif result.busy:
                busy.append(run)
            else:
                yield result
        for run, result in _perform(plan, [(run,) for run in busy], pool, engine.slots, wait=True):
            if result is None:
                lost.append(run)
            else:
                yield result
        stored = kept(plan) - anew if lost else set()  # by a job that died later
        yield from (Result(run.key) for run in lost if run.key in stored)
        lost = [run for run in lost if run.key not in stored]
        for attempt in range(ATTEMPTS):
            again, lost = lost, []
            for run, result in _perform(plan, [(run,) for run in again], pool, 1, wait=True):
                if result is not None:
                    yield result
                elif attempt + 1 < ATTEMPTS:
                    lost.append(run)
                else:
                    yield Result(run.key, trouble=LOST)
        pool.let_go(wait=True)
    finally:
        pool.let_go()


def _shares(runs: Sequence[Run], tasks: int | None) -> list[Job]:
    """The runs as jobs: one run per job, or divided among a number of jobs."""
    return [tuple(runs[k::tasks]) for k in range(min(tasks, len(runs)))] if tasks else [(run,) for run in runs]


def _perform(
    plan: Plan, jobs: Iterable[Job], pool: _Pool, slots: int, *, wait: bool
) -> Iterator[tuple[Run, Result | None]]:
    """Compute `slots` jobs at a time, and yield each run with its result, or with None if its worker died."""
    cache = cache_id(make=True)
    waiting, flying = deque(jobs), dict[Future, Job]()
    try:
        while waiting or flying:
            try:
                while waiting and len(flying) < slots:
                    runs = tuple((run.key, {**plan.fixed, **run.set}) for run in waiting[0])
                    flying[pool.submit(Task(plan.module, runs, cache, wait))] = waiting[0]
                    waiting.popleft()
            except BrokenExecutor:  # submitted jobs raise it and are lost; the next executor takes the others
                broken = True
            else:
                broken = False
            for future in _first(flying):
                job = flying.pop(future)
                error = CancelledError() if future.cancelled() else future.exception()
                broken |= isinstance(error, BrokenExecutor)
                yield from zip(job, _results_of(job, future, error), strict=True)
            if broken and not flying:
                pool.let_go()
    finally:
        for future in flying:
            future.cancel()


def _first(flying: dict[Future, Job]) -> set[Future]:
    return wait(flying, return_when=FIRST_COMPLETED).done if flying else set()


def _results_of(job: Job, future: Future, error: BaseException | None) -> Sequence[Result | None]:
    """The results of a finished job, one per run."""
    if isinstance(error, BrokenExecutor):
        return [None] * len(job)
    if error is not None:
        return [Result(run.key, trouble=f"{type(error).__name__}: {error}") for run in job]
    return future.result()


def _keep(plan: Plan, result: Result) -> str:
    """Save a record that a worker sent, unless it exists by now; return what is wrong with it, or an empty text."""
    if result.record is None:
        return ""
    if result.record.digest != result.digest:
        return f"its record changed on the way here: the digest is {result.record.digest}; expected {result.digest}"
    folder = place(plan.experiment, result.key)
    with storage.locked(folder):
        if not _is_whole(folder):
            result.record.save(folder)
    return ""


def _is_whole(folder: Path) -> bool:
    """Whether there is a record that can be read."""
    try:
        return bool(Record.load(folder).digest)
    except RecordError:
        return False


def _bar(total: int, found: int) -> tqdm:
    """A progress bar; outside a terminal it is printed twice per minute."""
    seen = sys.stderr.isatty()
    return tqdm(total=total, initial=found, unit="run", desc="sweep", smoothing=0.1, dynamic_ncols=seen, leave=seen,
                mininterval=0.2 if seen else 30, disable=bool(os.environ.get("TQDM_DISABLE")))  # fmt: skip
