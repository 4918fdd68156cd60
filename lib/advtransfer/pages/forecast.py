"""The page of the one question: does α forecast transfer? Over the stored source models, within runs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from advtransfer.experiments import forecast
from advtransfer.experiments.forecast import FIXED, SCOPES
from advtransfer.experiments.pool import PREDICTORS
from advtransfer.pages import evidence, plots, tables, verdicts
from advtransfer.pages.verdicts import Finding, Verdict
from advtransfer.records.published import published
from advtransfer.records.record import Record
from advtransfer.statistics import Correlation

CLAIMED = {(predictor, scope) for predictor in ("alpha1", "alpha2", "alpha12") for scope in ("run", "other corpora")}
"""What the paper claims, for images and texts (its Table 3 attacks the sources); the rest are our own questions."""
NAMES = {"source_accuracy": "own accuracy", **plots.SYMBOLS, "chance": "chance"}


def load(config: forecast.Config) -> Record:
    """The stored sources, pooled."""
    return forecast.run(config)


# Verdicts.


def _row(record: Record, domain: str, scope: str, predictor: str = "alpha1") -> "pd.Series[Any] | None":
    table = record.tables["forecasts"]
    part = table[(table["domain"] == domain) & (table["scope"] == scope) & (table["predictor"] == predictor)]
    return None if part.empty else part.iloc[0]


def _verdict(record: Record, domain: str, scope: str, predictor: str = "alpha1") -> Verdict | None:
    row = _row(record, domain, scope, predictor)
    if row is None:
        return None
    score = Correlation(*row[list(Correlation._fields)])
    claim = f"{predictor} forecasts accuracy after transfer, {domain}: {SCOPES[scope]}"
    known = (predictor, scope) in CLAIMED and domain != "similar domains"
    units = int(row["rows"] * row["columns"])
    return Verdict.of(claim, score, "stored", sign=PREDICTORS[predictor], claimed=known, units=units)


def _domains(record: Record) -> list[str]:
    return list(dict.fromkeys(record.tables["forecasts"]["domain"]))


def _of_images(record: Record) -> pd.DataFrame:
    sources = record.tables["sources"]
    return sources[sources["domain"].str.startswith("images")]


def _images(record: Record) -> list[str]:
    return [domain for domain in _domains(record) if domain.startswith("images")]


def findings(record: Record) -> dict[str, Any]:
    """What other pages quote of this one."""
    return {
        "forecast_alpha1": (across := _over_images(record, "run", "alpha1")),
        "forecast_counted": verdicts.tally(across.verdicts),
        "forecast_accuracy": _over_images(record, "run", "source_accuracy"),
        "forecast_within": _over_images(record, "architecture", "alpha1"),
        "forecast_beyond": _over_images(record, "given accuracy", "alpha1"),
        "forecast_both": _over_images(record, "given both", "alpha1"),
        "forecast_similar": _one(record, "similar domains", "run", "as in Table 3"),
        "forecast_texts": _one(record, "texts", "other corpora", "MiniLM; five corpora, three ways"),
        "forecast_texts_all": _one(record, "texts", "run", ""),
        "forecast_alpha2": _over_images(record, "run", "alpha2"),
        "forecast_distance_plain": _over_images(record, "run", "distance"),
        "forecast_distance": _over_images(record, "given accuracy", "distance"),
        "forecast_choice": regret_sentence(record),
        "forecast_models": f"{_models(record)} models, {_size(record)}",
        **{f"forecast_said_{name}": " ".join(said) for name, said in sentences(record).items()},
    }


def _by_target(record: Record, scope: str, predictor: str) -> dict[str, Verdict]:
    """The verdicts on one predictor over the sources of each image target."""
    judged = {domain: _verdict(record, domain, scope, predictor) for domain in _images(record)}
    return {domain.removeprefix("images, "): verdict for domain, verdict in judged.items() if verdict}


def _over_images(record: Record, scope: str, predictor: str) -> Finding:
    """These verdicts as a `Finding`."""
    judged = _by_target(record, scope, predictor)
    parts = [f"{target} {verdict.correlation}, {verdict.said}" for target, verdict in judged.items()]
    return Finding("; ".join(parts) or "no stored runs", tuple(judged.values()), _size(record))


def _size(record: Record) -> str:
    """How large the image sources are that are pooled."""
    images = _of_images(record)
    made = list(_configs(images).values())
    if not made:
        return ""
    low, high = (pick(config["width"] for config in made) for pick in (min, max))
    least, most = (pick(config["epochs"] for config in made) for pick in (min, max))
    models, ways, targets = (images[name].nunique() for name in ("model", "kind", "domain"))
    return (
        f"{models} architectures in {ways} ways of training, ResNets of width {low} to {high}, {least} to {most} "
        f"epochs; {targets} targets"
    )


def _configs(images: pd.DataFrame) -> dict[str, Mapping[str, Any]]:
    """The parameters of each way of training: those of the first stored run of its series."""
    runs = published("vision")
    return {str(kind): next(iter(runs.series(str(kind)).values())).config for kind in images["kind"].unique()}


# The answer.


def answer(record: Record) -> str:
    """The answer as a list, its bold words first."""
    return tables.listed(*(f"**{words}** {numbers}" for words, numbers in sentences(record).values())) or NOTHING


NOTHING = "No run has been stored yet, so there is no answer."


def sentences(record: Record) -> dict[str, tuple[str, str]]:
    """The answer by question, each in words and in numbers; the words judge only where the numbers do."""
    across, own = (_by_target(record, "run", name) for name in ("alpha1", "source_accuracy"))
    within, beyond = (_by_target(record, scope, "alpha1") for scope in ("architecture", "given accuracy"))
    if not across:
        return {}
    judged = _holds(across, own, within)
    said = {
        "many": (
            "Over image models of many kinds, those with a larger α1 (T→S) tend to transfer better."
            if judged
            else "Over image models of many kinds, with α1 (T→S).",
            f"Spearman's correlation of α1 with accuracy after transfer is {_said(across)}.",
        ),
        "own": (
            "So do those with a higher accuracy on their own test images, which needs no attack."
            if judged
            else "Over the same models, with their accuracy on their own test images.",
            f"The correlation of own accuracy is {_pair(own)}. With own accuracy held fixed, that of α1 is "
            f"{_pair(beyond)}.",
        ),
        "within": (
            "Within one architecture it is not certain that α1 tells image models apart."
            if judged
            else "Within one architecture.",
            f"The correlation of α1 is {_pair(within)}.",
        ),
    }
    if similar := _verdict(record, "similar domains", "run"):
        said["similar"] = (
            f"Over image models from domains more or less similar to the target's: {similar.said}.",
            f"The correlation of α1 is {_counted(record, 'similar domains', 'run')} (T→S; Table 3 attacks the sources "
            "instead).",
        )
    if texts := _verdict(record, "texts", "other corpora"):
        said["texts"] = (
            f"Over text models that have not learnt the target's own corpus: {texts.said}.",
            f"The correlation of α1 (T→S) is {_counted(record, 'texts', 'other corpora')}. With those that have, it is "
            f"{_counted(record, 'texts', 'run')}: {_one(record, 'texts', 'run', '').verdicts[0].said}.",
        )
    return said


def _counted(record: Record, domain: str, scope: str) -> str:
    """The correlation, and how many sources each of how many runs has."""
    row, found = _row(record, domain, scope), _verdict(record, domain, scope)
    if row is None or found is None:
        return "–"
    size = f"{row['runs']} runs of {round(row['n'] / row['runs'])} sources"
    return f"{found.cell}, p = {tables.probability(found.p)}, {size}"


def _one(record: Record, domain: str, scope: str, size: str) -> Finding:
    """The finding on α1 in one domain."""
    found = _verdict(record, domain, scope)
    if found is None:
        return Finding("no stored runs")
    return Finding(f"{_counted(record, domain, scope)}: {found.said}", (found,), size)


def _models(record: Record) -> int:
    """How many image sources are pooled, each counted once."""
    return len(_of_images(record)[["recipe", "seed"]].drop_duplicates())


def _holds(across: dict[str, Verdict], own: dict[str, Verdict], within: dict[str, Verdict]) -> bool:
    """Whether the numbers say what the bold words of the answer say."""
    return (
        all(verdict.low > 0 for verdict in (*across.values(), *own.values()))
        and any(verdict.word == "reproduced" for verdict in across.values())
        and all(verdict.word == "reproduced" for verdict in own.values())
        and all(verdict.word != "reproduced" for verdict in within.values())
        and not any(own[target].high < across[target].estimate for target in across)
    )


def figure(record: Record) -> Figure:
    """Spearman's correlations within runs, of α1 and of own accuracy, by domain and scope."""
    table = record.tables["forecasts"]
    own = (table["predictor"] == "source_accuracy") & ~table["scope"].isin(FIXED)
    shown = table[own | (table["predictor"] == "alpha1")]
    return plots.forest(shown.assign(scope=shown["scope"].map(SCOPES)))


