"""Attacks on one model: ours, the other libraries', and the bare forward and backward passes below which none can be.

Every library attacks the model as its user would give it: in eval mode, not otherwise treated; ours after `prepare`,
whose own cost (once a model) is not counted, while the change of the images' memory format is.
"""

import copy
from functools import partial

import torch
from clock import demand
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from advtransfer import attacks
from advtransfer.datasets.encoders import encoder_path
from advtransfer.models import images, text
from advtransfer.models.tokens import Tokens
from advtransfer.prepare import prepare

EPS, STEP = 8 / 255, 2 / 255
RADIUS, STRIDE = 1.0, 0.25  # of the ℓ2 ball
REFERENCE = 8  # rows that are attacked in float64 as well

# Model, batch, steps, repeats, and whether to tell apart where the gain is from. Of the larger models two steps are
# enough to see the ratio of one.
WORKLOADS = {
    "lenet-256": ("lenet", 256, 10, 31, True),
    "resnet18-64": ("resnet18", 64, 10, 7, False),
    "resnet18-128": ("resnet18", 128, 2, 7, True),
    "resnet50-32": ("resnet50", 32, 2, 7, False),
    "minilm-32": ("minilm", 32, 2, 7, False),
}
ON_GPU = {
    "lenet-8192": ("lenet", 8192, 10, 9, True),
    **{f"resnet18-{batch}": ("resnet18", batch, 10, 7, True) for batch in (64, 256, 512, 1024)},
    "resnet50-256": ("resnet50", 256, 10, 7, False),
    "minilm-256": ("minilm", 256, 10, 7, False),
}


class Cast(nn.Module):
    """A model in another dtype, between inputs and outputs that keep theirs: the attack steps in float32."""

    def __init__(self, model, dtype):
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, x):
        return self.model(x.to(self.dtype)).to(x.dtype)


class Setting:
    """A model, its prepared copies, a batch and its labels."""

    def __init__(self, name, batch, device):
        generator = torch.Generator().manual_seed(0)
        if name == "minilm":
            folder = encoder_path()
            classifier = text.build(folder, 2).to(device).eval()
            ids = torch.randint(1000, 30000, (batch, 128), generator=generator).to(device)
            every = torch.ones_like(ids, dtype=torch.bool)
            self.model = classifier.displaced(Tokens(ids, every, ~every, torch.zeros(batch, dtype=torch.bool)))
            self.x, self.bounds = torch.zeros_like(classifier.embed(ids)), None
        else:
            self.model = images.build(name).to(device).eval()
            self.x, self.bounds = torch.rand(batch, 3, 32, 32, generator=generator).to(device), (0.0, 1.0)
        self.prepared, self.half = prepare(self.model), Cast(prepare(self.model, dtype=torch.bfloat16), torch.bfloat16)
        with torch.no_grad():
            self.y = self.model(self.x).argmax(1)

    def laid_out(self):
        return self.x.contiguous(memory_format=torch.channels_last) if self.x.ndim == 4 else self.x

    def ours(self, model, steps, attack=attacks.pgd, eps=EPS, step=STEP, channels_last=True, **keywords):
        x = self.laid_out() if channels_last else self.x
        return attack(
            model, x, y=self.y, eps=eps, step_size=step, steps=steps, bounds=self.bounds,
            random_start=False, **keywords,
        )  # fmt: skip

    def exact(self, attack, steps, rows=REFERENCE):
        """The attack on the first rows of the untreated model in float64."""
        if isinstance(self.model, text.Displaced):  # a model of a whole batch
            rows = len(self.x)
        exact = copy.deepcopy(self.model).double()
        keywords = {"y": self.y[:rows], "steps": steps, "bounds": self.bounds, "random_start": False}
        return exact, attack(exact, self.x[:rows].double(), **keywords)

    def floor(self, model, x, steps):
        for _ in range(steps):
            leaf = x.detach().requires_grad_()
            torch.autograd.grad(F.cross_entropy(model(leaf), self.y, reduction="sum"), leaf)


# The contenders: each one's name, the attack that it is in the float64 reference, and whether it is in bfloat16.

LINF = partial(attacks.pgd, eps=EPS, step_size=STEP)
L2 = partial(attacks.pgd, eps=RADIUS, step_size=STRIDE, norm="l2")
MOMENTUM = partial(attacks.mi_fgsm, eps=EPS, step_size=STEP)
KEPT = {"torchattacks": "torchattacks, memory kept", "ours, PGD ℓ∞": "ours, PGD ℓ∞, memory kept"}  # by their processes
PEERS = dict.fromkeys(("torchattacks", "foolbox", "ART"), (LINF, False))
OURS = {
    "ours, PGD ℓ∞": (LINF, False),
    "ours, PGD ℓ2": (L2, False),
    "ours, MI-FGSM": (MOMENTUM, False),
    "ours, PGD ℓ∞, bfloat16": (LINF, True),
}
NOT_PREPARED, FIRST = "ours, PGD ℓ∞, not prepared", "ours, PGD ℓ∞, channels first"
ON_OURS = "torchattacks, on our prepared model"
FLOORS = ("floor: passes of the model", "floor: passes of the prepared model")


