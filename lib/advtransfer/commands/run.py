"""``python -m advtransfer run``: execute notebooks."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, as_completed
from pathlib import Path
from typing import Any

from advtransfer.commands import parameters
from advtransfer.notebooks import find

AT_ONCE = 2  # notebooks; each takes up to 3 GB of memory, and more threads make a long one faster


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the options of ``run``."""
    parser.add_argument("notebook", nargs="?", metavar="NOTEBOOK", help="a name such as synthetic, or a path")
    parser.add_argument("--all", action="store_true", help="execute every notebook")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: beside the notebook)")
    parser.add_argument(
        "--workers", type=int, metavar="N",
        help=f"notebooks that --all executes at once (default: one per GPU or core, at most {AT_ONCE})",
    )  # fmt: skip
    parameters.add_help(parser)
    parameters.add_options(parser)
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Execute a notebook, or all of them; return 1 if one failed."""
    if arguments.help:
        return parameters.print_help(arguments)
    given = parameters.placed(parameters.given(arguments))
    if arguments.all == bool(arguments.notebook):
        words = "both NOTEBOOK and --all were" if arguments.all else "neither NOTEBOOK nor --all was"
        raise ValueError(f"{words} given; expected one of them")
    if arguments.all and (arguments.pairs or arguments.parameters_file):
        option = "-p" if arguments.pairs else "-f"
        raise ValueError(f"{option} sets parameters of one notebook; expected NOTEBOOK instead of --all")
    if arguments.workers is not None and not arguments.all:
        raise ValueError("--workers is the number of notebooks at once; expected --all instead of NOTEBOOK")
    if arguments.all:
        return _all(given, arguments.out, arguments.workers)
    line = _executed(parameters.notebook(arguments), given, arguments.out, whole=True)
    print(line, end="", flush=True)
    return 0 if line else 1


def _all(given: dict[str, Any], out: Path | None, asked: int | None) -> int:
    """Execute every notebook, several at once; those that read the same record follow each other."""
    from advtransfer.notebooks import execute
    from advtransfer.notebooks.read import Notebook, read

    stale = dict[Path, list[Notebook]]()
    for notebook in map(read, find.in_toc_order()):
        resolved = notebook.resolve(given)
        if target := execute.up_to_date(notebook.path, resolved, out, named=out is not None):
            print(f"{notebook.path}: fresh in {target}", flush=True)
        else:
            stale.setdefault(resolved.record, []).append(notebook)
    longest_first = sorted(stale.values(), key=lambda group: -group[0].minutes)
    groups, failed = [[notebook.path for notebook in group] for group in longest_first], 0
    for lines in _at_once(groups, given, out, asked) if groups else []:
        print("".join(lines), end="", flush=True)
        failed += lines.count("")
    return 1 if failed else 0


def _at_once(
    groups: Sequence[Sequence[Path]], given: dict[str, Any], out: Path | None, asked: int | None
) -> Iterator[list[str]]:
    """What to say of the notebooks of each group, as soon as they are executed; one group per worker."""
    from advtransfer.sweeps import workers  # imported here, because it is slow

    engine = workers.local(asked if asked is not None else min(AT_ONCE, workers.local().slots))
    if len(groups) == 1 or engine.slots == 1:  # in this process, with a bar for what takes long
        yield from ([_executed(path, given, out)] for group in groups for path in group)
        return
    lost = []
    pool = engine.start()
    try:
        futures = {pool.submit(_in_turn, group, given, out): group for group in groups}
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenExecutor:  # one was killed, and so all others end, too
                lost.append(futures[future])
        pool.shutdown()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    for group in lost:
        yield from _by_itself(engine, group, given, out)


def _by_itself(engine: Any, group: Sequence[Path], given: dict[str, Any], out: Path | None) -> Iterator[list[str]]:
    """The lines of a group whose process may have been killed; the error names it if its process is killed again."""
    pool = engine.start()
    try:
        yield pool.submit(_in_turn, group, given, out).result()
    except BrokenExecutor:
        names = ", ".join(map(str, group))
        print(f"error: {names} failed: a process was killed; is there enough memory?", file=sys.stderr)
        yield [""]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _in_turn(paths: Sequence[Path], given: dict[str, Any], out: Path | None) -> list[str]:
    return [_executed(path, given, out) for path in paths]


def _executed(path: Path, given: dict[str, Any], out: Path | None, *, whole: bool = False) -> str:
    """Execute a notebook; return a line that says where it was written, or an empty text after saying why it failed."""
    from advtransfer.notebooks import execute

    start = time.perf_counter()
    if sys.stderr.isatty():
        print(f"{path} ...", file=sys.stderr)
    try:
        outcome = execute.run(path, given, out=out, whole=whole, named=out is not None)
    except execute.RunError as error:
        print(f"error: {path} failed: {error}", file=sys.stderr)
        return ""
    except (OSError, ValueError) as error:
        if whole:
            raise
        print(f"error: {path} failed: {error}", file=sys.stderr)  # another notebook may not have this trouble
        return ""
    if outcome.edited:
        print(f"note: {outcome.path} was edited; the edited notebook is now {outcome.edited}", file=sys.stderr)
    done = f"executed in {time.perf_counter() - start:.0f} s, written to" if outcome.executed else "fresh in"
    return f"{path}: {done} {', '.join(map(str, outcome.files))}\n"
