"""A target of texts: its model, and the attack on the word embeddings that it shares with candidates.

An attack on one model can be tried on another only if both read the same inputs. Two text models do if they split
texts into the same tokens and their word embeddings differ only by fine-tuning, as in the paper, where all models come
from one pretrained BERT. So the target model takes the word embeddings that most candidates share. For all other
candidates α is not computed, and a note says why.
"""

import copy
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from advtransfer import attacks, matching, metrics, spectral
from advtransfer.models.initialisation import initialised_by
from advtransfer.models.text import TextClassifier
from advtransfer.models.tokens import Tokens, by_length
from advtransfer.modes import Model, evaluating
from advtransfer.ranking.encoder import EncoderError
from advtransfer.ranking.measure import Arrays, Projected, Settings, Target, principal
from advtransfer.ranking.text_encoder import Displaced, TextEncoder
from advtransfer.ranking.texts import LabelledTexts
from advtransfer.records.provenance import device
from advtransfer.training.text import fit_text

PASS = 16  # texts per pass of an attack, which limits its memory
ALIKE = 0.9  # the least correlation of word embeddings that count as the same
WIDTH = 64  # of the target model's own word embeddings, if no candidate tells its own
LOOKED_AT = 50  # texts on which word embeddings are compared to choose those of the target model


