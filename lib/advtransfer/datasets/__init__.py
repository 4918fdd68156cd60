"""Things with examples: the image data sets of the book, fetched, verified and loaded.

>>> from advtransfer import datasets
>>> made_up = datasets.generated(seed=0, n_train=100, n_test=20)
>>> made_up.x_train.shape
torch.Size([100, 3, 32, 32])
"""

from advtransfer.datasets.fetching import fetch
from advtransfer.datasets.generated import generated
from advtransfer.datasets.images import ImageDataset, available, load
from advtransfer.datasets.sources import DataUnavailable

__all__ = ["DataUnavailable", "ImageDataset", "available", "fetch", "generated", "load"]
