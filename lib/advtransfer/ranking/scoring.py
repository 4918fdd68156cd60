"""Rank a pool of candidates for a target: scores with floor, interval and cost, α in both directions, and the truth."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from advtransfer import intervals, matching, metrics, scores
from advtransfer.checks import expected_radius
from advtransfer.names import one_line, unknown
from advtransfer.ranking import image_target, text_target
from advtransfer.ranking.data import Labelled
from advtransfer.ranking.encoder import FAILURES, Encoder, EncoderError
from advtransfer.ranking.labels import scarce, stratified
from advtransfer.ranking.measure import Arrays, Drawn, Settings, Target, measure
from advtransfer.ranking.text_encoder import TextEncoder
from advtransfer.ranking.texts import LabelledTexts
from advtransfer.ranking.trial import check_kinds, cut, failing, none_left, seen_before

Function = Callable[[Tensor, Tensor], float]


@dataclass(frozen=True)
class Score:
    """A score of `advtransfer.scores`: which of a candidate's arrays it reads, and how often it is drawn."""

    function: Function
    reads: str  # "features", "probabilities" or "answers"
    subsamples: int = 50
    permutations: int = 20


SCORES: dict[str, Score] = {
    "LogME": Score(scores.logme, "features"),
    "H-score": Score(scores.h_score, "features"),
    "TransRate": Score(scores.transrate, "features"),
    "GBC": Score(scores.gbc, "features"),
    "LEEP": Score(scores.leep, "probabilities"),
    "NCE": Score(scores.nce, "answers"),
    "N-LEEP": Score(scores.n_leep, "features", 10, 5),
    "PARC": Score(scores.parc, "features", 20, 10),
    "1-NN": Score(scores.knn, "features"),
    "probe": Score(scores.probe, "features", 10, 5),
    "CKA": Score(scores.cka, "features"),
}
"""The field's scores. All look at labels, except for CKA, which looks at the target model's features. "probe" is
cross-validated on the labelled images, and is the baseline to beat."""
ALPHAS = ("alpha1", "alpha2", "alpha12", "back_alpha1", "back_alpha2", "back_alpha12")
"""α of the target model's attack on the candidate (T→S), and of the candidate's attack on the target model (S→T)."""
NAMES = (*SCORES, *ALPHAS, "distance")
WITH_TARGET_MODEL = ("CKA", *ALPHAS, "distance")
"""The scores that compare a candidate with a model of the target."""
FOLDS = 5  # of the cross-validated probe, each of which needs every class
SHARES = ("1-NN", "probe")  # shares of samples: their intervals end at 0 and 1
SMALLER_IS_BETTER = ("distance",)


Scored = tuple[dict[str, Any], Tensor]  # a row of the table, and the values drawn


@dataclass(frozen=True, eq=False)
class Ranking:
    """What is known about a pool of candidates for a target.

    Attributes
    ----------
    candidates : DataFrame
        A row per candidate: name, parameters, size of the images (for texts the largest number of tokens), width of the
        features, number of outputs, seconds, ‖Δ_SS‖ (``own_deviation``: the mean deviation under its own attack over
        the spread of its outputs), and, where the truth was asked for, ``accuracy`` on the target's test samples with
        Wilson's 95% interval.
    scores : DataFrame
        A row per candidate and score: ``value``, ``low`` and ``high``, ``floor`` (the value for labels or
        directions that mean nothing) and ``floor_high``, ``seconds``, and ``labels``, how many target labels were used.
    draws : DataFrame
        For each candidate and score, the values on the same random subsets: two candidates differ if these do.
    left_out : DataFrame
        A row per candidate or file that could not be used: ``name`` and ``reason``.
    target : dict
        The target's name, classes, numbers of images or texts, height and width of the images (0 for texts), and the
        accuracy of its own model: NaN if that has other classes, or if no score needs it.
    """

    candidates: pd.DataFrame
    scores: pd.DataFrame
    draws: pd.DataFrame
    left_out: pd.DataFrame
    target: dict[str, Any]

    def wide(self) -> pd.DataFrame:
        """A row per candidate and a column per score, the one with the best mean rank first."""
        table = self.scores.set_index(["candidate", "score"])["value"].unstack()  # noqa: PD010 - nothing is aggregated
        table = table[[name for name in NAMES if name in table]]
        signed = table.assign(**{name: -table[name] for name in SMALLER_IS_BETTER if name in table})
        order = signed.rank(ascending=False).mean(axis=1).sort_values(kind="stable").index
        kept = self.candidates.set_index("candidate")
        about = [name for name in ("accuracy",) if name in kept]
        return pd.concat([kept[about], table], axis=1).loc[order].reset_index(names="candidate")


