"""Small archives in the real formats, for the tests of the data sets."""

import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from advtransfer.datasets.sources import Source, source
from advtransfer.datasets.store import Arrays


def small(name: str, **sizes: int) -> Source:
    """The real description of a data set with other numbers of images, and without its known content."""
    entry = source(name)
    return replace(entry, **sizes, content=None, origins=tuple(replace(o, content=None) for o in entry.origins))


def random_arrays(train: int, test: int, side: int = 32, seed: int = 0) -> Arrays:
    """Random images (N, side, side, 3), with labels 0 to 9 in turn."""
    rng = np.random.default_rng(seed)
    x_train, x_test = (rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8) for n in (train, test))
    y_train, y_test = (np.arange(n, dtype=np.uint8) % 10 for n in (train, test))
    return Arrays(x_train, y_train, x_test, y_test)


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def cifar10_records(arrays: Arrays) -> dict[str, bytes]:
    """The six files of CIFAR-10's binary version."""
    batches = [*zip(np.split(arrays.x_train, 5), np.split(arrays.y_train, 5), strict=True), arrays[2:]]
    names = [f"data_batch_{k}.bin" for k in range(1, 6)] + ["test_batch.bin"]
    return {
        name: np.column_stack([y, x.transpose(0, 3, 1, 2).reshape(len(x), -1)]).tobytes()
        for name, (x, y) in zip(names, batches, strict=True)
    }


def cifar10_binary(path: Path, arrays: Arrays) -> Path:
    return write_tar(path, {f"cifar-10-batches-bin/{k}": v for k, v in cifar10_records(arrays).items()})


def cifar10_npm(path: Path, arrays: Arrays) -> Path:
    members = {}
    names = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]
    for name, x in zip(names, [*np.split(arrays.x_train, 5), arrays.x_test], strict=True):
        members[f"package/{name}.png"] = encoded(x.reshape(len(x), -1, 3), "PNG")
    for split, y in (("train", arrays.y_train), ("test", arrays.y_test)):
        members[f"package/{split}_lables.json"] = json.dumps(y.tolist()).encode()
    return write_tar(path, members)


def stl10_binary(path: Path, arrays: Arrays) -> Path:
    """Each channel column by column, labels from 1; the unlabelled images come too, as in the real archive."""
    members = {"stl10_binary/class_names.txt": b"airplane\n"}
    for split, x, y in (("test", *arrays[2:]), ("train", *arrays[:2])):
        members[f"stl10_binary/{split}_X.bin"] = x.transpose(0, 3, 2, 1).tobytes()
        members[f"stl10_binary/{split}_y.bin"] = (y + 1).astype(np.uint8).tobytes()
    return write_tar(path, members | {"stl10_binary/unlabeled_X.bin": b"\0" * 96 * 96 * 3})


def tiny_imagenet(path: Path, entry: Source, n_train: int, n_val: int) -> Path:
    """Flat grey pictures in the true folders: the grey of a picture says which one it is (see `grey`)."""
    folder, lines, count = "tiny-imagenet-200", [], 0
    synsets = [synset for name in entry.classes for synset in entry.synsets[name]]
    with zipfile.ZipFile(path, "w") as archive:
        for synset in reversed(synsets):
            for k in range(n_train):
                picture = np.full((64, 64), grey(synset, k), np.uint8)
                archive.writestr(f"{folder}/train/{synset}/images/{synset}_{k}.JPEG", encoded(picture, "JPEG"))
            for k in range(n_val):
                picture = np.full((64, 64, 3), grey(synset, k, val=True), np.uint8)
                archive.writestr(f"{folder}/val/images/val_{count}.JPEG", encoded(picture, "JPEG"))
                lines.append(f"val_{count}.JPEG\t{synset}\t0\t0\t62\t62\n")
                count += 1
        archive.writestr(f"{folder}/val/val_annotations.txt", "".join(lines))
    return path


def grey(synset: str, k: int, *, val: bool = False) -> int:
    return hashlib.sha256(f"{synset} {k} {val}".encode()).digest()[0]


def encoded(pixels: np.ndarray, format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()
