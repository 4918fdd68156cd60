"""What a pool of models shares, each piece beside the plain way of the same computation, and how time grows."""

import statistics
from functools import partial

import torch
from clock import compared, demand, interleaved
from machine import peak
from torch import nn
from torch.func import jacfwd, jacrev, vmap

from advtransfer import attacks, matching, metrics, spectral
from advtransfer.models import images
from advtransfer.models.mlp import OneHiddenLayer, tanh_network
from advtransfer.prepare import prepare


def seeded():
    return torch.Generator().manual_seed(0)


def agree(what, found, right, most):
    return demand(what, ((found - right).norm() / right.norm()).item(), most)


def measured(calls, baseline, right, most, repeats, device):
    """Rows of calls that give the same tensor, each checked against `right` first."""
    errors = {name: agree(name, call().double(), right, most) for name, call in calls.items()}
    rows = compared(interleaved(calls, repeats, device), baseline)
    return [{**row, "error": errors[row["name"]]} for row in rows]


def all_pairs(repeats, device):
    """Gradient matching of 11 models with 10 outputs, at 5,000 samples of 50 inputs."""
    jacs = [torch.randn(5000, 10, 50, generator=seeded().manual_seed(i)).to(device) for i in range(11)]
    shared = torch.randn(5000, 10, 50, generator=seeded()).to(device)
    jacs = [jac + i / 10 * shared for i, jac in enumerate(jacs)]  # or every distance would be 1

    def least_squares():
        tall = [jac.double().mT.flatten(0, 1) for jac in jacs]  # (N · n, d)
        rows = [
            [
                (a - b @ torch.linalg.lstsq(b, a).solution).norm() / a.norm() if a is not b else a.new_zeros(())
                for b in tall
            ]
            for a in tall
        ]
        return torch.stack([torch.stack(row) for row in rows])

    def ours():
        found = matching.pairwise(jacs)
        return found - found.diag().diag()  # a model's distance from itself is rounding

    calls = {"least squares, pair by pair": least_squares, "ours, one Gram matrix": ours}
    return measured(calls, "least squares, pair by pair", least_squares(), 1e-6, repeats, device)


def singular(repeats, device):
    """The exact attacks of 5,000 Jacobians, 10 × 50, in float64."""
    jac = torch.randn(5000, 10, 50, generator=seeded(), dtype=torch.float64).to(device)
    calls = {
        "singular value decomposition": lambda: torch.linalg.svd(jac, full_matrices=False)[1],
        "ours": lambda: spectral.singular_attacks(jac).sigma,
    }
    return measured(calls, "singular value decomposition", torch.linalg.svdvals(jac), 1e-6, repeats, device)


def jacobians(model, x, repeats, device):
    """Forms of the Jacobian in which autograd can give it."""

    def at_once():
        leaf = x.clone().requires_grad_()
        outputs = model(leaf)
        basis = torch.eye(outputs.shape[1], device=device)[:, None].expand(-1, len(x), -1)
        return torch.autograd.grad(outputs, leaf, basis, is_grads_batched=True)[0].flatten(2).transpose(0, 1)

    def one(z):
        return model(z[None])[0]

    calls = {
        "ours, one backward pass an output": lambda: spectral.jacobian(model, x),
        "all outputs in one backward pass": at_once,
        "vmap of jacrev": lambda: vmap(jacrev(one))(x).flatten(2),
        "vmap of jacfwd": lambda: vmap(jacfwd(one))(x).flatten(2),
    }
    if x[0].numel() > 1000:
        del calls["vmap of jacfwd"]  # a pass an input
    right = spectral.jacobian(model.double(), x.double())
    model.float()
    return measured(calls, "ours, one backward pass an output", right, 1e-4, repeats, device)


def small_jacobians(repeats, device):
    """A network with one hidden layer of 100, 50 inputs and 10 outputs, at 5,000 samples."""
    model = tanh_network([50, 100, 10], seeded()).float().to(device).requires_grad_(False)
    return jacobians(model, torch.randn(5000, 50, generator=seeded()).to(device), repeats, device)


def lenet_jacobians(repeats, device):
    """LeNet at 64 images."""
    model = prepare(images.build("lenet")).to(device)
    return jacobians(model, torch.rand(64, 3, 32, 32, generator=seeded()).to(device), repeats, device)


def one_pair(repeats, device):
    """α1, α2 and α1∗α2 from the deviations of 2,000 samples with 10 outputs."""
    d11, d12, d22 = torch.randn(3, 2000, 10, generator=seeded()).to(device)

    def plain():
        ratios, outer = [], []
        for a, b, c in zip(d11.double(), d12.double(), d22.double(), strict=True):
            ratios.append(b.norm() / c.norm())
            outer.append(torch.outer(a / a.norm(), b / b.norm()))
        ratios, outer = torch.stack(ratios), torch.stack(outer)
        return torch.stack([ratios.mean(), outer.mean(0).norm(), (ratios[:, None, None] * outer).mean(0).norm()])

    def ours():
        found = metrics.from_deviations(d11, d12, d22)
        return torch.tensor([found.alpha1, found.alpha2, found.alpha12], dtype=torch.float64, device=device)

    return measured({"sample by sample": plain, "ours": ours}, "sample by sample", plain(), 1e-6, repeats, device)


