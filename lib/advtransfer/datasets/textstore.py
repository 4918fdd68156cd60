"""Text corpora in the data root: ``text/<name>/{train,test}.parquet``, and notes about them in ``text/INFO.json``."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from advtransfer.datasets import store
from advtransfer.datasets.sources import FETCH_COMMAND, DataUnavailable, Source
from advtransfer.names import one_line
from advtransfer.records.storage import replacing

SPLITS = ("train", "test")


class Corpus(NamedTuple):
    """The content of a corpus: texts, and labels (N,) int64. `note` says where it comes from and how it was split."""

    train: tuple[str, ...]
    y_train: np.ndarray
    test: tuple[str, ...]
    y_test: np.ndarray
    note: str = ""


def content_digest(corpus: Corpus) -> str:
    r"""The SHA-256 digest of texts and labels in their order, whatever file they came from.

    The digest is that of a canonical form: for train and test, in this order, a line ``<split> <number of texts>\n``,
    and then for each text a line ``<label> <number of bytes>\n``, followed by the text's bytes in UTF-8.
    """
    digest = hashlib.sha256()
    for split, texts, y in (("train", corpus.train, corpus.y_train), ("test", corpus.test, corpus.y_test)):
        digest.update(f"{split} {len(texts)}\n".encode())
        for text, label in zip(texts, y.tolist(), strict=True):
            data = text.encode()
            digest.update(f"{label} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def folder(root: Path, name: str) -> Path:
    """The folder for the two files of a corpus."""
    return root / "text" / name


def note(root: Path, name: str) -> dict:
    """What ``text/INFO.json`` says about a corpus: source, licence, counts; empty if it says nothing."""
    return _notes(root).get(name, {})


def _notes(root: Path) -> dict[str, dict]:
    """The notes that can be read. They only describe, so a damaged file keeps nobody from the corpora."""
    found: object = {}
    with suppress(OSError, ValueError):
        found = json.loads((root / "text" / "INFO.json").read_text("utf-8"))
    return {name: said for name, said in found.items() if isinstance(said, dict)} if isinstance(found, dict) else {}


def write(root: Path, source: Source, corpus: Corpus) -> Path:
    """Write a corpus, either all of it or nothing, and record its checksums and its description; return its folder."""
    noted, place, info = _notes(root), folder(root, source.name), root / "text" / "INFO.json"
    noted[source.name] = {
        "train": len(corpus.train),
        "test": len(corpus.test),
        "classes": source.classes,
        "source": corpus.note,
        "licence": source.licence,
    }
    with store.noting(root, info, *(place / f"{split}.parquet" for split in SPLITS)):
        with replacing(place) as draft:
            draft.mkdir()
            for split, texts, y in (("train", corpus.train, corpus.y_train), ("test", corpus.test, corpus.y_test)):
                table = pa.table({"text": pa.array(texts, pa.large_string()), "label": pa.array(y, pa.int64())})
                pq.write_table(table, draft / f"{split}.parquet", compression="zstd")
        with replacing(info) as draft:
            draft.write_text(json.dumps(noted, indent=1, ensure_ascii=False), "utf-8")
    return place


def read(root: Path, source: Source) -> tuple[Corpus, int]:
    """Read a corpus without the texts that are only white space; the second result is the number of these.

    Raises
    ------
    DataUnavailable
        A file is missing, or is not a table of texts and labels; the message says what to do.
    """
    paths = {split: folder(root, source.name) / f"{split}.parquet" for split in SPLITS}
    for path in paths.values():
        store.check_sum(root, path, source)
    parts = {split: _split(path, source) for split, path in paths.items()}
    (train, y_train, lost), (test, y_test, lost_too) = parts["train"], parts["test"]
    noted = note(root, source.name)
    counts = (len(train) + lost, len(test) + lost_too)
    holds = counts == (noted.get("train", counts[0]), noted.get("test", counts[1]))  # else it is about other files
    origin = noted.get("source", "not noted") if holds else "not noted"
    return Corpus(train, y_train, test, y_test, origin), lost + lost_too


def _split(path: Path, source: Source) -> tuple[tuple[str, ...], np.ndarray, int]:
    labels = ", ".join(f"{k} {name}" for k, name in enumerate(source.classes))
    wanted = f"columns text (strings) and label (whole numbers: {labels})"
    remedy = f"fetch it with: {FETCH_COMMAND} {source.name}" if source.origins else f"put a table there with {wanted}"
    if not path.is_file():
        raise DataUnavailable(f"{path} is not there; {remedy}")
    try:
        return _columns(path, len(source.classes))
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = one_line(error)
        raise DataUnavailable(f"{path} is not what it should be ({reason}); expected {wanted}; {remedy}") from error


def _columns(path: Path, classes: int) -> tuple[tuple[str, ...], np.ndarray, int]:
    """The texts that are not empty, their labels, and the number of empty texts."""
    table = pq.ParquetFile(path).read()
    for name, fits in (("text", (pa.types.is_string, pa.types.is_large_string)), ("label", (pa.types.is_integer,))):
        if name not in table.column_names:
            raise ValueError(f"it has the columns {', '.join(table.column_names)}, and no {name}")
        column = table[name]
        if not any(fit(column.type) for fit in fits):
            raise ValueError(f"its column {name} is of type {column.type}")
        if column.null_count:
            raise ValueError(f"its column {name} has {column.null_count} nulls")
    texts, y = table["text"].to_pylist(), table["label"].to_numpy().astype(np.int64)
    kept = np.array([bool(text.strip()) for text in texts], bool)
    if not kept.any():
        raise ValueError("it holds no text")
    if y.min() < 0 or y.max() >= classes:
        raise ValueError(f"its labels go from {y.min()} to {y.max()}")
    return tuple(text for text, keep in zip(texts, kept, strict=True) if keep), y[kept], int((~kept).sum())


def is_intact(root: Path, source: Source) -> bool:
    """Whether the corpus is there, can be read, and has the recorded checksums, if there are any."""
    try:
        read(root, source)
    except DataUnavailable:
        return False
    return True
