"""What a page shows: this run, the stored ones, and what follows from those."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pandas as pd

from advtransfer.datasets import DataUnavailable
from advtransfer.records.published import first_series, published
from advtransfer.records.record import Record

STORED = "stored"
"""What a table calls the runs that come with the book."""
HERE = "rebuilt here"
"""What a table calls the run that was made with the page."""

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


def load(experiment: ModuleType, config: Any, summary: Callable[[Mapping[str, Record]], Summary]) -> Runs:
    """Compute this run, or find its record, and read the stored ones; `summary` says what follows from those.

    Raises
    ------
    RecordError
        A stored record is broken.
    """
    name = experiment.__name__.rpartition(".")[2]
    try:
        record = experiment.run(config)
    except DataUnavailable:
        record = None
    records = published(name)
    return Runs(config, record, records, summary(records))
