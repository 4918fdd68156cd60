"""Image data sets as tensors, read from the data root; nothing here downloads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from advtransfer.datasets import shift, store
from advtransfer.datasets.sources import FETCH_COMMAND, DataUnavailable, Source, source
from advtransfer.datasets.store import Arrays
from advtransfer.records.storage import data_root

SHIFTED, UNSHIFTED, REST = "cifar10-shift", "cifar10", "cifar10-rest"


@dataclass(frozen=True, eq=False, repr=False)
class ImageDataset:
    """Images and labels of a named data set.

    Attributes
    ----------
    name : str
        Which data set it is, for captions and provenance.
    x_train, x_test : Tensor
        (N, 3, 32, 32) uint8, stored channels-last.
    y_train, y_test : Tensor
        (N,) int64.
    classes : tuple of str
        The names of the labels.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: tuple[str, ...]

    @classmethod
    def from_arrays(cls, name: str, arrays: Arrays, classes: tuple[str, ...]) -> "ImageDataset":
        """A data set from arrays (N, 32, 32, 3) and (N,) of uint8."""
        x_train, x_test = (torch.from_numpy(x).permute(0, 3, 1, 2) for x in (arrays.x_train, arrays.x_test))
        y_train, y_test = (torch.from_numpy(y.astype("int64")) for y in (arrays.y_train, arrays.y_test))
        return cls(name, x_train, y_train, x_test, y_test, classes)

    @cached_property
    def digest(self) -> str:
        """The content digest, as ``data/sources.toml`` states it (`store.content_digest`)."""
        x_train, x_test = (x.permute(0, 2, 3, 1).numpy() for x in (self.x_train, self.x_test))
        y_train, y_test = (y.to(torch.uint8).numpy() for y in (self.y_train, self.y_test))
        return store.content_digest(Arrays(x_train, y_train, x_test, y_test))

    def only(self, classes: Sequence[str]) -> "ImageDataset":
        """The images of some classes, labelled 0, 1, … in the order given.

        Raises
        ------
        ValueError
            There are fewer than two classes, a class is named twice, or a class does not exist.
        """
        chosen = tuple(classes)
        if len(set(chosen)) < max(2, len(chosen)):
            raise ValueError(f"classes are {chosen}; expected at least two different ones to tell apart")
        if unknown := [name for name in chosen if name not in self.classes]:
            raise ValueError(f"{self.name} has no class {unknown[0]!r}; expected some of {', '.join(self.classes)}")
        label = torch.full((len(self.classes),), -1)
        label[[self.classes.index(name) for name in chosen]] = torch.arange(len(chosen))
        y_train, y_test = label[self.y_train], label[self.y_test]
        a, b = y_train >= 0, y_test >= 0
        return replace(
            self, x_train=self.x_train[a], y_train=y_train[a], x_test=self.x_test[b], y_test=y_test[b], classes=chosen
        )

    def __repr__(self) -> str:
        sizes = f"{len(self.x_train):,} training and {len(self.x_test):,} test images"
        return f"ImageDataset({self.name!r}: {sizes}, {len(self.classes)} classes)"


def available(name: str, root: Path | str | None = None) -> bool:
    """Whether `load` finds the data set in the data root. Only loading shows whether it is intact.

    Raises
    ------
    ValueError
        No data set has that name.
    """
    return store.image_path(data_root(root), _stored(source(name, "images")).name).is_file()


def load(name: str, root: Path | str | None = None, without: str | None = None) -> ImageDataset:
    """Load a data set from the data root.

    Parameters
    ----------
    name : str
        ``cifar10``, ``stl10``, ``tiny-imagenet-10`` or ``cifar10-shift``.
    root : path, optional
        The data root; ``advtransfer.records.storage.data_root()`` if not given.
    without : str, optional
        ``load("cifar10", without="cifar10-shift")`` leaves out the 5,000 training images that ``cifar10-shift`` holds
        out, and names the result ``cifar10-rest``.

    Raises
    ------
    ValueError
        No data set has that name, or `without` is not made from it.
    DataUnavailable
        The data set is missing or damaged; the message gives the command that fetches it.
    """
    wanted = source(name, "images")
    if without is not None and (name, without) != (UNSHIFTED, SHIFTED):
        raise ValueError(f"without={without!r} of {name!r}; expected {SHIFTED!r} of {UNSHIFTED!r}, or None")
    if not available(name, root):
        raise DataUnavailable(f"{name} is not in {data_root(root)}; fetch it with: {FETCH_COMMAND} {name}")
    arrays = store.read(data_root(root), _stored(wanted))
    if name == SHIFTED:
        arrays = shift.shift_domain(arrays)
    elif without:
        arrays = shift.rest(arrays)
    return ImageDataset.from_arrays(REST if without else name, arrays, wanted.classes)


def _stored(wanted: Source) -> Source:
    """The data set whose file is read: the data set itself, or the one from which it is made."""
    return source(wanted.derived_from) if wanted.derived_from else wanted
