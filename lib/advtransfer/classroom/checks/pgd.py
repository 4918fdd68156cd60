"""Tests of the first assignment: an attack, and how its success depends on ε."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advtransfer import attacks
from advtransfer.classroom.checks.answers import Wrong, classifier, equal, normal, random, tensor
from advtransfer.classroom.quiet import without_source

Function = Callable[..., Any]


@without_source
def ball(project: Function, *, seed: int) -> None:
    """`project` brings δ back into the ℓ∞ ball, for images in the middle of the box."""
    generator = random(seed)
    delta = normal(generator, 4, 6)
    _project(project, torch.full_like(delta, 0.5), delta, eps=_radius(generator))


@without_source
def box(project: Function, *, seed: int) -> None:
    """`project` keeps x + δ in [0, 1], also at the border."""
    generator = random(seed)
    x = torch.rand(16, 6, generator=generator, dtype=torch.float64)
    x[:4], x[4:8] = x[:4].round(), x[4:8] * 0.1
    _project(project, x, normal(generator, 16, 6), eps=_radius(generator))


def _radius(generator: torch.Generator) -> float:
    return _between(0.2, 0.4, generator)


def _between(low: float, high: float, generator: torch.Generator) -> float:
    """A number that no answer can know."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def _project(project: Function, x: Tensor, delta: Tensor, eps: float) -> None:
    short = delta.clamp(-eps, eps)
    right = (x + short).clamp(0, 1) - x
    equal("project", project(x.clone(), delta.clone(), eps), right, {
        "the ball is kept, but x + δ leaves [0, 1]: a missing clamp.": short,
        "the box is kept, but not the ball: |δ| ≤ ε is missing.": (x + delta).clamp(0, 1) - x,
        "it returns the perturbed image; expected the perturbation, so take x away again.": x + right,
        "δ was returned as it came: neither the ball nor the box is kept.": delta,
        "δ itself was clamped to [0, 1], but it is x + δ that must be an image.": short.clamp(0, 1),
        "the length of all of δ was scaled; in ℓ∞ each coordinate has its own limit.": _scaled(delta, eps),
    })  # fmt: skip


def _scaled(delta: Tensor, eps: float) -> Tensor:
    return delta * (eps / delta.flatten(1).norm(dim=1, keepdim=True)).clamp(max=1)


@without_source
def gradient(input_gradient: Function, *, seed: int) -> None:
    """`input_gradient` is the gradient of the summed cross-entropy with respect to x."""
    generator = random(seed)
    model, x = classifier(generator), torch.rand(5, 6, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (5,), generator=generator)
    right = _gradient(model, x, y)
    logits = x.clone().requires_grad_()
    (of_logit,) = torch.autograd.grad(model(logits).gather(1, y[:, None]).sum(), logits)
    parameters = [p.detach().clone().requires_grad_() for p in model.parameters()]
    named = dict(zip(dict(model.named_parameters()), parameters, strict=True))
    loss = F.cross_entropy(torch.func.functional_call(model, named, (x,)), y, reduction="sum")
    equal("input_gradient", input_gradient(model, x.clone(), y), right, {
        "the loss was averaged over the batch, so an image's gradient depends on how many others there are: "
        "use the sum.": right / len(x),
        "the sign is wrong: this climbs down the loss.": -right,
        "this is the gradient of the loss of the predicted class; the labels are y.":
            _gradient(model, x, model(x).argmax(1)),
        "this is the gradient of the logit of y, not of the loss.": of_logit,
        "only the sign was returned; expected the gradient itself.": right.sign(),
        "this is the gradient with respect to the parameters of the model; expected the input x.":
            [scale * g for g in torch.autograd.grad(loss, parameters) for scale in (1, 1 / len(x))],
    })  # fmt: skip


def _gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    x = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), y, reduction="sum"), x)
    return gradient


@without_source
def linf(pgd: Function, *, seed: int, steps: int = 5) -> None:
    """`pgd` from δ = 0 in the ℓ∞ ball."""
    _attack("pgd", pgd, "linf", seed, steps, eps=0.1)


@without_source
def l2(pgd_l2: Function, *, seed: int, steps: int = 5) -> None:
    """`pgd_l2` from δ = 0 in the ℓ2 ball."""
    _attack("pgd_l2", pgd_l2, "l2", seed, steps, eps=0.3)


