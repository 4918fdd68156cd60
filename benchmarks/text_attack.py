"""The word attack beside its floor: forward and backward of the model to its embeddings, interleaved, one process.

    python benchmarks/text_attack.py FOLDER [--repeats 5] [--steps 10] [--texts 32] [--length 128] [--device cpu]

FOLDER holds a BERT and its vocabulary. Texts are random words of it, each `--length` tokens long: no padding spares
the search anything.
"""

import argparse
import json
import statistics
from pathlib import Path

import torch
from clock import seconds

from advtransfer.models.text import build
from advtransfer.models.tokens import load_tokenizer, tokenise
from advtransfer.text.nearest import candidates
from advtransfer.text.word_attacks import word_attack


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--texts", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    device = torch.device(given.device)
    model, tokenizer = build(given.folder, 2).to(device).eval(), load_tokenizer(given.folder)
    words = candidates(tokenizer).words
    rows = torch.randint(len(words), (given.texts, given.length - 2), generator=torch.Generator().manual_seed(0))
    texts = [" ".join(tokenizer.convert_ids_to_tokens(words[row].tolist())) for row in rows]
    tokens = tokenise(tokenizer, texts, given.length)
    start, mask = model.embed(tokens.ids.to(device)).detach(), tokens.mask.to(device)

    def floor():
        for _ in range(given.steps):
            x = start.clone().requires_grad_()
            torch.autograd.grad(model(x, mask).sum(), x)

    def whole():
        word_attack(model, tokens, tokenizer, steps=given.steps, batch_size=given.texts)

    def start_up():
        word_attack(model, tokens, tokenizer, steps=1, batch_size=given.texts)

    for call in (floor, whole):
        call()
    # The vocabulary is read once an attack: the steps after the first are compared, as of a hundred they are most.
    rounds = [[seconds(call, device) for call in (floor, start_up, whole)] for _ in range(given.repeats)]
    ratios = [(whole - first) / least * given.steps / (given.steps - 1) for least, first, whole in rounds]
    print(
        json.dumps(
            {
                "model": given.folder.name, "texts": given.texts, "length": given.length, "steps": given.steps,
                "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
                "threads": torch.get_num_threads(), "repeats": given.repeats,
                "step over floor, median": round(statistics.median(ratios), 3),
                "least and most": [round(min(ratios), 3), round(max(ratios), 3)],
                "seconds to read the vocabulary, and a step": round(statistics.median(r[1] for r in rounds), 2),
                "seconds of the steps after": round(statistics.median(r[2] - r[1] for r in rounds), 2),
            },
            indent=1,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
