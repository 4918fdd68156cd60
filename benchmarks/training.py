"""Training steps beside the floor: forward and backward of the bare model and a step of SGD."""

import torch
from torch.nn import functional as F

from advtransfer.models import images
from advtransfer.training.images import fit_classifier

SIZE = 64  # images a step


def images_of(batches):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (batches * SIZE, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return x, torch.randint(0, 10, (len(x),), generator=generator)


def floor(name, width, batches, device):
    """Forward, backward and SGD of the bare model, images ready on the device."""
    x, y = images_of(batches)
    model = images.build(name, width=width).to(device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    ready, labels = (x.to(device).float() / 255).contiguous(memory_format=torch.channels_last), y.to(device)

    def call():
        for part, label in zip(ready.split(SIZE), labels.split(SIZE), strict=True):
            optimiser.zero_grad()
            F.cross_entropy(model(part), label).backward()
            optimiser.step()

    return call


def epoch(name, width, batches, device):
    """An epoch of `fit_classifier`, with all that it does beside."""
    x, y = images_of(batches)
    model = images.build(name, width=width).to(device)
    return lambda: fit_classifier(model, x, y, epochs=1, lr=0.01, batch_size=SIZE)
