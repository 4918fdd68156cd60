"""cifar10-shift: held-out CIFAR-10 images under a fixed change of colour, contrast and sharpness.

Pixels are whole numbers before and after the change. In between, all values are whole numbers in float64, where their
sums are exact in any order. So the result is the same on every machine, bit for bit.
"""

import numpy as np
from scipy.ndimage import correlate1d

from advtransfer.datasets.store import Arrays

HELD_OUT = 500  # number of images of each class

BLUR = np.array([1, 4, 6, 4, 1])  # / 16: binomial, about a Gaussian with a standard deviation of 1 pixel
MIX = np.array([[4, 7, 1], [1, 4, 7], [7, 1, 4]])  # / 16: colours rotated about the grey axis, contrast 12/16
LIFT = 40  # brightness that is added, where pixels go up to 255


def shifted(x: np.ndarray) -> np.ndarray:
    r"""Apply the shift to images (N, H, W, 3), uint8; the result has the same shape and type.

    Let :math:`b` be the image, blurred along both axes by (1, 4, 6, 4, 1)/16 with its borders repeated. Every pixel
    becomes :math:`\lfloor M b + 40 + 1/2 \rfloor`, clipped to 0…255, where :math:`M` is the circulant matrix of
    (4, 7, 1)/16.
    """
    out = np.empty_like(x)
    for start in range(0, len(x), 500):  # so that the float64 images stay small
        part = slice(start, start + 500)
        b = x[part].astype(np.float64)
        for axis in (1, 2):
            b = correlate1d(b, BLUR, axis=axis, mode="nearest")
        mixed = b @ MIX.T.astype(np.float64) / 16**3 + LIFT  # division by a power of two is exact
        out[part] = np.clip(np.floor(mixed + 0.5), 0, 255)
    return out


def held_out(y_train: np.ndarray) -> np.ndarray:
    """The sorted positions of the last 500 images of each class: labels (N,) → (500 · classes,)."""
    return np.sort(np.concatenate([np.flatnonzero(y_train == label)[-HELD_OUT:] for label in np.unique(y_train)]))


def shift_domain(cifar10: Arrays) -> Arrays:
    """cifar10-shift: the held-out training images and the test images of CIFAR-10, shifted."""
    chosen = held_out(cifar10.y_train)
    return Arrays(shifted(cifar10.x_train[chosen]), cifar10.y_train[chosen], shifted(cifar10.x_test), cifar10.y_test)


def rest(cifar10: Arrays) -> Arrays:
    """CIFAR-10 without the training images that cifar10-shift holds out."""
    chosen = held_out(cifar10.y_train)
    return cifar10._replace(
        x_train=np.delete(cifar10.x_train, chosen, axis=0), y_train=np.delete(cifar10.y_train, chosen)
    )
