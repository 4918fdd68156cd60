"""The command line: ``python -m advtransfer``."""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

from advtransfer import __version__
from advtransfer.commands import parameters
from advtransfer.extras import require

NOTEBOOKS = ("notebooks", "jupytext", "pandas", "papermill", "yaml")
DATA = ("experiments", "pandas", "pyarrow")
RANK = ("rank", "sklearn", "torchvision", *NOTEBOOKS[1:])
CLASSROOM = ("classroom", "docutils", "jinja2", "nbclient", "nbconvert", "nbgrader")
COMMANDS = {
    "run": ("run", NOTEBOOKS, "execute a notebook, or all of them, if something has changed"),
    "sweep": ("sweep", NOTEBOOKS, "compute the runs of a parameter grid that have no record yet"),
    "list": ("inspect", NOTEBOOKS, "list the notebooks and the published runs, or the runs of a notebook"),
    "show": ("inspect", NOTEBOOKS, "show a run's parameters, tables and provenance"),
    "diff": ("inspect", NOTEBOOKS, "show the differences between two runs"),
    "verify": ("inspect", NOTEBOOKS, "repeat a run, and say whether the numbers agree"),
    "rank": ("rank", RANK, "rank your models for your data, by α and by the field's scores"),
    "publish": ("publish", NOTEBOOKS, "compute the record of a notebook, and put it into data/results"),
    "data": ("data", DATA, "list, fetch and verify the data sets"),
    "classroom": ("classroom", CLASSROOM, "assignments: editions, grading in a sandbox, feedback"),
}
"""For each command: its module, the extra and the modules that it needs, and one line of help."""


EXIT_CODES = (
    "exit codes: 0, all went well and the answer is yes; 1, a run failed or the answer is no (not verified, runs "
    "differ, damaged data); 2, the request cannot be fulfilled (unknown words, missing or broken files); 130, Ctrl-C"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code (see `EXIT_CODES`)."""
    words = list(sys.argv[1:] if argv is None else argv)
    code = int(words[:1] in (["diff"], ["verify"]) or words[:2] == ["data", "verify"])  # no, unless they say yes
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # not every terminal and pipe takes every letter
    try:
        parser = _parser(words[0] if words else "")
        rest, pairs = parameters.split(words)
        parsed, rest = parser.parse_known_args(rest)
        if (rest or pairs) and not hasattr(parsed, "p"):
            parser.error(f"unrecognized arguments: {' '.join(rest or ['-p'])}")
        parsed.words, parsed.pairs = words, [*pairs, *parameters.pairs(rest)]
        code = parsed.func(parsed)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has closed the pipe; the rest of the buffer has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, RuntimeError) as error:  # what a user can cause
        if type(error) is RuntimeError:  # not one of ours
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser(asked: str) -> argparse.ArgumentParser:
    """The parser with the options of the command `asked`; only the module of this command is imported."""
    parser = argparse.ArgumentParser(
        "advtransfer", description="Re-execute the notebooks of the book; fetch its data.", epilog=EXIT_CODES
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar=" | ".join(COMMANDS))
    for name, (module, needs, what) in COMMANDS.items():
        own = commands.add_parser(name, help=what, description=what, add_help=name not in ("run", "sweep"))
        if name == asked:
            require(*needs)
            importlib.import_module(f"advtransfer.commands.{module}").add_options(own, name)
    return parser
