"""A target's labelled texts: from Python, from a table (CSV or parquet), from two of them, or a corpus of the book."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import torch
from torch import Tensor

from advtransfer.datasets.sources import sources
from advtransfer.datasets.texts import load_texts
from advtransfer.names import one_line
from advtransfer.ranking.labels import DataError, halves, stratified

TABLES = (".csv", ".parquet")
COLUMNS = ("text", "label")
Label = int | str


@dataclass(frozen=True, eq=False, repr=False)
class LabelledTexts:
    """The labelled texts of a target: one part for the scores and for training, one to judge by.

    Attributes
    ----------
    name : str
        For captions.
    x_train, x_test : tuple of str
        N texts each.
    y_train, y_test : Tensor
        (N,) int64, 0 to C − 1.
    classes : tuple of str
        The names of the C classes.
    left_out : tuple of str
        Always empty: a table with a text that cannot be used is refused.
    """

    name: str
    x_train: tuple[str, ...]
    y_train: Tensor
    x_test: tuple[str, ...]
    y_test: Tensor
    classes: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    def fewer(self, most: int, seed: int = 0) -> "LabelledTexts":
        """At most `most` texts in each part, spread over the classes as evenly as these allow."""
        a, b = stratified(self.y_train, most, seed), stratified(self.y_test, most, seed)
        return replace(
            self, x_train=taken(self.x_train, a), y_train=self.y_train[a], x_test=taken(self.x_test, b),
            y_test=self.y_test[b],
        )  # fmt: skip

    def inputs(self, part: Literal["train", "test"], rows: Tensor | None = None) -> tuple[str, ...]:
        """The texts of a part, or those at the positions `rows` (n,)."""
        x = self.x_train if part == "train" else self.x_test
        return x if rows is None else taken(x, rows)

    def __repr__(self) -> str:
        return (
            f"LabelledTexts({self.name!r}: {len(self.x_train):,} + {len(self.x_test):,} texts, "
            f"{len(self.classes)} classes{f', {len(self.left_out)} left out' if self.left_out else ''})"
        )


def taken(texts: Sequence[str], rows: Tensor) -> tuple[str, ...]:
    """The texts at these positions (n,)."""
    return tuple(texts[k] for k in rows.tolist())


def from_texts(
    x: Sequence[str],
    y: Sequence[Label],
    x_test: Sequence[str] | None = None,
    y_test: Sequence[Label] | None = None,
    *,
    name: str = "texts",
    seed: int = 0,
) -> LabelledTexts:
    """A target from texts and their labels.

    Parameters
    ----------
    x
        N texts, each with more than white space.
    y
        N labels, whole numbers or names. Classes are in increasing order.
    x_test, y_test
        Texts and labels to judge by. Without them half the texts of each class are taken from `x`.
    name
        For captions.
    seed
        Of the split into halves.

    Raises
    ------
    DataError
        Texts or labels are not as described; fewer than two classes; a class with fewer than two texts.

    Examples
    --------
    >>> from_texts(["good film", "bad film", "good plot", "bad plot"], ["praise", "blame"] * 2)
    LabelledTexts('texts': 2 + 2 texts, 2 classes)
    """
    if (x_test is None) != (y_test is None):
        raise DataError("only one of x_test and y_test was given; expected both or none")
    train, labels = _checked(x, y, name)
    known = sorted(set(labels))
    if len(known) < 2:
        raise DataError(f"{name}: all {len(labels)} labels are {known[0]!r}; expected at least two classes")
    place = {label: k for k, label in enumerate(known)}
    classes = tuple(str(label) for label in known)
    numbers = torch.tensor([place[label] for label in labels])
    if x_test is None or y_test is None:
        first, second = halves(numbers, classes, seed, "text")
        return LabelledTexts(name, taken(train, first), numbers[first], taken(train, second), numbers[second], classes)
    test, unseen = _checked(x_test, y_test, f"the test part of {name}")
    if strange := sorted({str(label) for label in unseen if label not in place}):
        raise DataError(f"{name}: the test texts have the labels {strange[:5]}, which no training text has")
    return LabelledTexts(name, train, numbers, test, torch.tensor([place[label] for label in unseen]), classes)


def _checked(x: Sequence[str], y: Sequence[Label], name: str) -> tuple[tuple[str, ...], list[Label]]:
    """Texts in their order, and their labels, all of them whole numbers or all of them names."""
    if isinstance(x, str) or not all(isinstance(text, str) for text in x):
        raise DataError(f"{name}: texts are {_kinds([x] if isinstance(x, str) else x)}; expected a sequence of strings")
    if not len(x):
        raise DataError(f"{name} holds no texts; expected at least two per class")
    listed = y.tolist() if hasattr(y, "tolist") else y
    labels: list[Label] = [value.item() if hasattr(value, "item") else value for value in listed]
    if len(labels) != len(x):
        raise DataError(f"{name}: there are {len(x)} texts and {len(labels)} labels; expected a label for each text")
    texts = tuple(x)  # of a Series of pandas, whose index may be in another order, by place
    if empty := [k + 1 for k, text in enumerate(texts) if not text.strip()]:
        raise DataError(f"{name}: {_rows(empty)} without a text; expected words in every text")
    if broken := [k + 1 for k, text in enumerate(texts) if not _is_unicode(text)]:
        raise DataError(f"{name}: {_rows(broken)} with half a surrogate pair; expected texts that UTF-8 can hold")
    numbers = all(isinstance(label, int) for label in labels)
    if not numbers and not all(isinstance(label, str) for label in labels):
        raise DataError(f"{name}: labels are {_kinds(labels)}; expected whole numbers or names")
    if not numbers and (empty := [k + 1 for k, label in enumerate(labels) if not str(label).strip()]):
        raise DataError(f"{name}: {_rows(empty)} without a label; expected a label for each text")
    return texts, labels


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kinds(values: Sequence[object]) -> str:
    return ", ".join(sorted({type(value).__name__ for value in values}))


def _rows(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:3])) + (" …" if len(numbers) > 3 else "")
    return f"{len(numbers)} row{'s' * (len(numbers) > 1)} ({shown})"


# From files.


def here(path: Path) -> bool:
    """Whether a path is that of a table of texts, or a folder with a table of training texts."""
    return path.suffix.lower() in TABLES or any((path / f"train{ending}").is_file() for ending in TABLES)


def load(place: str | Path, *, seed: int = 0) -> LabelledTexts:
    """A target from a table with the columns text and label, a folder with two such tables, or a corpus of the book.

    A table is a ``.csv`` or ``.parquet`` file; in a folder they are called train and test.

    Raises
    ------
    DataError
        A file is missing, broken or not as described.
    DataUnavailable
        The corpus is not in the data root; the message gives the command that fetches it.
    """
    path = Path(place).expanduser()
    if not here(path) and str(place) in sources("text"):
        corpus = load_texts(str(place))
        return LabelledTexts(corpus.name, corpus.train, corpus.y_train, corpus.test, corpus.y_test, corpus.classes)
    if path.is_dir():
        files = [next((path / f"{part}{e}" for e in TABLES if (path / f"{part}{e}").is_file()), None)
                 for part in ("train", "test")]  # fmt: skip
        if missing := [part for part, file in zip(("train", "test"), files, strict=True) if file is None]:
            raise DataError(f"{path} has no {missing[0]}.csv or {missing[0]}.parquet; expected train and test")
        (x, y), (x_test, y_test) = (_table(file) for file in files if file)
        labels = _numbered([*y, *y_test])
        return from_texts(x, labels[: len(y)], x_test, labels[len(y) :], name=path.name, seed=seed)
    x, y = _table(path)
    return from_texts(x, _numbered(y), name=path.stem, seed=seed)


def _numbered(labels: list[Label]) -> list[Label]:
    """Labels as whole numbers if all of them are: a CSV file has no types."""
    whole = all(re.fullmatch("0|-?[1-9][0-9]*", str(label)) for label in labels)  # 01 and 1 are different names
    return [int(label) for label in labels] if whole else labels


def _table(path: Path) -> tuple[list[str], list[Label]]:
    """Texts and labels of a file."""
    if not path.is_file():
        raise DataError(f"{path} does not exist; expected a table with the columns text and label")
    try:
        table = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
        if isinstance(error, DataError):
            raise
        reason = one_line(error)
        raise DataError(f"{path} cannot be read ({reason}); expected a table with the columns text and label") from None
    for name in COLUMNS:
        if empty := [k + 1 for k, missing in enumerate(table[name].isna()) if missing]:
            raise DataError(f"{path.name}: {_rows(empty)} without a {name}; expected a text and a label in every row")
    return table["text"].tolist(), table["label"].tolist()


def _read_csv(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")  # "NA" is a word
    _has_columns(path, list(table.columns))
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first field of longer rows for an index
        raise ValueError(f"its rows have more fields than the {len(table.columns)} columns")
    return table


def _read_parquet(path: Path) -> pd.DataFrame:
    file = pq.ParquetFile(path)
    _has_columns(path, file.schema_arrow.names)
    table = file.read(columns=list(COLUMNS)).to_pandas(ignore_metadata=True)  # pandas may have made one an index
    if isinstance(table["label"].dtype, pd.CategoricalDtype):
        table["label"] = table["label"].astype(object)
    return table


def _has_columns(path: Path, columns: list[str]) -> None:
    if missing := [name for name in COLUMNS if name not in columns]:
        shown = ", ".join(map(str, columns[:8])) + (" …" if len(columns) > 8 else "")
        raise DataError(f"{path.name} has the columns {shown}, and no {missing[0]}; expected text and label")
