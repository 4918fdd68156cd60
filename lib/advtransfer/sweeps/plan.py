"""The runs of a sweep: a checked grid of parameters, the key of each run, and which runs have a record."""

import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from advtransfer.names import unknown
from advtransfer.notebooks.read import Notebook
from advtransfer.records.configs import ConfigError
from advtransfer.sweeps import tables

RANGE = re.compile(r"(-?\d+):(-?\d+)(?::([1-9]\d*))?")


@dataclass(frozen=True)
class Run:
    """One run: the key of its record, and the parameters in which it differs from the other runs."""

    key: str
    set: dict[str, Any]

    @property
    def title(self) -> str:
        """The parameters that it sets, in one line."""
        return ", ".join(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
                         for name, value in self.set.items())  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """The different runs of one notebook's experiment over a grid."""

    name: str
    module: str
    fixed: dict[str, Any]
    axes: tuple[str, ...]
    runs: tuple[Run, ...]

    @property
    def experiment(self) -> str:
        """The experiment's short name, under which its records are kept."""
        return self.module.rpartition(".")[2]

    @property
    def grid(self) -> dict[str, list[Any]]:
        """The different values of each parameter of the grid."""
        return {name: list({repr(run.set[name]): run.set[name] for run in self.runs}.values()) for name in self.axes}


def axis(text: str) -> tuple[str, Sequence[Any]]:
    """Read ``NAME=VALUE,VALUE,...``, or ``NAME=FIRST:END[:STEP]`` for FIRST, FIRST + STEP, ... below END.

    If a value is itself a list with commas, separate the values by semicolons.

    Raises
    ------
    ValueError
        There is no name, or no value.

    Examples
    --------
    >>> axis("eps=2/255,4/255"), axis("seed=0:3"), axis("radii=0.1,0.2;0.3")
    (('eps', ['2/255', '4/255']), ('seed', range(0, 3)), ('radii', ['0.1,0.2', '0.3']))
    """
    name, _, listed = text.partition("=")
    if match := RANGE.fullmatch(listed.strip()):
        first, end, step = (int(part or 1) for part in match.groups())
        values: Sequence[Any] = range(first, end, step)
        if abs(end - first) > sys.maxsize:
            raise ValueError(f"--grid {text!r} has too many values; expected at most a few thousand")
    else:
        values = [value.strip() for value in listed.split(";" if ";" in listed else ",") if value.strip()]
    if not name.strip() or not values:
        raise ValueError(f"--grid {text!r} has no {'values' if name.strip() else 'name'}; "
                         "expected NAME=VALUE,VALUE,... or NAME=FIRST:END")  # fmt: skip
    return name.strip().replace("-", "_"), values


def axes(texts: Iterable[str]) -> dict[str, Sequence[Any]]:
    """Read the axes of a grid, each parameter once.

    Raises
    ------
    ValueError
        An axis cannot be read or is given twice, or there is none.
    """
    grid: dict[str, Sequence[Any]] = {}
    for name, values in map(axis, texts):
        if name in grid:
            raise ValueError(f"--grid has {name!r} twice; expected each parameter once")
        grid[name] = values
    if not grid:
        raise ValueError("the grid is empty; expected --grid NAME=VALUE,VALUE,... at least once")
    return grid


def size(grid: Mapping[str, Sequence[Any]]) -> int:
    """The number of combinations, which are not made for this."""
    return math.prod(map(len, grid.values()))


def check(
    notebook: Notebook, fixed: Mapping[str, Any], grid: Mapping[str, Sequence[Any]], table: str | None = None
) -> None:
    """Check that each parameter is known and set once, and that the experiment has the table, if it names its tables.

    Raises
    ------
    ConfigError
        A parameter is unknown or set twice, or the table is unknown. The message is one line.
    """
    notebook.check_names([*fixed, *grid])
    known = tables.names(notebook.experiment_module)
    if table and known and table not in known:
        raise ConfigError(unknown("table", table, known))
    if both := sorted({*fixed} & {*grid}):
        raise ConfigError(f"{both[0]}: both set and in the grid; expected one of them")


def plan(notebook: Notebook, fixed: Mapping[str, Any], grid: Mapping[str, Sequence[Any]]) -> Plan:
    """Make the runs of a grid in its order, where the last axis varies fastest; equal combinations count once.

    Raises
    ------
    ConfigError
        A parameter is unknown, is set twice, or cannot have one of its values.
    """
    from advtransfer.records.runs import address  # imported here, because it is slow

    check(notebook, fixed, grid)
    fixed = {name: value for name, value in {**notebook.defaults, **fixed}.items() if name not in grid}
    module, kind = notebook.experiment_module, notebook.config_type
    runs: dict[str, Run] = {}
    for values in product(*grid.values()):
        config = kind.from_profile(**{**fixed, **dict(zip(grid, values, strict=True))})
        key = address(module, config)[1]
        if key not in runs:
            shown = config.model_dump(mode="json", include=set(grid))
            runs[key] = Run(key, {name: shown[name] for name in grid})
    return Plan(notebook.path.stem, module.__name__, fixed, tuple(grid), tuple(runs.values()))


def kept(plan: Plan) -> set[str]:
    """The keys of the runs that have a record. Folders are listed, because looking for each run would take longer."""
    from advtransfer.records.runs import place

    folder = place(plan.experiment, "")  # the folder that holds all record folders of the experiment
    return {run.key for run in plan.runs} & {name for shard in _names(folder) for name in _names(folder / shard)}


def _names(folder: Path) -> Iterator[str]:
    try:
        yield from os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
