"""The parameters of a run as they are typed: ``-p NAME VALUE``, ``--NAME VALUE``, ``--profile`` and ``--device``."""

import argparse
import os
from typing import Any


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that set parameters."""
    parser.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="set a parameter; --NAME VALUE does the same",
    )  # fmt: skip
    parser.add_argument("--profile", help="size of the run: smoke, quick or paper")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")


def pairs(rest: list[str]) -> list[list[str]]:
    """``--name value`` and ``--name=value`` as pairs of parameters."""
    words = [part for word in rest for part in (word.split("=", 1) if word.startswith("--") else [word])]
    names, values = words[::2], words[1::2]
    if len(names) != len(values) or not all(name.startswith("--") for name in names):
        raise ValueError(f"got {' '.join(rest)}; expected parameters as --NAME VALUE")
    return [[name[2:].replace("-", "_"), value] for name, value in zip(names, values, strict=True)]


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The parameters by name; the device is made known to everything that computes."""
    values: dict[str, Any] = dict(arguments.p)
    if len(values) < len(arguments.p):
        raise ValueError("a parameter was set twice; expected -p NAME VALUE once for each name")
    if arguments.profile:
        values["profile"] = arguments.profile
    if arguments.device:
        from advtransfer.records.provenance import device  # here, as it loads torch

        os.environ["ADVTRANSFER_DEVICE"] = arguments.device
        device()
    return values


def add_help(parser: argparse.ArgumentParser) -> None:
    """Add ``-h``, which also shows the parameters of the notebook, if one is named."""
    parser.add_argument("-h", "--help", action="store_true", help="show this help and, with NOTEBOOK, its parameters")
    parser.set_defaults(parser=parser)


def print_help(arguments: argparse.Namespace) -> int:
    """Print the help of a command, and the parameters of the notebook, if one is named."""
    arguments.parser.print_help()
    if arguments.notebook:
        import pandas as pd

        from advtransfer.commands.inspect import print_table
        from advtransfer.notebooks import find
        from advtransfer.notebooks.read import read
        from advtransfer.records.configs import meaning

        source = read(find.named(arguments.notebook))
        profile = arguments.profile or "quick"
        print(f"\nparameters of {source.path.stem}, set by -p NAME VALUE or --NAME VALUE:")
        columns = ["name", "type", f"in {profile}", "meaning"]
        print_table(pd.DataFrame(meaning(source.config_type, profile), columns=columns))
    return 0
