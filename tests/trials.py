"""A toy experiment for sweeps, its notebook, and what its runs wrote down of themselves."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PARAMETERS = """profile: str = "quick"  # size of the run: smoke, quick or paper
seed: int = 0  # seed of everything random
eps: float = None  # radius
mood: str = None  # what happens
seconds: float = None  # how long it takes
"""
HEADER = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  name: python3
advtransfer:
  experiment: {experiment}
---

# {title}

```{{code-cell}} ipython3
:tags: [parameters]

{parameters}```
"""
NOTEBOOK = (
    HEADER.format(experiment="toys.trial", title="Trials", parameters=PARAMETERS)
    + """
```{code-cell} ipython3
from toys import trial
record = trial.run(trial.Config.from_profile(profile, seed=seed, eps=eps, mood=mood, seconds=seconds))
```
"""
)
EXPERIMENT = '''
"""Runs that go well, fail or die, and note when they start and end."""
import os, signal, time
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from advtransfer.records import storage
from advtransfer.records.configs import Config as Base
from advtransfer.records.configs import Epsilon
from advtransfer.records.runs import recorded

HERE = Path(__file__).parent


class Config(Base):
    """Their parameters."""
    PROFILES = {"smoke": {}, "quick": {}, "paper": {}}
    eps: Epsilon = Field(0.5, description="radius")
    mood: Literal["well", "fails", "dies once", "dies", "kills"] = Field("well", description="what happens")
    seconds: float = Field(0, ge=0, description="how long it takes")


def note(config, word):
    file = os.open(HERE / "log.txt", os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, f"{word} {config.seed} {config.eps} {config.mood}\\n".encode())
    os.close(file)


@recorded
def run(config):
    """Two rows: a level and a value that depends on seed and radius."""
    note(config, "start")
    time.sleep(config.seconds)
    if config.mood == "fails":
        raise RuntimeError(f"seed {config.seed} is in no mood")
    once = HERE / f"died-{config.seed}"
    if config.seed == 0 and (config.mood == "dies" or config.mood == "dies once" and not once.exists()):
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if config.mood == "kills":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)
    value = np.random.default_rng(config.seed).normal(size=2) * config.eps
    note(config, "end")
    table = {"level": [0, 1], "kind": ["a, b", 'the "second"'], "value": value}
    return {"rows": pd.DataFrame(table), "other": pd.DataFrame({"n": [1]})}, {"value": value}
'''


def write(toys: Path) -> Path:
    """Put the experiment into the package `toys`, and its notebook beside it; return the notebook's path."""
    (toys / "trial.py").write_text(EXPERIMENT, encoding="utf-8")
    path = toys.parent / "notebooks" / "trials.md"
    path.parent.mkdir()
    path.write_text(NOTEBOOK, encoding="utf-8")
    return path


def variant(notebook: Path, name: str, **defaults: object) -> Path:
    """Put a notebook with other defaults beside `notebook`."""
    lines = [
        line.partition(" = ")[0] + f" = {defaults[line.partition(':')[0]]!r}"
        if line.partition(":")[0] in defaults
        else line
        for line in notebook.read_text(encoding="utf-8").split("\n")
    ]
    path = notebook.with_stem(name)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def running(mark: object) -> list[int]:
    """The processes that were started with `mark` somewhere in their environment, such as the path of a cache."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            found += [int(path.parent.name)] * (str(mark).encode() in path.read_bytes())
    return found


def until(true: Callable[[], object], seconds: float) -> None:
    """Wait until something is true, and fail if it does not become so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def log(toys: Path, word: str) -> list[str]:
    """The runs that noted `word`, in the order in which they did."""
    file = toys / "log.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{word} ")]
