"""Tables 2 and 4: BERT classifiers of several corpora, transferred to film reviews and attacked, in both directions.

The target model is trained on IMDB. Every model is attacked on IMDB's test texts: by changing words, as in the paper,
and in an ℓ2 ball around the word embeddings, where the theory holds. Each attack is evaluated once on each model.
Knowledge is transferred by a new head, with all weights fine-tuned on IMDB.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import BertTokenizer

from advtransfer import attacks, matching, metrics, spectral
from advtransfer.datasets import TextDataset
from advtransfer.datasets.parsing import parse
from advtransfer.experiments import conclusions, evaluation, text_protocol, text_sentences
from advtransfer.experiments.text_protocol import LABELS, TARGET, Read, TextConfig, files, required
from advtransfer.models.text import TextClassifier, logits
from advtransfer.models.tokens import Tokens, untokenise
from advtransfer.records.provenance import device
from advtransfer.records.record import Arrays, Tables
from advtransfer.records.runs import recorded
from advtransfer.statistics import half_width
from advtransfer.text.nearest import marked
from advtransfer.text.word_attacks import word_attack

__all__ = ["SAMPLE_AXES", "TABLES", "Config", "derive", "files", "required", "run", "unusable"]

VIEWS = {
    "word": "words (T3)",
    "sentence": "sentences (T3)",
    "embedding": "embeddings (PGD, ℓ2)",
    "singular": "embeddings (first singular vector)",
}
"""How the models are attacked, in words for the page."""
WORDS = ("flipped", "changed", "distance", "roundtrip")
"""What is kept, for each text, of the attacks that change words (by words or by sentences)."""
SAMPLE_AXES = {
    "index": 0,
    "sentence_index": 0,
    **{f"{view}_deviations": 2 for view in VIEWS},
    **{f"{view}_{name}": 1 for view in ("word", "sentence") for name in WORDS},
    "sentence_unperturbed": 1,
}
"""The arrays of which a published record may keep only some samples, and the axis of their samples."""
PASS = 32  # texts per attack on embeddings
WORD_PASS, WORD_PASS_ON_GPU = 32, 150  # texts per attack on words
EXAMPLES = 12  # texts kept as examples
SHUFFLES = 20

TABLES = ("models", "attacks", "examples", "sources", "samples")
"""The tables of a record."""


class Config(TextConfig):
    """The text experiment."""

    PROFILES: ClassVar = {"smoke": text_protocol.SMOKE, "quick": {}, "paper": text_protocol.PAPER}


def unusable(config: Config) -> list[str]:
    """One line per reason, apart from missing data, why a run with these parameters cannot start on this machine."""
    lines = []
    checks: list[Callable[[], object]] = [partial(text_protocol.language, config)]
    if config.sentence_steps:
        checks.append(partial(parse, ["A sentence."]))
    for check in checks:
        try:
            check()
        except (ValueError, ImportError) as error:
            lines.append(str(error))
    return lines


@recorded
def run(config: Config) -> tuple[Tables, Arrays]:
    """Train, transfer and attack. `derive` computes the tables from the arrays.

    Raises
    ------
    DataUnavailable
        A corpus or the encoder is not in the data root.
    TrainingError
        A loss did not stay finite.
    ImportError
        The attack on sentences is asked for, but its parser is not installed; this is raised before training.
    """
    if config.sentence_steps:
        parse(["A sentence."])
    spoken = text_protocol.language(config)
    datasets = [text_protocol.corpus(config, name) for name in (TARGET, *config.sources)]
    corpora = [text_protocol.read(config, spoken, data) for data in datasets]
    models = [text_protocol.trained(config, spoken, *each) for each in zip(datasets, corpora, strict=True)]
    arrays = _about(config, datasets, corpora, models) | _transfer(config, models[1:], datasets[0], corpora[0])
    chosen = torch.from_numpy(arrays["index"])
    attacked = corpora[0].test.take(chosen)
    arrays |= _attacked(config, spoken.tokenizer, models, attacked)
    matched = matching.evenly(len(chosen), config.gradients)
    arrays |= {"gram": _gram(models, attacked.take(matched)), "matched": arrays["index"][matched]}
    if config.sentence_steps:
        kept = matching.evenly(len(chosen), config.sentence_samples)
        some = attacked.take(kept)
        texts = untokenise(spoken.tokenizer, some.ids, some.mask)
        outcomes, moved = text_sentences.attacked(config, spoken, models, datasets[0], texts)
        arrays |= {**outcomes, "sentence_index": arrays["index"][kept], "sentence_deviations": _table(moved)}
    return derive(config, arrays), arrays


def _about(
    config: Config, datasets: Sequence[TextDataset], corpora: Sequence[Read], models: Sequence[TextClassifier]
) -> Arrays:
    """For each model, facts about its corpus, and which of its own test texts it classifies correctly."""
    arrays = {
        "sizes": np.array([[len(part.y_train), len(part.y_test), part.empty] for part in corpora]),
        "truncated": np.array([part.test.truncated.double().mean().item() for part in corpora]),
        "outputs": np.array([len(data.classes) for data in datasets]),
        "majority": np.array([part.y_test.bincount().max().item() / len(part.y_test) for part in corpora]),
    }
    for k, (part, model) in enumerate(zip(corpora, models, strict=True)):
        arrays[f"right_{k}"] = (_outputs(config, model, part.test).argmax(1) == part.y_test).numpy()
    return arrays


def _transfer(config: Config, sources: Sequence[TextClassifier], data: TextDataset, tokens: Read) -> Arrays:
    """What each transferred source predicts for the target's test texts, and which of these are attacked."""
    outputs = []
    for name, model in zip(config.sources, sources, strict=True):
        tuned = text_protocol.transferred(config, model, name, data, tokens)
        outputs.append(_outputs(config, tuned, tokens.test))
    order = torch.randperm(len(tokens.y_test), generator=torch.Generator().manual_seed(config.seed_of("samples")))
    return {
        "transfer_right": torch.stack([z.argmax(1) == tokens.y_test for z in outputs]).numpy(),
        "transfer_loss": torch.stack([F.cross_entropy(z, tokens.y_test, reduction="none") for z in outputs]).numpy(),
        "index": order[: config.samples].sort()[0].numpy(),
    }


