"""A prepared model gives the outputs of the model it was made from, which is left as it was."""

import copy
import warnings

import pytest
import torch
from torch import nn

from advtransfer.prepare import NotFoldedWarning, prepare


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)) + x)


class Calls(nn.Module):
    """Layers by name and a forward pass given as a function."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.calls = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.calls(self, x)


def conv(c_in=3, c_out=3):
    return nn.Conv2d(c_in, c_out, 3, padding=1)


def norm(**keywords):
    return nn.BatchNorm2d(3, **keywords)


def conv_net():
    grouped = nn.Conv2d(6, 4, 3, stride=2, groups=2, bias=False, padding=1, padding_mode="reflect")
    layers = conv(3, 6), nn.BatchNorm2d(6), nn.ReLU(), grouped, nn.BatchNorm2d(4, affine=False), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(64, 5))


def aliased():
    layers = nn.ModuleList([conv(), norm()])
    return Calls(lambda m, x: m.layers[1](m.layers[0](x)), first=layers[0], layers=layers)


def tied():
    model = nn.Sequential(conv(), norm(), conv())
    model[2].weight = model[0].weight
    return model


def branching():
    def forward(m, x):
        z = m.conv(x)
        return m.norm(z) + z if isinstance(z, torch.Tensor) and torch.is_tensor(z) else m.norm(z)

    return Calls(forward, conv=conv(), norm=norm())


def hooked(kind="forward"):
    model = nn.Sequential(nn.Sequential(conv()), norm())
    if kind == "forward":
        model[0].register_forward_hook(lambda module, args, output: output.abs())
    else:
        model[0].register_full_backward_hook(lambda module, grad_input, grad_output: None)
    return model


# A model, and how many BatchNorms its prepared copy keeps.
FOLDED = {
    "conv net": (conv_net, 0),
    "residual": (lambda: nn.Sequential(Residual(), Residual()), 0),
    "tied weights": (tied, 0),
    "1d and 3d": (lambda: nn.Sequential(nn.Conv3d(3, 3, 3, padding=1), nn.BatchNorm3d(3)), 0),
    "norm first": (lambda: nn.Sequential(norm(), conv()), 1),
    "after ReLU": (lambda: nn.Sequential(conv(), nn.ReLU(), norm()), 1),
    "shared norm": (lambda: Calls(lambda m, x: m.norm(m.b(m.norm(m.a(x)))), a=conv(), b=conv(), norm=norm()), 1),
    "shared conv": (lambda: Calls(lambda m, x: m.b(m.conv(m.a(m.conv(x)))), conv=conv(), a=norm(), b=norm()), 2),
    "conv used twice": (lambda: Calls(lambda m, x: (z := m.conv(x)) + m.norm(z), conv=conv(), norm=norm()), 1),
    "weights read": (lambda: Calls(lambda m, x: m.norm(m.conv(x)) * m.conv.weight.sum(), conv=conv(), norm=norm()), 1),
    "buffer read": (lambda: Calls(lambda m, x: m.n(m.conv(x)) * m.n.running_var.sum(), conv=conv(), n=norm()), 1),
    "read on a branch for tensors": (branching, 1),
    "a method of its name": (
        lambda: Calls(lambda m, x: m.conv(m.norm(x)).norm(dim=(2, 3)), conv=conv(), norm=norm()),
        1,
    ),
    "two names": (aliased, 1),
    "no statistics": (lambda: nn.Sequential(conv(), norm(track_running_stats=False)), 1),
    "no BatchNorm": (lambda: nn.Sequential(conv(), nn.GroupNorm(1, 3)), 0),
}
NOT_FOLDED = {
    "control flow": lambda: Calls(lambda m, x: m.norm(m.conv(x)) if x.sum() > 0 else x, conv=conv(), norm=norm()),
    "a hook": hooked,
    "a backward hook": lambda: hooked("backward"),
}


def trained(make, dtype):
    """A model whose statistics and scales are far from their initial values."""
    torch.manual_seed(0)
    model = make().to(dtype)
    for module in model.modules():
        for name in ("running_mean", "running_var", "weight", "bias"):
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and getattr(module, name) is not None:
                getattr(module, name).data.uniform_(0.2, 2)
    return model


def images(dtype=torch.float64, depth=()):
    return torch.rand(4, 3, *depth, 8, 8, generator=torch.Generator().manual_seed(0), dtype=dtype)


def count_norms(model):
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("name", FOLDED)
def test_outputs_are_those_of_the_model(name, dtype, atol):
    make, kept = FOLDED[name]
    model = trained(make, dtype).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepared = prepare(model)
    x = images(dtype, depth=(4,) if name == "1d and 3d" else ())
    torch.testing.assert_close(prepared(x), model(x), rtol=0, atol=atol)
    assert count_norms(prepared) == kept
    assert not any(p.requires_grad for p in prepared.parameters())
    assert not any(m.training for m in prepared.modules())


@pytest.mark.parametrize("name", NOT_FOLDED)
def test_a_model_that_cannot_be_traced_is_copied_as_it_is(name):
    model = trained(NOT_FOLDED[name], torch.float64).eval()
    with pytest.warns(NotFoldedWarning, match="keeps its BatchNorm, for it cannot be traced: .") as caught:
        prepared = prepare(model, channels_last=False)
    assert "\n" not in str(caught[0].message)
    assert caught[0].filename == __file__
    assert count_norms(prepared) == 1
    assert prepared(images()).equal(model(images()))


def test_the_model_given_is_left_as_it_was():
    model = trained(conv_net, torch.float32)
    model[0].eval()  # modes are mixed
    model[3].weight.requires_grad_(False)
    before, layers = copy.deepcopy(model.state_dict()), list(model.modules())
    prepare(model, dtype=torch.float64)
    assert list(model.modules()) == layers
    assert [m.training for m in model] == [False, True, True, True, True, True, True]
    assert [p.requires_grad for p in model.parameters()] == [True] * 4 + [False] + [True] * 2
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())
    assert [p.is_contiguous() for p in model.parameters()] == [True] * 7


def test_hooks_stay_with_the_model():
    model = trained(hooked, torch.float64)
    with pytest.warns(NotFoldedWarning):
        prepare(model)
    assert [len(m._forward_hooks) for m in model.modules()] == [0, 1, 0, 0]


def test_tracing_leaves_nothing_behind():
    """A forward pass that keeps what it sees does not keep a trace's stand-ins."""
    model = Calls(lambda m, x: setattr(m, "seen", m.conv(x)) or m.norm(m.seen), conv=conv(), norm=norm())
    ready = prepare(model)
    assert ready.preparation.folded == 1
    assert not hasattr(ready, "seen")
    assert not hasattr(model, "seen")


