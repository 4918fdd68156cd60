"""``python -m advtransfer run``: execute notebooks."""

import argparse
import sys
import time
from pathlib import Path

from advtransfer.commands import parameters
from advtransfer.notebooks import find


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the options of ``run``."""
    parser.add_argument("notebook", nargs="?", metavar="NOTEBOOK", help="a name such as synthetic, or a path")
    parser.add_argument("--all", action="store_true", help="execute every notebook, in the order of the book")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: beside the notebook)")
    parameters.add_help(parser)
    parameters.add_options(parser)
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Execute a notebook, or all of them; return 1 if one failed."""
    if arguments.help:
        return parameters.print_help(arguments)
    from advtransfer.notebooks import execute

    given = parameters.placed(parameters.given(arguments))
    if arguments.all == bool(arguments.notebook):
        raise ValueError(f"{'both' if arguments.all else 'neither'} of NOTEBOOK and --all given; expected one of them")
    if arguments.all and arguments.pairs:
        raise ValueError("-p sets the parameter of one notebook; expected NOTEBOOK instead of --all")
    failures = 0
    for path in find.in_toc_order() if arguments.all else [parameters.notebook(arguments)]:
        start = time.perf_counter()
        if sys.stderr.isatty():
            print(f"{path} ...", file=sys.stderr)
        try:
            outcome = execute.run(path, given, out=arguments.out, whole=not arguments.all)
        except execute.RunError as error:
            print(f"error: {path} failed: {error}", file=sys.stderr)
            failures += 1
            continue
        if outcome.edited:
            print(f"note: {outcome.path} was edited; the edited notebook is now {outcome.edited}", file=sys.stderr)
        done = f"executed in {time.perf_counter() - start:.0f} s, written to" if outcome.executed else "fresh in"
        print(f"{path}: {done} {', '.join(map(str, outcome.files))}", flush=True)
    return 1 if failures else 0
