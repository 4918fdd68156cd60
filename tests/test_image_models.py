"""The image models: released sizes, the split into features and head, and weights from a seed alone."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from advtransfer.models.images import ARCHITECTURES, LABELS, build, with_new_head
from advtransfer.prepare import prepare


def dense(*sizes):
    """Parameters of linear layers in a row."""
    return sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))


RELEASED = {  # parameters, features
    "fully_connected": (dense(3072, 1176, 400, 120, 84, 10), 84),
    "lenet": (62_006, 84),
    "alexnet": (dense(3 * 11**2, 64) + dense(64 * 5**2, 192) + sum(dense(a * 9, b) for a, b in
                [(192, 384), (384, 256), (256, 256)]) + dense(256, 10), 256),
    "resnet18": (11_173_962, 512),
    "resnet50": (23_520_842, 2048),
}  # fmt: skip


def pixels(samples=2, dtype=torch.float32):
    return torch.rand(samples, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=dtype)


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_architectures_are_those_of_table_1_in_its_order():
    assert ARCHITECTURES == tuple(LABELS) == tuple(RELEASED)
    assert list(LABELS.values()) == ["Fully Connected", "LeNet", "AlexNet", "ResNet18", "ResNet50"]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_released_size(name):
    parameters, k = RELEASED[name]
    model = build(name)
    assert count(model) == parameters
    assert model.head.in_features == k
    assert count(build(name, width=64)) == parameters
    assert count(build(name, num_classes=4)) == parameters - 6 * (k + 1)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_model_is_a_head_on_features_of_normalised_pixels(name):
    model = build(name, num_classes=4, width=4).eval()
    x = pixels()
    assert model(x).shape == (2, 4)
    assert model(x).equal(model.head(model.features(x)))
    assert model.features(x).shape == (2, model.head.in_features)
    torch.testing.assert_close(model.features(x), model.body(2 * x - 1))


def test_width_scales_every_hidden_size():
    ratios = [count(build("resnet18", width=width)) / RELEASED["resnet18"][0] for width in (16, 32, 128)]
    assert ratios == pytest.approx([1 / 16, 1 / 4, 4], rel=0.01)
    assert [layer.out_features for layer in build("fully_connected", width=16).body[1::2]] == [294, 100, 30, 21]
    assert [layer.out_channels for layer in build("lenet", width=16).body[0:4:3]] == [4, 4]  # not 1.5


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_weights_come_from_the_generator_alone(name):
    def weights(**keywords):
        return nn.utils.parameters_to_vector(build(name, width=8, **keywords).parameters())

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = weights(generator=torch.Generator().manual_seed(5))
    assert torch.get_rng_state().equal(state)
    torch.manual_seed(2)
    assert weights(generator=torch.Generator().manual_seed(5)).equal(first)
    assert not weights(generator=torch.Generator().manual_seed(6)).equal(first)
    assert weights().equal(weights(generator=torch.Generator().manual_seed(0)))  # the default
    bound = first.abs().max()
    assert 0.1 < bound <= 1  # PyTorch's default: U(±1/√fan-in), and ones for BatchNorm


def test_a_new_head_is_put_on_a_copy():
    model = build("resnet18", width=8).double()
    model.eval()
    state = torch.get_rng_state()
    tuned = with_new_head(model, 4, torch.Generator().manual_seed(3))
    again = with_new_head(model, 4, torch.Generator().manual_seed(3))
    assert torch.get_rng_state().equal(state)
    assert tuned.head.weight.equal(again.head.weight)
    assert tuned.head.weight.shape == (4, 64)
    assert tuned.head.weight.dtype == torch.float64
    assert not tuned.head.training
    assert model.head.out_features == 10
    assert tuned.features(pixels(dtype=torch.float64)).equal(model.features(pixels(dtype=torch.float64)))
    tuned.body[0].weight.data.zero_()
    assert model.body[0].weight.abs().min() > 0


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_prepared_models_are_folded_and_equal(name):
    model = build(name, width=4).double()
    x = pixels(4, dtype=torch.float64)
    model(x)  # one batch of statistics
    model.eval()
    prepared = prepare(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in prepared.modules())
    torch.testing.assert_close(prepared(x), model(x), rtol=0, atol=1e-10)
    torch.testing.assert_close(prepared.features(x), model.features(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("unknown architecture 'resnet81'; did you mean 'resnet18'?",
         lambda: build("resnet81")),
        ("unknown architecture 'vgg'; expected one of [a-z0-9_, ]*$", lambda: build("vgg")),
        ("width is 0; expected at least 1", lambda: build("lenet", width=0)),
        ("num_classes is -1; expected at least 1", lambda: build("lenet", num_classes=-1)),
        ("num_classes is 0; expected at least 1", lambda: with_new_head(build("lenet"), 0)),
    ],
)  # fmt: skip
def test_what_is_refused_is_said_in_one_line(message, call):
    with pytest.raises(ValueError, match=message):
        call()
