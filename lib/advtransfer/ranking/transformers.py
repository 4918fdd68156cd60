"""Image and text models in a folder that transformers saved."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from advtransfer.extras import require
from advtransfer.models.text import quiet
from advtransfer.models.torchvision_ops import declare_missing_operators
from advtransfer.names import one_line
from advtransfer.ranking.encoder import EncoderError

VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "spm.model")
HEAD = "ForSequenceClassification"
PREPROCESSOR = "preprocessor_config.json"


def reads_texts(folder: Path) -> bool:
    """Whether the folder holds a classifier of texts, or another model with a tokenizer and no image processor.

    Raises
    ------
    EncoderError
        The folder has no ``config.json``, or a damaged one.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise EncoderError(f"{folder} has no config.json; expected a folder that transformers saved")
    try:
        saved = " ".join(json.loads(file.read_text("utf-8")).get("architectures") or ())
    except (ValueError, AttributeError, TypeError) as error:
        raise EncoderError(f"{file} is damaged ({error}); expected the one that transformers saved") from None
    words = any((folder / name).is_file() for name in VOCABULARIES)
    return HEAD in saved or (words and not (folder / PREPROCESSOR).is_file())


def text_model(folder: Path) -> tuple[nn.Module, Any]:
    """The text model in a folder, with the head that it was saved with, and its tokenizer.

    Classifiers keep their head. For any other model (such as a masked language model), the encoder is taken.

    Raises
    ------
    EncoderError
        There is no tokenizer, a file is damaged, or the weights lack a part of the model: no part stays random.
    """
    require("experiments", "transformers")
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

    from advtransfer.models.tokens import case

    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise EncoderError(f"{folder} has no tokenizer; expected one that its save_pretrained wrote beside the model")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        own = case(folder) if config.model_type == "bert" else {}
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, **own)
        saved = " ".join(config.architectures or ())
        kind: Any = AutoModelForSequenceClassification if HEAD in saved else AutoModel
        with quiet():
            model, report = kind.from_pretrained(
                folder, local_files_only=True, weights_only=True, dtype=torch.float32, output_loading_info=True
            )
    except Exception as error:  # a missing or damaged file may raise anything
        reason = one_line(error)
        raise EncoderError(f"{folder} cannot be read: {reason}") from None
    # A pooler serves the head alone; without a head it is not used.
    missing = sorted(key for key in report["missing_keys"] if HEAD in saved or not key.startswith("pooler."))
    if wrong := [*missing, *sorted(str(key) for key in report.get("mismatched_keys") or ())]:
        raise EncoderError(
            f"the weights in {folder} lack {len(wrong)} tensors of {saved or type(model).__name__}, such as {wrong[0]}"
        )
    return model.eval(), tokenizer


def image_model(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The model in a folder with the head that it was saved with, and the inputs that it needs.

    Raises
    ------
    EncoderError
        The folder holds a text model without its tokenizer or no image model, or its weights lack a part of the model:
        no part stays random.
    """
    require("experiments", "transformers")
    declare_missing_operators()
    from transformers import AutoConfig, AutoModel, AutoModelForImageClassification

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    saved = " ".join(config.architectures or ())
    if hasattr(config, "vocab_size") and not hasattr(config, "image_size"):
        raise EncoderError(
            f"{folder} holds a {saved or config.model_type}, which reads texts, and no tokenizer; expected the "
            "files that its tokenizer's save_pretrained writes beside it"
        )
    whole = "ForImageClassification" in saved
    kind: Any = AutoModelForImageClassification if whole else AutoModel
    with quiet():
        model, report = kind.from_pretrained(
            folder, local_files_only=True, weights_only=True, dtype=torch.float32, output_loading_info=True
        )
    if getattr(model.config, "mask_ratio", 0):
        model.config.mask_ratio = 0.0  # a masked autoencoder hides parts of a picture at random, in eval mode, too
    if missing := sorted(report["missing_keys"]):
        raise EncoderError(f"the weights in {folder} lack {len(missing)} tensors of {saved}, such as {missing[0]}")
    about: dict[str, Any] = {}
    file = folder / PREPROCESSOR
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
