"""The source models that are pooled to ask whether α forecasts transfer, and what a choice among them costs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from advtransfer.experiments import crossed
from advtransfer.experiments.pool import SUBSETS, TEXTS
from advtransfer.experiments.protocol import SHORT
from advtransfer.pages import evidence, plots, tables
from advtransfer.records.published import published, rows_of, series_of
from advtransfer.records.record import Record

LOST = "regret among five, 5 architectures × 6 ways: crossed"
"""What the simulations of the intervals call the points lost."""
NAMES = {"source_accuracy": "own accuracy", **plots.SYMBOLS, "chance": "chance"}


def of_images(record: Record) -> pd.DataFrame:
    """The rows of the sources of images."""
    sources = record.tables["sources"]
    return sources[sources["domain"].str.startswith("images")]


def configs(images: pd.DataFrame) -> dict[str, Mapping[str, Any]]:
    """The parameters of each way of training: those of the first stored run of its series."""
    return {kind: record.config for kind, record in _first(images).items()}


def _first(images: pd.DataFrame) -> dict[str, Record]:
    """The first stored run of each way of training."""
    runs = published("vision")
    return {str(kind): next(iter(runs.series(str(kind)).values())) for kind in images["kind"].unique()}


def points(record: Record) -> Figure:
    """Accuracy after transfer against own accuracy, α1 and the distance, one point per source and image target."""
    return plots.sources(of_images(record))


def recipes(record: Record) -> pd.DataFrame:
    """What the sources of each image series are, from the parameters of the runs."""
    images, rows = of_images(record), []
    made = configs(images)
    for kind, part in images.groupby("kind", sort=False):
        config = made[str(kind)]
        rows.append(
            {
                "series": f"`{kind}`",
                "widths": f"{config['width']}, {config['plain_width']}",
                "epochs": f"{config['epochs']}, {config['plain_epochs']}",
                "images": f"{config['train_images']:,}",
                "augmented": "yes" if config["augment"] else "no",
                "PGD, ε": f"{255 * config['robust_eps']:g}/255" if config["robust_eps"] else "no",
                "own accuracy, %": f"{100 * part['source_accuracy'].min():.0f} to "
                f"{100 * part['source_accuracy'].max():.0f}",
                "seeds": part["seed"].nunique(),
            }
        )
    return pd.DataFrame(rows)


def about_sources(record: Record) -> str:
    """What is pooled, and what is not."""
    sources, images = record.tables["sources"], of_images(record)
    models, texts = images[["recipe", "seed"]].drop_duplicates(), sources[sources["domain"] == "texts"]
    text = (
        f"For images there are **n = {len(models)} source models of {images['recipe'].nunique()} recipes**, "
        f"{images['model'].nunique()} architectures in {images['kind'].nunique()} ways of training, each transferred "
        f"to {images['domain'].nunique()} targets, in {images['run'].nunique()} runs: a run is one target model with "
        "its sources. Only runs with at least 80% of the recipes count. Accuracy after transfer is that of a new last "
        f"layer, while the statistics of BatchNorm adapt. The attack is PGD in ℓ∞: {_attacks(images)}. "
    )
    if len(subsets := sources[sources["domain"] == "similar domains"]):
        made = next(iter(published("similarity").series(subsets["series"].iloc[0]).values())).config
        text += (
            f"The similar domains of {{doc}}`Table 3 <similarity>` add {subsets['run'].nunique()} runs of five sources "
            f"each: ResNet18s (width {made['width']} of 64, {made['epochs']} epochs), each of which has learnt "
            "four classes; 0 to 4 of these belong to the target's domain. "
        )
    if len(texts):
        text += (
            f"The texts of {{doc}}`the study of scores <study>` add {texts['run'].nunique()} runs of "
            f"{texts['recipe'].nunique()} sources: MiniLM fine-tuned on {texts['model'].nunique()} corpora in "
            f"{texts['kind'].nunique()} ways. Their accuracy after transfer is that of a linear probe."
        )
    return text


def _attacks(images: pd.DataFrame) -> str:
    """The radius, the steps and the images of the attacks on image models, for pixels from 0 to 1."""
    made: dict[str, list[str]] = {}
    for kind, record in _first(images).items():
        config, attacked = record.config, record.tables["sources"]["n"].max()
        attack = (
            f"ε = {config['eps']:g}, {config['attack_steps']} steps, {attacked:,} images that the target model "
            "classifies correctly"
        )
        made.setdefault(attack, []).append(f"`{kind}`")
    return "; ".join(f"{attack} ({', '.join(kinds)})" for attack, kinds in made.items())


def beside_target(record: Record) -> tuple[str, str] | None:
    """How many sources are better than the target model itself, in words and in numbers; over all stored runs."""
    run = ["series", "seed"]
    stored, images = published("vision"), of_images(record)
    targets = rows_of(stored, "models").query("role == 'target'")[[*run, "accuracy"]]
    pairs = rows_of(stored).merge(targets, on=run)
    if pairs.empty:
        return None
    gains = pairs["transfer_accuracy"] - pairs["accuracy"]
    pooled = pairs.merge(images[run].drop_duplicates(), on=run)
    told = [
        f"{' to '.join(dict.fromkeys(f'{100 * end:.1f}' for end in part['accuracy'].agg(['min', 'max'])))}% "
        f"({SHORT[str(name)]})"
        for name, part in pooled.groupby("target", sort=False)
    ]
    most = f", by at most {100 * gains.max():.1f} points" if (gains > 0).any() else ""
    return (
        "The source with a new last layer is better than the target model itself in "
        f"{_better(pooled)} pairs of an image model and a target.",
        f"The target models were trained on the target's images alone, and classify {' and '.join(told)} of the test "
        f"images correctly. Over all stored runs, less trained ones too, the source is better in {_better(pairs)} "
        f"pairs{most}. {_beside_similar()} {_beside_texts()} So these runs show how α1 orders sources, and little of "
        "whether transfer pays.",
    )


def _better(pairs: pd.DataFrame) -> str:
    """In how many pairs the source is better after transfer than the target model, in words."""
    better = int((pairs["transfer_accuracy"] > pairs["accuracy"]).sum())
    return f"{better or 'none'} of {len(pairs)}"


def _beside_texts() -> str:
    """In how many pairs of text models the source is better than the target model; empty if none are stored."""
    made = published("selection_texts")
    kept = {name: record for name, record in made.items() if series_of(name).partition("-")[0] in TEXTS}
    if not kept:
        return ""
    rows = rows_of(kept).rename(columns={"probe_accuracy": "transfer_accuracy"})
    of_target = {
        (series_of(name), record.config["seed"]): record.arrays["target_accuracy"] for name, record in kept.items()
    }
    rows["accuracy"] = [float(of_target[run]) for run in zip(rows["series"], rows["seed"], strict=True)]
    rows["own"] = rows["architecture"] == rows["target"]
    least, most = (int(rows["accuracy"].agg(pick) * 100 + 0.5) for pick in ("min", "max"))
    return (
        f"Among text models it is better in {_better(rows[~rows['own']])} pairs, and in {_better(rows[rows['own']])} "
        "where the source has learnt the target's own corpus; the target models there have seen only "
        f"{next(iter(kept.values())).config['target_texts']} texts, and {least} to {most}% of their answers are right."
    )


def _beside_similar() -> str:
    """In how many pairs of Table 3 the source is better than the target model; empty if none are stored."""
    made = [record for name, record in published("similarity").items() if _is_subset(name)]
    if not made:
        return ""
    rows = pd.concat(
        record.tables["sources"].merge(record.tables["targets"][["domain", "accuracy"]], on="domain") for record in made
    )
    whole = rows[rows["similarity"] == rows["similarity"].max()]
    return (
        f"Among sources of similar domains it is better in {_better(rows)} pairs, and in {_better(whole)} where the "
        "source has learnt the whole domain."
    )


def _subset_rows() -> pd.DataFrame:
    """The sources of Table 3 in all stored runs."""
    made = published("similarity")
    return rows_of({name: made[name] for name in made if _is_subset(name)})


def _is_subset(name: str) -> bool:
    return series_of(name).removesuffix("-shift") == SUBSETS


def of_shared_classes() -> float:
    """Spearman's correlation within the runs of Table 3 of accuracy after transfer with the share of common classes."""
    return within_runs(_subset_rows(), ["target", "domain", "seed"], "similarity")


