"""The command line: ``python -m advtransfer``."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advtransfer import __version__

NOTEBOOKS = Path("notebooks")
INSPECTING = {
    "list": "the notebooks, the published runs, and the runs of a notebook",
    "show": "a run's parameters, tables and provenance",
    "diff": "what two runs differ in",
    "verify": "run a run again, and say whether the numbers agree",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0 if all went well, 1 if a run failed, 2 if what was asked cannot be done."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(arguments)
    parsed, rest = parser.parse_known_args(arguments)
    if rest and not hasattr(parsed, "p"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        if rest:
            parsed.p = [*parsed.p, *_pairs(rest)]
        code: int = parsed.func(parsed)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read has read enough; what is left in the buffer has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _parser(arguments: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("advtransfer", description="Re-execute the notebooks of the book; fetch its data.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(
        required=True, metavar="run | sweep | list | show | diff | verify | publish | data | classroom"
    )
    run = commands.add_parser("run", help="execute a notebook, or all, where something changed", add_help=False)
    run.add_argument("notebook", nargs="?", metavar="NOTEBOOK", help="a name such as synthetic, or a path")
    run.add_argument("--all", action="store_true", help="every notebook, in the order of the book")
    run.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: beside the notebook)")
    run.set_defaults(func=_run)
    sweeper = commands.add_parser("sweep", help="run a grid of parameters, where there is no record", add_help=False)
    sweeper.add_argument("notebook", nargs="?", metavar="NOTEBOOK", help="a name such as synthetic, or a path")
    sweeper.set_defaults(func=_sweep)
    for command in (run, sweeper):
        command.add_argument("-h", "--help", action="store_true", help="this, and with NOTEBOOK its parameters")
        command.set_defaults(parser=command)
    put = commands.add_parser("publish", help="compute the record of a notebook, and put it into data/results")
    put.add_argument("notebook", metavar="NOTEBOOK", help="a name such as cifar_to_stl, or a path")
    put.add_argument("--name", required=True, help="what the record is called, such as full-seed0")
    put.set_defaults(func=_publish)
    for command in (run, sweeper, put):
        command.add_argument(
            "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
            help="set a parameter; --NAME VALUE does the same",
        )  # fmt: skip
        command.add_argument("--profile", help="size of the run: smoke, quick or paper")
        command.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    asked = arguments[:1]  # what takes long to import is imported when asked for, so that --help and run start at once
    if asked == ["data"]:
        from advtransfer.datasets.commands import add_parser

        add_parser(commands)
    else:
        commands.add_parser("data", help="list, fetch and verify the data sets")
    if asked == ["sweep"]:
        from advtransfer.sweep_commands import add_options

        add_options(sweeper)
    if asked and asked[0] in INSPECTING:
        from advtransfer.run_commands import add_parsers

        add_parsers(commands, NOTEBOOKS)
    else:
        for name, told in INSPECTING.items():
            commands.add_parser(name, help=told)
    if asked == ["classroom"]:
        from advtransfer.classroom.commands import add_parser as add_classroom

        add_classroom(commands)
    else:
        commands.add_parser("classroom", help="assignments: editions, grading in a sandbox, feedback")
    return parser


def _pairs(rest: list[str]) -> list[list[str]]:
    """``--name value`` and ``--name=value`` as pairs of parameters."""
    words = [part for word in rest for part in (word.split("=", 1) if word.startswith("--") else [word])]
    names, values = words[::2], words[1::2]
    if len(names) != len(values) or not all(name.startswith("--") for name in names):
        raise ValueError(f"got {' '.join(rest)}; expected parameters as --NAME VALUE")
    return [[name[2:].replace("-", "_"), value] for name, value in zip(names, values, strict=True)]


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The parameters asked for; the device is made known to whatever computes."""
    given: dict[str, Any] = dict(arguments.p)
    if len(given) < len(arguments.p):
        raise ValueError("a parameter was set twice; expected -p NAME VALUE once for each name")
    if arguments.profile:
        given["profile"] = arguments.profile
    if arguments.device:
        from advtransfer.provenance import device  # here, as it loads torch

        os.environ["ADVTRANSFER_DEVICE"] = arguments.device
        device()
    return given


def _publish(arguments: argparse.Namespace) -> int:
    from advtransfer import notebooks, records

    source = notebooks.read(_path(arguments.notebook))
    given = _given(arguments)
    source.resolve(given)
    if not hasattr(source.experiment_module, "derive"):
        raise ValueError(
            f"{source.path.stem} has no per-sample data to publish; expected an experiment on images or texts"
        )
    record = source.experiment_module.run(source.config_type.from_profile(**given))
    print(records.publish(record, arguments.name))
    return 0


def _helped(arguments: argparse.Namespace) -> int:
    """Print the help of run or sweep, and the parameters of the notebook, if one is named."""
    arguments.parser.print_help()
    if arguments.notebook:
        from advtransfer import notebooks
        from advtransfer.run_commands import print_parameters

        source = notebooks.read(_path(arguments.notebook))
        print(f"\nparameters of {source.path.stem}, set by -p NAME VALUE or --NAME VALUE:")
        print_parameters(source.config_type, arguments.profile or "quick")
    return 0


def _sweep(arguments: argparse.Namespace) -> int:
    if arguments.help:
        return _helped(arguments)
    from advtransfer.sweep_commands import command

    if not arguments.notebook:
        raise ValueError("no notebook given; expected sweep NOTEBOOK --grid NAME=VALUES")
    return command(arguments, _path(arguments.notebook), _given(arguments))


def _run(arguments: argparse.Namespace) -> int:
    if arguments.help:
        return _helped(arguments)
    from advtransfer.runner import RunError, in_toc_order, run

    given = _given(arguments)
    if arguments.all == bool(arguments.notebook):
        raise ValueError("expected one of NOTEBOOK and --all")
    if arguments.all and arguments.p:
        raise ValueError("-p sets the parameter of one notebook; expected NOTEBOOK instead of --all")
    failures = 0
    for path in in_toc_order(NOTEBOOKS) if arguments.all else [_path(arguments.notebook)]:
        start = time.perf_counter()
        print(f"{path}: ", end="", flush=True)
        try:
            outcome = run(path, given, out=arguments.out, whole=not arguments.all)
        except RunError as error:
            print("failed", flush=True)
            print(f"error: {error}", file=sys.stderr)
            failures += 1
        except ValueError:
            print("not run", flush=True)
            raise
        else:
            print(f"executed in {time.perf_counter() - start:.0f} s" if outcome.executed else "fresh", flush=True)
    return 1 if failures else 0


def _path(name: str) -> Path:
    """A notebook by its path, or by its name alone."""
    path = Path(name)
    return path.with_suffix(".md") if len(path.parts) > 1 or path.is_file() else NOTEBOOKS / f"{path.stem}.md"
