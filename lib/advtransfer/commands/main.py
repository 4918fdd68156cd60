"""The command line: ``python -m advtransfer``."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from advtransfer import __version__
from advtransfer.commands import parameters
from advtransfer.extras import MissingExtraError, require

NOTEBOOKS = ("notebooks", "jupytext", "pandas", "papermill", "yaml")
DATA = ("experiments", "pandas", "pyarrow")
CLASSROOM = ("classroom", "jinja2", "nbclient", "nbgrader")
COMMANDS = {
    "run": ("run", NOTEBOOKS, "execute a notebook, or all, where something changed"),
    "sweep": ("sweep", NOTEBOOKS, "run a grid of parameters, where there is no record"),
    "list": ("inspect", NOTEBOOKS, "the notebooks, the published runs, and the runs of a notebook"),
    "show": ("inspect", NOTEBOOKS, "a run's parameters, tables and provenance"),
    "diff": ("inspect", NOTEBOOKS, "what two runs differ in"),
    "verify": ("inspect", NOTEBOOKS, "run a run again, and say whether the numbers agree"),
    "publish": ("publish", NOTEBOOKS, "compute the record of a notebook, and put it into data/results"),
    "data": ("data", DATA, "list, fetch and verify the data sets"),
    "classroom": ("classroom", CLASSROOM, "assignments: editions, grading in a sandbox, feedback"),
}
"""By name: the module of this package, the extra and modules that it needs, and one line of help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0 if all went well, 1 if a run failed, 2 if the request cannot be fulfilled."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        parser = _parser(words[0] if words else "")
        parsed, rest = parser.parse_known_args(words)
        if rest and not hasattr(parsed, "p"):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        if rest:
            parsed.p = [*parsed.p, *parameters.pairs(rest)]
        code: int = parsed.func(parsed)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has read enough; the rest of the buffer has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, MissingExtraError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _parser(asked: str) -> argparse.ArgumentParser:
    """The parser, with the options of the command that is asked for; only its module is imported."""
    parser = argparse.ArgumentParser("advtransfer", description="Re-execute the notebooks of the book; fetch its data.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar=" | ".join(COMMANDS))
    for name, (module, needs, what) in COMMANDS.items():
        own = commands.add_parser(name, help=what, description=what, add_help=name not in ("run", "sweep"))
        if name == asked:
            require(*needs)
            importlib.import_module(f"advtransfer.commands.{module}").add_options(own, name)
    return parser