def _attack(name: str, function: Function, norm: str, seed: int, steps: int, eps: float) -> None:
    generator = random(seed)
    eps, step_size = (eps * factor * _between(0.9, 1.1, generator) for factor in (1.0, 0.4))
    model, x = classifier(generator), torch.rand(32, 6, generator=generator, dtype=torch.float64)
    x[:8] = x[:8].round()  # on the border of the box, so that a step without a clamp leaves it
    y = torch.randint(3, (32,), generator=generator)
    options: dict[str, Any] = {"eps": eps, "step_size": step_size, "norm": norm, "y": y, "random_start": False}
    right = attacks.pgd(model, x, steps=steps, **options)
    found = function(model, x.clone(), y, eps, steps, step_size)

    def climbed(step: Callable[[Tensor], Tensor], shorten: Callable[[Tensor], Tensor], box: bool = True) -> Tensor:
        delta = torch.zeros_like(x)
        for _ in range(steps):
            delta = shorten(delta + step_size * step(_gradient(model, x + delta, y)))
            delta = (x + delta).clamp(0, 1) - x if box else delta
        return delta

    def unit(g: Tensor) -> Tensor:
        return g / g.norm(dim=1, keepdim=True)

    def short(delta: Tensor) -> Tensor:
        return delta.clamp(-eps, eps) if norm == "linf" else _scaled(delta, eps)

    step = torch.sign if norm == "linf" else unit
    predicted = attacks.pgd(model, x, steps=steps, **options | {"y": model(x).argmax(1)})
    late = torch.zeros_like(x)
    for _ in range(steps):
        late = late + step_size * step(_gradient(model, x + late, y))
    frozen = torch.zeros_like(x)
    for _ in range(steps):
        frozen = (x + short(frozen + step_size * step(_gradient(model, x, y)))).clamp(0, 1) - x
    wrong: dict[str, Wrong] = {
        "it returns the adversarial images; expected the perturbation δ.": x + right,
        "x + δ leaves [0, 1]: a missing clamp.": climbed(step, short, box=False),
        "it climbs down the loss: the sign of the step is wrong.": climbed(lambda g: -step(g), short),
        "only one step was made.": attacks.pgd(model, x, steps=1, **options),
        "every step uses the gradient at the clean x; take it at x + δ.": frozen,
        "the steps are not projected back: δ leaves the ball.": [climbed(step, lambda d: d), late],
        "δ is projected once, at the end; project after each step.": (x + short(late)).clamp(0, 1) - x,
        "the predicted class is attacked; the labels are y.": predicted,
        "a step has the length ε; it is step_size.": attacks.pgd(model, x, steps=steps, **options | {"step_size": eps}),
        "the step is along the raw gradient; take its sign (ℓ∞), its unit vector (ℓ2).": climbed(lambda g: g, short),
    }  # fmt: skip
    if norm == "l2":
        squares: dict[str, Wrong] = {
            "the gradient was divided by its squared norm; take the root.": climbed(
                lambda g: g / g.square().sum(1, keepdim=True), short
            ),
            "the ball is measured by the squared norm; take the root.": climbed(
                unit, lambda d: d * (eps / d.square().sum(1, keepdim=True)).clamp(max=1)
            ),
            "the norm was taken over the whole batch; each image has its own.": climbed(
                lambda g: g / g.norm(), lambda d: d * min(1, eps / d.norm().item())
            ),
            "the gradient's norm was taken over the whole batch; each image has its own.": climbed(
                lambda g: g / g.norm(), short
            ),
            "δ always has the length ε; only a δ that is longer is shortened.": climbed(
                unit, lambda d: d * eps / d.norm(dim=1, keepdim=True)
            ),
            "this is the ℓ∞ attack: its steps are signs.": climbed(torch.sign, lambda d: d.clamp(-eps, eps)),
            "δ is clamped coordinate by coordinate, which is the ℓ∞ ball.": climbed(unit, lambda d: d.clamp(-eps, eps)),
        }  # fmt: skip
        wrong = squares | wrong
    equal(name, found, right, wrong)


@without_source
def curve(success_curve: Function, *, seed: int) -> None:
    """`success_curve` is, for each ε, the share of the images read rightly at first that the attack makes misread."""
    generator = random(seed)
    model, x = classifier(generator), torch.rand(1000, 6, generator=generator, dtype=torch.float64)
    y = model(x).argmax(1)
    y[::5] = (y[::5] + 1) % 3  # misread from the start
    every = torch.tensor([0.05, 0.1, 0.2, 0.3])[torch.randperm(4, generator=generator)].tolist()
    radii = [0.0, *(eps * _between(0.9, 1.1, generator) for eps in every)]
    found = tensor("success_curve", success_curve(model, x.clone(), y, radii))
    fooled = torch.stack([_fooled(model, x, y, eps) for eps in radii])
    clean = ~fooled[0]
    read = _read(model, x, y, 0.0)
    changed = [
        torch.stack([_read(model, x, labels, eps) != read for eps in radii]).double().mean(1) for labels in (y, read)
    ]
    right = fooled[:, clean].double().mean(1)
    equal("success_curve", found, right, {
        "images that are misread without any attack were counted; leave them out.": fooled.double().mean(1),
        "this is the share that is still read rightly; expected the share that is fooled.": 1 - right,
        "this is the accuracy on all images; expected the share that is fooled.": 1 - fooled.double().mean(1),
        "these are percent; expected shares in [0, 1].": 100 * right,
        "these are numbers of images; expected shares.": fooled[:, clean].double().sum(1),
        "the fooled images were divided by all images; divide by those that are read rightly at first.":
            fooled[:, clean].double().sum(1) / len(x),
        "the shares are sorted, or add up over ε; expected one for each ε, in the order of `radii`.":
            [right.sort().values, right.cummax(0).values],
        "images were counted whose class has changed; expected those read rightly at first and wrongly then.": changed,
    })  # fmt: skip


def _fooled(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    return _read(model, x, y, eps) != y


def _read(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """The classes that the model reads in the images attacked within `eps`."""
    delta = attacks.pgd(model, x, y=y, eps=eps, steps=10, step_size=eps / 4, random_start=False) if eps else x * 0
    classes: Tensor = model(x + delta).argmax(1)
    return classes
