"""Two trained classifiers of a text run and some of its texts, for the few lines of a page that show an attack."""

from typing import NamedTuple

import torch
from transformers import BertTokenizer

from advtransfer.experiments import text, text_protocol
from advtransfer.matching import evenly
from advtransfer.models.text import TextClassifier
from advtransfer.models.tokens import Tokens
from advtransfer.pages.runs import Runs
from advtransfer.records.provenance import device

TEXTS = 8


class Pair(NamedTuple):
    """A target model, a source model, and texts to attack."""

    target: TextClassifier
    source: TextClassifier
    tokens: Tokens
    """The texts as both models read them, on the device of the models."""
    tokenizer: BertTokenizer
    names: tuple[str, str]
    """The corpora that the two classifiers have learnt."""


def pair(runs: Runs, n: int = TEXTS) -> Pair:
    """The trained target model of this run, its first source, and `n` of its attacked texts.

    Where the texts of the run are not here, tiny classifiers of made-up sentences take their place.
    """
    config = runs.config if runs.record else text.Config.from_profile(profile="smoke")
    spoken = text_protocol.language(config)
    first, second = text_protocol.TARGET, text_protocol.present(config)[0]
    models, tokens = [], []
    for name in (first, second):
        data = text_protocol.corpus(config, name)
        tokens.append(text_protocol.read(config, spoken, data))
        models.append(text_protocol.trained(config, spoken, data, tokens[-1]))
    chosen = torch.from_numpy(runs.record.arrays["index"]) if runs.record else torch.arange(n)
    attacked = tokens[0].test.take(chosen[evenly(len(chosen), n)]).to(device())
    made_up = " (made-up texts)" * (config.encoder == text_protocol.TINY)
    names = (text_protocol.LABELS[first] + made_up, text_protocol.LABELS[second] + made_up)
    return Pair(models[0], models[1], attacked, spoken.tokenizer, names)
