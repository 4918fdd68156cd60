"""Where a result comes from: the source that computed it and the machine it ran on."""

import hashlib
import json
import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grimp

from advtransfer import __version__
from advtransfer.names import first_line
from advtransfer.records.storage import sha256

if TYPE_CHECKING:
    import torch

PACKAGES = ("numpy", "scipy", "pandas", "torch", "torchvision", "transformers")


@cache
def source_hash(*modules: str) -> str:
    """SHA-256 over the source of `modules` and of all modules of this package that they import.

    Imports are followed without running them, including those inside functions. The result is cached until the
    process ends.

    Parameters
    ----------
    *modules
        Full names, e.g. ``"advtransfer.metrics"``. In a module of another package, imports from that package are
        followed, too.
    """
    roots = frozenset(name.partition(".")[0] for name in modules) | {"advtransfer"}
    graph = _import_graph(roots)
    missing = sorted(set(modules) - graph.modules)
    if missing:
        raise ModuleNotFoundError(f"no module {missing[0]!r}; expected modules of {', '.join(sorted(roots))}")
    reached = set(modules).union(*(graph.find_upstream_modules(name) for name in modules))
    return digest({name: _source(name) for name in sorted(reached)})


@cache
def package_hash() -> str:
    """SHA-256 over all source of this package."""
    folder = Path(__file__).parents[1]
    return digest({path.relative_to(folder).as_posix(): sha256(path) for path in sorted(folder.rglob("*.py"))})


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, in hexadecimal; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def environment() -> dict[str, Any]:
    """Describe this machine: Python, platform, package versions, device and threads."""
    import torch  # imported here: a check whether a notebook is fresh need not wait for it

    chosen = device()
    return {
        "advtransfer": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: installed(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else f"{chosen} ({platform.machine()})",
        "threads": torch.get_num_threads(),
    }


def device() -> "torch.device":
    """The device to compute on: ``$ADVTRANSFER_DEVICE`` (cpu, cuda, cuda:1, …), else a GPU if there is one.

    Raises
    ------
    ValueError
        PyTorch knows no device of that name, or this machine has none.
    """
    import torch

    name = os.environ.get("ADVTRANSFER_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        expected = f"expected cpu, or a GPU that PyTorch can use here ({first_line(error)})"
        raise ValueError(f"device is {name!r}; {expected}") from None
    return torch.device(name)


@cache
def _import_graph(roots: frozenset[str]) -> grimp.ImportGraph:
    graph = grimp.build_graph(*sorted(roots), cache_dir=None)
    for name in graph.modules:
        if package := name.rpartition(".")[0]:
            graph.add_import(importer=name, imported=package)  # whoever imports a module runs its package, too
    return graph


@cache
def _source(name: str) -> str:
    root, *inner = name.split(".")
    spec = find_spec(root)
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent.joinpath(*inner)
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return sha256(path)


def installed(package: str) -> str | None:
    """The version of an installed package; None if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
