"""What the conclusion depends on: the attack and its parameters (Table 5), and points where text and code disagree.

The models are those of Table 1, trained with the same config. Every setting of the attack is evaluated on the target
model and on the sources, T→S. Every point of the protocol is switched alone, and the experiment is measured again.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field
from torch import Tensor

from advtransfer import attacks, metrics, spectral
from advtransfer.experiments import conclusions, evaluation, protocol, vision
from advtransfer.experiments.protocol import files, required
from advtransfer.modes import Model
from advtransfer.records.configs import Epsilon
from advtransfer.records.record import Arrays, Tables
from advtransfer.records.runs import recorded

__all__ = ["SAMPLE_AXES", "TABLES", "Config", "derive", "files", "required", "run"]

Study = Literal["table5", "attack", "eps", "steps", "start", "loss", "temperature", "protocol"]
IN_ONE_BALL = ("PGD, ℓ2", "singular vector, ℓ2")
"""Two attacks in the ℓ2 ball of radius 1."""
SWITCHES = ("as the run", "BatchNorm", "checkpoint", "attack loss", "samples")
"""The points of the protocol that are switched, one at a time. (Whether α is squared needs no new measurement.)"""

SAMPLE_AXES = {
    "index": 0,
    "deviations": 2,
    **{f"switch{k}_{name}": axis for k in range(len(SWITCHES)) for name, axis in (("index", 0), ("deviations", 2))},
}
"""The arrays of which a published record may keep only some samples, and the axis of their samples."""

LOSSES = {"transfer_loss": "index", **{f"switch{k}_transfer_loss": f"switch{k}_index" for k in range(len(SWITCHES))}}
"""The losses over all test images, of which a published record keeps those at the attacked ones, and NaN elsewhere."""

TABLES = ("curves", "claims")
"""The tables of a record."""


class Config(vision.Config):
    """The ablations: the experiment of Table 1, and what to vary in it."""

    PROFILES: ClassVar = {
        "smoke": protocol.SMOKE
        | {"architectures": ("fully_connected", "lenet", "resnet18"), "radii": (1 / 255, 8 / 255), "counts": (1, 3)},
        "quick": {
            "samples": 60,
            "gradients": 10,
            "radii": tuple(k / 255 for k in (1, 4, 16, 32)),
            "counts": (1, 5, 20),
        },
        "paper": protocol.PAPER | {"samples": 1000},
    }

    attack: Literal["pgd"] = Field("pgd", description="pgd; the studies compare it with others")
    norm: Literal["linf"] = Field("linf", description="linf; the studies also have l2")
    studies: tuple[Study, ...] = Field(get_args(Study), min_length=1, description="what to vary")
    radii: tuple[Annotated[Epsilon, AfterValidator(protocol.pixel_radius)], ...] = Field(
        tuple(k / 255 for k in (1, 2, 4, 8, 16, 32)), min_length=1, description="the radii to try"
    )
    counts: tuple[Annotated[int, Field(ge=1, le=10_000)], ...] = Field(
        (1, 2, 5, 10, 20), min_length=1, description="the numbers of steps n to try, each step 2.5 eps / n long"
    )
    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.1, 1.0, 10.0, 100.0), min_length=1, description="what to divide the attacked logits by"
    )


class Setting(NamedTuple):
    """One way to attack."""

    study: Study
    label: str
    value: float
    """What varies, as a number: the position at which it is drawn."""
    attack: metrics.Attack


def settings(config: Config) -> list[Setting]:
    """Every way to attack that the studies of `config` ask for, in their order."""
    start = config.attack_loss == "deviation"  # which has no gradient at the image itself
    other = partial(protocol.climbing, config, eps=config.eps, loss=config.attack_loss, random_start=start)
    pgd = partial(protocol.attack_of, config)
    mi, fgsm = other(attacks.mi_fgsm, steps=config.attack_steps), other(attacks.fgsm)
    l2 = pgd(eps=1.0, norm="l2", step_size=None)

    def radius(eps: float) -> metrics.Attack:
        return pgd(eps=eps, step_size=config.step_size * eps)

    table: dict[Study, list[tuple[str, float, metrics.Attack]]] = {
        "table5": [
            ("pgd eps=2/255", 0, radius(2 / 255)),
            ("pgd eps=4/255", 1, radius(4 / 255)),
            ("mi", 2, mi),
            ("pgd-l2 eps=1", 3, l2),
        ],
        "attack": [
            ("FGSM", 0, fgsm),
            ("PGD", 1, pgd()),
            ("MI-FGSM", 2, mi),
            (IN_ONE_BALL[0], 3, l2),
            (IN_ONE_BALL[1], 4, partial(spectral.first_attack, eps=1.0)),
        ],
        "eps": [(f"{255 * eps:g}/255", 255 * eps, radius(eps)) for eps in config.radii],
        "steps": [(str(n), n, pgd(steps=n, step_size=None)) for n in config.counts],
        "start": [
            ("random", 0, pgd(loss="cross_entropy")),
            ("the image", 1, pgd(loss="cross_entropy", random_start=False)),
        ],
        "loss": [("cross-entropy", 0, pgd(loss="cross_entropy")), ("deviation", 1, pgd(loss="deviation"))],
        "temperature": [(f"{t:g}", t, _tempered(pgd(), t)) for t in config.temperatures],
    }
    return [Setting(study, *each) for study in config.studies for each in table.get(study, [])]


def _tempered(attack: metrics.Attack, temperature: float) -> metrics.Attack:
    """An attack that sees logits divided by a temperature, which softens saturated outputs."""

    def cooled(model: Model) -> Callable[[Tensor], Tensor]:
        return lambda x: model(x) / temperature

    return lambda model, x: attack(cooled(model), x)


def switched(config: Config) -> list[Config]:
    """The config itself, and copies in which one point of the protocol is switched, in the order of `SWITCHES`."""
    changes: list[dict[str, Any]] = [
        {},
        {"batchnorm_adapts": not config.batchnorm_adapts},
        {"checkpoint": "best" if config.checkpoint == "last" else "last"},
        {"attack_loss": "deviation" if config.attack_loss == "cross_entropy" else "cross_entropy"},
        {"only_correct": not config.only_correct},
    ]
    return [config.model_copy(update=change) for change in changes]


@recorded
def run(config: Config) -> tuple[Tables, Arrays]:
    """Train, and measure every setting and every switch. `derive` computes the tables from the arrays.

    ``deviations`` (settings, 1 + 2S, N, d) holds, for each setting, the target model's own deviation, each source's
    under the target's attack, and each source's under its own. ``switchK_…`` are the arrays of `vision.measured` for
    switch number K.
    """
    data = vision.loaded(config)
    models = vision.trained(config, data)
    base = vision.measured(config, data, models, star=True)
    arrays = {name: base[name] for name in ("kept", "transfer_right", "transfer_loss", "index")}
    if asked := settings(config):
        ready = evaluation.prepared(models.target, models.sources)
        x = data.target.x_test[base["index"]]
        star = evaluation.star(len(ready))
        each = [evaluation.deviations(ready, x, setting.attack, star) for setting in asked]
        arrays["deviations"] = np.stack([_flat(kept) for kept in each])
    if "protocol" in config.studies:
        for k, other in enumerate(switched(config)):
            own = models if other.checkpoint == config.checkpoint else vision.trained(other, data)
            measured = base if other == config else vision.measured(other, data, own, star=True)
            arrays |= {f"switch{k}_{name}": array for name, array in measured.items()}
    return derive(config, arrays), arrays


def _flat(kept: np.ndarray) -> np.ndarray:
    """From (K, K, N, d), where only the pairs of `evaluation.star` are filled, to (1 + 2S, N, d)."""
    places = range(1, len(kept))
    return np.stack([kept[0, 0], *(kept[0, j] for j in places), *(kept[j, j] for j in places)])


def _starred(flat: np.ndarray) -> np.ndarray:
    """The inverse of `_flat`."""
    size = (len(flat) + 1) // 2
    kept = np.zeros((size, size, *flat.shape[1:]), flat.dtype)
    kept[0, 0] = flat[0]
    for j in range(1, size):
        kept[0, j], kept[j, j] = flat[j], flat[size - 1 + j]
    return kept


def derive(config: Config, arrays: Arrays) -> Tables:
    """The tables of a record from its arrays alone.

    They are ``curves`` (the metrics of each source under each setting, with the Pearson score over samples) and
    ``claims`` (the correlations over sources of accuracy after transfer with each metric, for each setting and each
    switch of the protocol).
    """
    names = [name for name, kept in zip(config.architectures, arrays["kept"], strict=True) if kept]
    accuracy = [evaluation.accuracy("transfer_accuracy", right) for right in arrays["transfer_right"]]
    losses = arrays["transfer_loss"].astype(float)[:, arrays["index"]]
    curves, claims = [], []
    for setting, flat in zip(settings(config), arrays.get("deviations", ()), strict=True):
        own = {"deviations": _starred(flat)}
        about = {"study": setting.study, "setting": setting.label, "value": float(setting.value)}
        rows: list[dict[str, Any]] = [
            {
                **about,
                "architecture": name,
                **accuracy[place],
                **evaluation.metric_columns(own, 0, 1 + place),
                "pearson": conclusions.correlation(evaluation.alpha1(own, 0, 1 + place), losses[place], resamples=99).r,
            }
            for place, name in enumerate(names)
        ]
        curves += rows
        claims.append(_claims(pd.DataFrame(rows), about, [row["pearson"] for row in rows]))
    if "protocol" in config.studies:
        for k, (label, other) in enumerate(zip(SWITCHES, switched(config), strict=True)):
            prefix = f"switch{k}_"
            own = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
            tables = vision.derive(other, own)
            pearson = tables["samples"].query("method == 'pearson'")["r"].tolist()
            about = {"study": "protocol", "setting": label, "value": float(k)}
            claims.append(_claims(tables["sources"], about, pearson))
    columns = ["study", "setting", "value", "architecture"]
    return {
        "curves": pd.DataFrame(curves) if curves else pd.DataFrame({name: pd.Series(dtype=str) for name in columns}),
        "claims": pd.concat(claims, ignore_index=True),
    }


def _claims(sources: pd.DataFrame, about: dict[str, Any], pearson: list[float]) -> pd.DataFrame:
    """Correlations over sources of accuracy after transfer with each metric, squared and not; scores over samples.

    `pearson` has one score per source; the table holds their mean and their range.
    """
    over_samples = {
        "pearson_samples": np.mean(pearson),
        "pearson_samples_low": np.min(pearson),
        "pearson_samples_high": np.max(pearson),
    }
    table, rows = conclusions.squared(sources), []
    for metric in (*conclusions.METRICS, *conclusions.SQUARES):
        found = conclusions.correlation(table[metric], table["transfer_accuracy"], resamples=499)
        rows.append({**about, "metric": metric, **found._asdict(), **over_samples})
    return pd.DataFrame(rows)
