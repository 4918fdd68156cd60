"""What several tests of the core share: seeded numbers, inner products, and how a refusal looks."""

import re

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

settings.register_profile("steady", deadline=None, derandomize=True)  # the same examples, on a busy machine, too
settings.load_profile("steady")

seeds = st.integers(0, 2**31)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*size, seed=0, dtype=torch.float64):
    return torch.randn(size, generator=seeded(seed), dtype=dtype)


def orthogonal(d, seed=0):
    return torch.linalg.qr(normal(d, d, seed=seed))[0]


def inner_product(kind, d, seed=0):
    """H: ``None`` for "I", positive definite for "PD", of rank max(1, d - 1) for "PSD"."""
    if kind == "I":
        return None
    root = normal(d, max(1, d - 1) if kind == "PSD" else 2 * d, seed=seed)
    return root @ root.T / d + (0.1 * torch.eye(d).double() if kind == "PD" else 0)


def refuses(message, call, error=ValueError):
    """`call` raises `error` with `message` in one line."""
    with pytest.raises(error, match=re.escape(message)) as caught:
        call()
    assert "\n" not in str(caught.value)


class ConvNet(nn.Sequential):
    """Convolution, BatchNorm, dropout: (N, 1, 3, 4) -> (N, 3), with statistics away from their initial values."""

    def __init__(self, dtype=torch.float64):
        super().__init__(nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.Tanh(), nn.Dropout(), nn.Flatten(), nn.Linear(24, 3))
        self.to(dtype)
        for parameter in self.parameters():
            parameter.data = normal(*parameter.shape, seed=parameter.numel(), dtype=dtype)
        self[1].running_mean += 0.3
        self[1].running_var *= 1.7


class Largest(TorchDispatchMode):
    """The most entries of a tensor that is made inside the block."""

    def __init__(self):
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.entries = max(self.entries, made.numel())
        return made


def trace(net):
    """Everything that a look at a module could have changed."""
    values = {key: value.clone() for key, value in net.state_dict().items()}
    flags = [m.training for m in net.modules()], [p.requires_grad for p in net.parameters()]
    return values, flags, [p.grad is None for p in net.parameters()], torch.get_rng_state()


def assert_no_trace(net, before):
    values, *rest, random_state = trace(net)
    assert all(value.equal(before[0][key]) for key, value in values.items())
    assert rest == list(before[1:3])
    assert random_state.equal(before[3])
