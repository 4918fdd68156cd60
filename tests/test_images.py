"""Formats, the shift, loading and the made-up images: each against an independent computation."""

import hashlib
import tarfile

import numpy as np
import pytest
import torch
from torchvision.datasets import STL10
from torchvision.transforms import Resize

import image_archives as archives
from advtransfer import datasets
from advtransfer.datasets import formats, shift, sources, store
from advtransfer.datasets.store import Arrays
from advtransfer.records.storage import data_root


def equal(a, b):
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True))


# ---- formats


def test_both_formats_of_cifar10_give_the_same_arrays(tmp_path):
    arrays, entry = archives.random_arrays(50, 20), archives.small("cifar10", train=50, test=20)
    binary = formats.cifar10_binary(archives.cifar10_binary(tmp_path / "a.tar.gz", arrays), entry)
    mirror = formats.cifar10_npm(archives.cifar10_npm(tmp_path / "b.tgz", arrays), entry)
    assert equal(binary, arrays)
    assert equal(mirror, arrays)


def test_stl10_is_read_and_resized_as_torchvision_does(tmp_path, monkeypatch):
    arrays, entry = archives.random_arrays(10, 20, side=96), archives.small("stl10", train=10, test=20)
    path = archives.stl10_binary(tmp_path / "stl10_binary.tar.gz", arrays)
    ours = formats.stl10_binary(path, entry)
    monkeypatch.setattr(STL10, "_check_integrity", lambda self: True)
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    for split, x, y in (("train", *ours[:2]), ("test", *ours[2:])):
        theirs = STL10(str(tmp_path), split=split, transform=Resize(32))
        assert np.array_equal(x, np.stack([np.asarray(image) for image, _ in theirs]))
        assert np.array_equal(y, theirs.labels)


def test_tiny_imagenet_follows_the_recipe(tmp_path):
    entry = archives.small("tiny-imagenet-10", train=70, test=60)  # 7 and 6 a class
    arrays = formats.tiny_imagenet(archives.tiny_imagenet(tmp_path / "t.zip", entry, 12, 2), entry)
    store.check(arrays, entry)
    assert np.array_equal(np.bincount(arrays.y_train), [7] * 10)
    assert np.array_equal(np.bincount(arrays.y_test), [6] * 10)
    cat = entry.synsets["cat"]  # three synsets: 3 + 2 + 2 to train; 2 each to test, both validation images
    train = [archives.grey(cat[0], k) for k in (0, 1, 2)] + [archives.grey(s, k) for s in cat[1:] for k in (0, 1)]
    test = [archives.grey(s, k, val=True) for s in cat for k in (0, 1)]
    assert np.abs(arrays.x_train[arrays.y_train == 3].mean((1, 2, 3)) - train).max() < 1
    assert np.abs(arrays.x_test[arrays.y_test == 3].mean((1, 2, 3)) - test).max() < 1
    first, second = entry.synsets["bus"]  # two: 4 + 3 to train; 3 each to test: two to validate, then the next one
    test = [archives.grey(first, 0, val=True), archives.grey(first, 1, val=True), archives.grey(first, 4)]
    test += [archives.grey(second, 0, val=True), archives.grey(second, 1, val=True), archives.grey(second, 3)]
    assert np.abs(arrays.x_test[arrays.y_test == 0].mean((1, 2, 3)) - test).max() < 1


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda m: m.pop("stl10_binary/test_X.bin"), "no stl10_binary/test_X.bin in it"),
        (lambda m: m.update({"stl10_binary/test_y.bin": b"\1" * 3}), "test_y.bin has 3 bytes, expected 20"),
        (lambda m: m.update({"stl10_binary/test_X.bin": b""}), "test_X.bin has 0 bytes, expected 552960"),
    ],
)
def test_an_archive_with_the_wrong_members_is_told_in_a_line(tmp_path, spoil, told):
    path = archives.stl10_binary(tmp_path / "a.tar.gz", archives.random_arrays(10, 20, side=96))
    with tarfile.open(path) as archive:
        members = {m.name: archive.extractfile(m).read() for m in archive}
    spoil(members)
    with pytest.raises(ValueError, match=told) as error:
        formats.stl10_binary(archives.write_tar(path, members), archives.small("stl10", train=10, test=20))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["cifar10-binary", "cifar10-npm", "stl10-binary", "tiny-imagenet"])
@pytest.mark.parametrize("keep", [0, 0.5])
def test_a_truncated_archive_is_told_in_a_line(tmp_path, name, keep):
    sizes = {"cifar10-binary": (50, 20, 32), "cifar10-npm": (50, 20, 32), "stl10-binary": (10, 20, 96)}
    path = tmp_path / "a"
    if name == "tiny-imagenet":
        entry = archives.small("tiny-imagenet-10", train=50, test=50)
        archives.tiny_imagenet(path, entry, 5, 1)
    else:
        train, test, side = sizes[name]
        entry = archives.small(name.split("-")[0], train=train, test=test)
        getattr(archives, name.replace("-", "_"))(path, archives.random_arrays(train, test, side))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(ValueError, match=r"^a is broken or not what it should be: .") as error:
        formats.READERS[name](path, entry)
    assert "\n" not in str(error.value)


