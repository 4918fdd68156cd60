"""Choose a source model: rank your own candidates on your own data, by α and by the field's estimators.

>>> import torch
>>> from advtransfer import ranking
>>> from advtransfer.models import images
>>> pool = {name: ranking.Encoder(images.build(name, width=4), size=32) for name in ("lenet", "alexnet", "resnet18")}
>>> data = ranking.from_tensors(torch.rand(40, 3, 16, 16), torch.arange(40) % 2)
>>> found = ranking.score(pool, data, only=["alpha1", "1-NN"], steps=1, target_epochs=1)
>>> found.wide().columns.tolist()
['candidate', 'accuracy', '1-NN', 'alpha1']
"""

from advtransfer.extras import require

require("experiments", "pandas", "PIL", "pyarrow", "pydantic", "safetensors", "transformers")

from advtransfer.ranking.candidates import PoolError
from advtransfer.ranking.comparing import agreement, compare, ranks
from advtransfer.ranking.data import Labelled, from_tensors, load
from advtransfer.ranking.encoder import Encoder, EncoderError
from advtransfer.ranking.labels import DataError
from advtransfer.ranking.pools import read
from advtransfer.ranking.scoring import NAMES, SCORES, Ranking, score
from advtransfer.ranking.text_encoder import TextEncoder
from advtransfer.ranking.texts import LabelledTexts, from_texts

__all__ = [
    "NAMES",
    "SCORES",
    "DataError",
    "Encoder",
    "EncoderError",
    "Labelled",
    "LabelledTexts",
    "PoolError",
    "Ranking",
    "TextEncoder",
    "agreement",
    "compare",
    "from_tensors",
    "from_texts",
    "load",
    "ranks",
    "read",
    "score",
]
