"""Find a run by a name that a person types, and list the runs of an experiment."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from advtransfer.names import unknown
from advtransfer.records import storage
from advtransfer.records.published import RESULTS
from advtransfer.records.runs import place


def find(name: str, results: Path = RESULTS) -> Path:
    """The folder of a record, by its path, its notebook's (``.ipynb``), its published name, or the start of its key.

    Raises
    ------
    ValueError
        No record has that name, or more than one has.
    """
    path = Path(name)
    if (path / "record.json").is_file():
        return path
    if path.suffix == ".ipynb" and path.is_file():
        return _of_notebook(path)
    published = [head.parent for head in sorted(results.glob("*/*/record.json"))]
    found = [folder for folder in published if name in (folder.name, f"{folder.parent.name}/{folder.name}")]
    if not found and len(name) >= 4 and set(name) <= set("0123456789abcdef"):
        found = sorted((storage.cache_root() / "records").glob(f"*/{name[:2]}/{name}*"))
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(f"{folder.parents[0].name}/{folder.name}" for folder in found)
        raise ValueError(f"{name!r} may be {several}; expected one of them")
    names = [f"{folder.parent.name}/{folder.name}" for folder in published]
    raise ValueError(f"{unknown('run', name, names)} (or a notebook's .ipynb, a record's folder, or the first 4 "
                     "digits or more of its key)")  # fmt: skip


def _of_notebook(path: Path) -> Path:
    beside = path.with_suffix(".record")
    if beside.is_dir():
        return beside
    about = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("advtransfer", {})
    if "record" not in about:
        raise ValueError(f"{path} was not executed by advtransfer; expected a notebook that run has written")
    folder = place(about["experiment"].rpartition(".")[2], about["record"])
    if not folder.is_dir():
        raise ValueError(f"the record of {path} is not in the cache any more; expected {folder}")
    return folder


def cached(experiment: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The key and the head of every record of an experiment in the cache, the latest first."""
    heads = (storage.cache_root() / "records" / experiment).glob("??/[0-9a-f]*/record.json")
    for path in sorted(heads, key=lambda head: head.stat().st_mtime, reverse=True):
        yield path.parent.name, json.loads(path.read_text(encoding="utf-8"))


def set_by_hand(config: dict[str, Any], module: str) -> dict[str, Any]:
    """The parameters of a run that differ from its profile."""
    kind = importlib.import_module(module).Config
    usual = kind.from_profile(config["profile"]).model_dump(mode="json")
    return {name: value for name, value in config.items() if name not in usual or usual[name] != value}