def test_an_archive_writes_nowhere(tmp_path):
    arrays, inside = archives.random_arrays(50, 20), tmp_path / "inside"
    inside.mkdir()
    path = archives.cifar10_binary(inside / "a.tar.gz", arrays)
    with tarfile.open(path) as archive:
        members = {m.name: archive.extractfile(m).read() for m in archive}
    archives.write_tar(path, {"../escaped": b"x", str(tmp_path / "absolute"): b"x"} | members)
    assert equal(formats.cifar10_binary(path, archives.small("cifar10", train=50, test=20)), arrays)
    assert [p.name for p in tmp_path.rglob("*")] == ["inside", "a.tar.gz"]


# ---- the shift


def test_the_shift_is_its_formula_in_whole_numbers():
    x = np.random.default_rng(1).integers(0, 256, (1, 7, 6, 3), dtype=np.uint8)
    padded = np.pad(x[0].astype(int), ((2, 2), (2, 2), (0, 0)), mode="edge")
    expected = np.empty_like(x[0])
    for i in range(7):
        for j in range(6):
            blurred = np.einsum("a,b,abc->c", shift.BLUR, shift.BLUR, padded[i : i + 5, j : j + 5])  # · 256
            expected[i, j] = np.clip((shift.MIX @ blurred + (shift.LIFT << 12) + (1 << 11)) >> 12, 0, 255)
    assert np.array_equal(shift.shifted(x)[0], expected)


def test_the_shift_keeps_grey_grey_and_gives_the_same_bytes_everywhere():
    black, white = (shift.shifted(np.full((1, 32, 32, 3), v, np.uint8)) for v in (0, 255))
    assert np.unique(black) == 40
    assert np.unique(white) == 231  # 255 · 12/16 + 40, rounded
    x = (np.arange(2 * 32 * 32 * 3) * 97 % 251).astype(np.uint8).reshape(2, 32, 32, 3)
    digest = hashlib.sha256(shift.shifted(x).tobytes()).hexdigest()
    assert digest == "87a3afda17adfab3c41592ecd9ed1e4e230a79a2f74ed66ee2ad859e08e4cf78"


# ---- loading


@pytest.fixture
def small_root(tmp_path, monkeypatch):
    """A data root with a CIFAR-10 of 50 + 20 images, of which cifar10-shift holds out two a class."""
    known = dict(sources.sources())
    known["cifar10"] = archives.small("cifar10", train=50, test=20)
    monkeypatch.setattr(sources, "_all_sources", lambda: known)
    monkeypatch.setattr(shift, "HELD_OUT", 2)
    monkeypatch.setenv("ADVTRANSFER_DATA", str(tmp_path))
    store.write(tmp_path, known["cifar10"], archives.random_arrays(50, 20))
    return tmp_path


def test_load_gives_tensors_of_what_was_stored(small_root):
    arrays = archives.random_arrays(50, 20)
    data = datasets.load("cifar10")
    assert data.x_train.shape == (50, 3, 32, 32)
    assert (data.x_train.dtype, data.y_train.dtype) == (torch.uint8, torch.int64)
    assert np.array_equal(data.x_test.numpy(), arrays.x_test.transpose(0, 3, 1, 2))
    assert data.y_test.tolist() == arrays.y_test.tolist()
    assert data.classes[:2] == ("airplane", "automobile")
    assert data.digest == store.content_digest(arrays)
    assert repr(data) == "ImageDataset('cifar10': 50 training and 20 test images, 10 classes)"


def test_the_shifted_domain_and_the_rest_share_no_training_image(small_root):
    whole, rest = datasets.load("cifar10"), datasets.load("cifar10", without="cifar10-shift")
    target = datasets.load("cifar10-shift")
    held = torch.arange(30, 50)  # labels run 0 to 9 in turn: the last two of each class are the last twenty
    assert (rest.name, len(rest.x_train), len(rest.x_test)) == ("cifar10-rest", 30, 20)
    assert torch.equal(rest.x_train, whole.x_train[:30])
    assert torch.equal(target.y_train, whole.y_train[held])
    expected = shift.shifted(whole.x_train[held].permute(0, 2, 3, 1).numpy())
    assert np.array_equal(target.x_train.permute(0, 2, 3, 1).numpy(), expected)
    assert len(target.x_test) == 20
    assert not torch.equal(target.x_test, whole.x_test)


def test_what_is_not_there_is_told_with_the_command_that_fetches_it(small_root):
    assert datasets.available("cifar10-shift")
    assert not datasets.available("stl10")
    with pytest.raises(datasets.DataUnavailable, match=r"fetch it with: python -m advtransfer data fetch stl10$"):
        datasets.load("stl10")
    with pytest.raises(ValueError, match="expected 'cifar10-shift' of 'cifar10'"):
        datasets.load("cifar10", without="stl10")
    with pytest.raises(ValueError, match=r"'cifar-10'; did you mean 'cifar10'\?"):
        datasets.load("cifar-10")


