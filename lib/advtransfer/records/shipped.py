"""What comes with the package: addresses of data sets, the printed tables, assignments and published runs.

A checkout has them in the folders ``data`` and ``notebooks``. A wheel has a copy without the published runs.
"""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
CHECKOUT = PACKAGE.parents[1]


def is_checkout() -> bool:
    """Whether the package is imported from a checkout, as after ``pip install -e .``."""
    return (CHECKOUT / "data" / "sources.toml").is_file()


def _place(installed: str, in_checkout: str) -> Path:
    shipped = PACKAGE / "shipped" / installed
    return shipped if shipped.exists() else CHECKOUT / in_checkout


def folder() -> Path:
    """The folder that has ``sources.toml``, ``known_accuracies.csv`` and ``paper``."""
    return _place(".", "data")


def assignments() -> Path:
    """The folder of the instructor's sources of the assignments."""
    return _place("assignments", "notebooks/assignments")


def notebook(name: str) -> Path:
    """The source of a notebook that commands execute."""
    return _place(f"{name}.md", f"notebooks/{name}.md")


def results() -> Path:
    """The folder of the published runs. It does not exist if the package was installed from a wheel."""
    return CHECKOUT / "data" / "results"
