"""Our attacks against other libraries': equal to rounding where they should be, apart where they are known to be."""

import copy

import pytest
import torch
from torch import nn

from advtransfer.attacks import fgsm, mi_fgsm, pgd

EPS, STEP, STEPS = 0.1, 0.03, 10
RADIUS, STRIDE = 1.5, 0.4  # of the ℓ2 ball; most images touch both the ball and the box


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Conv2d(8, 8, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(200, 5)
    net = nn.Sequential(*layers).double().eval().requires_grad_(False)
    for parameter in net.parameters():
        parameter *= 3  # at PyTorch's initial weights it is almost linear, and all attacks agree
    return net


@pytest.fixture(scope="module")
def x():
    return torch.rand(16, 3, 13, 13, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(scope="module")
def y(net, x):
    return net(x).argmax(dim=1)


def foolbox_delta(attack, net, x, y, eps):
    foolbox = pytest.importorskip("foolbox")
    model = foolbox.PyTorchModel(net, bounds=(0, 1))
    return attack.run(model, x, foolbox.criteria.Misclassification(y), epsilon=eps) - x


def gap(a, b):
    return float((a - b).abs().max())


def test_linf_attacks_equal_torchattacks(net, x, y):
    torchattacks = pytest.importorskip("torchattacks")
    theirs = torchattacks.PGD(net, eps=EPS, alpha=STEP, steps=STEPS, random_start=False)(x, y) - x
    assert gap(pgd(net, x, eps=EPS, step_size=STEP, steps=STEPS, random_start=False), theirs) < 1e-12

    theirs = torchattacks.FGSM(net, eps=EPS)(x, y) - x
    assert gap(fgsm(net, x, eps=EPS), theirs) < 1e-12

    for decay in (1.0, 0.5):
        theirs = torchattacks.MIFGSM(net, eps=EPS, alpha=STEP, steps=STEPS, decay=decay)(x, y) - x
        assert gap(mi_fgsm(net, x, eps=EPS, step_size=STEP, steps=STEPS, decay=decay), theirs) < 1e-12


def test_pgd_equals_foolbox_in_both_norms(net, x, y):
    attacks = pytest.importorskip("foolbox").attacks
    linf = attacks.LinfProjectedGradientDescentAttack(abs_stepsize=STEP, steps=STEPS, random_start=False)
    ours = pgd(net, x, eps=EPS, step_size=STEP, steps=STEPS, random_start=False)
    assert gap(ours, foolbox_delta(linf, net, x, y, EPS)) < 1e-12

    l2 = attacks.L2ProjectedGradientDescentAttack(abs_stepsize=STRIDE, steps=STEPS, random_start=False)
    ours = pgd(net, x, eps=RADIUS, step_size=STRIDE, steps=STEPS, norm="l2", random_start=False)
    assert gap(ours, foolbox_delta(l2, net, x, y, RADIUS)) < 1e-12


def test_foolbox_departs_by_accumulating_signs(net, x, y):
    attacks = pytest.importorskip("foolbox").attacks
    attack = attacks.LinfMomentumIterativeFastGradientMethod(abs_stepsize=STEP, steps=STEPS)
    ours = mi_fgsm(net, x, eps=EPS, step_size=STEP, steps=STEPS)
    differ = (ours - foolbox_delta(attack, net, x, y, EPS)).abs() > 1e-3
    assert 0.02 < differ.double().mean() < 0.5  # 10 to 13% of pixels on a ResNet18


def test_torchattacks_departs_by_an_offset_to_the_gradient_norm(net, x, y):
    torchattacks = pytest.importorskip("torchattacks")
    faint = nn.Sequential(net, Scale(1e-8))  # gradients of 1e-9, no longer large against their 1e-10
    theirs = torchattacks.PGDL2(faint, eps=RADIUS, alpha=STRIDE, steps=STEPS, random_start=False)(x, y) - x
    ours = pgd(faint, x, eps=RADIUS, step_size=STRIDE, steps=STEPS, norm="l2", random_start=False)
    assert gap(ours, theirs) > 1e-3


def test_art_departs_by_rescaling_after_the_box(net, x, y):
    pytest.importorskip("art")
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    single = copy.deepcopy(net).float()  # ART computes in float32
    classifier = PyTorchClassifier(single, nn.CrossEntropyLoss(), x.shape[1:], 5, clip_values=(0, 1), device_type="cpu")
    attack = ProjectedGradientDescentPyTorch(classifier, 2, RADIUS, STRIDE, max_iter=STEPS, verbose=False)
    theirs = torch.from_numpy(attack.generate(x.float().numpy(), y.numpy())) - x.float()
    ours = pgd(single, x.float(), eps=RADIUS, step_size=STRIDE, steps=STEPS, norm="l2", random_start=False)
    assert gap(ours, theirs) > 1e-3
    exact = pgd(net, x, eps=RADIUS, step_size=STRIDE, steps=STEPS, norm="l2", random_start=False)
    assert gap(ours, exact) < 1e-4  # so the difference is not that of the dtypes


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x
