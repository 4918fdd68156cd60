"""A pool file: which candidates there are, how each is built, and where its weights are."""

import importlib
import importlib.util
import pickle
import re
import sys
import tomllib
import zipfile
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from torch import Tensor, nn

from advtransfer.datasets import encoders
from advtransfer.extras import require
from advtransfer.models import images
from advtransfer.models.images import Architecture
from advtransfer.models.torchvision_ops import declare_missing_operators
from advtransfer.names import one_line, unknown
from advtransfer.ranking.encoder import FAILURES, Encoder
from advtransfer.ranking.text_encoder import TextEncoder
from advtransfer.ranking.transformers import PREPROCESSOR, image_model, reads_texts, text_model
from advtransfer.records.configs import explain
from advtransfer.records.provenance import digest
from advtransfer.records.storage import sha256

AnyEncoder = Encoder | TextEncoder
ORIGINS = ("build", "torchvision", "timm", "transformers", "encoder", "architecture")


class PoolError(ValueError):
    """A pool file that cannot be used; one line per problem."""


class Candidate(BaseModel):
    """One table of a pool file. Exactly one of `ORIGINS` says where the model comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    build: str | None = Field(default=None, description="package.module:name or file.py:name of a function or class")
    torchvision: str | None = Field(default=None, description="name of a torchvision model")
    timm: str | None = Field(default=None, description="name of a timm model")
    transformers: Path | None = Field(default=None, description="folder that transformers saved")
    encoder: str | None = Field(default=None, description="encoder of the book, see data list")
    architecture: Architecture | None = Field(default=None, description="network of the book")
    arguments: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the builder")
    weights: Path | str | None = Field(
        default=None, description="file of a state dict; torchvision: name of its weights"
    )
    sha256: str | None = Field(default=None, description="checksum of the file of weights")
    size: int | None = Field(default=None, ge=1, description="height and width of the images that it takes")
    mean: tuple[float, ...] | None = Field(default=None, description="per channel, of pixels in [0, 1]")
    std: tuple[float, ...] | None = Field(default=None, description="per channel, of pixels in [0, 1]")
    max_length: int | None = Field(default=None, ge=3, description="texts: largest number of tokens that it reads")
    features: str | None = Field(default=None, description="layer whose output is the features")
    own_accuracy: float | None = Field(
        default=None, ge=0, le=1, description="share of its own test samples that it classifies correctly, if known"
    )

    def files(self, folder: Path) -> list[Path]:
        """The files in or beside `folder` that the candidate is made from, and the file of its builder's module."""
        place = str(self.build or "").rpartition(":")[0]
        named = [str(self.weights or ""), place, str(self.transformers or "")]
        found = [folder / Path(name).expanduser() for name in named if name]
        if place and not place.endswith(".py"):  # a module of a package, whose own file counts
            with suppress(ImportError, ValueError):
                found += [Path(spec.origin) for spec in [importlib.util.find_spec(place)] if spec and spec.origin]
        return [file for place in found for file in ([place] if place.is_file() else sorted(place.glob("*")))]

    @field_validator("sha256")
    @classmethod
    def _checksum(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch("[0-9a-fA-F]{64}", value):
            raise ValueError("64 digits from 0 to f, as sha256sum prints them")
        return value and value.lower()

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _per_channel(cls, value: object) -> object:
        if isinstance(value, int | float):
            raise ValueError("one number per channel, such as [0.5, 0.5, 0.5]")
        return value

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [name for name in ORIGINS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of {', '.join(ORIGINS)}, not {' and '.join(given) or 'none'}")
        if self.sha256 and not self.weights:
            raise ValueError("weights beside sha256")
        return self


def read(path: Path | str) -> dict[str, AnyEncoder]:
    """The candidates of a pool file, ready to be ranked.

    Only the builders that the file names are run: weights are read from ``.safetensors`` files, or by
    ``torch.load(weights_only=True)``.

    Parameters
    ----------
    path
        A TOML file with a table per candidate, such as ``[mine]`` with ``build = "nets.py:make"``; see `Candidate` for
        the keys. Paths are relative to the file's folder.

    Raises
    ------
    PoolError
        The file is missing or wrong, or candidates cannot be built; the message has a line for each of them.
    """
    path = Path(path).expanduser()
    candidates = parse(path)
    built, problems = {}, []
    for name, candidate in candidates.items():
        try:
            built[name] = build(candidate, path.parent)
        except (*FAILURES, ImportError, OSError) as error:
            reason = one_line(error)
            problems.append(f"{name}: {reason if len(reason) < 400 else reason[:400] + ' …'}")
    if problems:
        raise PoolError("\n".join(problems))
    return built


def doubts(path: Path | str) -> list[str]:
    """A line for each candidate whose weights or normalisation the pool file does not tell.

    That may be meant: a builder can load weights, and a model normalise.
    """
    path, found = Path(path).expanduser(), []
    for name, candidate in parse(path).items():
        if candidate.build and candidate.weights is None:
            found.append(f"{name}: no weights in the pool file; it is ranked as its builder makes it")
        saved = path.parent / candidate.transformers.expanduser() if candidate.transformers else None
        known = saved and (saved / "config.json").is_file() and not reads_texts(saved)
        bare = saved and known and not (saved / PREPROCESSOR).is_file()
        if (candidate.build or bare) and candidate.mean is None:
            where = f"in the pool file or in {PREPROCESSOR}" if bare else "in the pool file"
            found.append(f"{name}: no mean and std {where}; it gets pixels from 0 to 1 as they are")
    return found


def own_accuracies(path: Path | str) -> dict[str, float]:
    """The accuracy of each candidate on its own test samples, where the pool file gives it."""
    told = {name: candidate.own_accuracy for name, candidate in parse(Path(path).expanduser()).items()}
    return {name: value for name, value in told.items() if value is not None}


def parse(path: Path) -> dict[str, Candidate]:
    """The candidates of a pool file, checked, before any of them is built."""
    try:
        tables = tomllib.loads(path.read_text("utf-8-sig"))  # some editors write a mark first
    except FileNotFoundError:
        raise PoolError(f"{path} does not exist; expected a pool file in TOML, with a table per candidate") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise PoolError(f"{path} is not a pool file: {error}") from None
    if not tables:
        raise PoolError(f"{path} is empty; expected a table per candidate")
    found, problems = {}, []
    for name, table in tables.items():
        if not isinstance(table, dict):
            problems.append(f"{name} = {table!r} is outside any table; expected [{name}] and its keys below")
            continue
        try:
            found[name] = Candidate(**table)
        except ValidationError as error:
            problems += [f"{name}: {line}" for line in explain(error, list(Candidate.model_fields)).splitlines()]
    if problems:
        raise PoolError("\n".join(problems))
    return found


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
    return _loaded(made, candidate, folder), {}


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
    return _loaded(made, candidate, folder), {"size": usual, **IMAGENET}


def _of_timm(candidate: Candidate, folder: Path) -> Built:
    if find_spec("timm") is None:
        raise PoolError("timm is not installed; install it with: python -m pip install timm")
    import timm

    made = timm.create_model(str(candidate.timm), pretrained=candidate.weights is None, **candidate.arguments)
    about = timm.data.resolve_model_data_config(made)
    usual = {"size": about["input_size"][1], "mean": about["mean"], "std": about["std"]}
    return (made if candidate.weights is None else _loaded(made, candidate, folder)), usual


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
    return _loaded(made, candidate, folder), {"size": 32}


_BUILDERS: dict[str, Callable[[Candidate, Path], Built]] = {
    "build": _imported,
    "torchvision": _of_torchvision,
    "timm": _of_timm,
    "transformers": _of_transformers,
    "encoder": _of_the_book,
    "architecture": _architecture,
}


def _loaded(module: nn.Module, candidate: Candidate, folder: Path) -> nn.Module:
    """The module with its weights from a file, all of them; or as it is if no file is named."""
    if candidate.weights is None:
        return module
    file = folder / Path(candidate.weights).expanduser()
    if not file.is_file():
        raise PoolError(f"{file} does not exist; expected a file of weights")
    if candidate.sha256 and (found := sha256(file)) != candidate.sha256:
        raise PoolError(f"{file.name} has sha256 {found}; expected {candidate.sha256}")
    state = _read(file)
    for nested in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(nested), dict):
            state = state[nested]
    if not isinstance(state, dict):
        raise PoolError(f"{file.name} holds a {type(state).__name__}; expected a state dict")
    prefixes = re.compile(r"^(module\.|_orig_mod\.)+")  # of DataParallel and of torch.compile
    state = {prefixes.sub("", str(key)): value for key, value in state.items()}
    own = {name: tuple(value.shape) for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    other = {name: tuple(v.shape) for name, v in state.items() if isinstance(v, Tensor) and name in own}
    if wrong := [name for name, shape in other.items() if shape != own[name]]:
        first, more = wrong[0], f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise PoolError(
            f"{file.name} does not fit the model: {first} has shape {other[first]} in the file and {own[first]} in the "
            f"model{more}; expected arguments with which both agree"
        )
    missing, unexpected = module.load_state_dict(state, strict=False)
    if missing or unexpected:
        shown = [f"{what} {', '.join(keys[:3])}{' …' if len(keys) > 3 else ''}"
                 for what, keys in (("lacks", missing), ("also has", unexpected)) if keys]  # fmt: skip
        raise PoolError(f"{file.name} does not fit the model: it {' and '.join(shown)}")
    return module


def _read(file: Path) -> Any:
    """What a file of weights holds, read as tensors and nothing else."""
    wanted = "expected a state dict, as torch.save(model.state_dict(), FILE) writes it"
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(file)
        except SafetensorError:
            raise PoolError(f"{file.name} is damaged, or no file of weights; {wanted}") from None
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise PoolError(f"{file.name} is a TorchScript archive; {wanted}")
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError) as error:
        stranger = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
        what = f"holds more than tensors ({stranger[1]})" if stranger else "is damaged, or no file of weights"
        raise PoolError(f"{file.name} {what}; {wanted}") from None
