"""The size of runs and their target domains, beside those of the paper, in a few words."""

from collections.abc import Iterable, Mapping
from typing import Any

from advtransfer.experiments import protocol, text_protocol
from advtransfer.experiments.protocol import SHORT
from advtransfer.records.record import Record

WIDTH, EPOCHS = protocol.PAPER["width"], protocol.PAPER["epochs"]
BERT = text_protocol.PAPER["encoder"]
TARGETS = {
    "cifar10-shift": "CIFAR-10 under a shift of colour and blur",
    "tiny-imagenet-10": "ten classes of Tiny ImageNet",
    "stl10": "STL-10",
    "generated": "made-up images",
}


def targets(names: Iterable[str]) -> str:
    """Target domains in words, such as "ten classes of Tiny ImageNet, not STL-10"."""
    wanted = list(names)
    return f"{' and '.join(TARGETS[name] for name in wanted)}{', not STL-10' * ('stl10' not in wanted)}"


def of_images(records: Mapping[str, Record]) -> str:
    """Of runs on images, such as "ResNets of width 32 (released: 64); Tiny ImageNet (paper: STL-10); 3 seeds".

    Runs may differ in seed and target; those of another width or number of epochs follow. Empty where there is no run.
    """
    alike: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for record in records.values():
        alike.setdefault((record.config["width"], record.config["epochs"]), []).append(record.config)
    parts = []
    for (width, epochs), configs in alike.items():
        targets = list(dict.fromkeys(config["target"] for config in configs))
        parts += [
            f"ResNets of width {width}{f' (released: {WIDTH})' * (width != WIDTH)}",
            f"{_counted(epochs, 'epoch')}{f' (released: {EPOCHS})' * (epochs != EPOCHS)}",
            f"{' and '.join(SHORT[target] for target in targets)}{' (paper: STL-10)' * ('stl10' not in targets)}",
            _counted(len({config["seed"] for config in configs}), "seed"),
        ]
    return "; ".join(parts)


def of_texts(records: Mapping[str, Record]) -> str:
    """Of runs on texts, such as "minilm-l6 (paper: BERT); 2,000 training texts of at most 64 tokens; 3 seeds"."""
    if not records:
        return ""
    record = next(iter(records.values()))
    encoder, length = record.config["encoder"], record.config["max_length"]
    texts = f"{training_texts(record)} of at most {length} tokens" if length else training_texts(record)
    return f"{encoder}{' (paper: BERT)' * (encoder != BERT)}; {texts}; {_counted(len(records), 'seed')}"


def training_texts(record: Record) -> str:
    """How many training texts the corpora of a run have, such as "1,282 to 25,000 training texts"."""
    counts = record.tables["models"]["train_texts"]
    least, most = int(counts.min()), int(counts.max())
    return f"{least:,} to {most:,} training texts" if least < most else f"{most:,} training texts"


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"
