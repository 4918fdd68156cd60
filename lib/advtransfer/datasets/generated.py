"""Made-up images, so that everything can run in seconds without a data set. They are never presented as real."""

import numpy as np
from PIL import Image

from advtransfer.datasets.images import ImageDataset
from advtransfer.datasets.shift import shifted
from advtransfer.datasets.store import Arrays

NOISE = 64  # the largest value of the noise, where pixels go up to 255


def generated(*, seed: int, n_train: int, n_test: int, shift: bool = False, classes: int = 10) -> ImageDataset:
    """Images of smooth random patterns, one per class, with noise: easy to learn, and clearly not real.

    Parameters
    ----------
    seed : int
        With the numbers of images it determines everything. The images are the same on every machine.
    n_train, n_test : int
        Numbers of images, divided evenly among the classes, in a random order.
    shift : bool
        Make other images of the same classes, changed by the colour and blur shift of ``cifar10-shift``.
    classes : int
        Number of classes, from 2 to 256.

    Raises
    ------
    ValueError
        Fewer images than classes in a split, or a number of classes out of range.
    """
    if not 2 <= classes <= 256:
        raise ValueError(f"classes is {classes}; expected 2 to 256")
    if min(n_train, n_test) < classes:
        raise ValueError(f"n_train is {n_train} and n_test {n_test}; expected at least one image a class ({classes})")
    patterns = _patterns(np.random.default_rng([seed, 0]), classes)
    rng = np.random.default_rng([seed, 2 if shift else 1])

    def split(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.permutation(np.arange(n) % classes)
        noise = rng.integers(-NOISE, NOISE, (n, 32, 32, 3), dtype=np.int16, endpoint=True)
        x = np.clip(patterns[y] + noise, 0, 255).astype(np.uint8)
        return shifted(x) if shift else x, y.astype(np.uint8)

    arrays = Arrays(*split(n_train), *split(n_test))
    return ImageDataset.from_arrays("generated", arrays, tuple(f"pattern {k}" for k in range(classes)))


def _patterns(rng: np.random.Generator, classes: int) -> np.ndarray:
    """One smooth pattern per class: 4×4 random colours, enlarged to (classes, 32, 32, 3), int16."""
    coarse = rng.integers(32, 224, (classes, 4, 4, 3), dtype=np.uint8)
    large = [Image.fromarray(small).resize((32, 32), Image.Resampling.BICUBIC) for small in coarse]
    return np.stack([np.asarray(image) for image in large]).astype(np.int16)
