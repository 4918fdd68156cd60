"""The size of the runs behind a verdict, beside that of the paper's, in a few words."""

from collections.abc import Mapping
from typing import Any

from advtransfer.experiments.protocol import SHORT

WIDTH, EPOCHS = 64, 100  # of the released ResNets


def of_images(config: Mapping[str, Any], seeds: int = 1) -> str:
    """Of a run on images, such as "ResNets of width 32, not 64; 24 epochs, not 100; STL-10; 3 seeds".

    Parameters
    ----------
    config
        The parameters of the run: ``width``, ``epochs`` and ``target``.
    seeds
        How many runs differ in their seed alone.
    """
    width, epochs, target = config["width"], config["epochs"], SHORT[config["target"]]
    parts = [
        f"ResNets of width {width}{', not 64' * (width != WIDTH)}",
        f"{_counted(epochs, 'epoch')}{f', not {EPOCHS}' * (epochs != EPOCHS)}",
        f"{target}{', not STL-10' * (config['target'] != 'stl10')}",
        _counted(seeds, "seed"),
    ]
    return "; ".join(parts)


def of_texts(config: Mapping[str, Any], seeds: int = 1) -> str:
    """Of a run on texts, such as "minilm-l6, not BERT; at most 2,000 training texts of 64 tokens; 3 seeds"."""
    most, tokens = config["train_texts"], config["max_length"]
    limit = f"at most {most:,} training texts" if most else "all training texts"
    return f"{config['encoder']}, not BERT; {limit} of {tokens} tokens; {_counted(seeds, 'seed')}"


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"
