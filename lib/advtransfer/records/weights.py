"""Trained weights, stored by settings and source: nothing is trained twice, and a kill loses at most one epoch."""

import hashlib
import io
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from advtransfer.records import storage
from advtransfer.records.provenance import digest, source_hash

Weights = dict[str, Tensor]
CONTENT = "content"  # the key of a file's metadata under which the digest of its weights is stored


class Checkpoint:
    """The last completely saved state of a training run, in one file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> dict[str, Any] | None:
        """The last saved state. None if there is none, or (with a warning) if it cannot be read."""
        if not self.path.exists():
            return None
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file can raise any exception
            storage.tell(f"{self.path} is damaged ({type(error).__name__}): training from the start")
            return None

    def save(self, state: dict[str, Any]) -> None:
        """Save a state in place of the previous one."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        _write(self.path, buffer.getbuffer())

    def clear(self) -> None:
        """Delete the saved state."""
        self.path.unlink(missing_ok=True)


def cached(settings: dict[str, Any], train: Callable[[Checkpoint], Weights], *, code: tuple[str, ...]) -> Weights:
    """The weights that `train` returns, from the cache if the same settings and source were trained before.

    Parameters
    ----------
    settings
        Everything the result depends on besides the source, as JSON values.
    train
        Trains and returns the weights. The checkpoint that it receives lets it continue after a kill.
    code
        The modules whose source determines the result.

    Raises
    ------
    OSError
        The cache cannot be written (checked before training), or the disk is full. No unfinished file is left.
    """
    key = digest({"settings": settings, "source": source_hash(*code)})
    folder = storage.cache_root() / "weights" / key[:2]
    path = folder / f"{key}.safetensors"
    if path.exists():
        with suppress(SafetensorError, OSError, ValueError):
            return _read(path)
    with storage.locked(path):
        if path.exists():  # it is damaged, or another process has made it by now
            try:
                return _read(path)
            except (SafetensorError, OSError, ValueError) as error:
                storage.tell(f"{path} is damaged ({error}): training it anew")
        checkpoint = Checkpoint(folder / f"{key}.checkpoint")
        for left in folder.glob(f".writing-{checkpoint.path.name}-*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        weights = {name: tensor.detach().contiguous().cpu() for name, tensor in train(checkpoint).items()}
        _write(path, save(weights, {CONTENT: content(weights)}))
        checkpoint.clear()
    return weights


def restore(model: nn.Module, weights: Weights) -> None:
    """Load `weights` into `model`, if they fit its architecture.

    Raises
    ------
    ValueError
        A tensor is missing, superfluous or of another shape.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wanted != given:
        name = next(n for n in (*wanted, *given) if wanted.get(n) != given.get(n))
        raise ValueError(
            f"the weights are of another architecture: {name} is {given.get(name, 'missing')}; "
            f"expected {wanted.get(name, 'no such tensor')}"
        )
    model.load_state_dict(weights)


def content(weights: Weights) -> str:
    """SHA-256 of the weights: names, shapes, types and every bit."""
    total = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.view(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return total.hexdigest()


def _read(path: Path) -> Weights:
    """The weights in a file, checked against the digest that was stored with them."""
    with safe_open(path, "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is not a dict
        noted = (file.metadata() or {}).get(CONTENT)
    if noted is not None and noted != content(weights):
        raise ValueError("its weights do not match their digest")
    return weights


def _write(path: Path, data: bytes | memoryview) -> None:
    with storage.replacing(path) as draft:
        draft.write_bytes(data)
