"""The notebook and the parameters of a run: ``-p NAME=VALUE``, ``-p NAME VALUE``, ``--NAME VALUE`` and ``-f FILE``."""

import argparse
import os
import re
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advtransfer.names import one_line

if TYPE_CHECKING:
    from advtransfer.records.configs import Config


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that set parameters. The words of ``-p`` are read by `split` before the parser sees them."""
    parser.add_argument("-p", metavar="NAME=VALUE", help="set a parameter; -p NAME VALUE and --NAME VALUE do the same")
    parser.add_argument(
        "-f", "--parameters-file", metavar="FILE", type=Path, action="append", default=[],
        help="set the parameters that a YAML file (or a TOML file, .toml) holds; what is typed overrides them",
    )  # fmt: skip
    parser.add_argument("--profile", help="size of the run: smoke, quick or paper")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")


def add_settings(parser: argparse.ArgumentParser, kind: type["Config"], skip: tuple[str, ...] = ()) -> None:
    """Add an option for each parameter of an experiment except those in `skip`, with its meaning and its default."""
    from advtransfer.records.configs import meaning  # imported here, because it needs an extra

    settings = parser.add_argument_group("settings", "their defaults are those of --profile quick")
    shown = [row for row in meaning(kind) if row[0] not in skip]
    for name, values, default, what in shown:
        told = f"{what} ({values}; default: {default.replace(',', ', ') or 'none'})".replace("%", "%%")
        settings.add_argument(f"--{name.replace('_', '-')}", metavar="VALUE", help=told)
    parser.set_defaults(settings=[name for name, *_ in shown])


def split(words: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """The words without ``-p NAME VALUE``, ``-p NAME=VALUE`` and ``-pNAME=VALUE``, and the pairs that these set.

    A value may be negative, and may hold commas and ``=``.

    Raises
    ------
    ValueError
        A name or a value is missing.

    Examples
    --------
    >>> split(["run", "x", "-p", "eps", "-1e-3", "-p", "encoder=a=b", "--out", "y"])
    (['run', 'x', '--out', 'y'], [('eps', '-1e-3'), ('encoder', 'a=b')])
    """
    rest, pairs = [], []
    words = list(words)
    while words:
        word = words.pop(0)
        if not word.startswith("-p"):
            rest.append(word)
            continue
        if attached := word.removeprefix("-p").removeprefix("="):  # -pNAME=VALUE
            words.insert(0, attached)
        name, equals, value = words.pop(0).partition("=") if words else ("", "", "")
        if not equals and words:
            value = words.pop(0)
        elif not equals:
            raise ValueError(f"{f'-p {name}'.strip()} has no value; expected -p NAME=VALUE or -p NAME VALUE")
        if not re.fullmatch(r"[A-Za-z][\w-]*", name):
            raise ValueError(f"-p has the name {name!r}; expected -p NAME=VALUE or -p NAME VALUE")
        pairs.append((name.replace("-", "_"), value))
    return rest, pairs


def pairs(rest: list[str]) -> list[tuple[str, str]]:
    """``--name value`` and ``--name=value`` as pairs of parameters."""
    words = [part for word in rest for part in (word.split("=", 1) if word.startswith("--") else [word])]
    names, values = words[::2], words[1::2]
    if len(names) != len(values) or not all(name.startswith("--") for name in names):
        raise ValueError(f"got {' '.join(rest)}; expected parameters as --NAME VALUE, and lists as --NAME A,B")
    return [(name[2:].replace("-", "_"), value) for name, value in zip(names, values, strict=True)]


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The parameters by name; what is typed overrides a file, and a file overrides the files before it.

    If a device is given, it is set for everything that this process computes.
    """
    typed = [(name, getattr(arguments, name)) for name in getattr(arguments, "settings", ())]
    pairs = [*arguments.pairs, *((name, value) for name, value in typed if value is not None)]
    values: dict[str, Any] = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice} was set twice; expected -p {twice} VALUE once")
    if arguments.profile and values.setdefault("profile", arguments.profile) != arguments.profile:
        raise ValueError(f"profile is {values['profile']} and {arguments.profile}; expected one of them")
    for path in reversed(arguments.parameters_file):
        values = _read(path) | values
    if arguments.device:
        from advtransfer.records.provenance import device  # imported here, because it loads torch

        os.environ["ADVTRANSFER_DEVICE"] = arguments.device
        device()
    return values


def _read(path: Path) -> dict[str, Any]:
    """The parameters in a YAML or TOML file."""
    import yaml  # imported here, because it needs an extra

    expected = "expected lines NAME: VALUE of YAML or, in a file .toml, NAME = VALUE"
    try:
        text = path.read_text(encoding="utf-8-sig")
        held = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise ValueError(f"{path} cannot be read ({reason}); {expected}") from None
    if held is None:  # an empty file, or comments alone
        return {}
    if not isinstance(held, dict) or not all(isinstance(name, str) for name in held):
        raise ValueError(f"{path} holds {textwrap.shorten(repr(held), 60)}; {expected}")
    return {name.replace("-", "_"): value for name, value in held.items()}


def notebook(arguments: argparse.Namespace) -> Path:
    """The source of the notebook that was named; for an executed notebook a note says which source is meant."""
    from advtransfer.notebooks import find  # imported here, because it needs an extra

    path = find.named(arguments.notebook)
    if arguments.notebook.endswith(".ipynb") and path.is_file():
        print(f"note: {arguments.notebook} is an executed notebook; its source is {path}", file=sys.stderr)
    before = arguments.words[arguments.words.index(arguments.notebook) - 1]
    if not path.is_file() and before.removeprefix("--").replace("-", "_") in dict(arguments.pairs):
        print(
            f"note: {arguments.notebook!r} is taken for the notebook, which comes before --NAME VALUE", file=sys.stderr
        )
    return path


def placed(values: dict[str, Any]) -> dict[str, Any]:
    """The parameters, of which those that are the path of a file or a folder are absolute: a kernel runs elsewhere.

    A bare name is one only if it has an ending, as a file has: ``pool.toml``, but neither ``1`` nor ``quick``.
    """
    there = {name: Path(value).expanduser() for name, value in values.items() if isinstance(value, str)}
    paths = {
        name: path for name, path in there.items() if len(path.parts) > 1 or (path.suffix and os.path.isfile(path))
    }
    return values | {name: str(path.absolute()) for name, path in paths.items() if os.path.exists(path)}


def add_help(parser: argparse.ArgumentParser) -> None:
    """Add ``-h``, which also shows the parameters of the notebook, if one is named."""
    parser.add_argument("-h", "--help", action="store_true", help="show this help and, with NOTEBOOK, its parameters")
    parser.set_defaults(parser=parser)


def print_help(arguments: argparse.Namespace) -> int:
    """Print the help of a command, and the parameters of the notebook, if one is named."""
    arguments.parser.print_help()
    if arguments.notebook:
        import pandas as pd

        from advtransfer.commands.output import print_table
        from advtransfer.notebooks.read import read
        from advtransfer.records.configs import meaning

        source = read(notebook(arguments))
        profile = arguments.profile or "quick"
        print(f"\nparameters of {source.path.stem}, set by -p NAME=VALUE, -p NAME VALUE or --NAME VALUE:")
        columns = ["name", "type", f"in {profile}", "meaning"]
        print_table(pd.DataFrame(meaning(source.config_type, profile), columns=columns))
    return 0
