"""The published source models as one table: each with its predictors, and with its accuracy after transfer.

A *run* is one target model with the sources that were compared with it: only these can be ranked together, because
another target has other images and other accuracies. A *recipe* is one architecture in one way of training. A run
counts if it has most recipes, so that architectures and ways are crossed.
"""

from typing import Any, Literal

import numpy as np
import pandas as pd

from advtransfer.experiments.protocol import SHORT
from advtransfer.records.published import Published, rows_of, series_of
from advtransfer.records.record import Record

PREDICTORS: dict[str, Literal[1, -1]] = {
    "source_accuracy": 1,
    "alpha1": 1,
    "alpha2": 1,
    "alpha12": 1,
    "distance": -1,
}
"""What may forecast the accuracy after transfer, and the sign that its correlation should have."""

COLUMNS = ("domain", "kind", "series", "run", "seed", "recipe", "model", *PREDICTORS, "transfer_accuracy", "of_target")
"""What is known of a source. ``kind`` is its way of training; ``model`` its architecture, or what else makes sources
alike: the classes that it has learnt, or its corpus. ``of_target``: it has learnt the target's own corpus."""

IMAGES = ("trained", "brief", "slim", "unaugmented", "robust", "few")
SUBSETS = "trained"
TEXTS = ("tuned", "brief", "few")
MOST = 0.8  # share of the recipes that a run must have


def image_sources(records: Published) -> pd.DataFrame:
    """The sources of image runs. Series on several targets, such as trained and trained-shift, are of one kind.

    The newer series of one seed share a target model if it was trained on the same kind of device; each of the older
    ones has its own. The distance is NaN where it was measured on images of one class alone.
    """
    parts = [rows_of({name: records[name]}).assign(device=_device(records[name])) for name in records]
    table = pd.concat(parts, ignore_index=True)
    spoilt = {name for name in records if matched_on_one_class(records[name])}
    table["distance"] = table["distance"].mask((table["series"] + "-seed" + table["seed"].astype(str)).isin(spoilt))
    kind = table["series"].str.removesuffix("-shift")
    run = table["target"] + ", seed " + table["seed"].astype(str) + table["device"]
    return _plain(
        table,
        domain="images, " + table["target"].map(SHORT),
        kind=kind,
        recipe=kind + " " + table["architecture"],
        run=run.where(kind.isin(IMAGES), run + ", " + kind),
        model=table["label"],
    )


def subset_sources(records: Published) -> pd.DataFrame:
    """The sources of Table 3, T→S: five networks that have learnt some classes of the target's domain or none.

    Both domains have the same five networks. Their own accuracy is no predictor here, for each has its own classes.
    """
    chosen = {name: record for name, record in records.items() if series_of(name).removesuffix("-shift") == SUBSETS}
    if not chosen:
        return pd.DataFrame()
    keys = ["series", "seed", "domain", "animals"]
    reached = rows_of(chosen)[[*keys, "target", "transfer_accuracy"]].astype({"animals": str})
    moved = rows_of(chosen, "transfers").query("attacked == 'target' and evaluated != 'target'")
    moved = moved.rename(columns={"evaluated": "similarity"}).astype({"similarity": str})
    learnt = rows_of(chosen)[["series", "seed", "domain", "similarity", "animals"]].astype(str).astype({"seed": int})
    table = moved.drop(columns="target").merge(learnt, on=["series", "seed", "domain", "similarity"])
    table = table.merge(reached, on=keys)
    return _plain(
        table.assign(source_accuracy=np.nan),
        domain="similar domains",
        kind=table["series"].str.removesuffix("-shift"),
        recipe=table["animals"] + " animals",
        run=table["target"] + ", " + table["domain"] + ", seed " + table["seed"].astype(str),
        model=table["animals"] + " animals",
    )


def text_sources(records: Published) -> pd.DataFrame:
    """The text models of the study of scores; own accuracy is that on the source's own corpus."""
    chosen = {name: record for name, record in records.items() if series_of(name).partition("-")[0] in TEXTS}
    table = rows_of(chosen)
    if table.empty:
        return table
    kind = table["series"].str.partition("-")[0]
    return _plain(
        table.rename(columns={"probe_accuracy": "transfer_accuracy"}),
        domain="texts",
        kind=kind,
        recipe=kind + " " + table["architecture"],
        run=table["target"] + ", seed " + table["seed"].astype(str),
        model=table["label"],
        of_target=table["architecture"] == table["target"],
    )


def matched_on_one_class(record: Record) -> bool:
    """Whether all Jacobians are of one class, as in early runs on Tiny ImageNet, which is sorted by class."""
    return record.config["target"] == "tiny-imagenet-10" and "matched" not in record.arrays


def _device(record: Record) -> str:
    return ", CPU" if record.provenance["device"].startswith("cpu") else ""


def complete(sources: pd.DataFrame) -> pd.DataFrame:
    """The sources of the runs that have most recipes of a domain."""
    return sources[sources.groupby("run")["recipe"].transform("nunique") >= MOST * sources["recipe"].nunique()]


def _unbiased(table: pd.DataFrame) -> pd.DataFrame:
    """The table with unbiased α2 and α1∗α2, where it has them, because numbers of samples differ between series."""
    names = [name for name in ("alpha2", "alpha12") if f"{name}_unbiased" in table]
    return table.assign(**{name: table[f"{name}_unbiased"] for name in names})


def _plain(table: pd.DataFrame, **about: "str | bool | pd.Series[Any]") -> pd.DataFrame:
    return _unbiased(table).assign(**{"of_target": False, **about})[list(COLUMNS)]
