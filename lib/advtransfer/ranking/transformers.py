"""Image classifiers in a folder that transformers saved."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from advtransfer.extras import require
from advtransfer.models.torchvision_ops import declare_missing_operators
from advtransfer.ranking.encoder import EncoderError


def image_model(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The model in a folder with the head that it was saved with, and the inputs that it needs.

    Raises
    ------
    EncoderError
        The folder holds no image model, or its weights lack a part of the model: nothing is left at random.
    """
    require("experiments", "transformers")
    declare_missing_operators()
    from transformers import AutoConfig, AutoModel, AutoModelForImageClassification

    if not (folder / "config.json").is_file():
        raise EncoderError(f"{folder} has no config.json; expected a folder that transformers saved")
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    saved = " ".join(config.architectures or ())
    whole = "ForImageClassification" in saved
    kind: Any = AutoModelForImageClassification if whole else AutoModel
    model, report = kind.from_pretrained(folder, local_files_only=True, weights_only=True, output_loading_info=True)
    if missing := sorted(report["missing_keys"]):
        raise EncoderError(f"the weights in {folder} lack {len(missing)} tensors of {saved}, such as {missing[0]}")
    about: dict[str, Any] = {}
    file = folder / "preprocessor_config.json"
    if file.is_file():
        told = json.loads(file.read_text("utf-8"))
        size = told.get("crop_size") or told.get("size") or {}
        side = size if isinstance(size, int) else size.get("height", size.get("shortest_edge"))
        about = {"size": side}
        if told.get("do_normalize", True) and "image_mean" in told:
            about |= {"mean": tuple(told["image_mean"]), "std": tuple(told["image_std"])}
    elif isinstance(getattr(config, "image_size", None), int):
        about = {"size": config.image_size}
    if whole:
        return model, about
    return _Pooled(model), {**about, "features": ""}


class _Pooled(nn.Module):
    """A model without a head, whose outputs are its features."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Any) -> Any:
        found = self.model(x)
        pooled = getattr(found, "pooler_output", None)
        if pooled is None:
            pooled = found.last_hidden_state
            pooled = pooled.mean((2, 3)) if pooled.ndim == 4 else pooled[:, 0]
        return pooled.flatten(1)