def score(
    pool: Mapping[str, Encoder] | Mapping[str, TextEncoder],
    data: Labelled | LabelledTexts,
    *,
    target: Encoder | TextEncoder | None = None,
    only: Sequence[str] = NAMES,
    keep: Callable[[str, str, Callable[[], Arrays]], Arrays] | None = None,
    progress: bool = False,
    **settings: Any,
) -> Ranking:
    """Measure every candidate of a pool on a target, and score it.

    The target model and each candidate are attacked once: a pool of K candidates takes K + 1 attacks. Where `only` has
    none of `WITH_TARGET_MODEL`, there is no target model and no attack.

    Parameters
    ----------
    pool
        Candidates by name, all of images or all of texts.
    data
        The target's labelled images or texts (`advtransfer.ranking.from_tensors`, `from_texts`, `load`).
    target
        A model of the target. By default a small one is trained on the target's data alone, the naive target model: a
        ResNet18; or, for texts, a BERT of one layer on the word embeddings that most candidates share. For candidates
        with other word embeddings α and the distance are NaN, with a note that says why.
    only
        Which of `NAMES` to compute.
    keep
        Called as ``keep(name, what, compute)`` for each candidate and each of "features", "attack" and "truth"; may
        return what ``compute()`` returned before.
    progress
        Show a progress bar.
    **settings
        ``labels`` (500 labelled samples for the scores), ``samples`` (60 attacked test samples), ``gradients`` (20 of
        them whose Jacobians are matched), ``outputs`` (10 directions of the outputs that are matched), ``eps`` (0.1,
        in units of the pixels; for texts the ℓ2 radius over all words, in mean lengths of a word's vector), ``steps``
        (5), ``truth`` ("probe": a linear classifier on frozen features, trained on all of the target's training
        samples and judged by its test samples; "full": all weights; "none"), ``full_epochs`` (5), ``target_epochs``
        (20), and ``seed`` (0).

    Raises
    ------
    ValueError
        A setting or a name of a score that is unknown, candidates that read images where the data are texts, or
        the reverse, or no candidate that can be used. It is raised before the target model is trained: each model is
        tried on two samples.
    """
    check_kinds(pool, data, target)
    if not pool:
        raise ValueError("the pool is empty; expected at least one candidate")
    if isinstance(only, str):
        raise ValueError(f"only is {only!r}; expected a list of scores, such as [{only!r}]")
    for name in only:
        if name not in NAMES:
            raise ValueError(unknown("score", name, NAMES))
    for name in settings:
        if name in ELSEWHERE:
            raise ValueError(f"{name} is no setting of score; expected it in {ELSEWHERE[name]}")
        if name not in Settings.__dataclass_fields__:
            raise ValueError(unknown("setting", name, Settings.__dataclass_fields__))
    chosen = Settings(**settings)
    if not isinstance(data, LabelledTexts) and (instead := expected_radius(chosen.eps, "linf", 1.0, 1)):
        raise ValueError(f"eps is {chosen.eps:g}; expected {instead}")
    compared = bool({*only} & {*WITH_TARGET_MODEL})
    useless = failing(pool, data, attacked=compared)
    if len(useless) == len(pool):
        raise ValueError(none_left(useless))
    for name, why in useless.items() if progress else ():
        tqdm.write(f"left out: {name}: {why}", file=sys.stderr)
    for why in failing({"": target}, data).values() if target is not None else ():
        raise EncoderError(f"the target model: {why}")
    able = {name: encoder for name, encoder in pool.items() if name not in useless}
    for line in [*_too_few(data, only, chosen), *cut(able, data), *seen_before(data)] if progress else ():
        tqdm.write(line, file=sys.stderr)
    task = _task(able, data, chosen, target) if compared else Drawn(data, chosen)
    tuned: Any = text_target.tuned if isinstance(data, LabelledTexts) else image_target.tuned
    found: dict[str, Arrays] = {}
    for name, encoder in tqdm(able.items(), "candidates measured", disable=None if progress else True):
        try:
            kept = {"keep": partial(keep, name)} if keep else {}
            found[name] = measure(encoder, task, tuned=tuned, **kept)
        except FAILURES as error:
            useless[name] = one_line(error)
    if not found:
        raise ValueError(none_left(useless))
    rows, draws = [], []
    for name, arrays in tqdm(found.items(), "candidates scored", disable=None if progress else True):
        for row, drawn in _scored(arrays, task, only, chosen):
            rows.append({"candidate": name, **row})
            draws += [
                {"candidate": name, "score": row["score"], "draw": k, "value": v} for k, v in enumerate(drawn.tolist())
            ]
    left_out = [(line.partition(": ")[0], line.partition(": ")[2]) for line in data.left_out] + list(useless.items())
    sizes = (0, 0) if isinstance(data, LabelledTexts) else data.x_train.shape[2:]
    own = {"accuracy": float("nan"), "seconds": 0.0}
    if isinstance(task, Target):
        own = {"accuracy": task.accuracy(), "seconds": task.seconds}
    told = {
        "name": data.name, "classes": len(data.classes), "train": len(data.y_train), "test": len(data.y_test),
        "height": sizes[0], "width": sizes[1], **own,
    }  # fmt: skip
    return Ranking(
        pd.DataFrame([{"candidate": name, **_about(pool[name], arrays)} for name, arrays in found.items()]),
        pd.DataFrame(rows),
        pd.DataFrame(draws, columns=["candidate", "score", "draw", "value"]),
        pd.DataFrame(left_out, columns=["name", "reason"]),
        told,
    )