class TextTarget(Target):
    """A target of texts: the model that represents it, and the attack on that model's word embeddings."""

    def __init__(
        self,
        data: LabelledTexts,
        settings: Settings,
        pool: Mapping[str, TextEncoder],
        model: TextEncoder | None = None,
    ) -> None:
        super().__init__(data, settings)
        self.texts = texts = data.inputs("test", self.chosen)
        start = time.perf_counter()
        own = naive_model(data, settings, most_shared(pool, data)) if model is None else copy.deepcopy(model)
        self.model = own.to(device())
        tokens = self.model.read(texts)
        self.batches = [tokens.take(rows).to(device()) for rows in by_length(tokens.mask, PASS)]
        matched = tokens.take(matching.evenly(len(texts), settings.gradients))
        self.matched = [matched.take(rows).to(device()) for rows in by_length(matched.mask, PASS)]
        self.words = read_words(self.model, texts)
        self.features = self.model.extract(data.inputs("train", self.few))[1].double()
        self.delta: list[Tensor] = []
        self.directions = 0
        if self.words is not None:
            vectors = self.words.vectors
            self.eps = settings.eps * float(vectors.norm(dim=1).mean())
            self.delta = [self._attack(self.model.displaced(batch)) for batch in self.batches]
            self.jacobian = self._jacobian(self.model)
            self.directions = self.jacobian[0].shape[1]
        self.seconds = time.perf_counter() - start

    def attacked(self, encoder: TextEncoder) -> Arrays:
        """Deviations under both attacks and under noise, and the Gram matrix; or why there are none (`alpha_note`).

        An attack moves all word embeddings of a text within an ℓ2 ball, whose radius is ε times the mean length of a
        word's vector.
        """
        start = time.perf_counter()
        if why := self.apart(encoder):
            return {"alpha_note": np.array(why)}
        found: dict[str, list[Tensor]] = {}
        generator = torch.Generator().manual_seed(self.settings.seed_of("noise"))
        for batch, delta in zip(self.batches, self.delta, strict=True):
            pair = [self.model.displaced(batch), encoder.displaced(batch)]

            def attack(model: Model, x: Tensor, own: Model = pair[0], known: Tensor = delta) -> Tensor:
                return known if model is own else self._attack(model)

            moved = metrics.deviations(pair, torch.zeros_like(delta), attack)
            noise = self._noise(batch, delta, generator)
            with evaluating(*pair):
                still = torch.zeros_like(delta)
                for k, each in enumerate(pair):
                    found.setdefault(f"noise{k}", []).append(each(noise) - each(still))
            for (i, j), d in moved.items():
                found.setdefault(f"d{i}{j}", []).append(d)
        middle = time.perf_counter()
        theirs = self._jacobian(encoder)
        gram = matching.mean_gram(zip(self.jacobian, theirs, strict=True))
        end = time.perf_counter()
        return {
            "gram": gram.cpu().numpy(),
            **{name: torch.cat(parts).float().cpu().numpy() for name, parts in found.items()},
            "seconds_attack": np.array(middle - start), "seconds_distance": np.array(end - middle),
        }  # fmt: skip

    def apart(self, encoder: TextEncoder) -> str:
        """Why the attack on the target model cannot be tried on a candidate; empty if it can."""
        theirs = read_words(encoder, self.texts)
        if theirs is None or self.words is None:
            return "not computed: " + ("it" if theirs is None else "the target model") + " exposes no word embeddings"
        if why := unlike(theirs, self.words):
            return f"not computed: {why}"
        with evaluating(encoder):
            try:
                pairs = [
                    (encoder(batch), encoder.displaced(batch)(torch.zeros_like(delta)))
                    for batch, delta in zip(self.batches, self.delta, strict=True)
                ]
            except EncoderError:  # such as an encoder-decoder, which takes no embeddings
                pairs = []
        same = bool(pairs) and all(torch.allclose(*pair, rtol=1e-3, atol=1e-4) for pair in pairs)
        return "" if same else "not computed: its outputs do not follow from its word embeddings alone"

    def accuracy(self) -> float:
        """The share of the target's test texts that its model classifies correctly; NaN if it has other classes.

        Classes are compared by name where the model names its own (``id2label``), and else by number.
        """
        outputs, classes = self.model.extract(self.data.x_test)[0], self.data.classes
        if not self.model.classifier or outputs.shape[1] != len(classes):
            return float("nan")
        own = getattr(getattr(self.model.module, "config", None), "id2label", None) or {}
        names = [str(own.get(k, f"LABEL_{k}")) for k in range(len(classes))]
        if not all(re.fullmatch(r"LABEL_\d+", name) for name in names) and not all(c.isdecimal() for c in classes):
            if set(names) != set(classes):
                return float("nan")
            outputs = outputs[:, [names.index(name) for name in classes]]
        return float((outputs.argmax(1) == self.data.y_test).double().mean())

    def _attack(self, model: Model) -> Tensor:
        """PGD on the length of the deviation (equation 3) from the word embeddings as they are."""
        assert isinstance(model, Displaced)
        generator = torch.Generator().manual_seed(self.settings.seed_of("attack"))
        return attacks.pgd(
            model, torch.zeros_like(model.words, dtype=torch.float32), eps=self.eps, steps=self.settings.steps,
            norm="l2", bounds=None, loss="deviation", generator=generator,
        )  # fmt: skip

    def _noise(self, tokens: Tokens, delta: Tensor, generator: torch.Generator) -> Tensor:
        """Displacements (N, L, h) of length ε in random directions."""
        drawn = torch.randn(delta.shape, generator=generator).to(delta) * tokens.mask[:, :, None]
        return self.eps * drawn / drawn.flatten(1).norm(dim=1)[:, None, None]

    def _jacobian(self, encoder: TextEncoder) -> list[Tensor]:
        """Jacobians (N, r, L · h) of an encoder's outputs, projected to their first principal directions, by batch."""
        with evaluating(encoder):
            basis = principal(torch.cat([encoder(batch) for batch in self.batches]), self.settings.outputs)
        displaced = [encoder.displaced(batch) for batch in self.matched]
        still = [torch.zeros_like(model.words, dtype=torch.float32) for model in displaced]
        return [spectral.jacobian(Projected(model, basis), x) for model, x in zip(displaced, still, strict=True)]


class _WithHead(nn.Module):
    """An encoder of texts whose features go into a linear layer, as `fit_text` takes it."""

    def __init__(self, encoder: TextEncoder, width: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(width, classes)

    @property
    def word_embeddings(self) -> Tensor:
        return self.head.weight  # read for its device only

    def embed(self, ids: Tensor) -> Tensor:
        return ids

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.encoder.both(Tokens(ids, mask, ~mask, ~mask[:, 0]))[1])


