"""Training steps beside the floor: forward and backward of the bare model and a step of SGD, interleaved, one process.

    python benchmarks/training.py [--repeats 7] [--model resnet18] [--precision bfloat16] [--device cpu]

On a GPU it also prints how long an epoch of 50,000 images takes.
"""

import argparse
import json

import torch
from clock import compared, interleaved
from torch.nn import functional as F

from advtransfer.models import images
from advtransfer.training.images import fit_classifier

SIZE = 64  # images a step


def images_of(batches):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (batches * SIZE, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return x, torch.randint(0, 10, (len(x),), generator=generator)


def floor(name, width, batches, device, precision="float32"):
    """Forward, backward and SGD of the bare model, images ready on the device."""
    x, y = images_of(batches)
    model = images.build(name, width=width).to(device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    ready, labels = (x.to(device).float() / 255).contiguous(memory_format=torch.channels_last), y.to(device)

    def call():
        for part, label in zip(ready.split(SIZE), labels.split(SIZE), strict=True):
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                logits = model(part)
            optimiser.zero_grad()
            F.cross_entropy(logits.float(), label).backward()
            optimiser.step()

    return call


def epoch(name, width, batches, device, precision="float32"):
    """An epoch of `fit_classifier`, with all that it does beside."""
    x, y = images_of(batches)
    model = images.build(name, width=width).to(device)
    return lambda: fit_classifier(model, x, y, epochs=1, lr=0.01, batch_size=SIZE, precision=precision)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--model", default="resnet18", choices=images.ARCHITECTURES)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batches", type=int, default=4)
    given = parser.parse_args()
    device = torch.device(given.device)
    setting = (given.model, given.width, given.batches, device, given.precision)
    times = interleaved({"floor": floor(*setting), "ours": epoch(*setting)}, given.repeats, device)
    row = compared(times, "floor")[1]
    print(
        json.dumps(
            {
                "model": given.model, "width": given.width, "precision": given.precision,
                "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
                "threads": torch.get_num_threads(), "repeats": given.repeats,
                "step over floor, median": round(row["ratio"], 3),
                "least and most": [round(row["least"], 3), round(row["most"], 3)],
                "seconds an epoch of 50,000 images": round(row["seconds"] * 50_000 / (given.batches * SIZE), 1),
            },
            indent=1,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
