"""The sentence-level attack of the text experiment: an autoencoder of review sentences, attacked at its root.

The autoencoder changes most texts by itself. So what an attack does is measured from the text that it gives back
unperturbed, which is the same for all models.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from advtransfer import weights
from advtransfer.datasets import TextDataset
from advtransfer.datasets.parsing import Vocabulary, number, parse, whole_words
from advtransfer.experiments.text_protocol import Language, TextConfig, seed
from advtransfer.models.text import TextClassifier, logits
from advtransfer.models.tokens import tokenise
from advtransfer.models.tree_autoencoder import TreeAutoencoder, plant
from advtransfer.modes import evaluating
from advtransfer.provenance import device
from advtransfer.records import Arrays
from advtransfer.sentence_attacks import attack_root
from advtransfer.tree_training import fit_autoencoder, reconstructed

CODE = ("advtransfer.tree_training", "advtransfer.models.tree_autoencoder")
PASS = 50  # texts an attack


def attacked(
    config: TextConfig,
    spoken: Language,
    models: Sequence[TextClassifier],
    data: TextDataset,
    texts: Sequence[str],
) -> tuple[Arrays, list[list[torch.Tensor]]]:
    """Attack K models at the roots of `texts`, after learning the sentences of `data`.

    Returns
    -------
    arrays : dict
        ``sentence_flipped``, ``sentence_unperturbed`` (flipped by the autoencoder alone), ``sentence_changed`` and
        ``sentence_distance`` (K, N), and ``reconstructed`` (words of `texts`), which come back.
    deviations : list of lists
        [i][j] is (N, d_j): what the attack on model i does to model j.

    Raises
    ------
    ImportError
        spaCy or its English pipeline is not installed; the message gives the command.
    """
    pieces = spoken.tokenizer.get_vocab()
    learnt, asked = (parse(part, max_words=config.sentence_words) for part in (data.train, texts))
    words = Vocabulary.of((word for tree in learnt for word in tree.words), allowed=whole_words(pieces))
    relations = Vocabulary.of(relation for tree in learnt for relation in tree.relations)
    forest = plant(number(asked, words, relations))
    model = _autoencoder(config, data, plant(number(learnt, words, relations)), len(words), len(relations))
    with evaluating(model):
        plain = model.decode(model.encode(forest), forest).argmax(1)
    length = config.sentence_words + 2
    as_texts = [" ".join(words.words[k] for k in line) for line in plain.split(forest.sizes.tolist())]
    clean = tokenise(spoken.tokenizer, as_texts, length)
    ids = torch.tensor([pieces[word] for word in words.words])
    found, deviations = [], []
    for victim in models:
        ends = [victim.word_embeddings[pieces[mark]] for mark in ("[CLS]", "[SEP]")]
        attack = partial(
            attack_root, model, victim=victim, table=victim.embed(ids.to(device())), vocabulary=words.words,
            ends=(ends[0], ends[1]), steps=config.sentence_steps,
        )  # fmt: skip
        parts = [attack(forest.select(rows)) for rows in torch.arange(len(texts)).split(PASS)]
        moved = tokenise(spoken.tokenizer, [text for part in parts for text in part.texts], length)
        found.append(parts)
        deviations.append([logits(other, moved) - logits(other, clean) for other in models])
    names = {"flipped": "flipped", "unperturbed": "flipped_unperturbed", "changed": "changed", "distance": "distance"}
    arrays = {
        f"sentence_{name}": np.stack([torch.cat([getattr(part, field) for part in parts]).numpy() for parts in found])
        for name, field in names.items()
    }
    return {**arrays, "reconstructed": reconstructed(model, forest).cpu().numpy()}, deviations


def _autoencoder(config: TextConfig, data: TextDataset, forest, n_words: int, n_relations: int) -> TreeAutoencoder:
    """The autoencoder of these sentences, from the cache where it is there."""
    own = seed(config, "autoencoder")
    model = TreeAutoencoder(n_words, n_relations, seed=own)
    settings = {
        "data": data.digest, "longest": config.sentence_words, "words": n_words, "relations": n_relations,
        "epochs": config.sentence_epochs, "seed": own,
    }  # fmt: skip
    fit = partial(fit_autoencoder, model, forest, epochs=config.sentence_epochs, seed=own)
    weights.restore(model, weights.cached(settings, lambda checkpoint: fit(checkpoint=checkpoint).weights, code=CODE))
    return model.eval()