def test_a_feature_that_forward_stores_is_that_after_the_relu_in_place():
    """As the docstring says of an output that forward stores."""
    model = Calls(lambda m, x: setattr(m, "seen", m.norm(m.conv(x))) or m.relu(m.seen), conv=conv(), norm=norm(),
                  relu=nn.ReLU())  # fmt: skip
    model.eval()
    ready = prepare(model)
    assert (ready.preparation.folded, ready.preparation.in_place) == (1, 1)
    x = images(torch.float32)
    torch.testing.assert_close(ready(x), model(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ready.seen, model.seen.relu(), rtol=1e-4, atol=1e-5)


def test_dtype_and_memory_format():
    model = trained(conv_net, torch.float32).eval()
    exact = copy.deepcopy(model).double()(images())
    torch.testing.assert_close(prepare(model, dtype=torch.float64)(images()), exact, rtol=0, atol=1e-10)
    half, unfolded = prepare(model, dtype=torch.bfloat16), copy.deepcopy(model).bfloat16()
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    error, usual = ((m(images(torch.bfloat16)) - exact).norm() for m in (half, unfolded))
    assert error < 1.5 * usual
    assert prepare(model)[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert prepare(model, channels_last=False)[0].weight.is_contiguous()


def test_a_copy_made_in_inference_mode_has_gradients():
    model = trained(conv_net, torch.float64).eval()
    with torch.inference_mode():
        prepared = prepare(model)
    x = images().requires_grad_()
    found, expected = (torch.autograd.grad(f(x).square().sum(), x)[0] for f in (prepared, model))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


# A model with ReLUs, and how many of them may overwrite what they read.
OVERWRITING = {
    "conv net": (conv_net, 1),
    "linear, conv": (lambda: nn.Sequential(conv(), nn.ReLU(), nn.Flatten(), nn.Linear(192, 3), nn.ReLU()), 2),
    "after what stays": (lambda: nn.Sequential(norm(), nn.ReLU(), nn.Sigmoid(), nn.ReLU()), 0),
    "read again": (lambda: Calls(lambda m, x: (z := m.conv(x)) + m.relu(z), conv=conv(), relu=nn.ReLU()), 0),
    "norm read again": (
        lambda: Calls(lambda m, x: (z := m.n(m.conv(x))) + m.relu(z), conv=conv(), n=norm(), relu=nn.ReLU()),
        0,
    ),
    "a method of its name": (
        lambda: Calls(lambda m, x: (h := m.b(m.a(x).relu())) - 2 * m.relu(h), a=conv(), b=conv(), relu=nn.ReLU()),
        0,
    ),
    "one for all": (lambda: Calls(lambda m, x: m.relu(x) + m.relu(m.conv(x)), conv=conv(), relu=nn.ReLU()), 0),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("name", OVERWRITING)
def test_relus_overwrite_only_what_nothing_else_needs(name, dtype, tolerance):
    make, number = OVERWRITING[name]
    model = trained(make, dtype).eval()
    prepared = prepare(model)
    assert sum(module.inplace for module in prepared.modules() if isinstance(module, nn.ReLU)) == number
    assert prepared.preparation.in_place == number
    assert not any(module.inplace for module in model.modules() if isinstance(module, nn.ReLU))
    x = images(dtype).requires_grad_()
    found, expected = (f(x) for f in (prepared, model))
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    found, expected = (torch.autograd.grad(outputs.square().sum(), x)[0] for outputs in (found, expected))
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    assert x.equal(images(dtype))


class Gated(nn.Module):
    """What it computes depends on an argument that may be left out."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.relu = conv(), norm(), nn.ReLU()

    def forward(self, x, gate=None, *, twice=False):
        z = self.conv(x)
        z = self.norm(torch.tanh(z) if gate is None else z)
        y = self.relu(self.conv(z)) if twice else self.relu(z)
        return y + z if gate is None else y + gate


def test_a_branch_on_an_argument_left_out_is_the_one_that_is_prepared():
    model = trained(Gated, torch.float64).eval()
    prepared = prepare(model)
    assert prepared.preparation[:3] == (0, 1, 0)
    torch.testing.assert_close(prepared(images()), model(images()), rtol=0, atol=1e-12)


def test_named_inputs_are_converted_too():
    half = prepare(trained(Gated, torch.float32), dtype=torch.bfloat16)
    assert half(x=images(torch.float32)).equal(half(images(torch.float32)))


def test_a_copy_can_be_prepared_again_in_another_precision():
    model = trained(Gated, torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = prepare(prepare(model, dtype=torch.bfloat16), dtype=torch.float32)
    assert again(images(torch.float32)).dtype == torch.float32
    assert len(prepare(prepare(model, dtype=torch.bfloat16))._forward_pre_hooks) == 1


def test_it_says_what_it_did():
    done = prepare(trained(conv_net, torch.float32)).preparation
    assert done == (2, 0, 1, "")
    with pytest.warns(NotFoldedWarning):
        done = prepare(trained(NOT_FOLDED["control flow"], torch.float32)).preparation
    assert done[:3] == (0, 1, 0)
    assert "control flow" in done.note


def test_what_is_refused_is_said_in_one_line():
    with pytest.raises(TypeError, match=r"^model is function; expected a torch\.nn\.Module$"):
        prepare(lambda x: x)
    with pytest.raises(TypeError, match=r"^dtype is torch\.int8; expected a floating dtype$"):
        prepare(conv_net(), dtype=torch.int8)
