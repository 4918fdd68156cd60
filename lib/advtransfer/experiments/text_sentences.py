"""The sentence-level attack of the text experiment: an autoencoder of review sentences, attacked at its root.

The autoencoder by itself changes most texts. So the effect of an attack is measured from the text that the autoencoder
returns without a perturbation, which is the same for all models.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from advtransfer.datasets import TextDataset
from advtransfer.datasets.parsing import Vocabulary, number, parse, whole_words
from advtransfer.experiments.text_protocol import Language, TextConfig
from advtransfer.matching import evenly
from advtransfer.models.text import TextClassifier, logits
from advtransfer.models.tokens import tokenise
from advtransfer.models.tree_autoencoder import Forest, TreeAutoencoder, plant
from advtransfer.modes import evaluating
from advtransfer.records import weights
from advtransfer.records.provenance import device, digest
from advtransfer.records.record import Arrays
from advtransfer.text.sentence_attacks import attack_root
from advtransfer.training.trees import fit_autoencoder, reconstructed

CODE = ("advtransfer.training.trees", "advtransfer.models.tree_autoencoder")
PASS = 50  # texts per attack
EXAMPLES = 12  # texts kept as examples


def attacked(
    config: TextConfig,
    spoken: Language,
    models: Sequence[TextClassifier],
    data: TextDataset,
    texts: Sequence[str],
) -> tuple[Arrays, list[list[torch.Tensor]]]:
    """Train an autoencoder on pieces of the texts of `data`, and attack K models at the roots of N `texts`.

    Only the first words of each text are attacked, as many as the autoencoder can write.

    Returns
    -------
    arrays : dict
        ``sentence_flipped``, ``sentence_unperturbed`` (flipped by the autoencoder alone), ``sentence_changed`` and
        ``sentence_distance`` (K, N); ``reconstructed`` (words of `texts`), which words are reconstructed; and
        ``sentence_examples`` (n, 3): texts as read, as reconstructed, and under the attack on the first model.
    deviations : list of lists
        [i][j] is (N, d_j): what the attack on model i does to model j.

    Raises
    ------
    ImportError
        spaCy or its English pipeline is not installed; the message gives the command.
    """
    tokens = spoken.tokenizer.get_vocab()
    learnt, asked = (parse(part, max_words=config.sentence_words) for part in (_pieces(config, data.train), texts))
    words = Vocabulary.of(
        (word for tree in learnt for word in tree.words), size=config.sentence_vocabulary, allowed=whole_words(tokens)
    )
    relations = Vocabulary.of(relation for tree in learnt for relation in tree.relations)
    forest = plant(number(asked, words, relations)).to(device())
    model = _autoencoder(config, data, plant(number(learnt, words, relations)), words, relations)
    with evaluating(model):
        plain = model.decode(model.encode(forest), forest).argmax(1)
    length = config.sentence_words + 2
    as_texts = [" ".join(words.words[k] for k in line) for line in plain.split(forest.sizes.tolist())]
    clean = tokenise(spoken.tokenizer, as_texts, length)
    ids = torch.tensor([tokens[word] for word in words.words], device=device())
    attacks, deviations = [], []
    for victim in models:
        ends = [victim.word_embeddings[tokens[mark]] for mark in ("[CLS]", "[SEP]")]
        attack = partial(
            attack_root, model, victim=victim, table=victim.embed(ids), vocabulary=words.words,
            ends=(ends[0], ends[1]), steps=config.sentence_steps,
        )  # fmt: skip
        parts = [attack(forest.select(rows)) for rows in torch.arange(len(texts), device=device()).split(PASS)]
        moved = tokenise(spoken.tokenizer, [text for part in parts for text in part.texts], length)
        attacks.append(parts)
        deviations.append([logits(other, moved) - logits(other, clean) for other in models])
    names = {"flipped": "flipped", "unperturbed": "flipped_unperturbed", "changed": "changed", "distance": "distance"}
    arrays = {
        f"sentence_{name}": np.stack(
            [torch.cat([getattr(part, field) for part in parts]).cpu().numpy() for parts in attacks]
        )
        for name, field in names.items()
    }
    after = [text for part in attacks[0] for text in part.texts]
    examples = [(asked[k].words, as_texts[k], after[k]) for k in evenly(len(texts), EXAMPLES).tolist()]
    return {
        **arrays,
        "reconstructed": reconstructed(model, forest).cpu().numpy(),
        "sentence_examples": np.array([(" ".join(words), plain, text) for words, plain, text in examples]),
    }, deviations


def _pieces(config: TextConfig, texts: Sequence[str]) -> list[str]:
    """A random choice of pieces of texts, each of at most as many words as the autoencoder can write."""
    size = config.sentence_words
    lines = (text.split() for text in texts)
    pieces = [" ".join(line[k : k + size]) for line in lines for k in range(0, len(line), size)]
    order = torch.randperm(len(pieces), generator=torch.Generator().manual_seed(config.seed_of("pieces")))
    return [pieces[k] for k in order[: config.sentence_pieces].tolist()]


def _autoencoder(
    config: TextConfig, data: TextDataset, forest: Forest, words: Vocabulary, relations: Vocabulary
) -> TreeAutoencoder:
    """The autoencoder trained on these sentences, from the cache if it is there."""
    own = config.seed_of("autoencoder")
    model = TreeAutoencoder(len(words), len(relations), dropout=config.sentence_dropout, seed=own).to(device())
    settings = {
        "data": data.digest, "longest": config.sentence_words, "pieces": config.sentence_pieces,
        "words": digest([words.words, relations.words]), "forest": weights.content(forest._asdict()),
        "dropout": config.sentence_dropout, "epochs": config.sentence_epochs, "seed": own,
    }  # fmt: skip
    fit = partial(fit_autoencoder, model, forest, epochs=config.sentence_epochs, seed=own)
    weights.restore(model, weights.cached(settings, lambda checkpoint: fit(checkpoint=checkpoint).last, code=CODE))
    return model.eval()