def numbers(record: Record) -> pd.DataFrame:
    """The numbers behind the figure, with the verdict on α1."""
    rows = []
    for domain in _domains(record):
        for scope, words in SCOPES.items():
            alpha1, own = (_verdict(record, domain, scope, name) for name in ("alpha1", "source_accuracy"))
            if alpha1 is None:
                continue
            row = {"sources": domain.removeprefix("images, "), "compared": words}
            row |= {r"$\alpha_1$": alpha1.cell, "p": tables.probability(alpha1.p), "verdict": alpha1.said}
            rows.append({**row, "own accuracy": own.cell if own else "–", "n": alpha1.n})
    return pd.DataFrame(rows)


def ahead(record: Record) -> str:
    """How far own accuracy is ahead of α1, with intervals from the same draws."""
    parts = []
    for domain in _images(record):
        row = _row(record, domain, "run")
        if row is not None:
            parts.append(f"{tables.estimate(row, 'ahead')} ({domain.removeprefix('images, ')})")
    return (
        f"The correlation of own accuracy minus that of α1, over all sources of a run: {'; '.join(parts)}."
        if parts
        else ""
    )


def others(record: Record) -> pd.DataFrame:
    """The other predictors: over all sources of a run, and with own accuracy held fixed."""
    rows = []
    for domain in _domains(record):
        for predictor in ("alpha2", "alpha12", "distance"):
            row = {"sources": domain.removeprefix("images, "), "predictor": NAMES[predictor]}
            for scope in ("run", "given accuracy"):
                if found := _verdict(record, domain, scope, predictor):
                    row |= {SCOPES[scope]: found.cell, f"verdict, {SCOPES[scope]}": found.said}
            rows.append(row)
    return pd.DataFrame(rows).fillna("–")


