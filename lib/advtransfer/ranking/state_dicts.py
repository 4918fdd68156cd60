"""Weights that somebody else has saved: read as tensors and nothing else, and fitted into a model."""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advtransfer.ranking.candidates import Candidate, PoolError
from advtransfer.records.storage import sha256


def loaded(module: nn.Module, candidate: Candidate, folder: Path) -> nn.Module:
    """The module with its weights from the candidate's file, all of them; or as it is if no file is named.

    Raises
    ------
    PoolError
        The file is missing, holds something else than a state dict, or one of another model.
    """
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