def _outputs(config: Config, model: TextClassifier, tokens: Tokens) -> Tensor:
    """Logits (N, classes) of test texts, computed in the arithmetic of training."""
    with torch.autocast(device().type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        return logits(model, tokens).float().cpu()


def _attacked(config: Config, tokenizer: BertTokenizer, models: Sequence[TextClassifier], tokens: Tokens) -> Arrays:
    """How every attack on each of K models moves each of them, and what the attacks on words did."""
    attack = partial(
        word_attack, steps=config.word_steps, patience=config.patience, precision=config.precision,
        batch_size=WORD_PASS_ON_GPU if device().type == "cuda" else WORD_PASS,
    )  # fmt: skip
    results = [attack(model, tokens, tokenizer) for model in models]
    clean = [logits(model, tokens) for model in models]
    moved = [
        [logits(model, tokens._replace(ids=each.ids)) - z for model, z in zip(models, clean, strict=True)]
        for each in results
    ]
    outcomes = {f"word_{name}": torch.stack([getattr(each, name) for each in results]).numpy() for name in WORDS}
    some = matching.evenly(len(tokens.ids), EXAMPLES)
    shown = zip(tokens.ids[some], tokens.mask[some], results[0].ids[some], strict=True)
    arrays = {
        "word_deviations": _table(moved),
        **outcomes,
        "examples": np.array([marked(before[kept], after[kept], tokenizer) for before, kept, after in shown]),
    }
    parts: dict[str, list[np.ndarray]] = {"embedding_deviations": [], "singular_deviations": []}
    pgd = partial(attacks.pgd, eps=config.eps, steps=config.embedding_steps, norm="l2", bounds=None, random_start=False)
    exact = partial(spectral.first_attack, eps=config.eps, bounds=None, chunk_size=None)
    for rows in torch.arange(len(tokens.ids)).split(PASS):
        part = tokens.take(rows).to(device())
        displaced = [model.displaced(part) for model in models]
        still = torch.zeros_like(models[0].embed(part.ids))
        for name, climb in (("embedding_deviations", pgd), ("singular_deviations", exact)):
            parts[name].append(evaluation.filled(metrics.deviations(displaced, still, climb), len(models)))
    return {**arrays, **{name: np.concatenate(each, 2) for name, each in parts.items()}}


def _gram(models: Sequence[TextClassifier], tokens: Tokens) -> np.ndarray:
    """`matching.gram` of the Jacobians of the logits at the embeddings of these texts."""

    def jacobians(rows: Tensor) -> list[Tensor]:
        part = tokens.take(rows).to(device())
        still = torch.zeros_like(models[0].embed(part.ids))
        return [spectral.jacobian(model.displaced(part), still) for model in models]

    return matching.mean_gram(map(jacobians, torch.arange(len(tokens.ids)).split(PASS))).numpy()


def _table(found: Sequence[Sequence[Tensor]]) -> np.ndarray:
    pairs = {(i, j): d for i, row in enumerate(found) for j, d in enumerate(row)}
    return evaluation.filled(pairs, len(found))


def derive(config: Config, arrays: Arrays) -> Tables:
    """The tables of a record from its arrays alone.

    They are ``models`` (corpora and accuracies), ``attacks`` (what the attacks on words did) and ``examples``; and,
    each with columns ``view`` and ``direction``, ``sources`` (the rows of Tables 2 and 4) and ``samples`` (α1(x)
    against the confidence of the transferred model in the true label).
    """
    names = list(config.sources)
    matched = matching.distances(torch.from_numpy(arrays["gram"]), arrays["outputs"].tolist()).numpy()
    sources, samples = [], []
    for view in (view for view in VIEWS if f"{view}_deviations" in arrays):
        own = {"deviations": arrays[f"{view}_deviations"]}
        index = arrays["sentence_index" if view == "sentence" else "index"]
        confidence = np.exp(-arrays["transfer_loss"].astype(float))[:, index]
        for direction in ("T→S", "S→T"):
            pairs = [(0, k) if direction == "T→S" else (k, 0) for k in range(1, 1 + len(names))]
            about = {"view": view, "direction": direction}
            rows = [
                {
                    **about,
                    "source": name,
                    "label": LABELS[name],
                    **evaluation.accuracy("transfer_accuracy", right),
                    "transfer_loss": loss.mean(),
                    **evaluation.metric_columns(own, *pair),
                    "floor": shuffled(own, *pair),
                    "distance": matched[0, max(pair)],
                }
                for name, right, loss, pair in zip(
                    names, arrays["transfer_right"], arrays["transfer_loss"].astype(float), pairs, strict=True
                )
            ]
            sources.append(pd.DataFrame(rows))
            alpha1 = np.stack([evaluation.alpha1(own, *pair) for pair in pairs])
            samples.append(conclusions.over_samples(names, alpha1, confidence).assign(**about))
    return {
        "models": _models(config, arrays),
        "attacks": _attacks(config, arrays),
        "examples": pd.DataFrame(arrays["examples"], columns=["before", "after"]),
        "sources": pd.concat(sources, ignore_index=True),
        "samples": pd.concat(samples, ignore_index=True),
    }


def shuffled(arrays: Arrays, i: int, j: int) -> float:
    """The plug-in α2² that remains if the evaluated model's deviations are shuffled among texts: its noise floor."""
    d11, d12, d22 = evaluation.triple(arrays["deviations"], i, j)
    generator = torch.Generator().manual_seed(0)
    squares = []
    for _ in range(SHUFFLES):
        order = torch.randperm(len(d12), generator=generator)
        squares.append(metrics.from_deviations(d11, d12[order], d22[order]).alpha2 ** 2)
    return float(np.mean(squares))


def _models(config: Config, arrays: Arrays) -> pd.DataFrame:
    names = (TARGET, *config.sources)
    return pd.DataFrame(
        [
            {
                "corpus": name,
                "label": LABELS[name],
                "role": "source" if k else "target",
                "classes": int(arrays["outputs"][k]),
                "train_texts": int(arrays["sizes"][k, 0]),
                "test_texts": int(arrays["sizes"][k, 1]),
                "empty": int(arrays["sizes"][k, 2]),
                "truncated": float(arrays["truncated"][k]),
                "majority": float(arrays["majority"][k]),
                **evaluation.accuracy("accuracy", arrays[f"right_{k}"]),
            }
            for k, name in enumerate(names)
        ]
    )


def _attacks(config: Config, arrays: Arrays) -> pd.DataFrame:
    """What the attacks that change words did to each model, over all texts: share flipped, words changed, distance."""
    rows = []
    for view in (view for view in ("word", "sentence") if f"{view}_deviations" in arrays):
        for k, name in enumerate((TARGET, *config.sources)):
            row: dict[str, Any] = {"view": view, "corpus": name, "label": LABELS[name]}
            for what in ("flipped", "roundtrip", "unperturbed"):
                if f"{view}_{what}" in arrays:
                    row |= evaluation.accuracy(what, arrays[f"{view}_{what}"][k])
            for what in ("changed", "distance"):
                values = arrays[f"{view}_{what}"][k].astype(float)
                half = float(half_width(values.std(ddof=1), len(values)))
                row |= {what: values.mean(), f"{what}_low": values.mean() - half, f"{what}_high": values.mean() + half}
            rows.append({**row, "n": arrays[f"{view}_flipped"].shape[1]})
    return pd.DataFrame(rows)