def described(setting, detailed):
    """What is compared: for `detailed`, also what of the gain is the prepared model's, and what the loop's."""
    contenders = {**(PEERS if setting.bounds else {}), **OURS}
    if setting.x.device.type == "cpu":
        contenders |= {KEPT[name]: contenders[name] for name in KEPT if name in contenders}
    return {**contenders, **dict.fromkeys((NOT_PREPARED, FIRST, ON_OURS) if detailed else (), (LINF, False))}


def calls(model, batch, device, steps):
    """By name: a call that gives δ, or nothing where it is a floor."""
    s = Setting(model, batch, device)
    first = prepare(s.model, channels_last=False)
    theirs = dict(peers(s, steps)) if s.bounds else {}
    if theirs:
        theirs[ON_OURS] = _torchattacks(s, s.prepared, steps)
    found = theirs | {
        "ours, PGD ℓ∞": lambda: s.ours(s.prepared, steps),
        "ours, PGD ℓ2": lambda: s.ours(s.prepared, steps, eps=RADIUS, step=STRIDE, norm="l2"),
        "ours, MI-FGSM": lambda: s.ours(s.prepared, steps, attacks.mi_fgsm),
        "ours, PGD ℓ∞, bfloat16": lambda: s.ours(s.half, steps),
        NOT_PREPARED: lambda: s.ours(s.model, steps),
        FIRST: lambda: s.ours(first, steps, channels_last=False),
        FLOORS[0]: lambda: s.floor(s.model, s.x, steps),
        FLOORS[1]: lambda: s.floor(s.prepared, s.laid_out(), steps),
    }
    return found | {kept: found[name] for name, kept in KEPT.items() if name in found}


def _torchattacks(setting, model, steps):
    import torchattacks

    attack = torchattacks.PGD(model, eps=EPS, alpha=STEP, steps=steps, random_start=False)
    return lambda: attack(setting.x, setting.y) - setting.x


def peers(setting, steps):
    """Other libraries' PGD in the ℓ∞ ball, from the same start, in as many steps."""
    import foolbox
    import numpy as np
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    model, x, y = setting.model, setting.x, setting.y
    device = x.device
    two = foolbox.attacks.LinfProjectedGradientDescentAttack(abs_stepsize=STEP, steps=steps, random_start=False)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=device)
    criterion = foolbox.criteria.Misclassification(y)
    kind = "gpu" if device.type == "cuda" else "cpu"
    classes = model.head.out_features
    classifier = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), tuple(x.shape[1:]), classes, clip_values=(0, 1), device_type=kind
    )
    three = ProjectedGradientDescentPyTorch(
        classifier, np.inf, EPS, STEP, max_iter=steps, batch_size=len(x), verbose=False
    )
    pixels, labels = x.cpu().numpy(), y.cpu().numpy()
    return {
        "torchattacks": _torchattacks(setting, model, steps),
        "foolbox": lambda: two.run(wrapped, x, criterion, epsilon=EPS) - x,
        "ART": lambda: torch.from_numpy(three.generate(pixels, labels)).to(device) - x,
    }


def check(setting, steps, attacked):
    """Largest departures from the float64 reference; raises where one is no rounding.

    Signs of gradients near zero turn with rounding, and paths part: what is compared is by how much the loss rises,
    and the gradient of the first step. Of that the median row, as a ReLU on its kink turns some rows, and with that of
    the untreated model in the same dtype as the measure of rounding.
    """
    untreated = {False: setting.model, True: Cast(copy.deepcopy(setting.model).bfloat16(), torch.bfloat16)}
    treated = {False: setting.prepared, True: setting.half}
    exact = copy.deepcopy(setting.model).double()
    right = gradient(exact, setting.x.double(), setting.y)
    found = {}
    for half in sorted({False, *(half for *_, half in attacked.values())}):
        error, usual = (
            ((gradient(models[half], setting.x, setting.y) - right).norm(dim=1) / right.norm(dim=1)).median().item()
            for models in (treated, untreated)
        )
        name = "gradient, bfloat16" if half else "gradient"
        found[name] = demand(f"the {name}", error, 2 * usual + 1e-5)
    references = {}
    for name, (delta, attack, half) in attacked.items():
        if attack not in references:
            model, best = setting.exact(attack, steps)
            x, y = setting.x[: len(best)].double(), setting.y[: len(best)]
            clean = loss_of(model, x, y)
            references[attack] = model, x, y, clean, loss_of(model, x + best, y) - clean
        model, x, y, clean, gained = references[attack]
        own = loss_of(model, x + delta[: len(x)].double(), y) - clean
        found[name] = demand(f"the rise of the loss in {name}", abs(own / gained - 1), 0.1 if half else 0.01)
    return found


def gradient(model, x, y):
    leaf = x.detach().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(model(leaf), y, reduction="sum"), leaf)[0].double().flatten(1)


def loss_of(model, x, y):
    with torch.no_grad():
        return F.cross_entropy(model(x), y).item()


def operations(setting, names):
    """Counted operations of one step of ours, forward and backward to the input, by those of the names and dtype."""
    models = {("ours, PGD ℓ∞", "float32"): setting.prepared, ("ours, PGD ℓ∞, bfloat16", "bfloat16"): setting.half}
    counts = {}
    for (name, dtype), model in models.items():
        if name in names:
            with FlopCounterMode(display=False) as counter:
                F.cross_entropy(model(setting.laid_out().detach().requires_grad_()), setting.y).backward()
            counts[name, dtype] = counter.get_total_flops()
    return counts
