"""Which models can be used: each is tried on a few samples before the target model is trained."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from advtransfer.modes import evaluating, halved, unsteady
from advtransfer.names import one_line
from advtransfer.ranking.data import Labelled
from advtransfer.ranking.encoder import FAILURES, Encoder, EncoderError
from advtransfer.ranking.text_encoder import TextEncoder
from advtransfer.ranking.texts import LabelledTexts

LOOKED_AT = 200  # texts whose lengths are looked at
MANY = 0.1  # share of texts that is worth a line if they are cut


def check_kinds(pool: Mapping[str, Any], data: Any, target: Any) -> None:
    """Refuse arguments of the wrong type, and models that read images where the data are texts, or the reverse."""
    texts = isinstance(data, LabelledTexts)
    if not isinstance(pool, Mapping):
        raise ValueError(f"the pool is a {type(pool).__name__}; expected models by name, as ranking.read gives them")
    if not isinstance(data, Labelled | LabelledTexts):
        raise ValueError(f"the data are a {type(data).__name__}; expected what ranking.load or from_tensors gives")
    models = {**pool, **({"the target model": target} if target is not None else {})}
    for name, model in models.items():
        if not isinstance(model, Encoder | TextEncoder):
            around = "ranking.TextEncoder(model, tokenizer)" if texts else "ranking.Encoder(model, size=...)"
            whole = ", of a TextClassifier its whole()" if texts and hasattr(model, "whole") else ""
            raise ValueError(f"{name} is a {type(model).__name__}; expected {around} around it{whole}")
    if wrong := [name for name, model in models.items() if isinstance(model, TextEncoder) != texts]:
        read, are = ("images", "texts") if texts else ("texts", "images")
        shown = ", ".join(wrong[:5]) + (" …" if len(wrong) > 5 else "")
        raise ValueError(f"the data {data.name!r} are {are}, and {shown} read {read}; expected models for {are} only")


def failing(pool: Mapping[str, Any], data: Any, *, attacked: bool = True) -> dict[str, str]:
    """Why candidates cannot be used, or attacked, tried on a few samples before the target model is trained."""
    found = {}
    for name, candidate in pool.items():
        try:
            check_steady(candidate, data.x_train[:2])
            if attacked and isinstance(candidate, Encoder):
                check_gradient(candidate, data.x_train[:2])
            if isinstance(candidate, TextEncoder):
                check_padding(candidate, data.x_train)
        except EncoderError as error:
            found[name] = str(error)
    return found


def check_steady(candidate: Encoder | TextEncoder, x: Any) -> None:
    """Raise unless two passes give a sample the same outputs and features, and an image those beside other images.

    Raises
    ------
    EncoderError
        They do not; or the candidate fails at these samples.
    """
    again: Any = x if isinstance(candidate, TextEncoder) else halved(x)  # `check_padding` has other texts beside one
    for name, first, second in zip(
        ("outputs", "features"), candidate.extract(x), candidate.extract(again), strict=True
    ):
        if why := unsteady(first, second, name):
            raise EncoderError(why)


def check_padding(candidate: TextEncoder, texts: Sequence[str]) -> None:
    """Raise unless the outputs for a text are the same alone and beside a longer one, which pads it on the right.

    Raises
    ------
    EncoderError
        They are not, as in models that read the last position of a batch.
    """
    lengths = candidate.read(texts[:50]).mask.sum(1)
    short, long = texts[int(lengths.argmin())], texts[int(lengths.argmax())]
    alone, beside = candidate.extract([short]), candidate.extract([short, long])
    for one, both in zip(alone, beside, strict=True):
        if not torch.allclose(one[0].double(), both[0].double(), rtol=1e-2, atol=1e-2 * float(one.abs().max() + 1e-6)):
            raise EncoderError(
                "the model gives a text other outputs where a longer one beside it pads it on the right; expected a "
                "model that passes over the padding"
            )


def check_gradient(candidate: Encoder, x: torch.Tensor) -> None:
    """Raise unless a candidate can be prepared for attacks, and has a finite gradient at uint8 images (N, 3, h, w).

    Raises
    ------
    EncoderError
        It cannot, or has none.
    """
    try:
        ready = candidate.prepared()
        with evaluating(ready, gradients=True):
            pixels = (x.to(candidate.mean.device).float() / 255).requires_grad_()
            (gradient,) = torch.autograd.grad(ready(pixels).sum(), pixels)
    except FAILURES as error:
        raise EncoderError(f"the model cannot be attacked: {one_line(error)}") from error
    if not gradient.isfinite().all():
        raise EncoderError("the model cannot be attacked: its gradient is not finite at the first two images")


def cut(pool: Mapping[str, Any], data: Any) -> list[str]:
    """A line for the candidates that cut many texts: how many of them, and at what length."""
    found: dict[tuple[int, int], list[str]] = {}
    some = data.x_train[:LOOKED_AT]
    for name, candidate in pool.items():
        if isinstance(candidate, TextEncoder):
            count = int(candidate.read(some).truncated.sum())
            found.setdefault((count, candidate.max_length), []).append(name)
    return [
        f"{', '.join(names)}: cut {count} of the first {len(some)} texts at {most} tokens; max_length sets how many"
        for (count, most), names in found.items()
        if count > MANY * len(some)
    ]


def seen_before(data: Labelled | LabelledTexts) -> list[str]:
    """A line if test samples are also training samples, on which accuracy after transfer is too high."""
    what = "texts" if isinstance(data, LabelledTexts) else "images"
    known, test = set(_contents(data.x_train)), _contents(data.x_test)
    again = sum(sample in known for sample in test)
    return [f"{again} of {len(test)} test {what} are also among the training {what}"] if again else []


def _contents(samples: torch.Tensor | Sequence[str]) -> list[Any]:
    if isinstance(samples, torch.Tensor):
        return [hashlib.sha256(image.numpy().tobytes()).digest() for image in samples]
    return list(samples)


def none_left(useless: Mapping[str, str]) -> str:
    """The message if no candidate is left."""
    return f"no candidate can be used: {'; '.join(f'{name}: {why}' for name, why in useless.items())}"
