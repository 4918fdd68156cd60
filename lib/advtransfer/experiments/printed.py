"""The tables as printed, and accuracies that others report, with the column names of this project.

Accuracies are shares, and norms stand beside their squares.
"""

import numpy as np
import pandas as pd

from advtransfer.models import images
from advtransfer.records import shipped

PAPER = shipped.folder() / "paper"


def table1() -> pd.DataFrame:
    """Table 1: one row per architecture."""
    return _rows("table1").rename(columns={"model": "label"})


def table2() -> pd.DataFrame:
    """Table 2: one row per source corpus, T→S."""
    return _rows("table2").rename(columns={"model": "label"})


def table3() -> pd.DataFrame:
    """Table 3: one row per similarity in per cent."""
    table = _rows("table3")
    return table.assign(similarity=table["similarity"].str.rstrip("%").astype(int))


def table4() -> pd.DataFrame:
    """Table 4: one row per source corpus, S→T."""
    return _rows("table4").rename(columns={"model": "label"})


def table5() -> pd.DataFrame:
    """Table 5: one row per attack and architecture."""
    return _rows("table5").rename(columns={"model": "label"})


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


def _rows(name: str) -> pd.DataFrame:
    table = pd.read_csv(PAPER / f"{name}.csv")
    return table.assign(
        transfer_accuracy=table["knowledge_transfer"] / 100,
        alpha2=np.sqrt(table["alpha2"]),
        alpha12=np.sqrt(table["alpha12"]),
        alpha2_squared=table["alpha2"],
        alpha12_squared=table["alpha12"],
    ).drop(columns="knowledge_transfer")
