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
    parser.add_argument("--all", action="store_true", help="every notebook, in the order of the book")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: beside the notebook)")
    parameters.add_help(parser)
    parameters.add_options(parser)
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Execute a notebook, or all; 1 if one failed."""
    if arguments.help:
        return parameters.print_help(arguments)
    from advtransfer.notebooks import execute

    given = parameters.given(arguments)
    if arguments.all == bool(arguments.notebook):
        raise ValueError("expected one of NOTEBOOK and --all")
    if arguments.all and arguments.p:
        raise ValueError("-p sets the parameter of one notebook; expected NOTEBOOK instead of --all")
    failures = 0
    for path in find.in_toc_order() if arguments.all else [find.named(arguments.notebook)]:
        start = time.perf_counter()
        print(f"{path}: ", end="", flush=True)
        try:
            outcome = execute.run(path, given, out=arguments.out, whole=not arguments.all)
        except execute.RunError as error:
            print("failed", flush=True)
            print(f"error: {error}", file=sys.stderr)
            failures += 1
        except ValueError:
            print("not run", flush=True)
            raise
        else:
            print(f"executed in {time.perf_counter() - start:.0f} s" if outcome.executed else "fresh", flush=True)
    return 1 if failures else 0
