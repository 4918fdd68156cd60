"""What comes with the package: addresses of data sets, the printed tables, assignments and published runs.

A checkout has them in the folders ``data`` and ``notebooks``. A wheel has a copy without the published runs.
"""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
CHECKOUT = PACKAGE.parents[1]


def folder() -> Path:
    """The folder that has ``sources.toml``, ``known_accuracies.csv`` and ``paper``."""
    installed = PACKAGE / "shipped"
    return installed if installed.is_dir() else CHECKOUT / "data"


def assignments() -> Path:
    """The folder of the instructor's sources of the assignments."""
    installed = PACKAGE / "shipped" / "assignments"
    return installed if installed.is_dir() else CHECKOUT / "notebooks" / "assignments"


def notebook(name: str) -> Path:
    """The source of a notebook that commands execute."""
    installed = PACKAGE / "shipped" / f"{name}.md"
    return installed if installed.is_file() else CHECKOUT / "notebooks" / f"{name}.md"


def results() -> Path:
    """The folder of the published runs. It does not exist if the package was installed from a wheel."""
    return CHECKOUT / "data" / "results"