def about_distance(record: Record) -> str:
    """What the relative distances of the sources say of the theory."""
    low, middle, high = np.quantile(_of_images(record)["distance"], [0, 0.5, 1])
    explained = 100 * (1 - low**2)
    return (
        f"The relative distances lie between {tables.number(low, 4)} and {tables.number(high, 4)}, half of them above "
        f"{tables.number(middle, 4)}; 1 would mean that no linear map explains anything. So the best map explains at "
        f"most {explained:.1f}% of the mean square of the target model's Jacobian. The theory speaks of networks whose "
        "gradients a linear map matches; these networks are not among them, whatever their α1."
        f"{evidence.matched_on_one_class()}"
    )


def rule(record: Record) -> str:
    """How the verdicts are made."""
    sources = "correlation over sources, 5 architectures × 6 ways: crossed"
    fixed = "correlation over sources, one variable held fixed: crossed"
    return (
        f"{verdicts.RULE}; *found* is their word where the paper claims nothing. The claimed sign is "
        "negative for the distance and positive for the rest. In simulations of crossed sources like these an "
        f"interval holds the truth in {evidence.held(sources, 30)}, and p is at most 0.05 in "
        f"{evidence.rejected(sources, 30)} where there is nothing to find, with a variable held fixed in "
        f"{evidence.rejected(fixed, 30)} ({{ref}}`intervals-checked`); the rows of similar domains and texts were not "
        f"simulated. *About the same accuracy* means in one band of {100 * record.config['band']:.0f} points. In the "
        "rows where own accuracy is held fixed, the column *own accuracy* has the correlation of own accuracy with α1 "
        "held fixed. A dash stands where own accuracies belong to different tasks. In n a source counts once per run. "
        "The table has no correction for its number of rows."
    )


# The sources.


def points(record: Record) -> Figure:
    """Accuracy after transfer against own accuracy, α1 and the distance, one point per source and image target."""
    return plots.sources(_of_images(record))


def recipes(record: Record) -> pd.DataFrame:
    """What the sources of each image series are, from the parameters of the runs."""
    images, rows = _of_images(record), []
    configs = _configs(images)
    for kind, part in images.groupby("kind", sort=False):
        config = configs[str(kind)]
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
    sources, images = record.tables["sources"], _of_images(record)
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
            f"each: ResNet18s (width {made['width']} of 64, {made['epochs']} epochs), of whose four classes none to "
            "all belong to the target's domain. "
        )
    if len(texts):
        text += (
            f"The texts of {{doc}}`the study of scores <study>` add {texts['run'].nunique()} runs of "
            f"{texts['recipe'].nunique()} sources: MiniLM fine-tuned on {texts['model'].nunique()} corpora in "
            f"{texts['kind'].nunique()} ways. Their accuracy after transfer is that of a linear probe."
        )
    return text


def _attacks(images: pd.DataFrame) -> str:
    """The radius and the steps of the attacks on image models, for pixels from 0 to 1."""
    told = [f"ε = {config['eps']:g}, {config['attack_steps']} steps" for config in _configs(images).values()]
    return "; ".join(dict.fromkeys(told))


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
    return (
        f"Over all {rows[0]['n']} pairs of a stored source and a target, each within its run, the correlation with α1 "
        f"is {said[0]}. The older "
        "series are not only less trained. Their target models are weaker, too, and fewer images were attacked; so "
        "what lowers the correlation there cannot be told. If all sources are ranked together, whatever their target "
        f"model is, it is {said[1]}; over the newer series alone, whose target models are alike, it is {said[2]}. So "
        "compare sources within a run."
    )


