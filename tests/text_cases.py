"""What the tests of text share: a vocabulary shaped like a real one, a tiny BERT on it, and made-up reviews."""

import torch
from transformers import BertConfig

from advtransfer.models.text import build
from advtransfer.models.tokens import tiny_tokenizer, tokenise

GOOD, BAD = ["good", "great", "fine", "play"], ["bad", "poor", "dull", "fail"]
FILLER = ["the", "film", "is", "a", "plot", "of", "do", "not", "em", "un", "##able", "##ing", "##s", "##bed", "##ed"]
# Traps: words that pieces add up to, punctuation, unused, upper case, accents that the reader removes, CJK, and pieces
# that are read as punctuation.
TRAPS = [
    "playing", "unable", "plots", "##edding", ".", ",", "'", "#", "-", "[unused0]", "[unused1]", "Upper", "café",
    "cafe", "中", "##中", "##!", "##.", "##é", "##e", "1", "##1", "##", "ß", "##ß",
]  # fmt: skip
TOKENIZER = tiny_tokenizer([*GOOD, *BAD, *FILLER, *TRAPS])
CONFIG = BertConfig(
    vocab_size=len(TOKENIZER), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
    max_position_embeddings=24,
)  # fmt: skip


def tiny(num_classes=2, seed=0, dtype=torch.float64, spread=0.5):
    """A BERT with random weights: of a large `spread`, so that words matter without training, or of a small one."""
    config = BertConfig.from_dict(CONFIG.to_dict() | {"initializer_range": spread})
    return build(config, num_classes, torch.Generator().manual_seed(seed)).to(dtype).eval()


def reviews(n, seed=0):
    """Texts of 4 to 12 words with one word of an opinion, and whether it is a good one."""
    generator = torch.Generator().manual_seed(seed)

    def draw(words):
        return words[int(torch.randint(len(words), (), generator=generator))]

    labels = torch.randint(2, (n,), generator=generator)
    texts = []
    for label in labels:
        words = [draw(FILLER[:8]) for _ in range(int(torch.randint(3, 12, (), generator=generator)))]
        words.insert(int(torch.randint(len(words), (), generator=generator)), draw(GOOD if label else BAD))
        texts.append(" ".join(words))
    return tokenise(TOKENIZER, texts, 24), labels
