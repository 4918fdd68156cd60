"""Training steps beside the floor: forward and backward of the bare model and a step of SGD, interleaved, one process.

    python benchmarks/training.py [--repeats 7] [--model resnet18] [--precision bfloat16] [--device cpu]

On a GPU it also prints how long an epoch of 50,000 images takes.
"""

import argparse
import json
import statistics

import torch
from clock import seconds
from torch.nn import functional as F

from advtransfer.models import images
from advtransfer.training import fit_classifier


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--model", default="resnet18", choices=images.ARCHITECTURES)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batches", type=int, default=4)
    given = parser.parse_args()
    device, size = torch.device(given.device), 64
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (given.batches * size, 3, 32, 32), dtype=torch.uint8, generator=generator)
    y = torch.randint(0, 10, (len(x),), generator=generator)
    bare, ours = (images.build(given.model, width=given.width).to(device).train() for _ in range(2))
    bare.to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(bare.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    ready = (x.to(device).float() / 255).contiguous(memory_format=torch.channels_last)
    labels = y.to(device)

    def floor():
        for part, label in zip(ready.split(size), labels.split(size), strict=True):
            with torch.autocast(device.type, torch.bfloat16, enabled=given.precision == "bfloat16"):
                logits = bare(part)
            optimiser.zero_grad()
            F.cross_entropy(logits.float(), label).backward()
            optimiser.step()

    def whole():
        fit_classifier(ours, x, y, epochs=1, lr=0.01, batch_size=size, precision=given.precision)

    for call in (floor, whole):
        call()
    ratios, epochs = [], []
    for _ in range(given.repeats):
        least, found = seconds(floor, device), seconds(whole, device)
        ratios.append(found / least)
        epochs.append(found * 50_000 / len(x))
    print(
        json.dumps(
            {
                "model": given.model, "width": given.width, "precision": given.precision,
                "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
                "threads": torch.get_num_threads(), "repeats": given.repeats,
                "step over floor, median": round(statistics.median(ratios), 3),
                "least and most": [round(min(ratios), 3), round(max(ratios), 3)],
                "seconds an epoch of 50,000 images": round(statistics.median(epochs), 1),
            },
            indent=1,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