def within_runs(rows: pd.DataFrame, run: list[str], predictor: str) -> float:
    """Spearman's correlation within runs of accuracy after transfer with a predictor."""
    groups = [rows[name] for name in run]
    ranks = rows.groupby(groups)[[predictor, "transfer_accuracy"]].rank()
    centred = ranks - ranks.groupby(groups).transform("mean")
    return float(centred.corr().to_numpy()[0, 1])


def beyond_shared_classes(record: Record) -> str:
    """The correlation of α1 in the runs of Table 3 with the number of common classes held fixed, with its interval."""
    sources = record.tables["sources"].query("domain == 'similar domains'")
    rows = _subset_rows()
    run = rows["target"] + ", " + rows["domain"] + ", seed " + rows["seed"].astype(str)
    shared = rows.assign(run=run, model=rows["animals"].astype(str) + " animals")[["run", "model", "similarity"]]
    both = sources.merge(shared, on=["run", "model"])
    ranks = both.groupby("run")[["alpha1", "transfer_accuracy", "similarity"]].rank()
    made_of = crossed.design(both, "model", "kind", ["run"])
    x, y, given = (ranks[name].to_numpy() for name in ("alpha1", "transfer_accuracy", "similarity"))
    found = crossed.correlate(made_of, x, y, given)
    return f"{tables.interval(found.r, found.low, found.high, n=5)}, {tables.p_value(found.p)}"


