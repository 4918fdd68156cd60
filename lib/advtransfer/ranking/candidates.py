"""One candidate of a pool file: where its model comes from, and what has to be known about it."""

import importlib.util
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from advtransfer.models.images import Architecture

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
