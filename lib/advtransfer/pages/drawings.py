"""A drawing for each derivation: small models whose every length is computed by the library, not drawn by hand."""

import math
from collections.abc import Callable

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from advtransfer import concentration, matching, metrics, spectral
from advtransfer.models.mlp import tanh_network
from advtransfer.pages import layout, tables
from advtransfer.pages.layout import two_widths
from advtransfer.pages.plots import COLOURS

OWN, OTHER, MATCH = COLOURS["other"], COLOURS["alpha1"], COLOURS["distance"]
JAC_A = torch.tensor([[0.7, 1.1], [-0.2, 0.6]], dtype=torch.float64)
JAC_B = torch.tensor([[0.9, -0.5], [0.5, 0.9]], dtype=torch.float64) @ torch.diag(torch.tensor([1.5, 0.8])).double()
ANGLE = torch.linspace(0, 2 * math.pi, 181, dtype=torch.float64)
CIRCLE = torch.stack([ANGLE.cos(), ANGLE.sin()], 1)


@two_widths
def two_metrics() -> Figure:
    """Two linear models of two inputs: the strongest attack on each, and what both do to model b."""
    strongest = [spectral.singular_attacks(jac[None], k=1).delta[0, 0] for jac in (JAC_A, JAC_B)]
    found = metrics.from_jacobians(JAC_A[None], JAC_B[None])
    drawn, ((left, right),) = layout.panels(1, 2, size=(7.4, 3.3))
    left.plot(*CIRCLE.T, color="#bbbbbb")
    right.plot(*(CIRCLE @ JAC_B.T).T, color="#bbbbbb")
    for delta, colour, name in zip(strongest, (OTHER, OWN), ("a", "b"), strict=True):
        delta = delta * delta[0].sign()  # of the two signs, the one that points to the right
        _arrow(left, delta, colour, rf"$\delta_{name}$")
        _arrow(right, JAC_B @ delta, colour, rf"$\Delta_{{{name}b}}$")
    left.set_title("Inputs: the strongest attacks of length 1")
    right.set_title(rf"Outputs of b: $\alpha_1(x)$ = blue / grey = {tables.number(found.alpha1)}")
    return drawn


@two_widths
def small_epsilon() -> Figure:
    """How far the best attack moves a network at growing radius, and the line that its limit draws."""
    generator = torch.Generator().manual_seed(3)
    model, x = tanh_network([2, 20, 2], generator), torch.zeros(1, 2, dtype=torch.float64)
    sigma = spectral.singular_attacks(spectral.jacobian(model, x), k=1).sigma[0, 0]
    radii = torch.linspace(0, 2, 60, dtype=torch.float64)
    moved = torch.stack([(model(x + eps * CIRCLE) - model(x)).norm(dim=1).max() for eps in radii]).detach()
    drawn, ((axis,),) = layout.panels(size=(5.6, 3.2))
    axis.plot(radii, radii * sigma, "--", color=OWN, label=r"$\varepsilon\,\sigma^{(1)}$, the limit")
    axis.plot(radii, moved, color=OTHER, label="the best attack of that radius")
    axis.set(xlabel=r"radius $\varepsilon$", ylabel="how far the outputs move", xlim=(0, 2), ylim=(0, None))
    axis.set_title("For small radii an attack is a singular vector")
    axis.legend(loc="upper left")
    return drawn


@two_widths
def gradient_matching() -> Figure:
    """What model a does to all directions, and the nearest that a linear map of one output of model b can do."""
    one_output = JAC_B[1:]
    found = matching.gradient_matching(JAC_A[None], one_output[None])
    near = found.weight @ one_output
    drawn, ((axis,),) = layout.panels(size=(5.6, 3.2))
    ours, theirs = CIRCLE @ JAC_A.T, CIRCLE @ near.T
    for start, end in zip(ours[::12], theirs[::12], strict=True):
        axis.plot(*torch.stack([start, end]).T, color=MATCH, lw=1)
    axis.plot(*ours.T, color=OTHER, label=r"$J_a$ of the unit circle")
    axis.plot(*theirs.T, color=OWN, label=r"the nearest $W J_b$")
    axis.set_aspect("equal")
    axis.set_title(f"Relative distance {tables.number(found.relative)}, the orange lines")
    axis.legend(loc="upper left")
    return drawn