def spoil_half(path):
    path.write_bytes(path.read_bytes()[:-5000])


def spoil_labels(path):
    arrays = archives.random_arrays(50, 20)
    np.savez(path, **arrays._replace(y_test=arrays.y_test + np.uint8(1))._asdict())


def spoil_with_objects(path):
    np.savez(path, **archives.random_arrays(50, 20)._replace(y_test=np.array([{}] * 20))._asdict())


@pytest.mark.parametrize("spoil", [spoil_half, spoil_labels, spoil_with_objects])
def test_a_damaged_file_is_told_in_a_line(small_root, spoil):
    spoil(small_root / "images" / "cifar10.npz")
    with pytest.raises(datasets.DataUnavailable, match=r"cifar10\.npz is damaged \(.+\); fetch it anew") as error:
        datasets.load("cifar10")
    assert "\n" not in str(error.value)


def test_the_same_arrays_are_the_same_file(tmp_path):
    entry, arrays = archives.small("cifar10", train=50, test=20), archives.random_arrays(50, 20)
    a, b = (store.write(tmp_path / folder, entry, arrays).read_bytes() for folder in ("a", "b"))
    assert a == b
    assert (tmp_path / "a" / "SHA256SUMS").read_text() == f"{hashlib.sha256(a).hexdigest()}  ./images/cifar10.npz\n"


def test_the_content_digest_is_its_canonical_form():
    x, y = np.zeros((1, 32, 32, 3), np.uint8), np.ones(1, np.uint8)
    form = b"".join(
        name + b" uint8 " + shape + b"\n" + array.tobytes()
        for name, shape, array in [
            (b"x_train", b"1x32x32x3", x), (b"y_train", b"1", y), (b"x_test", b"1x32x32x3", x), (b"y_test", b"1", y)
        ]
    )  # fmt: skip
    assert store.content_digest(Arrays(x, y, x, y)) == hashlib.sha256(form).hexdigest()


# ---- made-up images


def test_made_up_images_are_fixed_by_the_seed():
    a, b, c = (datasets.generated(seed=s, n_train=40, n_test=20) for s in (3, 3, 4))
    assert a.digest == b.digest != c.digest
    assert a.digest == "67f4c7f47d9b6e0ef925bed02ad01297f2bca6cf4b52aec18c45c85e2463155b"
    assert a.name == "generated"
    assert a.y_test.bincount().tolist() == [2] * 10


@pytest.mark.parametrize("shifted", [False, True])
def test_made_up_classes_can_be_told_apart_and_are_the_same_under_the_shift(shifted):
    data = datasets.generated(seed=0, n_train=200, n_test=200, shift=shifted)
    means = torch.stack([data.x_train[data.y_train == k].float().mean(0) for k in range(10)]).flatten(1)
    nearest = torch.cdist(data.x_test.float().flatten(1), means).argmin(1)
    assert (nearest == data.y_test).float().mean() > 0.95
    plain = datasets.generated(seed=0, n_train=200, n_test=200)
    patterns = torch.stack([plain.x_train[plain.y_train == k].float().mean(0) for k in range(10)])
    moved = shift.shifted(patterns.round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    same = patterns if not shifted else torch.from_numpy(moved).permute(0, 3, 1, 2).float()
    assert torch.cdist(same.flatten(1), means).argmin(1).tolist() == list(range(10))


def test_made_up_images_need_an_image_a_class():
    with pytest.raises(ValueError, match="n_test 5; expected at least one image a class"):
        datasets.generated(seed=0, n_train=20, n_test=5)
    with pytest.raises(ValueError, match="classes is 1; expected 2 to 256"):
        datasets.generated(seed=0, n_train=20, n_test=20, classes=1)


# ---- the real thing, where it is


@pytest.mark.skipif(not datasets.available("cifar10"), reason="CIFAR-10 is not in the data root")
def test_the_real_cifar10_is_byte_for_byte_the_official_one():
    entry = sources.source("cifar10")
    arrays = store.read(data_root(), entry)
    assert {k: hashlib.md5(v).hexdigest() for k, v in archives.cifar10_records(arrays).items()} == entry.members
    assert {store.content_digest(arrays)} == entry.contents
    assert np.array_equal(np.bincount(arrays.y_train), [5000] * 10)
    assert np.array_equal(np.bincount(arrays.y_test), [1000] * 10)


@pytest.mark.skipif(not datasets.available("cifar10"), reason="CIFAR-10 is not in the data root")
def test_the_real_shifted_domain_is_what_was_published():
    target = datasets.load("cifar10-shift")
    assert target.digest == sources.source("cifar10-shift").content
    assert target.y_train.bincount().tolist() == [500] * 10
