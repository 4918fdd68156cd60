"""The tables as printed, and accuracies as others state them, under our names: shares, norms beside squares."""

from pathlib import Path

import numpy as np
import pandas as pd

from advtransfer.models import images

PAPER = Path(__file__).parents[3] / "data" / "paper"


def table1() -> pd.DataFrame:
    """Table 1: a row an architecture."""
    return _rows("table1").rename(columns={"model": "label"})


def table2() -> pd.DataFrame:
    """Table 2: a row a source corpus, T→S."""
    return _rows("table2").rename(columns={"model": "label"})


def table3() -> pd.DataFrame:
    """Table 3: a row a similarity in per cent."""
    table = _rows("table3")
    return table.assign(similarity=table["similarity"].str.rstrip("%").astype(int))


def table4() -> pd.DataFrame:
    """Table 4: a row a source corpus, S→T."""
    return _rows("table4").rename(columns={"model": "label"})


def table5() -> pd.DataFrame:
    """Table 5: a row an attack and an architecture."""
    return _rows("table5").rename(columns={"model": "label"})


def pearson(table: str, attack: str | None = None) -> float:
    """The Pearson score in the caption of a table, over samples."""
    scores = pd.read_csv(PAPER / "pearson.csv")
    chosen = scores[
        (scores["table"] == table) & (scores["attack"].isna() if attack is None else scores["attack"] == attack)
    ]
    return float(chosen["pearson"].item())


def known_accuracies() -> pd.DataFrame:
    """What others state for a source architecture on CIFAR-10: ``accuracy``, ``epochs``, ``source`` (a citation)."""
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
