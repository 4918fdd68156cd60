"""The tables as printed, and accuracies that others report, with the column names of this project.

Accuracies are shares, and norms stand beside their squares.
"""

import numpy as np
import pandas as pd

from advtransfer.models import images
from advtransfer.records import shipped

PAPER = shipped.folder() / "paper"


def table(number: int) -> pd.DataFrame:
    """Table 1 to 5: a row per model (``label``); Table 3 has a ``similarity`` in per cent, Table 5 an ``attack``."""
    rows = pd.read_csv(PAPER / f"table{number}.csv").rename(columns={"model": "label"})
    if number == 3:
        rows["similarity"] = rows["similarity"].str.rstrip("%").astype(int)
    return rows.assign(
        transfer_accuracy=rows["knowledge_transfer"] / 100,
        alpha2=np.sqrt(rows["alpha2"]),
        alpha12=np.sqrt(rows["alpha12"]),
        alpha2_squared=rows["alpha2"],
        alpha12_squared=rows["alpha12"],
    ).drop(columns="knowledge_transfer")


def pearson(table: str, attack: str | None = None) -> float:
    """The Pearson score over samples, from the caption of a table."""
    scores = pd.read_csv(PAPER / "pearson.csv")
    chosen = scores[
        (scores["table"] == table) & (scores["attack"].isna() if attack is None else scores["attack"] == attack)
    ]
    return float(chosen["pearson"].item())


def known_accuracies() -> pd.DataFrame:
    """What others report for a source architecture on CIFAR-10: ``accuracy``, ``epochs``, ``source`` (a citation)."""
    table = pd.read_csv(PAPER.parent / "known_accuracies.csv")
    return table.assign(accuracy=table["accuracy"] / 100, label=table["architecture"].map(images.LABELS))
