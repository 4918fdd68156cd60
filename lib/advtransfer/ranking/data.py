"""A target's labelled images, from tensors, an archive, a folder of class folders, or a data set of the book."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from advtransfer.datasets import images as stored
from advtransfer.datasets.sources import sources
from advtransfer.names import one_line
from advtransfer.ranking import texts
from advtransfer.ranking.labels import DataError, halves, stratified
from advtransfer.ranking.texts import LabelledTexts

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
SPLITS = (("train", "training"), ("test", "val", "valid", "validation"))
ROUNDING = 1e-6  # how far pixels that were normalised and brought back may lie outside [0, 1]
LARGEST = 50_000_000  # pixels of one image, before it is made smaller


@dataclass(frozen=True, eq=False, repr=False)
class Labelled:
    """The labelled images of a target: one part for the scores and for training, one to judge by.

    Attributes
    ----------
    name : str
        For captions.
    x_train, x_test : Tensor
        (N, 3, height, width) uint8.
    y_train, y_test : Tensor
        (N,) int64, 0 to C − 1.
    classes : tuple of str
        The names of the C classes.
    left_out : tuple of str
        A line for each file that could not be used, and why.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    def fewer(self, most: int, seed: int = 0) -> "Labelled":
        """At most `most` images in each part, spread over the classes as evenly as these allow."""
        a, b = stratified(self.y_train, most, seed), stratified(self.y_test, most, seed)
        x_train, y_train, x_test, y_test = self.x_train[a], self.y_train[a], self.x_test[b], self.y_test[b]
        return replace(self, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)

    def inputs(self, part: Literal["train", "test"], rows: Tensor | None = None) -> Tensor:
        """The images of a part, or those at the positions `rows` (n,)."""
        x = self.x_train if part == "train" else self.x_test
        return x if rows is None else x[rows]

    def __repr__(self) -> str:
        size = " × ".join(map(str, self.x_train.shape[2:]))
        return (
            f"Labelled({self.name!r}: {len(self.x_train):,} + {len(self.x_test):,} images of {size} pixels, "
            f"{len(self.classes)} classes{f', {len(self.left_out)} left out' if self.left_out else ''})"
        )


def from_tensors(
    x: Tensor,
    y: Tensor,
    x_test: Tensor | None = None,
    y_test: Tensor | None = None,
    *,
    classes: Sequence[str] | None = None,
    name: str = "images",
    seed: int = 0,
) -> Labelled:
    """A target from tensors of images and labels.

    Parameters
    ----------
    x
        Images (N, C, height, width), uint8 or floats in [0, 1]; grey ones (C = 1) are repeated in three channels.
    y
        Labels (N,), whole numbers from 0; they are renumbered from 0 in increasing order.
    x_test, y_test
        Images and labels to judge by. Without them half the images of each class are taken from `x`.
    classes
        The names of the labels, in increasing order.
    name
        For captions.
    seed
        Of the split into halves.

    Raises
    ------
    DataError
        Shapes, types or values that are not as described; fewer than two classes; a class with fewer than two images.

    Examples
    --------
    >>> from_tensors(torch.rand(20, 3, 8, 8), torch.arange(20) % 2, classes=["cat", "dog"])
    Labelled('images': 10 + 10 images of 8 × 8 pixels, 2 classes)
    """
    x, y = _pixels(x), _labels(x, y)
    known = y.unique()
    if int(known[0]) < 0:
        raise DataError(f"{int((y < 0).sum())} labels are negative; expected 0 or more, and no images without a label")
    if len(known) < 2:
        raise DataError(f"all {len(y)} labels are {known.tolist()}; expected at least two classes to tell apart")
    names = tuple(classes) if classes is not None else tuple(str(k) for k in known.tolist())
    if len(names) < len(known):
        raise DataError(f"classes has {len(names)} names; expected a name for each of {len(known)} labels")
    if classes is not None and len(names) > len(known):
        if int(known.max()) >= len(names):
            raise DataError(f"the labels are {known.tolist()}; expected 0 to {len(names) - 1}, as classes names them")
        names = tuple(names[k] for k in known.tolist())
    y = torch.searchsorted(known, y)
    if x_test is None or y_test is None:
        if (x_test is None) != (y_test is None):
            raise DataError("only one of x_test and y_test was given; expected both or none")
        first, second = halves(y, names, seed)
        return Labelled(name, x[first], y[first], x[second], y[second], names)
    x_test, y_test = _pixels(x_test), _labels(x_test, y_test)
    if x_test.shape[1:] != x.shape[1:]:
        raise DataError(f"test images are {tuple(x_test.shape[1:])}; expected {tuple(x.shape[1:])}, as in training")
    if strange := sorted(set(y_test.tolist()) - set(known.tolist())):
        raise DataError(f"the test images have the labels {strange}, which no training image has")
    return Labelled(name, x, y, x_test, torch.searchsorted(known, y_test), names)