@two_widths
def gradients_to_transfer() -> Figure:
    """Two functions of one input, and the affine map of one that is nearest to the other."""
    x = torch.linspace(-3, 3, 400, dtype=torch.float64)
    target, source = (3 * torch.sigmoid(1.6 * x))[:, None], (torch.tanh(0.9 * (x - 0.8)))[:, None]
    found = matching.function_matching(target, source)
    fitted = source @ found.weight.T + found.bias
    drawn, ((axis,),) = layout.panels(size=(5.6, 3.2))
    axis.plot(x, source[:, 0], color="#bbbbbb", label=r"the source, $f_b$")
    axis.plot(x, target[:, 0], color=OTHER, label=r"the target, $f_a$")
    axis.plot(x, fitted[:, 0], "--", color=OWN, label=r"the nearest $W f_b + c$")
    axis.fill_between(x, target[:, 0], fitted[:, 0], color=MATCH, alpha=0.3, lw=0, label="what is left")
    axis.set(xlabel="input $x$", ylabel="output")
    axis.set_title("A new affine layer on top of the source")
    axis.legend(loc="upper left", fontsize=8.5)
    return drawn


@two_widths
def first_attacks() -> Figure:
    """The share of the first attack in a steep and in a flat gradient, and where the ratio R can lie."""
    generator = torch.Generator().manual_seed(1)
    random = torch.randn(2, 50, 4, 6, generator=generator, dtype=torch.float64)
    jac_b = random[0]
    drawn, (axes,) = layout.panels(1, 2, size=(7.4, 2.6), sharex=True)
    for axis, fall, words in zip(
        axes, (0.2, 0.8), ("Steep: the first attack says much", "Flat: it says little"), strict=True
    ):
        scale = torch.diag(fall ** torch.arange(4, dtype=torch.float64))
        basis, _, rest = torch.linalg.svd(jac_b + 0.5 * random[1], full_matrices=False)
        jac_a = basis @ scale @ rest
        found = matching.theorem_ratio(jac_a, jac_b)
        half = (1 - found.rho) ** 0.5
        low, high = max(0, found.ratio_first**0.5 - half) ** 2, min(1, found.ratio_first**0.5 + half) ** 2
        axis.barh([1], [found.rho], height=0.5, color=OTHER)
        axis.hlines([0], low, high, color=OWN, lw=3)
        axis.plot([found.ratio], [0], "o", color=MATCH, ms=9)
        axis.annotate("R", (found.ratio, 0.16), color=MATCH, ha="center", fontsize=11)
        axis.set(title=words, xlim=(0, 1.02), ylim=(-0.5, 1.5))
    axes[0].set_yticks([1, 0], ["share of the\nfirst attack, ρ", "where R can lie"])
    axes[1].set_yticks([1, 0], ["", ""])
    return drawn


@two_widths
def how_many_samples() -> Figure:
    """The half-width that N samples guarantee, for the metrics that have a guarantee."""
    drawn, ((axis,),) = layout.panels(size=(5.6, 3.2))
    samples = [round(10 ** (k / 4)) for k in range(8, 21)]
    lines: dict[concentration.Metric, tuple[str, str]] = {
        "alpha2": (r"$\alpha_2$", COLOURS["alpha2"]),
        "alpha1": (r"$\alpha_1$ with exact attacks, and the level of the median", COLOURS["alpha1"]),
    }
    for metric, (name, colour) in lines.items():
        widths = [concentration.guaranteed_half_width(n, metric=metric) for n in samples]
        axis.loglog(samples, widths, color=colour, label=name)
    axis.set(xlabel="number of inputs $N$", ylabel="half-width with 95% confidence")
    axis.set_title("Four times as many inputs halve the error")
    axis.legend(fontsize=8.5)
    return drawn


def _arrow(axis: Axes, end: Tensor, colour: str, name: str) -> None:
    axis.annotate("", tuple(end.tolist()), (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2.4})
    axis.annotate(name, tuple((1.13 * end).tolist()), color=colour, ha="center", va="center", fontsize=12)
    axis.set_aspect("equal")
    axis.margins(0.2)


DRAWINGS: dict[str, Callable[[], Figure]] = {
    function.__name__: function
    for function in (
        two_metrics,
        small_epsilon,
        gradient_matching,
        gradients_to_transfer,
        first_attacks,
        how_many_samples,
    )
}
