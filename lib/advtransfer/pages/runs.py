"""What a page shows: this run, the stored ones, and what was computed of those when they were published."""

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from advtransfer.datasets import DataUnavailable
from advtransfer.records import storage
from advtransfer.records.provenance import digest
from advtransfer.records.published import RESULTS, Published, first_series, published
from advtransfer.records.record import Record, RecordError

SUMMARY = "summary.json"
STORED = "stored"
"""What a table calls the runs that come with the book."""
HERE = "rebuilt here"
"""What a table calls the run that was made with the page."""

SUMMARISED = {"vision": "cifar_to_stl", "similarity": "similarity", "ablations": "ablations", "text": "nlp"}
"""The experiments whose runs are published with a summary, and the page whose `summary` computes it."""

Summary = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Runs:
    """The runs of a page."""

    config: Any
    """The parameters of this run."""
    record: Record | None
    """This run; None where its data are not here."""
    published: Mapping[str, Record]
    """By name, such as ``full-seed0``."""
    summary: Summary
    """Tables that follow from the stored runs and the paper alone."""

    @property
    def own(self) -> dict[str, Record]:
        """This run, under what a table calls it; empty where its data are not here."""
        return {HERE: self.record} if self.record else {}

    def series(self, name: str) -> dict[str, Record]:
        """The stored runs of one series: alike but for their seed."""
        return first_series(self.published, name)


def load(experiment: ModuleType, config: Any) -> Runs:
    """Compute this run, or find its record, and read the stored ones.

    Raises
    ------
    RecordError
        A stored record is broken, or the summary is of other records than those that are there.
    """
    name = experiment.__name__.rpartition(".")[2]
    try:
        record = experiment.run(config)
    except DataUnavailable:
        record = None
    records = published(name)
    return Runs(config, record, records, read_summary(name, records))


def read_summary(experiment: str, records: Published, results: Path = RESULTS) -> Summary:
    """The tables stored with the stored runs of an experiment; where no run is published, those of the paper alone.

    Raises
    ------
    RecordError
        They are missing, were computed from other records, or have changed since.
    """
    path = results / experiment / SUMMARY
    if not records:
        return _page(experiment).summary(records)
    if not path.is_file():
        raise RecordError(f"{path} is missing; publish one of the records beside it again")
    stored = json.loads(path.read_text(encoding="utf-8"))
    if stored["records"] != records.digests():
        raise RecordError(f"{path} is of other records than those beside it; publish one of them again")
    if stored["digest"] != digest(json.dumps(stored["tables"])):
        raise RecordError(f"{path} is no longer what was computed; publish one of the records beside it again")
    return {name: pd.DataFrame(rows) for name, rows in stored["tables"].items()}


def store_summary(experiment: str, results: Path = RESULTS) -> Path:
    """Compute what follows from the stored runs of an experiment alone, and store it beside them."""
    records = published(experiment, results)
    tables = {name: table.to_dict("records") for name, table in _page(experiment).summary(records).items()}
    with storage.replacing(results / experiment / SUMMARY) as draft:
        about = {"records": records.digests(), "digest": digest(json.dumps(tables)), "tables": tables}
        text = json.dumps(about, indent=1, ensure_ascii=False)
        draft.write_text(text + "\n", encoding="utf-8")
    return results / experiment / SUMMARY


def _page(experiment: str) -> Any:
    return importlib.import_module(f"advtransfer.pages.{SUMMARISED[experiment]}")