def networks_of_subsets() -> int:
    """How many networks the runs of Table 3 have, on all targets and domains together."""
    rows = _subset_rows()
    return len(rows[["seed", "animals"]].drop_duplicates())


def spread(record: Record) -> str:
    """How different the own accuracies of the image sources are."""
    own = 100 * of_images(record)["source_accuracy"]
    low, middle, high = np.quantile(own, [0, 0.5, 1])
    return f"Own accuracies run from {low:.0f} to {high:.0f}%, half of them above {middle:.0f}%."


def by_series(record: Record) -> pd.DataFrame:
    """Correlations within runs for every stored series, old and new; and over all sources."""
    table, rows = record.tables["series"], []
    for series, part in table.groupby("series", sort=False):
        own, alpha1 = (part[part["predictor"] == name].iloc[0] for name in ("source_accuracy", "alpha1"))
        rows.append(
            {
                "series": TOGETHER.get(str(series), f"`{series}`"),
                "own accuracy, %": f"{100 * own['low_accuracy']:.0f} to {100 * own['high_accuracy']:.0f}",
                "n": own["n"],
                "Spearman, own accuracy": _cell(own),
                r"Spearman, $\alpha_1$": _cell(alpha1),
            }
        )
    return pd.DataFrame(rows)


def _cell(row: Mapping[Any, Any] | pd.Series) -> str:
    return tables.interval(row["r"], row["low"], row["high"], n=row["rows"] * row["columns"])


TOGETHER = {
    "all": "all, within runs",
    "ranked together": "all, ranked together",
    "new, ranked together": "the newer ones, ranked together",
}


def about_series(record: Record) -> str:
    """What the older series change, and what ranking all sources together does."""
    table = record.tables["series"].query("predictor == 'alpha1'").set_index("series")
    rows = [row for name in TOGETHER for row in table.loc[[name]].to_dict("records")]
    said = [_cell(row) for row in rows]
    kinds = of_images(record)["kind"].unique()
    steps = {name: each.config["attack_steps"] for name, each in published("vision").items()}
    new = sorted({count for name, count in steps.items() if series_of(name).removesuffix("-shift") in kinds})
    old = sorted({count for name, count in steps.items() if series_of(name).removesuffix("-shift") not in kinds})
    attacks = f", and their attacks have {_or(old)} steps instead of {_or(new)}" if old and old != new else ""
    return (
        f"Over all {rows[0]['n']} pairs of a stored source and a target, each within its run, the correlation with α1 "
        f"is {said[0]}. The older "
        f"series are not only less trained. Their target models are weaker, too{attacks}; so "
        "we cannot say which of these lowers the correlation there. If all sources are ranked together, whatever "
        f"their target model is, it is {said[1]}; over the newer series alone, whose target models are alike, it is "
        f"{said[2]}. So compare sources within a run."
    )


def _or(numbers: list[int]) -> str:
    return " or ".join(map(str, numbers))