def _pixels(x: Tensor) -> Tensor:
    if not isinstance(x, Tensor) or x.ndim != 4 or x.shape[1] not in (1, 3):
        shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise DataError(f"images are {shape}; expected a tensor (N, 3, height, width)")
    if len(x) == 0:
        raise DataError("there are no images; expected at least two per class")
    if x.dtype != torch.uint8:
        if not x.is_floating_point():
            raise DataError(f"images are {x.dtype}; expected uint8, or floats in [0, 1]")
        if not bool(x.isfinite().all()) or float(x.min()) < -ROUNDING or float(x.max()) > 1 + ROUNDING:
            if bad := int((~x.isfinite()).flatten(1).any(1).sum()):
                raise DataError(f"{bad} of {len(x)} images hold NaN or infinite values; expected floats in [0, 1]")
            raise DataError(f"images span [{float(x.min()):.4g}, {float(x.max()):.4g}]; expected floats in [0, 1]")
        x = (x.clamp(0, 1) * 255).round().to(torch.uint8)
    x = x.detach().cpu()
    return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x


def _labels(x: Tensor, y: Tensor) -> Tensor:
    if not isinstance(y, Tensor) or y.shape != x.shape[:1] or y.is_floating_point():
        given = f"{y.dtype} of shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        raise DataError(f"labels are {given}; expected whole numbers, ({len(x)},)")
    return y.long().cpu()


# From files.


def load(place: str | Path, *, size: int = 64, seed: int = 0) -> Labelled | LabelledTexts:
    """A target of images or texts from files, or by the name of a data set of the book.

    Parameters
    ----------
    place
        Images: a folder with a folder per class, or with such folders in ``train`` and ``test`` (or ``val``); or an
        archive with x_train, y_train, x_test and y_test, or x and y: images (N, height, width, 3)
        of uint8, labels (N,), whole numbers or names.
        Texts: a ``.csv`` or ``.parquet`` file with the columns text and label, or a folder with two such files, train
        and test. Either: a name from ``python -m advtransfer data list``.
    size
        Pictures in a folder are cropped to a square and made this large; archives and data sets keep their size.
    seed
        Of the split into halves, where there is no test part.

    Raises
    ------
    DataError
        Nothing is there, or it is not as described.
    DataUnavailable
        The data set is not in the data root; the message gives the command that fetches it.
    """
    path = Path(place).expanduser()
    if texts.here(path) or (str(place) in sources("text") and not path.is_dir()):
        return texts.load(place, seed=seed)
    if path.is_dir():
        return _folder(path, size, seed)
    if path.suffix == ".npz":
        return _archive(path, seed)
    known = sources("images")
    if str(place) in known:
        data = stored.load(str(place))
        return Labelled(data.name, data.x_train, data.y_train, data.x_test, data.y_test, data.classes)
    what = "is not" if path.exists() else "does not exist; expected"
    raise DataError(
        f"{place} {what} a folder, an .npz archive, a table of texts (.csv, .parquet), or a data set "
        f"({', '.join([*known, *sources('text')])})"
    )


def _archive(path: Path, seed: int) -> Labelled:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; expected an .npz archive") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read ({error}); expected an .npz archive of plain arrays") from None
    parts = [("x_train", "y_train"), ("x_test", "y_test")] if "x_train" in arrays else [("x", "y")]
    if missing := [name for part in parts for name in part if name not in arrays]:
        raise DataError(
            f"{path} holds {', '.join(arrays)}, and not {', '.join(missing)}; expected x_train, y_train, x_test and "
            "y_test, or x and y"
        )
    classes = [str(name) for name in arrays["classes"]] if "classes" in arrays else None
    if all(arrays[labels].dtype.kind in "US" for _, labels in parts):  # names, which are numbered
        known = np.unique(np.concatenate([arrays[labels] for _, labels in parts]))
        arrays |= {labels: np.searchsorted(known, arrays[labels]) for _, labels in parts}
        classes = [str(name) for name in known.astype(str)]
    tensors = []
    for images, labels in parts:
        if arrays[labels].dtype.kind not in "iub":
            raise DataError(f"{labels} in {path} holds {arrays[labels].dtype}; expected whole numbers or names")
        x = arrays[images]
        if x.ndim == 3:
            x = x[..., None]
        if x.ndim != 4 or x.shape[3] not in (1, 3):
            raise DataError(f"{images} in {path} is {x.shape}; expected (N, height, width, 3)")
        tensors += [torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2), torch.from_numpy(arrays[labels])]
    return from_tensors(*tensors, classes=classes, name=path.stem, seed=seed)


