"""``python -m advtransfer publish``: add a record to those that come with the book."""

import argparse

from advtransfer.commands import parameters
from advtransfer.notebooks.read import read
from advtransfer.records import published, shipped, storage


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the options of ``publish``."""
    parser.add_argument("notebook", metavar="NOTEBOOK", help="a name such as cifar_to_stl, or a path")
    parser.add_argument("--name", required=True, help="name of the record, such as full-seed0")
    parameters.add_options(parser)
    parser.set_defaults(func=publish)


def publish(arguments: argparse.Namespace) -> int:
    """Compute the record if there is none, thin it and store it."""
    source = read(parameters.notebook(arguments))
    given = parameters.given(arguments)
    config = source.config(given)
    experiment = source.experiment.rpartition(".")[2]
    if not hasattr(source.experiment_module, "derive"):
        raise ValueError(
            f"{source.path.stem} has no per-sample data to publish; expected an experiment on images or texts"
        )
    if not shipped.is_checkout():
        raise ValueError(f"there is no checkout of the book at {shipped.CHECKOUT}; expected `pip install -e .` in one")
    published.check_place(arguments.name, experiment, config.model_dump(mode="json"))
    storage.check_writable(published.RESULTS / experiment)
    source.check_runnable(given)
    print(published.publish(source.experiment_module.run(config), arguments.name))
    return 0
