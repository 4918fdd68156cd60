"""Training, with its result kept: the same settings and source never train twice."""

from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from advtransfer import storage
from advtransfer.datasets.regression import Regression
from advtransfer.models.mlp import OneHiddenLayer
from advtransfer.provenance import digest, source_hash

Weights = dict[str, Tensor]


def cached(settings: dict[str, Any], train: Callable[[], Weights]) -> Weights:
    """The weights that `train` gives, from the cache if the same settings and source were trained before.

    Parameters
    ----------
    settings
        Everything the result depends on, as JSON values.
    train
        Trains and returns the weights.
    """
    key = digest({"settings": settings, "source": source_hash(__name__)})
    path = storage.cache_root() / "weights" / key[:2] / f"{key}.safetensors"
    if path.exists():
        return load_file(path)
    storage.writable_folder(path.parent)
    weights = {name: tensor.detach().contiguous().cpu() for name, tensor in train().items()}
    with storage.replacing(path) as draft:
        save_file(weights, draft)
    return weights


def fit_regression(
    net: OneHiddenLayer, data: Regression, *, steps: int, lr: float = 0.2, momentum: float = 0.9
) -> OneHiddenLayer:
    """Full-batch gradient descent with momentum on the mean squared error, as for the networks of section 4."""
    parameters = [w.clone().requires_grad_() for w in net]
    optimiser = torch.optim.SGD(parameters, lr=lr, momentum=momentum)
    with torch.enable_grad():
        for _ in range(steps):
            loss = torch.nn.functional.mse_loss(OneHiddenLayer(*parameters)(data.x), data.y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return OneHiddenLayer(*(w.detach() for w in parameters))
