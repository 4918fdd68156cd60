"""A convolution in fewer products is the plain one to rounding, in every mode that torch runs it in."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import jacrev, vmap
from torch.nn import functional as F

from advtransfer import winograd
from advtransfer.models import images
from advtransfer.prepare import prepare
from advtransfer.winograd import WinogradConv2d

# Several times what was seen of the relative error, at most.
TOLERANCE = {torch.float64: 1e-14, torch.float32: 3e-6, torch.bfloat16: 2e-2}


def pair(channels=6, out=5, padding=1, bias=True, dtype=torch.float64, seed=0):
    """A plain convolution, and the same one of the class tested."""
    torch.manual_seed(seed)
    plain = nn.Conv2d(channels, out, 3, padding=padding, bias=bias).to(dtype).requires_grad_(False)
    made = copy.deepcopy(plain)
    WinogradConv2d.replace(made)
    return plain, made


def random(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def with_gradient(layer, x):
    x = x.detach().requires_grad_()
    outputs = layer(x)
    return outputs.detach(), torch.autograd.grad(outputs, x, random(*outputs.shape, dtype=outputs.dtype))[0]


def off(found, right):
    return ((found.double() - right).norm() / right.norm().clamp(min=1e-300)).item()


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(WinogradConv2d, "_pays", lambda self, x: True)


@pytest.fixture
def uses(monkeypatch):
    """How often the fewer products were taken."""
    counted, convolve = [], winograd._convolve
    monkeypatch.setattr(winograd, "_convolve", lambda *args: counted.append(1) or convolve(*args))
    return counted


@pytest.mark.usefixtures("always")
@settings(deadline=None, max_examples=60)
@given(
    dtype=st.sampled_from(list(TOLERANCE)), n=st.integers(1, 3), height=st.integers(3, 9), width=st.integers(3, 13),
    channels=st.integers(1, 6), padding=st.sampled_from([0, 1, "same", "valid"]), bias=st.booleans(),
)  # fmt: skip
def test_outputs_and_gradients_are_those_of_the_convolution(dtype, n, height, width, channels, padding, bias):
    plain, made = pair(channels, padding=padding, bias=bias, dtype=dtype)
    x = random(n, channels, height, width, dtype=dtype)
    found, right = with_gradient(made, x), with_gradient(plain.double(), x.double())
    assert all(value.dtype == dtype for value in found)
    assert max(map(off, found, right)) <= TOLERANCE[dtype]
    assert found[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("dtype", "channels"), [(torch.float64, 64), (torch.float32, 256), (torch.bfloat16, 512)])
def test_many_channels_of_small_images_take_fewer_products(uses, dtype, channels):
    plain, made = pair(channels, channels, dtype=dtype)
    x = random(32, channels, 4, 4, dtype=dtype)
    assert off(made(x), plain.double()(x.double())) <= TOLERANCE[dtype]
    assert uses
    assert made.weight.equal(plain.weight)


def test_elsewhere_it_is_the_plain_convolution(uses):
    plain, made = pair(64, 64)
    for x in (random(64, 64, 1, 1), random(1, 64, 4, 4), random(1, 64, 32, 32), random(64, 4, 8), random(0, 64, 4, 4)):
        assert made(x).equal(plain(x))
    with pytest.raises(RuntimeError, match="should be the same"):
        made(random(32, 64, 4, 4).float())
    made.weight.requires_grad_()
    made(random(32, 64, 4, 4)).sum().backward()
    assert made.weight.grad is not None
    _, single = pair(256, 256, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert single(random(32, 256, 4, 4).float()).dtype == torch.bfloat16
    assert not uses


def test_what_it_does_not_take():
    left = [
        nn.Conv2d(4, 4, 5), nn.Conv2d(4, 4, 3, stride=2), nn.Conv2d(4, 4, 3, dilation=2), nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), nn.Conv2d(4, 4, 3, padding=2), nn.Conv1d(4, 4, 3),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)), pair()[1],
    ]  # fmt: skip
    assert not any(map(WinogradConv2d.takes, left))
    assert WinogradConv2d.takes(pair()[0])


@pytest.mark.usefixtures("always")
def test_new_weights_are_noticed():
    (plain, made), (other, _), x = pair(), pair(seed=2), random(2, 6, 5, 8)
    assert off(made(x), plain(x)) <= 1e-14
    made.load_state_dict(other.state_dict())
    assert off(made(x), other(x)) <= 1e-14
    assert off(made.float()(x.float()), other(x)) <= 3e-6
    assert off(copy.deepcopy(made.double())(x), other.float().double()(x)) <= 1e-14


@pytest.mark.usefixtures("always")
def test_what_inference_left_behind_takes_part_in_gradients():
    (plain, made), x = pair(), random(2, 6, 5, 8)
    with torch.inference_mode():
        made(x)
    assert max(map(off, with_gradient(made, x), with_gradient(plain, x))) <= 1e-14


@pytest.mark.usefixtures("always")
def test_torch_func_and_second_derivatives():
    (plain, made), x = pair(3, 2), random(2, 3, 4, 5)
    jacs = [vmap(jacrev(lambda row, f=f: f(row[None])[0]))(x) for f in (made, plain)]
    assert off(*jacs) <= 1e-14
    torch.autograd.gradgradcheck(lambda z: made(z).square(), x.requires_grad_())


@pytest.mark.usefixtures("always")
def test_it_meets_the_definition_pixel_by_pixel():
    plain, made = pair(1, 1)
    x = random(1, 1, 6, 7)
    padded, w = F.pad(x, (1, 1, 1, 1))[0, 0], plain.weight[0, 0]
    right = [[(padded[i : i + 3, j : j + 3] * w).sum() + plain.bias[0] for j in range(7)] for i in range(6)]
    torch.testing.assert_close(made(x)[0, 0], torch.tensor(right, dtype=torch.float64), rtol=0, atol=1e-14)


def test_a_resnet_as_released_keeps_its_gradient(uses):
    model = images.build("resnet18").eval()
    x = random(32, 3, 32, 32).sigmoid().float()
    prepared, exact = prepare(model), copy.deepcopy(model).double()
    assert prepared.preparation.winograd == 14
    found, right = with_gradient(prepared, x), with_gradient(exact, x.double())
    assert len(uses) == 6  # of 256 and 512 channels
    assert max(map(off, found, right)) <= 1e-4
    again = prepare(prepared)
    assert again.preparation.winograd == 0
    assert off(again(x), right[0]) <= 1e-4