def _folder(path: Path, size: int, seed: int) -> Labelled:
    folders = {folder.name: folder for folder in sorted(path.iterdir()) if folder.is_dir() and folder.name[0] != "."}
    splits = [next((folders[name] for name in names if name in folders), None) for names in SPLITS]
    if splits[0] and splits[1]:
        classes, others = (
            sorted(f.name for f in half.iterdir() if f.is_dir() and f.name[0] != ".") for half in splits if half
        )
        if strange := sorted({*others} - {*classes}):
            raise DataError(f"{splits[1]} has the classes {strange[:5]}, which {splits[0].name} does not have")
        parts = [_pictures(half, classes, size, path) for half in splits if half]
        (x, y, broken), (x_test, y_test, more) = parts
        data = from_tensors(x, y, x_test, y_test, classes=classes, name=path.name)
        loose = [line for folder in (path, *splits) if folder for line in _loose(folder, path)]
        return replace(data, left_out=(*broken, *more, *loose))
    if len(folders) < 2:
        found = f"one folder, {next(iter(folders))}" if folders else "no folder"
        raise DataError(f"{path} holds {found}; expected a folder of pictures per class, at least two")
    x, y, broken = _pictures(path, list(folders), size, path)
    data = from_tensors(x, y, classes=list(folders), name=path.name, seed=seed)
    return replace(data, left_out=(*broken, *_loose(path, path)))


def _loose(folder: Path, root: Path) -> list[str]:
    """A line for each picture beside the folders of the classes."""
    files = (file for file in sorted(folder.iterdir()) if file.suffix.lower() in IMAGES and file.name[0] != ".")
    return [f"{file.relative_to(root)}: a picture outside the folders of the classes" for file in files]


def _pictures(path: Path, classes: list[str], size: int, root: Path) -> tuple[Tensor, Tensor, list[str]]:
    """The pictures in folders of classes as squares, their labels, and a line for each file that is not a picture.

    The files are named as seen from `root`.
    """
    found: list[np.ndarray] = []
    labels: list[int] = []
    broken: list[str] = []
    for label, name in enumerate(classes):
        before = len(found)
        for file in sorted((path / name).rglob("*")) if (path / name).is_dir() else ():
            if file.name[0] == "." or not file.is_file():
                continue
            try:
                found.append(_picture(file, size))
                labels.append(label)
            except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
                broken.append(f"{file.relative_to(root)}: {_reason(file, error)}")
        if len(found) == before:
            broken.append(f"{(path / name).relative_to(root)}: a class without a picture")
    if not found:
        why = f" ({broken[0]})" if broken else ""
        raise DataError(
            f"{path} holds no picture in {len(classes)} folders{why}; expected a folder of pictures per class"
        )
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2), torch.tensor(labels), broken


def _picture(file: Path, size: int) -> np.ndarray:
    with Image.open(file) as image:
        if image.width * image.height > LARGEST:
            raise ValueError(f"{image.width} × {image.height} pixels, more than {LARGEST:,}")
        turned = ImageOps.exif_transpose(image)
        if turned.mode.startswith("I;16"):  # grey of 16 bits, which Pillow would cut off at 255
            turned = Image.fromarray((np.asarray(turned) / 257).round().astype(np.uint8))
        if turned.mode in ("I", "F"):
            raise ValueError(f"pixels of mode {turned.mode}, whose range is not known; expected 8 or 16 bits")
        return np.asarray(ImageOps.fit(turned.convert("RGB"), (size, size), Image.Resampling.BICUBIC))


def _reason(file: Path, error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a picture" if file.suffix.lower() not in IMAGES else "damaged"
    return one_line(error)