def matrix(size):
    """What measures the matrix of K models."""

    def measure(repeats, device):
        models = [
            prepare(images.build("lenet", width=16, generator=seeded().manual_seed(i)).to(device)).double()
            for i in range(size)
        ]
        x = torch.rand(32, 3, 32, 32, generator=seeded(), dtype=torch.float64).to(device)
        attack = partial(attacks.fgsm, eps=8 / 255)

        def pairs():
            found = [[metrics.transferability(a, b, x, attack).alpha1 for b in models] for a in models]
            return torch.tensor(found, dtype=torch.float64)

        calls = {"pair by pair": pairs, "ours, at once": lambda: metrics.transfer_matrix(models, x, attack).alpha1}
        return measured(calls, "pair by pair", pairs(), 1e-10, repeats, device)

    measure.__doc__ = f"α1 of every pair of {size} small LeNets at 32 images, FGSM, in float64."
    return measure


def training(repeats, device):
    """An epoch of ResNet18 of width 16 over 1,024 images, batches of 64; the floor is bare steps of SGD."""
    from training import epoch, floor

    calls = {"floor: bare steps of SGD": floor("resnet18", 16, 16, device), "ours": epoch("resnet18", 16, 16, device)}
    return compared(interleaved(calls, repeats, device), "floor: bare steps of SGD")


def ten_scales(repeats, device):
    """Figure 2: ten scales of the authors' released networks, 5,000 samples; the plain way on 100, scaled up."""
    from figure2 import measure

    return measure(repeats, 100)


SHARED = {
    "all-pairs": (all_pairs, 7),
    "singular-attacks": (singular, 7),
    "jacobians-small": (small_jacobians, 7),
    "jacobians-lenet": (lenet_jacobians, 7),
    "one-pair": (one_pair, 7),
    **{f"matrix-{size}": (matrix(size), 7) for size in (5, 11, 32)},
    "figure-2": (ten_scales, 7),
    "training": (training, 7),
}


# Growth: (axis, series, values, a call of the value).


def growth(repeats, device):
    """Medians of seconds along each axis, and the slope between its last two values on a log-log scale."""
    found = []
    for axis, (values, make) in AXES.items():
        calls = {str(value): make(value, device) for value in values}
        times = interleaved(calls, repeats, device)
        medians = [statistics.median(times[str(value)]) for value in values]
        slope = torch.tensor([medians[-1] / medians[-2], values[-1] / values[-2]]).log()
        found.append({"axis": axis, "values": values, "seconds": medians, "slope": (slope[0] / slope[1]).item()})
    return found


def memory(device):
    """Bytes at most beyond what was held before, for the metrics of N samples that come in batches of 256."""

    def batches(n):
        total = metrics.Accumulator()
        for start in range(0, n, 256):
            generator = seeded().manual_seed(start)
            total.update(*torch.randn(3, 256, 10, generator=generator).to(device))
        return total.compute()

    batches(256)
    return {"values": SAMPLES, "bytes": [peak(partial(batches, n), device) for n in SAMPLES]}


def by_samples(n, device):
    d11, d12, d22 = torch.randn(3, n, 10, generator=seeded()).to(device)
    return lambda: metrics.from_deviations(d11, d12, d22)


def by_steps(steps, device):
    model, x = prepare(images.build("lenet").to(device)), torch.rand(64, 3, 32, 32, generator=seeded()).to(device)
    return lambda: attacks.pgd(model, x, eps=8 / 255, steps=steps)


def by_models(size, device):
    """K² forward passes: the attacks are free."""
    layers = [nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 10)]
    model, x = nn.Sequential(*layers).to(device), torch.randn(256, 256, generator=seeded()).to(device)
    return lambda: metrics.transfer_matrix([model] * size, x, lambda model, x: 0.1 * x)


def by_inputs(n, device):
    jac = torch.randn(1000, 10, n, generator=seeded()).to(device)
    return lambda: spectral.singular_attacks(jac, k=1)


def by_outputs(d, device):
    net = OneHiddenLayer.uniform(50, 100, d, seeded())
    net = OneHiddenLayer(*(w.to(device) for w in net))
    x = torch.randn(1000, 50, generator=seeded()).to(device)
    return lambda: spectral.jacobian(net, x)


SAMPLES = [2000, 8000, 32000, 128000]
AXES = {
    "N: metrics of one pair": (SAMPLES, by_samples),
    "steps: PGD": ([5, 10, 20, 40], by_steps),
    "K: the matrix of all pairs": ([5, 11, 32], by_models),
    "n: the first singular attack": ([100, 400, 1600, 6400], by_inputs),
    "d: Jacobians": ([5, 10, 20, 40], by_outputs),
}
