"""How a candidate of a pool file becomes a model: one builder for each place that it may come from."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from advtransfer.datasets import encoders
from advtransfer.extras import require
from advtransfer.models import images
from advtransfer.models.torchvision_ops import declare_missing_operators
from advtransfer.names import unknown
from advtransfer.ranking.candidates import ORIGINS, Candidate, PoolError
from advtransfer.ranking.encoder import Encoder
from advtransfer.ranking.state_dicts import loaded
from advtransfer.ranking.text_encoder import TextEncoder
from advtransfer.ranking.transformers import image_model, reads_texts, text_model
from advtransfer.records.provenance import digest

AnyEncoder = Encoder | TextEncoder


def build(candidate: Candidate, folder: Path) -> AnyEncoder:
    """Build one candidate; `folder` is that of the pool file."""
    if place := _place_of_text_model(candidate, folder):
        return _text_encoder(candidate, place)
    if candidate.max_length is not None:
        raise PoolError("max_length is for text models; expected size for an image model")
    if (candidate.transformers or candidate.encoder) and (candidate.arguments or candidate.weights):
        raise PoolError(_TWICE)
    if (candidate.mean is None) != (candidate.std is None):
        given, lacking = ("mean", "std") if candidate.std is None else ("std", "mean")
        raise PoolError(f"{given} without {lacking}; expected both or neither")
    module, usual = _BUILDERS[_origin(candidate)](candidate, folder)
    own = {key: value for key in ("size", "mean", "std", "features") if (value := getattr(candidate, key)) is not None}
    return Encoder(module.eval(), **{**usual, **own})


def _place_of_text_model(candidate: Candidate, folder: Path) -> Path | None:
    """The folder of a candidate that reads texts; None for one that reads images."""
    if candidate.transformers is not None:
        place = folder / Path(candidate.transformers).expanduser()
        return place if reads_texts(place) else None
    return encoders.encoder_path(candidate.encoder) if candidate.encoder in encoders.of_texts() else None


def _text_encoder(candidate: Candidate, place: Path) -> TextEncoder:
    for name in ("size", "mean", "std"):
        if getattr(candidate, name) is not None:
            raise PoolError(f"{name} is for image models, and this one reads texts; expected max_length")
    if candidate.arguments or candidate.weights:
        raise PoolError(_TWICE)
    own = {key: value for key in ("max_length", "features") if (value := getattr(candidate, key)) is not None}
    return TextEncoder(*text_model(place), **own)


_TWICE = "arguments and weights beside a saved folder or an encoder of the book; expected one or the other"


def _origin(candidate: Candidate) -> str:
    return next(name for name in ORIGINS if getattr(candidate, name) is not None)


Built = tuple[nn.Module, dict[str, Any]]  # a module, and the size, mean, std and features that it is known to need
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def _imported(candidate: Candidate, folder: Path) -> Built:
    place, colon, name = str(candidate.build).rpartition(":")
    if not colon:
        raise PoolError(f"build is {candidate.build!r}; expected package.module:name or file.py:name")
    file = folder / place
    if place.endswith(".py") and not file.is_file():
        raise PoolError(f"{file} does not exist; expected a file with {name}")
    try:
        module = _module_at(file) if place.endswith(".py") else importlib.import_module(place)
        if hasattr(module, name):
            with torch.random.fork_rng():
                torch.manual_seed(0)  # a builder without weights gives the same model each time
                made = getattr(module, name)(**candidate.arguments)
    except Exception as error:  # the code of a user may raise anything
        raise PoolError(f"{candidate.build} failed: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise PoolError(unknown(f"name in {place}", name, [n for n in vars(module) if not n.startswith("_")]))
    if not isinstance(made, nn.Module):
        raise PoolError(f"{candidate.build} made a {type(made).__name__}; expected a torch.nn.Module")
    return loaded(made, candidate, folder), {}


def _module_at(file: Path) -> ModuleType:
    """A file of Python, run as a module of its own name."""
    name = f"advtransfer_pool_{file.stem}_{digest(str(file.resolve()))[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # for a name that ends in .py
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)  # where dataclasses and pickle look for it
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _of_torchvision(candidate: Candidate, folder: Path) -> Built:
    require("rank", "torchvision")
    declare_missing_operators()
    from torchvision import models

    name = str(candidate.torchvision)
    if name not in models.list_models():
        raise PoolError(unknown("torchvision model", name, models.list_models()))
    weights, published = candidate.weights, models.get_model_weights(name)
    named = weights is not None and not (folder / Path(weights).expanduser()).exists()
    if named and str(weights) not in published.__members__:
        raise PoolError(
            f"{weights} is no file, and {unknown(f'weights of {name}', str(weights), published.__members__)}"
        )
    if named and candidate.sha256:
        raise PoolError(f"sha256 beside {weights}, which torchvision checks itself; expected sha256 of a file")
    if weights is None or named:
        chosen = published[str(weights)] if named else published.DEFAULT
        made = models.get_model(name, weights=chosen, **candidate.arguments)
        about = chosen.transforms()
        return made, {"size": about.crop_size[0], "mean": tuple(about.mean), "std": tuple(about.std)}
    made = models.get_model(name, weights=None, **candidate.arguments)
    usual = published.DEFAULT.transforms().crop_size[0] if published.__members__ else 224
    return loaded(made, candidate, folder), {"size": usual, **IMAGENET}


def _of_timm(candidate: Candidate, folder: Path) -> Built:
    if find_spec("timm") is None:
        raise PoolError("timm is not installed; install it with: python -m pip install timm")
    import timm

    made = timm.create_model(str(candidate.timm), pretrained=candidate.weights is None, **candidate.arguments)
    about = timm.data.resolve_model_data_config(made)
    usual = {"size": about["input_size"][1], "mean": about["mean"], "std": about["std"]}
    return (made if candidate.weights is None else loaded(made, candidate, folder)), usual


def _of_transformers(candidate: Candidate, folder: Path) -> Built:
    return image_model(folder / Path(str(candidate.transformers)).expanduser())


def _of_the_book(candidate: Candidate, folder: Path) -> Built:
    from advtransfer.models import image_encoders

    module, about = image_encoders.load(str(candidate.encoder))
    headless = isinstance(getattr(module, "classifier", None), nn.Identity)
    return module, {
        "size": about.size,
        "mean": about.mean,
        "std": about.std,
        "features": "" if headless else "features",
    }


def _architecture(candidate: Candidate, folder: Path) -> Built:
    if candidate.weights is None:
        raise PoolError("architecture without weights; expected weights = the file of a trained network")
    made = images.build(str(candidate.architecture), **candidate.arguments)
    return loaded(made, candidate, folder), {"size": 32}


_BUILDERS: dict[str, Callable[[Candidate, Path], Built]] = {
    "build": _imported,
    "torchvision": _of_torchvision,
    "timm": _of_timm,
    "transformers": _of_transformers,
    "encoder": _of_the_book,
    "architecture": _architecture,
}
