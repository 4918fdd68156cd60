"""``python -m advtransfer sweep``: a grid of runs, its tables and its page."""

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import pandas as pd

from advtransfer.commands import parameters
from advtransfer.commands.output import add_json, print_json
from advtransfer.notebooks import execute, find
from advtransfer.notebooks.export import write_html
from advtransfer.notebooks.read import Notebook, NotebookError, read
from advtransfer.records import storage
from advtransfer.records.record import RecordError
from advtransfer.sweeps import compute, tables, workers
from advtransfer.sweeps import plan as plans
from advtransfer.sweeps.collect import collect
from advtransfer.sweeps.plan import Plan

JOBS = 20  # Slurm jobs at a time
MANY = 10_000  # a grid with more combinations needs a confirmation
TEMPLATE = Path(compute.__file__).with_name("page.md")


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the options of ``sweep``."""
    parser.add_argument("notebook", nargs="?", metavar="NOTEBOOK", help="a name such as synthetic, or a path")
    parameters.add_help(parser)
    parameters.add_options(parser)
    parser.add_argument(
        "--grid", action="append", default=[], metavar="NAME=VALUES",
        help="a,b,c or FIRST:END; repeat the option for each parameter",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: NOTEBOOK-sweep)")
    parser.add_argument(
        "--table", metavar="NAME", help="table of the records to collect; sweep NOTEBOOK --help lists them"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N",
        help=f"processes (default: one per GPU or core), or Slurm jobs (default: {JOBS})",
    )  # fmt: skip
    engine = parser.add_mutually_exclusive_group()
    engine.add_argument("--dask", metavar="ADDRESS", help="compute on a Dask cluster with this scheduler address")
    engine.add_argument("--slurm", action="store_true", help="compute through Slurm, with submitit")
    parser.add_argument(
        "--slurm-option", action="append", default=[], metavar="NAME=VALUE",
        help="such as slurm_partition=gpu, timeout_min=120",
    )  # fmt: skip
    add_json(parser)
    parser.add_argument("--dry-run", action="store_true", help="say how many runs have no record, and stop")
    parser.add_argument(
        "--yes", action="store_true", help=f"do not ask before a grid of more than {MANY:,} combinations"
    )
    parser.set_defaults(func=command)


def command(arguments: argparse.Namespace) -> int:
    """Compute what is missing, write tables and a page; return 0 if every run has a record, else 1."""
    if arguments.help:
        return _print_help(arguments)
    if not arguments.notebook:
        raise ValueError("no notebook given; expected sweep NOTEBOOK --grid NAME=VALUES")
    _check_engine(arguments)
    path, given = parameters.notebook(arguments), parameters.given(arguments)
    notebook, grid = read(path), plans.axes(arguments.grid)
    plans.check(notebook, given, grid, arguments.table)
    _ask(plans.size(grid), arguments.yes)
    out = arguments.out or Path(f"{path.stem}-sweep")
    table = arguments.table or tables.shown(notebook.experiment).table
    plan = plans.plan(notebook, given, grid)
    if arguments.dry_run:
        missing = len(plan.runs) - len(plans.kept(plan))
        if arguments.json:
            print_json({"runs": len(plan.runs), "missing": missing})
        else:
            print(f"{path.stem}: {len(plan.runs):,} runs, {missing:,} of them missing")
        return 0
    _check_runnable(plan, notebook)
    compute.check_folder(plan, notebook, out)
    storage.writable_folder(out)
    start = time.perf_counter()
    outcome, rows = computed(plan, _engine(arguments), table)
    seconds = time.perf_counter() - start
    compute.check_folder(plan, notebook, out)  # again, because another sweep may have ended there by now
    files = compute.write(plan, outcome, rows, out)
    failed = failures(plan, outcome, out)
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    if files:
        files += page(plan, failed, notebook, out, table)
    if arguments.json:
        counts = {"found": len(outcome.found), "computed": len(outcome.computed), "failed": failed}
        print_json({"runs": len(plan.runs), **counts, "seconds": seconds, "files": files})
        return 1 if failed else 0
    print(f"{path.stem}: {len(plan.runs):,} runs: {len(outcome.found):,} had a record, {len(outcome.computed):,} are "
          f"new, {len(outcome.failed):,} failed ({seconds:.0f} s)")  # fmt: skip
    if files:
        print(f"written: {', '.join(file.name for file in files)} in {out}")
    return 1 if failed else 0


def _print_help(arguments: argparse.Namespace) -> int:
    """Print the help of the command and, with a notebook, its parameters and the tables of its records."""
    code = parameters.print_help(arguments)
    if arguments.notebook:
        notebook = read(find.named(arguments.notebook))
        if names := tables.names(notebook.experiment_module):
            usual = tables.shown(notebook.experiment).table or names[0]
            print(f"\ntables of its records, for --table: {', '.join(names)} (default: {usual})")
    return code


def _check_runnable(plan: Plan, notebook: Notebook) -> None:
    """Raise a `NotebookError` if none of the runs that are to be computed can start here."""
    kept = plans.kept(plan)
    found: list[str] = []
    for run in (run for run in plan.runs if run.key not in kept):
        if not (found := notebook.obstacles(plan.fixed | run.set)):
            return
    if found:
        raise NotebookError(f"{plan.name} cannot run here:\n" + "\n".join(found))


def _check_engine(arguments: argparse.Namespace) -> None:
    """Raise a ValueError for an option that would have no effect, or no worker."""
    if arguments.workers is not None and arguments.workers < 1:
        raise ValueError(f"--workers is {arguments.workers}; expected at least 1")
    if arguments.slurm_option and not arguments.slurm:
        raise ValueError("--slurm-option is for --slurm; expected both")
    if arguments.dask and arguments.workers is not None:
        raise ValueError("--workers is the number of processes here, or of Slurm jobs; expected it without --dask")


def computed(
    plan: Plan, start: Callable[[], workers.Engine], table: str | None
) -> tuple[compute.Outcome, pd.DataFrame]:
    """Compute what is missing, and collect; a record that turns out to be broken is named and computed anew.

    Raises
    ------
    RecordError
        A record is broken again right after it was computed.
    """
    outcome = compute.sweep(plan, start)
    rows, broken = collect(plan, outcome.done, table)
    if not broken:
        return outcome, rows
    for line in broken.values():
        print(f"note: {line}", file=sys.stderr)
    again = compute.sweep(plan, start, anew=broken)
    found, new = outcome.found - set(broken), outcome.computed | again.computed
    outcome = compute.Outcome(found, new, {**outcome.failed, **again.failed})
    rows, broken = collect(plan, outcome.done, table)
    if broken:
        raise RecordError(next(iter(broken.values())))
    return outcome, rows


def failures(plan: Plan, outcome: compute.Outcome, out: Path) -> list[str]:
    """One line per failed run: its parameters, the last line of its traceback, and the file with all of it."""
    return [
        f"{run.title}: {outcome.failed[run.key].strip().splitlines()[-1]} ({compute.traceback_of(plan, run.key, out)})"
        for run in plan.runs
        if run.key in outcome.failed
    ]


def page(plan: Plan, failed: list[str], notebook: Notebook, out: Path, table: str | None = None) -> list[Path]:
    """Execute the page of a sweep over its tables, and write it as a notebook and as HTML."""
    stem = out.resolve() / f"{plan.name}-sweep"
    names = tables.names(notebook.experiment_module)
    table = table or next(iter(names), "")
    settings = [f"`{name}` = {value}" for name, value in plan.fixed.items()]
    values = {
        "stem": str(stem),
        "notebook": notebook.path.stem,
        "fixed": f"All of them have {', '.join(settings)}." if settings else "",
        "axes": list(plan.axes),
        "runs": len(plan.runs),
        "failed": failed,
        "table": table,
        "others": [name for name in names if name != table],
        "command": shlex.join(["python", "-m", "advtransfer", *sys.argv[1:]]),
    }
    target = out / f"{plan.name}-sweep.ipynb"
    node, _ = execute.execute(read(TEMPLATE).node, values, TEMPLATE, target.with_suffix(".failed.ipynb"))
    with storage.replacing(target) as draft:
        nbformat.write(node, draft)
    write_html(target, target.with_suffix(".html"))
    return [target, target.with_suffix(".html")]


def _ask(size: int, sure: bool) -> None:
    if size <= MANY or sure:
        return
    if not sys.stdin.isatty():
        raise ValueError(f"the grid has {size:,} combinations; expected at most {MANY:,}, or --yes to compute them all")
    if input(f"The grid has {size:,} combinations. Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ValueError(f"stopped before any of {size:,} combinations")


def _engine(arguments: argparse.Namespace) -> Callable[[], workers.Engine]:
    """A function that starts the chosen engine; a cluster is contacted at once."""
    if arguments.dask:
        engine = workers.dask(arguments.dask)
        return lambda: engine
    if arguments.slurm:
        engine = workers.slurm(arguments.workers or JOBS, arguments.slurm_option)
        return lambda: engine
    return lambda: workers.local(arguments.workers)