def tuned(encoder: TextEncoder, data: LabelledTexts, settings: Settings) -> Tensor:
    """The labels (N,) that a copy of a candidate gives to the test texts after all its weights were trained."""
    width = encoder.extract(data.x_train[:2])[1].shape[1]
    with initialised_by(torch.Generator().manual_seed(settings.seed_of("head"))):
        net = _WithHead(copy.deepcopy(encoder), width, len(data.classes)).to(device())
    model: Any = net  # a classifier of tokens instead of embeddings, which `fit_text` trains as well
    fit_text(
        model, encoder.read(data.x_train), data.y_train, epochs=settings.full_epochs,
        seed=settings.seed_of("full"), batch_size=16, label="all weights",
    )  # fmt: skip
    features = net.encoder.extract(data.x_test)[1]
    with evaluating(net.head):
        return net.head(features.to(device())).argmax(1).cpu()


# Which models read the same inputs.


class Words(NamedTuple):
    """How a model reads some texts: the ids of their M tokens, and the word embedding of each (M, h)."""

    ids: Tensor
    vectors: Tensor


def read_words(encoder: TextEncoder, texts: tuple[str, ...]) -> Words | None:
    """How an encoder reads texts; None if it does not expose its word embeddings."""
    if encoder.word_embeddings is None:
        return None
    tokens = encoder.read(texts)
    ids = tokens.ids[tokens.mask]
    return Words(ids, encoder.word_embeddings.detach().cpu()[ids].float())


def unlike(a: Words, b: Words) -> str:
    """Why two models do not read the same inputs; empty if they do."""
    if not torch.equal(a.ids, b.ids):
        first, second = ({*words.ids.tolist()} for words in (a, b))
        cut = len(a.ids) != len(b.ids) and (first <= second or second <= first)
        hint = " (if only its max_length does, give all models the same)" if cut else ""
        return f"its tokens differ from the target model's{hint}"
    if a.vectors.shape != b.vectors.shape:
        return f"its word embeddings have {a.vectors.shape[1]} numbers, and the target model's {b.vectors.shape[1]}"
    correlation = float(torch.corrcoef(torch.stack([a.vectors.flatten(), b.vectors.flatten()]))[0, 1])
    if not correlation >= ALIKE:
        return f"its word embeddings differ from the target model's (correlation {correlation:.2f})"
    return ""


def most_shared(pool: Mapping[str, TextEncoder], data: LabelledTexts) -> TextEncoder:
    """The candidate whose word embeddings most candidates share, whatever the order of the pool."""
    words = {name: read_words(encoder, data.x_test[:LOOKED_AT]) for name, encoder in pool.items()}
    known = {name: each for name, each in words.items() if each is not None}
    shares = {name: sum(not unlike(each, other) for other in known.values()) for name, each in known.items()}
    return pool[max(sorted(pool), key=lambda name: shares.get(name, 0))]


def naive_model(data: LabelledTexts, settings: Settings, like: TextEncoder) -> TextEncoder:
    """A BERT of one layer, trained on the target's texts alone, with the tokenizer and word embeddings of `like`.

    This plays the role of the paper's naive target model. The word embeddings stay as they are, so that it reads the
    same inputs as the candidates; all other weights start at random values.
    """
    table = like.word_embeddings
    vocabulary, width = table.shape if table is not None else (len(like.tokenizer), WIDTH)
    sizes = BertConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=1, intermediate_size=width,
        num_attention_heads=next(heads for heads in (4, 2, 1) if width % heads == 0),
        max_position_embeddings=like.max_length, pad_token_id=like.tokenizer.pad_token_id or 0,
    )  # fmt: skip
    sizes.num_labels = len(data.classes)
    with initialised_by(torch.Generator().manual_seed(settings.seed_of("target"))):
        whole = BertForSequenceClassification(sizes)
    net = TextClassifier.of(whole).to(device())  # it shares its parts with the whole
    if table is not None:
        with torch.no_grad():
            net.word_embeddings.copy_(table)
    trained = [weight for weight in net.parameters() if table is None or weight is not net.word_embeddings]
    fit_text(
        net, like.read(data.x_train), data.y_train, epochs=settings.target_epochs, lr=1e-3, batch_size=16,
        parameters=trained, seed=settings.seed_of("order"), label="target model",
    )  # fmt: skip
    return TextEncoder(whole.eval(), like.tokenizer, like.max_length)
