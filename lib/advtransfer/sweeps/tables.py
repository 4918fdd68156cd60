"""What a sweep shows of each experiment: one of its tables, and which of its numbers are labels.

The experiments do not say this themselves, because the key of every record depends on their source.
"""

from types import ModuleType
from typing import NamedTuple


class Shown(NamedTuple):
    """What a sweep shows of one experiment."""

    table: str | None = None
    """The table that is collected unless another one is asked for; None: the first one of the records."""
    labels: tuple[str, ...] = ()
    """Columns of numbers, in any of its tables, that say what a row is about; other numbers are measures."""


EXPERIMENTS = {
    "ablations": Shown("curves", ("value",)),
    "choosing": Shown(
        "scores", ("parameters", "size", "features", "outputs", "labels", "classes", "train", "test", "height", "width")
    ),
    "forecast": Shown("forecasts", ("seed", "of_target")),
    "similarity": Shown("sources", ("similarity", "animals")),
    "study": Shown("scores", ("untrained", "parameters", "width", "seed")),
    "synthetic": Shown("agreement", ("v", "t", "level", "scale")),
    "text": Shown("sources", ("classes", "train_texts", "test_texts")),
    "theory": Shown("statements", ("tolerance", "network", "eps", "half_width", "confidence", "n")),
    "vision": Shown("sources", ("width", "epochs", "parameters")),
}
"""By the experiment's module in `advtransfer.experiments`."""


def shown(module: str) -> Shown:
    """What a sweep shows of the experiment with this full name; of one that is not the book's, the first table.

    Examples
    --------
    >>> shown("advtransfer.experiments.vision").table, shown("mine.trials")
    ('sources', Shown(table=None, labels=()))
    """
    package, _, name = module.rpartition(".")
    return EXPERIMENTS.get(name, Shown()) if package == "advtransfer.experiments" else Shown()


def names(module: ModuleType) -> tuple[str, ...]:
    """The tables of an experiment's records, as far as it names them."""
    return tuple(getattr(module, "TABLES", ()))