def limits(record: Record) -> str:
    """What no interval of this page knows."""
    runs = of_images(record).groupby("domain")["run"].nunique()
    least, most = runs.min(), runs.max()
    models = f"{least}" if least == most else f"{least} or {most}"
    return (
        "Five limits remain. The attack is one of many, and {doc}`its radius matters <ablations>`. The architectures "
        "and ways of training are not a sample of anything: another choice of widths and epochs would give other "
        f"numbers. Each target has {models} target model{'s' if most > 1 else ''}, "
        "and target models are not drawn, so no interval says how much other target models would change the numbers. A "
        "partial correlation removes only what is linear in the rank of own accuracy. And shifted CIFAR-10 has the "
        "sources' own classes, and its test images are those on which own accuracy is measured, before the shift: both "
        "favour own accuracy."
    )


def choices(record: Record) -> pd.DataFrame:
    """What one loses by trusting each predictor, in points of accuracy."""
    rows = []
    for _, row in record.tables["choices"].iterrows():
        rows.append(
            {
                "sources": row["domain"].removeprefix("images, "),
                "trusted": NAMES[row["predictor"]],
                "points lost, choosing among a few": tables.estimate(row, "regret", scale=100, digits=1),
                "points more than by own accuracy": "–"
                if row["predictor"] == "source_accuracy"
                else tables.estimate(row, "more", scale=100, digits=1),
                "points lost, choosing among all": tables.number(100 * row["regret_all"], 1),
                "error of the forecast, points": tables.estimate(row, "error", scale=100, digits=1),
            }
        )
    return pd.DataFrame(rows)


def about_choices(record: Record) -> str:
    """What the table of choices rests on."""
    table = record.tables["choices"]
    if table.empty:
        return "No run has sources enough to choose from."
    first, few = table.iloc[0], record.config["candidates"]
    fewest = int(table["runs"].min())
    fewer = (
        f", {fewest} where the distances of others are {{ref}}`left out <distances>`" if fewest < first["runs"] else ""
    )
    return (
        f"*Points lost, choosing among a few* is what a choice among {few} sources costs, averaged over all ways to "
        f"draw {few} of a run: the accuracy of the best of them after transfer, minus that of the one that the "
        "predictor puts first. *Points more than by own accuracy* is the difference, from the same draws. *Points "
        "lost, choosing among all* is the same among all sources of a run. *Error of the forecast* "
        "is how far a straight line in the predictor, fitted to the other recipes of the run, is off at a recipe that "
        "it has not seen. All are points of accuracy. A bootstrap draw contains some sources twice, so fewer "
        "different sources remain and less can be lost; this is why chance is near the upper end of its interval. "
        "Intervals draw whole architectures and whole ways of training, but not target models. In simulations the "
        f"intervals of the points lost hold the truth in {evidence.held(LOST, 30)}. "
        f"Target models: {first['runs']} per target{fewer}."
    )


def among_few(record: Record) -> str:
    """What a choice among a few loses by α1, by own accuracy and by chance."""
    table, parts = record.tables["choices"], []
    for domain, part in table.groupby("domain", sort=False):
        lost = {row["predictor"]: tables.number(100 * row["regret"], 1) for row in part.to_dict("records")}
        parts.append(
            f"{lost['source_accuracy']} points by own accuracy, {lost['alpha1']} by α1 and {lost['chance']} by chance "
            f"({str(domain).removeprefix('images, ')})"
        )
    if not parts:
        return "No run has sources enough to choose from."
    return f"A choice among {record.config['candidates']} sources costs {'; '.join(parts)}."


def regret_sentence(record: Record) -> str:
    """What trusting α1 loses, beside own accuracy and chance."""
    table = record.tables["choices"]
    if table.empty:
        return among_few(record)
    more = table[table["predictor"] == "alpha1"]
    apart = " and ".join(tables.estimate(row, "more", scale=100, digits=1) for _, row in more.iterrows())
    every = [
        " and ".join(tables.number(100 * value, 1) for value in table[table["predictor"] == name]["regret_all"])
        for name in ("source_accuracy", "alpha1")
    ]
    return (
        f"{among_few(record)} A choice by α1 costs {apart} points more than one by own accuracy (such intervals were "
        "not simulated). If all sources "
        f"of a run are candidates, own accuracy loses {every[0]} points and α1 {every[1]}; but one pick per run is "
        "mostly luck."
    )