ELSEWHERE = {"size": "ranking.load(folder, size=...)", "truth_samples": "the method fewer of the data"}


def _too_few(data: Labelled | LabelledTexts, only: Sequence[str], settings: Settings) -> list[str]:
    """A line if a class has too few labelled samples for the cross-validated probe."""
    few = data.y_train[stratified(data.y_train, settings.labels, settings.seed_of("labels"))]
    short = scarce(few, data.classes, FOLDS) if "probe" in only else {}
    shown = ", ".join(f"{name} ({count})" for name, count in list(short.items())[:5])
    more = f" and {len(short) - 5} more" if len(short) > 5 else ""
    return [f"no cross-validated probe: it needs {FOLDS} labels of each class; fewer: {shown}{more}"] if short else []


def _task(pool: Any, data: Any, settings: Settings, model: Any) -> Target:
    if isinstance(data, LabelledTexts):
        return text_target.TextTarget(data, settings, pool, model)
    return image_target.ImageTarget(data, settings, model)


def _about(encoder: Encoder | TextEncoder, arrays: Arrays) -> dict[str, Any]:
    spread = np.linalg.norm(arrays["outputs"] - arrays["outputs"].mean(0), axis=1)
    own = np.linalg.norm(arrays.get("d11", np.full((1, 1), np.nan)), axis=1)
    row: dict[str, Any] = {
        "parameters": int(arrays["parameters"]),
        "size": encoder.size or 0,
        "features": arrays["features"].shape[1],
        "outputs": arrays["outputs"].shape[1],
        "own_deviation": float(own.mean() / np.sqrt((spread**2).mean())) if spread.any() else float("nan"),
    }
    if "right" in arrays:
        right = arrays["right"]
        low, high = stats.binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
        row |= {"accuracy": float(right.mean()), "accuracy_low": float(low), "accuracy_high": float(high)}
    return row | {key: float(arrays[key]) for key in arrays if key.startswith("seconds_")}


def _scored(
    arrays: Arrays, drawn: Drawn, only: Sequence[str], settings: Settings
) -> list[tuple[dict[str, Any], Tensor]]:
    """A row and the drawn values of each score of one candidate."""
    found = []
    for name in NAMES:
        if name not in only:
            continue
        if name in SCORES:
            found.append(_estimated(name, arrays, drawn, settings))
        elif "alpha_note" in arrays:
            found.append((_row(name, float("nan"), note=str(arrays["alpha_note"])), torch.empty(0)))
        elif name in ALPHAS:
            found.append(_alpha(name, arrays, settings))
        elif isinstance(drawn, Target):
            found.append(_distance(arrays, drawn.directions))
    return found


def _row(name: str, value: float, **more: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("low", "high", "floor", "floor_high", "seconds"), float("nan"))
    return {"score": name, "value": value, **empty, "labels": 0, "note": "", **more}


