"""``python -m advtransfer sweep``: a grid of runs, its tables and its page."""

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat

from advtransfer.commands import parameters
from advtransfer.notebooks import execute, find
from advtransfer.notebooks.export import write_html
from advtransfer.notebooks.read import Notebook, read
from advtransfer.records import storage
from advtransfer.sweeps import compute, workers
from advtransfer.sweeps import plan as plans
from advtransfer.sweeps.plan import Plan

JOBS = 20  # of Slurm at a time
MANY = 10_000  # more combinations than these are asked about
TEMPLATE = Path(compute.__file__).with_name("page.md")


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the options of ``sweep``."""
    parser.add_argument("notebook", nargs="?", metavar="NOTEBOOK", help="a name such as synthetic, or a path")
    parameters.add_help(parser)
    parameters.add_options(parser)
    parser.add_argument(
        "--grid", action="append", default=[], metavar="NAME=VALUES",
        help="a,b,c or FIRST:END; again for each parameter",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: NOTEBOOK-sweep)")
    parser.add_argument("--table", metavar="NAME", help="the records' table to collect (default: the first)")
    parser.add_argument(
        "--workers", type=int, metavar="N", help=f"processes (default: one a GPU or a core), or Slurm jobs ({JOBS})"
    )
    engine = parser.add_mutually_exclusive_group()
    engine.add_argument("--dask", metavar="ADDRESS", help="let a Dask cluster compute; its scheduler's address")
    engine.add_argument("--slurm", action="store_true", help="let Slurm compute, through submitit")
    parser.add_argument(
        "--slurm-option", action="append", default=[], metavar="NAME=VALUE",
        help="such as slurm_partition=gpu, timeout_min=120",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="say how many runs have no record, and stop")
    parser.add_argument("--yes", action="store_true", help=f"do not ask about more than {MANY:,} combinations")
    parser.set_defaults(func=command)


def command(arguments: argparse.Namespace) -> int:
    """Compute what is missing, write tables and a page; return 0 if every run has a record, else 1."""
    if arguments.help:
        return parameters.print_help(arguments)
    if not arguments.notebook:
        raise ValueError("no notebook given; expected sweep NOTEBOOK --grid NAME=VALUES")
    path, given = find.named(arguments.notebook), parameters.given(arguments)
    notebook, grid = read(path), plans.axes(arguments.grid)
    plans.check(notebook, given, grid)
    _ask(plans.size(grid), arguments.yes)
    out = arguments.out or Path(f"{path.stem}-sweep")
    plan = plans.plan(notebook, given, grid)
    if arguments.dry_run:
        print(f"{path.stem}: {len(plan.runs):,} runs, {len(plan.runs) - len(plans.kept(plan)):,} of them missing")
        return 0
    storage.writable_folder(out)
    start = time.perf_counter()
    outcome = compute.sweep(plan, _engine(arguments))
    print(f"{path.stem}: {len(plan.runs):,} runs: {len(outcome.found):,} had a record, {len(outcome.computed):,} are "
          f"new, {len(outcome.failed):,} failed ({time.perf_counter() - start:.0f} s)")  # fmt: skip
    files = compute.write(plan, outcome, out, arguments.table)
    failed = failures(plan, outcome, out)
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    if files:
        files += page(plan, failed, notebook, out)
        print(f"written: {', '.join(file.name for file in files)} in {out}")
    return 1 if failed else 0


def failures(plan: Plan, outcome: compute.Outcome, out: Path) -> list[str]:
    """A line for each run that failed: what it set, the last line of its traceback, and where all of it is."""
    return [
        f"{run.title}: {outcome.failed[run.key].strip().splitlines()[-1]} ({out / 'failed' / f'{run.key[:12]}.txt'})"
        for run in plan.runs
        if run.key in outcome.failed
    ]


def page(plan: Plan, failed: list[str], notebook: Notebook, out: Path) -> list[Path]:
    """Execute the page of a sweep over its tables, and write it as a notebook and as HTML."""
    stem = out.resolve() / f"{plan.name}-sweep"
    told = [f"`{name}` = {value}" for name, value in plan.fixed.items()]
    values = {
        "stem": str(stem),
        "notebook": notebook.path.stem,
        "fixed": f"All of them with {', '.join(told)}." if told else "",
        "axes": list(plan.axes),
        "runs": len(plan.runs),
        "failed": failed,
        "command": shlex.join(["python", "-m", "advtransfer", *sys.argv[1:]]),
    }
    target = out / f"{plan.name}-sweep.ipynb"
    node = execute.execute(read(TEMPLATE).node, values, TEMPLATE, target.with_suffix(".failed.ipynb"))
    with storage.replacing(target) as draft:
        nbformat.write(node, draft)
    write_html(target, target.with_suffix(".html"))
    return [target, target.with_suffix(".html")]


def _ask(size: int, sure: bool) -> None:
    if size <= MANY or sure:
        return
    if not sys.stdin.isatty():
        raise ValueError(f"the grid has {size:,} combinations; expected at most {MANY:,}, or --yes if that is meant")
    if input(f"The grid has {size:,} combinations. Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ValueError(f"stopped before any of {size:,} combinations")


def _engine(arguments: argparse.Namespace) -> Callable[[], workers.Engine]:
    """How the engine asked for is started; a cluster is looked for at once."""
    if arguments.dask:
        engine = workers.dask(arguments.dask)
        return lambda: engine
    if arguments.slurm:
        engine = workers.slurm(arguments.workers or JOBS, arguments.slurm_option)
        return lambda: engine
    return lambda: workers.local(arguments.workers)