def limits(record: Record) -> str:
    """What no interval of this page knows."""
    runs = _of_images(record).groupby("domain")["run"].nunique()
    least, most = runs.min(), runs.max()
    models = f"{least}" if least == most else f"{least} or {most}"
    return (
        "Four limits remain. The architectures and ways of training are not a sample of anything: another choice of "
        f"widths and epochs would give other numbers. Each target has {models} target model{'s' if most > 1 else ''}, "
        "and target models are not drawn, so no interval says how much others would change. A partial correlation "
        "removes only what is linear in the rank of own accuracy. And shifted CIFAR-10 has the sources' own classes, "
        "and its test images are those on which own accuracy is measured, before the shift: both favour own accuracy."
    )


# Choices.


def choices(record: Record) -> pd.DataFrame:
    """What one loses by trusting each predictor, in points of accuracy."""
    rows = []
    for _, row in record.tables["choices"].iterrows():
        rows.append(
            {
                "sources": row["domain"].removeprefix("images, "),
                "trusted": NAMES[row["predictor"]],
                "lost, of a few": tables.estimate(row, "regret", scale=100, digits=1),
                "more than by own accuracy": "–"
                if row["predictor"] == "source_accuracy"
                else tables.estimate(row, "more", scale=100, digits=1),
                "lost, of all": tables.number(100 * row["regret_all"], 1),
                "error of the forecast": tables.estimate(row, "error", scale=100, digits=1),
            }
        )
    return pd.DataFrame(rows)


def about_choices(record: Record) -> str:
    """What the table of choices rests on."""
    table = record.tables["choices"]
    if table.empty:
        return "No run has sources enough to choose from."
    first, few = table.iloc[0], record.config["candidates"]
    return (
        f"*Lost, of a few* is what a choice among {few} sources costs, averaged over all ways to draw {few} of a run: "
        "the accuracy of the best of them after transfer, minus that of the one that the predictor puts first. *More "
        "than by own accuracy* is the difference, from the same draws. *Lost, of all* is the same among all sources of "
        "a run. *Error of the forecast* "
        "is how far a straight line in the predictor, fitted to the other recipes of the run, is off at a recipe that "
        "it has not seen. All are points of accuracy. A draw holds some sources twice and so has fewer to lose by, "
        "which is why chance is near the upper end of its interval. Intervals draw whole architectures and whole ways "
        "of training, but not target models; in simulations those of what is lost hold the truth in "
        f"{evidence.held('regret among five, 5 architectures × 6 ways: crossed', 30)}. Runs: {first['runs']} per "
        "target."
    )


def regret_sentence(record: Record) -> str:
    """What trusting α1 loses, beside own accuracy and chance."""
    table, parts = record.tables["choices"], []
    for domain, part in table.groupby("domain", sort=False):
        lost = {row["predictor"]: tables.number(100 * row["regret"], 1) for row in part.to_dict("records")}
        parts.append(
            f"{lost['source_accuracy']} points by own accuracy, {lost['alpha1']} by α1 and {lost['chance']} by chance "
            f"({str(domain).removeprefix('images, ')})"
        )
    if not parts:
        return "No run has sources enough to choose from."
    few, more = record.config["candidates"], table[table["predictor"] == "alpha1"]
    apart = " and ".join(tables.estimate(row, "more", scale=100, digits=1) for _, row in more.iterrows())
    every = [
        " and ".join(tables.number(100 * value, 1) for value in table[table["predictor"] == name]["regret_all"])
        for name in ("source_accuracy", "alpha1")
    ]
    return (
        f"A choice among {few} sources costs {'; '.join(parts)}. By α1 it costs {apart} points more. Among all sources "
        f"of a run own accuracy loses {every[0]} points, α1 {every[1]}; but one pick per target is mostly luck."
    )


def _said(judged: dict[str, Verdict]) -> str:
    """The estimate on each target with its verdict."""
    return " and ".join(f"{verdict.cell} on {target} ({verdict.said})" for target, verdict in judged.items())


def _pair(judged: dict[str, Verdict]) -> str:
    """The estimates with their intervals alone; the sentence before names the targets."""
    return " and ".join(verdict.cell for verdict in judged.values())


def spread(record: Record) -> str:
    """How different the own accuracies of the image sources are."""
    own = 100 * _of_images(record)["source_accuracy"]
    low, middle, high = np.quantile(own, [0, 0.5, 1])
    return f"Own accuracies run from {low:.0f} to {high:.0f}%, half of them above {middle:.0f}%."
