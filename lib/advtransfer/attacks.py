"""FGSM, PGD and MI-FGSM in the ℓ2 and ℓ∞ ball. All three share one loop; only the geometry of the ball differs.

An attack increases a loss of the model's outputs inside the ball of radius `eps` around each sample and returns the
perturbation δ; `x + δ` is the adversarial example. The model is a module or any callable on batches, and
normalisation belongs inside it. A wrapper around a module should be a module, too (such as `modes.Select`), since a
lambda cannot be put into eval mode. An attack leaves everything else as it was: `x`, train/eval modes, `.grad`,
`requires_grad`, BatchNorm statistics, the global random state and the autograd mode. The gradients of parameters
are never computed.
"""

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from advtransfer.balls import BALLS, fitted, norms
from advtransfer.checks import Bounds, as_count, as_number, check_batch, check_box
from advtransfer.modes import Model, evaluating, outputs_of

Loss = str | Callable[[Tensor, Tensor], Tensor]


class NoGradientWarning(UserWarning):
    """Some rows had a zero or non-finite gradient at every step, so no step moved them."""


def pgd(
    model: Model,
    x: Tensor,
    *,
    eps: float,
    y: Tensor | None = None,
    steps: int = 10,
    step_size: float | None = None,
    norm: str = "linf",
    loss: Loss = "cross_entropy",
    random_start: bool = True,
    bounds: Bounds = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Attack by projected gradient ascent.

    Each step moves by `step_size` along the sign of the gradient (ℓ∞) or along the gradient scaled to unit length
    (ℓ2), and is then projected back into the ball and the box.

    Parameters
    ----------
    model : callable
        Maps inputs (N, ...) to outputs (N, d). A module is run in eval mode.
    x : Tensor, (N, ...)
        Clean samples, of any floating-point dtype. For half precision the steps are computed in float32.
    eps : float
        Radius of the ball, in the units of `x`: a number of any kind, at most the size of the box. If it is zero, so
        is the result.
    y : Tensor, (N,), optional
        Labels; only the cross-entropy uses them. By default the model's own prediction on `x`.
    steps : int
        Number of gradient steps.
    step_size : float, optional
        Length of a step, in the units of `x`. By default `2.5 * eps / steps`, which is enough to cross the ball and
        come back.
    norm : {"linf", "l2"}
        Norm of the ball, taken over all axes of a sample.
    loss : {"cross_entropy", "deviation"} or callable
        The loss to increase. `"deviation"` is ‖f(x + δ) − f(x)‖₂, equation 3 of the paper. A callable maps
        `(outputs, clean_outputs)` to one value per row, (N,).
    random_start : bool
        Start at a uniformly random point of the ball, clipped to the box, instead of at δ = 0. `"deviation"` needs
        this, because its gradient vanishes at δ = 0.
    bounds : (low, high) or None
        The range of the values of `x` and `x + δ`, called the box; None means no limits. Values of `x` may lie outside
        by rounding.
    generator : torch.Generator, optional
        Source of the random start, which is drawn in float32 on the generator's device. By default a fresh CPU
        generator with seed 0, so equal calls give equal results.

    Returns
    -------
    Tensor
        δ, with the shape and dtype of `x` and ‖δ‖ ≤ eps. It is zero in rows that no step could move, since a random
        start alone is not an attack.

    Raises
    ------
    TypeError, ValueError
        An argument or a model output is not as described. The error is raised before the first step.

    Warns
    -----
    NoGradientWarning
        No step could move some of the rows; the message gives their number and the reasons.

    References
    ----------
    Madry et al. (2018), "Towards deep learning models resistant to adversarial attacks".

    Examples
    --------
    The identity, used as a model of two classes, predicts the first class here. The attack moves towards the second:

    >>> pgd(lambda x: x, torch.tensor([[0.6, 0.4]]), eps=0.1, norm="l2", random_start=False)
    tensor([[-0.0707,  0.0707]])
    """
    return _climb(
        model, x, eps=eps, y=y, steps=steps, step_size=step_size, path=2.5, decay=0.0, norm=norm, loss=loss,
        random_start=random_start, bounds=bounds, generator=generator,
    )  # fmt: skip


def fgsm(
    model: Model,
    x: Tensor,
    *,
    eps: float,
    y: Tensor | None = None,
    norm: str = "linf",
    loss: Loss = "cross_entropy",
    random_start: bool = False,
    bounds: Bounds = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Attack by one gradient step of length `eps`. Parameters, result and errors are those of `pgd`.

    References
    ----------
    Goodfellow et al. (2015), "Explaining and harnessing adversarial examples".

    Examples
    --------
    >>> fgsm(lambda x: x, torch.tensor([[0.6, 0.4]]), eps=0.1)
    tensor([[-0.1000,  0.1000]])
    """
    return _climb(
        model, x, eps=eps, y=y, steps=1, step_size=None, path=1.0, decay=0.0, norm=norm, loss=loss,
        random_start=random_start, bounds=bounds, generator=generator,
    )  # fmt: skip


def mi_fgsm(
    model: Model,
    x: Tensor,
    *,
    eps: float,
    y: Tensor | None = None,
    steps: int = 10,
    step_size: float | None = None,
    decay: float = 1.0,
    norm: str = "linf",
    loss: Loss = "cross_entropy",
    random_start: bool = False,
    bounds: Bounds = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Attack along accumulated gradients, `momentum = decay * momentum + g / ‖g‖₁`; otherwise like `pgd`.

    The default `step_size` is `eps / steps`, so that the steps together just reach the edge of the ball.

    References
    ----------
    Dong et al. (2018), "Boosting adversarial attacks with momentum".

    Examples
    --------
    >>> mi_fgsm(lambda x: x, torch.tensor([[0.6, 0.4]]), eps=0.1)
    tensor([[-0.1000,  0.1000]])
    """
    return _climb(
        model, x, eps=eps, y=y, steps=steps, step_size=step_size, path=1.0, decay=decay, norm=norm, loss=loss,
        random_start=random_start, bounds=bounds, generator=generator,
    )  # fmt: skip


def _climb(
    model: Model,
    x: Tensor,
    *,
    eps: float,
    y: Tensor | None,
    steps: int,
    step_size: float | None,
    path: float,  # total length of all steps in units of eps, used when no step size is given
    decay: float,  # 0 means no momentum
    norm: str,
    loss: Loss,
    random_start: bool,
    bounds: Bounds,
    generator: torch.Generator | None,
) -> Tensor:
    """Run the loop that all attacks share: gradient, momentum, step, project, clip."""
    eps, decay = as_number("eps", eps), as_number("decay", decay)
    _check_steps(steps, step_size)
    step_size = path * eps / steps if step_size is None else as_number("step_size", step_size)
    _check_choices(norm, loss, random_start, generator)
    check_batch("x", x)
    low, high = check_box(x, bounds, eps, norm)
    _check_labels(x, y, loss)
    ball = BALLS[norm]

    with evaluating(model):
        x = x.detach()
        criterion = None
        if eps == 0 or (random_start and (y is None or loss != "cross_entropy")):  # else the first step does this
            criterion = _criterion(loss, y, outputs_of(model, x))
        if eps == 0:
            return torch.zeros_like(x)

        delta = torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32))  # (N, ...)
        least, most = low - x, high - x
        if random_start:
            generator = generator or torch.Generator().manual_seed(0)
            delta.add_(ball.draw(x.shape, generator).to(delta), alpha=eps).clamp_(least, most)
        momentum = torch.zeros_like(delta) if decay else None
        moved = torch.zeros(len(x), dtype=torch.bool, device=x.device)

        for _ in range(steps):
            leaf = (x + delta).to(x.dtype).requires_grad_()
            with torch.enable_grad():
                outputs = outputs_of(model, leaf)  # (N, d)
                criterion = criterion or _criterion(loss, y, outputs.detach())
                losses = criterion(outputs)
                grad = _gradient(losses, leaf).to(delta.dtype)
            ascent, useful = _rescaled(grad)
            if momentum is not None:
                ascent = momentum.mul_(decay).add_(ascent.div_(_sums(ascent.abs()).clamp_(min=1)))
            delta.add_(ball.direction(ascent), alpha=step_size)
            ball.project_(delta, eps)
            delta.clamp_(least, most)  # the box contains x, so clipping only shortens δ, which stays in the ball
            moved |= useful

        if not moved.all():
            saturated = losses.detach() == 0 if loss == "cross_entropy" else torch.zeros_like(moved)
            reasons = _reasons(~moved, ~grad.flatten(1).isfinite().all(1), saturated, outputs.shape[1], loss)
            start = " and not the random start" if random_start else ""
            message = f"{int((~moved).sum())} of {len(x)} rows did not move, so their δ is 0{start}: {reasons}"
            warnings.warn(message, NoGradientWarning, stacklevel=3)
        return fitted(delta, x, eps, norm, low, high).masked_fill_(~moved.view(-1, *[1] * (x.ndim - 1)), 0)


def _reasons(stuck: Tensor, broken: Tensor, saturated: Tensor, outputs: int, loss: Loss) -> str:
    """Why rows did not move, from masks (N,): rows that are stuck, have no finite gradient, and have a loss of 0."""
    if loss == "cross_entropy" and outputs == 1:
        return "the cross-entropy of one output is constant; use loss='deviation'"
    kinds = {
        "have a gradient that is NaN or infinite": broken,
        "are saturated, with a cross-entropy of exactly 0; use loss='deviation', or divide the logits": saturated,
        "have a gradient of 0": torch.ones_like(stuck),
    }
    parts = []
    for what, rows in kinds.items():
        if count := int((stuck & rows).sum()):
            parts.append(f"{count} {what}")
        stuck = stuck & ~rows
    return "; ".join(parts)


def _sums(v: Tensor) -> Tensor:
    """Sums of the rows of `v`, as (N, 1, ...)."""
    return v.sum(tuple(range(1, v.ndim)), keepdim=True)


def _rescaled(grad: Tensor) -> tuple[Tensor, Tensor]:
    """Rescale each row of `grad` so that its largest entry is 1, and say which rows are of use.

    Without rescaling, the squares of tiny values would underflow. A row that is zero or not finite is of no use and is
    set to zero, so that the sample stays where it is.
    """
    peak = grad.abs().amax(tuple(range(1, grad.ndim)), keepdim=True)  # vector_norm(inf) takes 20 times as long
    useful = (peak > 0) & (peak < math.inf)
    return grad.div(torch.where(useful, peak, math.inf)).nan_to_num_(0), useful.flatten()  # inf / inf is NaN


# The losses.


def _criterion(loss: Loss, y: Tensor | None, clean: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function that maps outputs (N, d) to losses (N,).

    `clean` (N, d) holds the outputs for the clean samples. If labels are given, only the shape of `clean` matters, so
    it may hold the outputs for other samples.
    """
    check_batch("model outputs", clean)
    y = None if y is None else y.long()  # unsigned types have no minimum
    if y is not None and not 0 <= int(y.min()) <= int(y.max()) < clean.shape[1]:
        spans = f"[{int(y.min())}, {int(y.max())}]"
        raise ValueError(
            f"y spans {spans}; expected labels in [0, {clean.shape[1] - 1}], the numbers of the model's outputs"
        )

    if loss == "cross_entropy":
        labels = clean.argmax(dim=1) if y is None else y.clone()  # the clone is not an inference tensor
        return lambda outputs: F.cross_entropy(outputs, labels, reduction="none")
    if loss == "deviation":
        return lambda outputs: norms(outputs - clean).squeeze(1)
    assert callable(loss)
    return lambda outputs: loss(outputs, clean)


def _gradient(losses: Tensor, leaf: Tensor) -> Tensor:
    """Gradients of the rows' losses with respect to `leaf`; no other gradients are computed."""
    if losses.shape != (len(leaf),):
        raise ValueError(f"the loss has shape {tuple(losses.shape)}; expected one value per row, ({len(leaf)},)")
    # The weights of the last layer may make the loss require a gradient, even if `leaf` is cut off from it.
    gradient = torch.autograd.grad(losses.sum(), leaf, allow_unused=True)[0] if losses.requires_grad else None
    if gradient is None:
        raise ValueError("the loss does not depend on x; expected a model and a loss that autograd can follow")
    return gradient


# Checks of the arguments.


def _check_steps(steps: int, step_size: float | None) -> None:
    as_count("steps", steps)
    if step_size is not None and as_number("step_size", step_size) == 0:
        raise ValueError("step_size is 0; expected a number above 0")


def _check_choices(norm: str, loss: Loss, random_start: bool, generator: torch.Generator | None) -> None:
    if norm not in BALLS:
        raise ValueError(f"norm is {norm!r}; expected one of {', '.join(map(repr, BALLS))}")
    if loss not in ("cross_entropy", "deviation") and not callable(loss):
        raise ValueError(f"loss is {loss!r}; expected 'cross_entropy', 'deviation' or a callable")
    if loss == "deviation" and not random_start:
        raise ValueError("loss='deviation' has no gradient at δ = 0; expected random_start=True")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator is {generator!r}; expected a torch.Generator")


def _check_labels(x: Tensor, y: Tensor | None, loss: Loss) -> None:
    if y is None:
        return
    if loss != "cross_entropy":
        raise ValueError(f"y is given with loss={loss!r}; expected y=None, since only 'cross_entropy' uses labels")
    if not isinstance(y, Tensor) or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        given = y.dtype if isinstance(y, Tensor) else type(y).__name__
        raise TypeError(f"y is {given}; expected a tensor of integer labels")
    if y.shape != (len(x),):
        raise ValueError(f"y has shape {tuple(y.shape)}; expected ({len(x)},), one label per sample")
