"""One adversarial example, shown to two networks: what the book is about, in one picture and in ten lines of a page."""

from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from advtransfer import datasets, metrics
from advtransfer.experiments import protocol, similarity, vision
from advtransfer.experiments.protocol import Recipe
from advtransfer.matching import evenly
from advtransfer.models import images
from advtransfer.pages import layout, tables
from advtransfer.pages.plots import COLOURS
from advtransfer.pages.runs import Runs
from advtransfer.prepare import prepare

IMAGES = 64
OWN, CARRIED = COLOURS["other"], COLOURS["alpha1"]


class Pair(NamedTuple):
    """A target model, a source model, and images to attack."""

    target: nn.Module
    source: nn.Module
    x: Tensor
    """Pixels (N, 3, H, W) in [0, 1]."""
    names: tuple[str, str]
    """What the two networks are."""
    classes: tuple[str, ...]
    """The classes of the target model."""


def pair(runs: Runs) -> Pair:
    """The trained target model of this run, its ResNet18, and some test images of the target domain.

    Where the images of the run are not here, small untrained networks and made-up images take their place.
    """
    if runs.record is None:
        return _untrained()
    config = runs.config
    data = vision.loaded(config)
    first, second = protocol.target_recipe(config), protocol.source_recipe(config, "resnet18")
    target, other = protocol.trained(config, first, data.target), protocol.trained(config, second, data.source)
    index = runs.record.arrays["index"]
    x = data.target.x_test[index[evenly(len(index), IMAGES)]] / 255
    return Pair(prepare(target), prepare(other), x, (_name(first), _name(second)), data.target.classes)


def similar(runs: Runs) -> Pair:
    """The same for the page on similar domains: the first target domain, and the source that has learnt 4 animals."""
    if runs.record is None:
        return _untrained()
    domain = runs.config.target_domains[0]
    target, source, data = similarity.pair(runs.config, domain, 4)
    index = runs.record.arrays[f"{domain}_index"]
    x = data.x_test[index[evenly(len(index), IMAGES)]] / 255
    names = f"ResNet18 of the {domain}", "ResNet18 of 4 animals"
    return Pair(prepare(target), prepare(source), x, names, data.classes)


def _untrained() -> Pair:
    made = datasets.generated(seed=0, n_train=10, n_test=IMAGES)
    target, other = (
        images.build(name, width=16, generator=torch.Generator().manual_seed(0)) for name in ("alexnet", "resnet18")
    )
    names = f"untrained {images.LABELS['alexnet']}", f"untrained {images.LABELS['resnet18']}"
    return Pair(prepare(target), prepare(other), made.x_test / 255, names, made.classes)


def _name(recipe: Recipe) -> str:
    return f"{images.LABELS[recipe.architecture]} of width {recipe.width}"


def figure(two: Pair, attack: metrics.Attack, eps: float) -> Figure:
    """An image, the perturbation of the target model, and how far both networks' attacks move the source's outputs.

    Of the images whose α1(x) is in the middle half, it is the one with most contrast. The arrows are exact: two vectors
    span a plane, in which their lengths and their angle can be drawn.
    """
    deviations = metrics.deviations([two.target, two.source], two.x, attack)
    own, carried = (deviations[pair].double() for pair in ((1, 1), (0, 1)))
    ratio = carried.norm(dim=1) / own.norm(dim=1)
    low, high = ratio.nanquantile(0.25), ratio.nanquantile(0.75)
    contrast = two.x.flatten(1).std(dim=1)
    at = int(torch.where((ratio >= low) & (ratio <= high), contrast, -1).argmax())
    x = two.x[at : at + 1]
    delta = attack(two.target, x)
    before, after = (two.classes[int(two.target(z).argmax())] for z in (x, x + delta))
    changed = torch.cat([x, 0.5 + delta / (2 * eps), x + delta])
    titles = f"target model:\n“{before}”", f"a change of\nat most {255 * eps:.0f}/255", f"target model:\n“{after}”"
    return _drawn(changed, titles, carried[at], own[at], float(ratio[at]))


@layout.two_widths
def _drawn(pictures: Tensor, titles: tuple[str, ...], carried: Tensor, own: Tensor, ratio: float) -> Figure:
    drawn, (axes,) = layout.panels(1, 4, size=(7.8, 2.5), narrow=3, widths=(1, 1, 1, 2))
    for axis, picture, title in zip(axes, pictures, titles, strict=False):
        axis.imshow(picture.permute(1, 2, 0).clamp(0, 1), interpolation="nearest")
        axis.set_title(title, fontsize=9.5)
        axis.set_axis_off()
    for axis, sign in zip(axes[:2], "+=", strict=True):
        axis.annotate(sign, (1.06, 0.5), xycoords="axes fraction", ha="center", va="center", fontsize=14)
    _arrows(axes[3], carried, own, ratio)
    return drawn


def _arrows(axis: Axes, carried: Tensor, own: Tensor, ratio: float) -> None:
    """Both deviations of the source's outputs, in the plane that they span."""
    first = own / own.norm()
    along, across = carried @ first, (carried - (carried @ first) * first).norm()
    for end, colour, text in (
        ((float(own.norm()), 0.0), OWN, "under an attack on itself"),
        ((float(along), float(across)), CARRIED, "under the attack on the target model"),
    ):
        axis.annotate(
            "", end, (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2.4, "mutation_scale": 16}
        )
        axis.plot([], [], color=colour, lw=2.4, label=text)
    width, height = float(own.norm()), float(across)
    axis.set(xlim=(min(0, 1.1 * float(along)) - 0.05 * width, 1.12 * max(width, float(along))))
    axis.set(ylim=(-0.25 * max(height, 0.3 * width), 1.3 * max(height, 0.3 * width)), aspect="equal")
    axis.set_title(
        f"How far another network’s outputs move:\n$\\alpha_1(x)$ = {tables.number(ratio)}, blue over grey",
        fontsize=9,
    )
    axis.legend(loc="upper right", fontsize=8.5)
    axis.set_axis_off()
