"""An experiment is a pure function of its Config. Each run is computed once, and found again by what it depends on."""

import functools
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from advtransfer.records import storage
from advtransfer.records.configs import Config
from advtransfer.records.costs import metered
from advtransfer.records.provenance import digest, environment, source_hash
from advtransfer.records.record import Arrays, Record, RecordError, Tables


def recorded(run: Callable[[Any], tuple[Tables, Arrays]]) -> Callable[..., Record]:
    """Make ``run(config) -> (tables, arrays)`` an experiment: ``run(config, *, cache=True, wait=True) -> Record``.

    A run is computed once. It is found again by its module's name and `source_hash`, its config, and the content of
    the files that the module's function ``files(config) -> dict[str, Path]`` names, if there is one. Without `cache`,
    it is computed in any case, and not kept. If another process is computing the same run, this one waits for its
    record, or raises `storage.Busy` if not `wait`.
    """
    module = sys.modules[run.__module__]
    experiment = _name(module)

    @functools.wraps(run)
    def run_once(config: Config, *, cache: bool = True, wait: bool = True) -> Record:
        origin, key = address(module, config)
        if not cache:
            return _compute(run, experiment, config, origin)
        folder = place(experiment, key)
        if folder.exists():
            with suppress(RecordError):
                return _noted(Record.load(folder), key)
        with storage.locked(folder, wait=wait):
            if folder.exists():  # it is broken, or another process has made it by now
                try:
                    return _noted(Record.load(folder), key)
                except RecordError as error:
                    storage.tell(str(error))
            record = _compute(run, experiment, config, origin)
            record.save(folder)
        return _noted(record, key)

    return run_once


def _noted(record: Record, key: str) -> Record:
    """Tell the process that executes this notebook, if there is one, which record its cells have made."""
    if storage.NOTES in os.environ:
        storage.note(experiment=record.experiment, record=key, digest=record.digest)
    return record


def address(module: ModuleType, config: Config) -> tuple[dict[str, Any], str]:
    """Where a run comes from (module, source, inputs), and its key."""
    inputs = {name: storage.fingerprint(path) for name, path in files(module, config).items()}
    origin = {"module": module.__name__, "source": source_hash(module.__name__), "inputs": inputs}
    return origin, digest({"config": config.model_dump(mode="json"), **origin})


def files(module: ModuleType, config: Config) -> dict[str, Path | None]:
    """The files that an experiment reads, by name; None for a file whose location is not known."""
    return module.files(config) if hasattr(module, "files") else {}


def place(experiment: str, key: str) -> Path:
    """The folder of a record in the cache. The records of an experiment are spread over up to 256 folders."""
    return storage.cache_root() / "records" / experiment / key[:2] / key


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def _compute(
    run: Callable[[Any], tuple[Tables, Arrays]], experiment: str, config: Config, origin: dict[str, Any]
) -> Record:
    with metered() as cost:
        tables, arrays = run(config)
    return Record(experiment, config.model_dump(mode="json"), tables, arrays, {**origin, **cost, **environment()})