def _estimated(name: str, arrays: Arrays, drawn: Drawn, settings: Settings) -> Scored:
    each, note = SCORES[name], ""
    beside = drawn.features if name == "CKA" and isinstance(drawn, Target) else drawn.labels
    estimated = partial(scores.estimate, each.function, permutations=each.permutations, seed=settings.seed)
    try:
        inputs = _inputs(arrays, each.reads)
        try:
            found = estimated(inputs, beside, subsamples=each.subsamples)
        except ValueError as error:  # too few samples for a part of them
            found, note = estimated(inputs, beside, subsamples=0), f"no interval: {error}"
    except ValueError as error:
        return _row(name, float("nan"), note=str(error)), torch.empty(0)
    used = 0 if name == "CKA" else len(drawn.labels)
    low, high = (max(found.low, 0), min(found.high, 1)) if name in SHARES else (found.low, found.high)
    row = _row(name, found.value, low=low, high=high, floor=found.floor, floor_high=found.floor_high,
               seconds=found.seconds, labels=used, note=note)  # fmt: skip
    return row, torch.tensor(found.draws)


def _inputs(arrays: Arrays, reads: str) -> Tensor:
    if reads == "features":
        return torch.from_numpy(arrays["features"]).double()
    if not bool(arrays["classifier"]):
        raise ValueError("needs the probabilities of the candidate's own classes, and it has no head")
    outputs = torch.from_numpy(arrays["outputs"]).double()
    if outputs.shape[1] < 2:
        raise ValueError("needs the probabilities of two classes or more, and the candidate has one output")
    given = bool((outputs >= 0).all()) and bool((outputs.sum(1) - 1).abs().max() < 1e-3)
    probabilities = outputs / outputs.sum(1, keepdim=True) if given else outputs.softmax(1)
    return probabilities.argmax(1) if reads == "answers" else probabilities


def _alpha(name: str, arrays: Arrays, settings: Settings) -> Scored:
    """α with its bootstrap interval.

    The floor of α1 replaces the attack by noise. That of α2 shuffles the directions over the samples; each keeps its
    length, for a long deviation beside a short one of the attacked model would make α1∗α2 as large as one likes.
    """
    back, metric = name.startswith("back_"), name.removeprefix("back_")
    keys = ("d11", "d10", "d00", "noise0") if back else ("d00", "d01", "d11", "noise1")
    d11, d12, d22, noise = (torch.from_numpy(arrays[key]).double() for key in keys)
    place = ("alpha1", "alpha2", "alpha12").index(metric)

    def value(d12: Tensor) -> float:
        found = metrics.from_deviations(d11, d12, d22)
        return float(getattr(found, metric if place == 0 else f"{metric}_unbiased"))

    found = value(d12)
    if not np.isfinite(found):
        note = "the attack on one of the two models does not move its own outputs"
        return _row(name, found, note=note), torch.empty(0)
    generator = torch.Generator().manual_seed(settings.seed_of("resamples"))
    drawn = intervals.resampled(d11, d12, d22, resamples=200, generator=generator)[:, place]
    low, high = torch.quantile(drawn, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    if place == 0:
        floor = floor_high = value(noise)
    else:
        lengths, directions = d12.norm(dim=1, keepdim=True), functional.normalize(d12)
        shuffled = [value(lengths * directions[torch.randperm(len(d12), generator=generator)]) for _ in range(20)]
        floor, floor_high = float(np.mean(shuffled)), float(np.quantile(shuffled, 0.975))
    moved = int((d22 != 0).any(1).sum())
    note = f"from {moved} of {len(d22)} samples: at the others an attack of its own moves nothing"
    row = _row(name, found, low=low, high=high, floor=floor, floor_high=floor_high,
               seconds=float(arrays["seconds_attack"]), note=note if moved < len(d22) else "")  # fmt: skip
    return row, drawn


def _distance(arrays: Arrays, own: int) -> Scored:
    """The distance of the target model's gradient (`own` rows) from the nearest map of the candidate's."""
    gram = torch.from_numpy(arrays["gram"])
    try:
        value = float(matching.distances(gram, [own, len(gram) - own])[0, 1])
    except ValueError as error:
        return _row("distance", float("nan"), note=str(error)), torch.empty(0)
    return _row("distance", value, floor=1.0, seconds=float(arrays["seconds_distance"])), torch.empty(0)
