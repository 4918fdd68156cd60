"""Data sets: the images, texts and encoders of the book, which are fetched, verified and loaded here.

>>> from advtransfer import datasets
>>> made_up = datasets.generated(seed=0, n_train=100, n_test=20)
>>> made_up.x_train.shape
torch.Size([100, 3, 32, 32])
"""

from advtransfer.extras import require

require("experiments", "huggingface_hub", "pandas", "PIL", "pyarrow", "requests")

from advtransfer.datasets.encoders import encoder_path
from advtransfer.datasets.fetching import fetch
from advtransfer.datasets.generated import generated
from advtransfer.datasets.generated_texts import GENERATED_WORDS, generated_texts
from advtransfer.datasets.images import ImageDataset, available, load
from advtransfer.datasets.sources import DataUnavailable
from advtransfer.datasets.texts import TextDataset, load_texts

__all__ = [
    "GENERATED_WORDS",
    "DataUnavailable",
    "ImageDataset",
    "TextDataset",
    "available",
    "encoder_path",
    "fetch",
    "generated",
    "generated_texts",
    "load",
    "load_texts",
]
