"""Image encoders that others have trained on ImageNet, from the data root.

>>> module, preprocessing = load("mobilenet-v2")  # doctest: +SKIP
>>> preprocessing.size  # doctest: +SKIP
224
"""

from advtransfer.extras import require

require("rank", "torchvision")

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import mobilenet_v2, squeezenet1_1

from advtransfer.datasets.encoders import WEIGHTS, encoder_path, of_images
from advtransfer.datasets.sources import Preprocessing, source
from advtransfer.models.efficientnet_lite import EfficientNetLite
from advtransfer.models.initialisation import initialised_by
from advtransfer.names import unknown

Weights = dict[str, Tensor]


def load(name: str, root: Path | str | None = None) -> tuple[nn.Module, Preprocessing]:
    """Load a pretrained encoder of images from the data root.

    Parameters
    ----------
    name : str
        One of ``advtransfer.datasets.encoders.of_images()``.
    root : path, optional
        The data root; ``advtransfer.records.storage.data_root()`` if not given.

    Returns
    -------
    module : nn.Module
        The network in eval mode, in float32 on the CPU. It maps normalised RGB images (N, 3, size, size) to the logits
        (N, 1000) of ImageNet's classes. Its submodule ``features`` maps them to (N, d, h, w), whose average over all
        positions is the feature vector. ``mobilenet-v2-bottleneck`` has no last layer, and returns this average.
    preprocessing : Preprocessing
        The size of the images, and the mean and standard deviation that normalise their pixels. All encoders expect
        the channels in the order red, green, blue.

    Raises
    ------
    ValueError
        No encoder of images has that name.
    DataUnavailable
        The encoder is missing or damaged; the message gives the command that fetches it.
    """
    if name not in of_images():
        raise ValueError(unknown("image encoder", name, of_images()))
    preprocessing = source(name).preprocessing
    assert preprocessing is not None  # it is an encoder of images
    weights = load_file(encoder_path(name, root) / WEIGHTS[0])
    build, rename = _ARCHITECTURES[name]
    with initialised_by(None):  # building draws random weights
        module = build()
    module.load_state_dict(rename(weights))
    return module.eval(), preprocessing


# Each encoder: how to build it, and how to turn the published weights into those that the module expects.


def _headless() -> nn.Module:
    module = mobilenet_v2()
    module.classifier = nn.Identity()
    return module


def _grouped(weights: Weights) -> Weights:
    """MobileNetV2's weights as torchvision names them: a convolution, its norm and its ReLU6 are a group."""
    numbers = {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1", "6": "2", "7": "3"}
    first = {"0": "0.0", "1": "0.1", "3": "1", "4": "2"}  # the first block does not expand its channels

    def renamed(found: re.Match) -> str:
        return f"features.{found[1]}.conv.{(first if found[1] == '1' else numbers)[found[2]]}."

    return {re.sub(r"^features\.(\d+)\.conv\.(\d)\.", renamed, name): tensor for name, tensor in weights.items()}


def _lite(weights: Weights) -> Weights:
    """EfficientNet-Lite's weights, which are published with an underscore before each name."""
    bare = {name.removeprefix("_").replace("._", "."): tensor for name, tensor in weights.items()}
    return {
        name.replace("fc.", "classifier.") if name.startswith("fc.") else f"features.{name}": tensor
        for name, tensor in bare.items()
    }


def _from_keras(weights: Weights) -> Weights:
    """SqueezeNet's weights as torchvision names and stores them, for images in the order red, green, blue."""
    fires = {"fire2": 3, "fire3": 4, "fire4": 6, "fire5": 7, "fire6": 9, "fire7": 10, "fire8": 11, "fire9": 12}
    places = {"conv1": "features.0", "conv10": "classifier.1"}
    places |= {fire: f"features.{place}" for fire, place in fires.items()}
    renamed = {}
    for name, tensor in weights.items():
        layer, *rest = name.replace("squeeze1x1", "squeeze").replace("/", ".").split(".")
        if tensor.ndim == 4:
            tensor = tensor.permute(3, 2, 0, 1)  # (h, w, c_in, c_out) as (c_out, c_in, h, w)
        if name == "conv1.weight":
            tensor = tensor.flip(1)  # trained on blue, green, red
        renamed[".".join([places[layer], *rest])] = tensor
    return renamed


_ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], Callable[[Weights], Weights]]] = {
    "mobilenet-v2": (mobilenet_v2, dict),
    "mobilenet-v2-bottleneck": (_headless, _grouped),
    "efficientnet-lite0": (partial(EfficientNetLite, 0), _lite),
    "efficientnet-lite1": (partial(EfficientNetLite, 1), _lite),
    "efficientnet-lite2": (partial(EfficientNetLite, 2), _lite),
    "squeezenet": (squeezenet1_1, _from_keras),
}
