"""Download archives and verify their checksums before anything reads them."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import requests
from tqdm import tqdm

CONNECT_SECONDS, READ_SECONDS = 5, 30
CLIENT_SECONDS = 1800
ATTEMPTS = 5  # as long as something arrives


def download(url: str, path: Path, *, checksum: str, progress: bool = True, pause: float = 1.0) -> None:
    """Download `url` to `path` and verify it.

    What has arrived is kept in ``<path>.part``. After a broken connection the download continues from there (HTTP
    Range), a few times in this call and again in the next one. If nothing at all arrives, it fails at once.

    Parameters
    ----------
    checksum : str
        ``md5:<hex>`` or ``sha256:<hex>``.
    pause : float
        How many seconds to wait between attempts.

    Raises
    ------
    requests.RequestException
        Nothing arrived, or the connection broke too often.
    ValueError
        The file has another checksum; it is removed.
    """
    part = path.with_name(path.name + ".part")
    size_at_first = _size(part)
    for attempt in range(ATTEMPTS):
        try:
            _receive(url, part, progress)
            break
        except requests.RequestException:
            if attempt == ATTEMPTS - 1 or _size(part) == size_at_first:
                raise
            time.sleep(pause)
    try:
        verify(part, checksum)
    except ValueError:
        part.unlink()
        if not size_at_first:
            raise
        return download(url, path, checksum=checksum, progress=progress, pause=pause)  # what was there was wrong
    part.replace(path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _receive(url: str, part: Path, progress: bool) -> None:
    """Request what is still missing of `part`."""
    have = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS)) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # everything is here already; the checksum will be verified
        answer.raise_for_status()
        if not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0  # the server sends everything from the beginning
        total = have + int(answer.headers.get("Content-Length", 0)) or None
        with (
            part.open("ab" if have else "wb") as file,
            tqdm(desc=part.stem, initial=have, total=total, unit="B", unit_scale=True, disable=not progress) as bar,
        ):
            for chunk in answer.iter_content(1 << 16):
                file.write(chunk)
                bar.update(len(chunk))


def npm_pack(package: str, path: Path, *, checksum: str) -> None:
    """Download the tarball of `package` (``name@version``) to `path` with npm, and verify it.

    npm uses the registry, mirror or proxy that is configured on this machine. Nothing in the package is installed or
    run, and nothing is left in npm's cache.

    Raises
    ------
    FileNotFoundError, ConnectionError
        npm is not installed, or could not fetch the package.
    ValueError
        The tarball has another checksum.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not installed")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".npm-") as scratch:
        command = [npm, "pack", package, "--ignore-scripts", "--loglevel=error", f"--cache={scratch}/cache"]
        command += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=1000"]
        _call("npm pack", command, scratch)
        (tarball,) = Path(scratch).glob("*.tgz")
        verify(tarball, checksum)
        tarball.replace(path)


def pip_download(package: str, path: Path, *, checksum: str) -> None:
    """Download the wheel of `package` (``name==version``) to `path` with pip, and verify it.

    If `path` does not end in ``.whl``, it is the source distribution that is downloaded. pip uses the index, mirror or
    proxy that is configured on this machine. Nothing is installed or imported, and no code of the package is run.

    Raises
    ------
    ConnectionError
        This Python has no pip, or pip could not fetch the package.
    ValueError
        The file has another checksum.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".pip-") as scratch:
        got = Path(scratch, "got")
        got.mkdir()
        what, environment = [package, "--only-binary=:all:"], None
        if path.suffix != ".whl":
            what, environment = _source_only(package, checksum, Path(scratch))
        command = [sys.executable, "-m", "pip", "download", *what, "--no-deps", "--quiet", "--no-cache-dir"]
        command += ["--no-input", "--disable-pip-version-check", "--retries=1", f"--dest={got}"]
        _call("pip download", command, scratch, environment)
        (file,) = got.iterdir()
        verify(file, checksum)
        file.replace(path)


_STAND_IN = """
import email, pathlib, sys
__legacy__ = sys.modules[__name__]
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    text = pathlib.Path("PKG-INFO").read_text("utf-8")
    about = email.message_from_string(text)
    info = pathlib.Path(folder, f"{about['Name'].replace('-', '_')}-{about['Version']}.dist-info")
    info.mkdir()
    (info / "METADATA").write_text(text, "utf-8")
    return info.name
"""


def _source_only(package: str, checksum: str, scratch: Path) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment with which pip downloads a source distribution and runs none of its code.

    pip asks setuptools for the metadata of what it has downloaded, and setuptools would run the package's ``setup.py``.
    So pip gets a stand-in for setuptools, which answers with the file PKG-INFO. Before that, pip verifies the checksum.
    """
    stand_in = scratch / "stand-in" / "setuptools"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").touch()
    (stand_in / "build_meta.py").write_text(_STAND_IN, "utf-8")
    (scratch / "requirements.txt").write_text(f"{package} --hash={checksum}\n", "utf-8")
    what = [f"--requirement={scratch}/requirements.txt", "--no-binary=:all:", "--use-pep517", "--no-build-isolation"]
    places = [str(stand_in.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return what, os.environ | {"PYTHONPATH": os.pathsep.join(places)}


def _call(name: str, command: list[str], folder: str, environment: dict[str, str] | None = None) -> None:
    """Run a package client. If it fails, raise a ConnectionError that says in one line why."""
    try:
        subprocess.run(
            command, cwd=folder, env=environment, check=True, capture_output=True, text=True, timeout=CLIENT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise ConnectionError(f"{name} did not finish within {CLIENT_SECONDS} s") from None
    except subprocess.CalledProcessError as error:
        errors = [line.removeprefix("ERROR: ") for line in error.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = " ".join((" ".join(errors) or error.stderr).replace("npm error", "").split())
        raise ConnectionError(f"{name} failed: {textwrap.shorten(reason, 160, placeholder=' …')}") from None


def verify(path: Path, checksum: str) -> None:
    """Raise unless the file has the checksum, ``md5:<hex>`` or ``sha256:<hex>``.

    Raises
    ------
    ValueError
        The file has another checksum; the message gives both.
    """
    algorithm, _, expected = checksum.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected:
        raise ValueError(f"{path} has {algorithm} {found}, expected {expected}")
