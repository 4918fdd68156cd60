"""Whether data sets and encoders are in the data root and intact."""

from collections.abc import Callable, Iterable

from advtransfer.datasets import encoders, images, texts
from advtransfer.datasets.sources import DataUnavailable, source

_READERS: dict[str, Callable[[str], object]] = {
    "images": images.load,
    "text": texts.load_texts,
    "models": encoders.encoder_path,
}


def problems(names: Iterable[str]) -> list[str]:
    """One line for each data set or encoder that is missing or damaged, with the command that fetches it.

    Raises
    ------
    ValueError
        No data set has one of these names.
    """
    lines = []
    for name in names:
        try:
            _READERS[source(name).kind](name)
        except DataUnavailable as error:
            lines.append(str(error))
    return lines
