"""The page of the one question: does α forecast transfer? Over all stored source models, within runs."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from advtransfer.experiments import forecast
from advtransfer.experiments.forecast import PREDICTORS, SCOPES
from advtransfer.pages import evidence, plots, tables, verdicts
from advtransfer.pages.verdicts import Finding, Verdict
from advtransfer.records.published import published
from advtransfer.records.record import Record
from advtransfer.statistics import Correlation

CLAIMED = {(predictor, scope) for predictor in ("alpha1", "alpha2", "alpha12") for scope in ("run", "architecture")}
"""What the paper claims; the rest are questions of this book."""
NAMES = {"source_accuracy": "own accuracy", **plots.SYMBOLS, "chance": "chance"}


def load(config: forecast.Config) -> Record:
    """The stored sources, pooled."""
    return forecast.run(config)


# Verdicts.


def _verdict(record: Record, domain: str, scope: str, predictor: str = "alpha1") -> Verdict | None:
    table = record.tables["forecasts"]
    part = table[(table["domain"] == domain) & (table["scope"] == scope) & (table["predictor"] == predictor)]
    if part.empty:
        return None
    score = Correlation(*part.iloc[0][list(Correlation._fields)])
    word = verdicts.judge_correlation(score, claimed=PREDICTORS[predictor])
    claim = f"{predictor} forecasts accuracy after transfer, {domain}: {SCOPES[scope]}"
    return Verdict.of(claim, score, word, "stored", claimed=(predictor, scope) in CLAIMED)


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
        "forecast_alpha1": _over_images(record, "run", "alpha1"),
        "forecast_accuracy": _over_images(record, "run", "source_accuracy"),
        "forecast_within": _over_images(record, "architecture", "alpha1"),
        "forecast_beyond": _over_images(record, "given accuracy", "alpha1"),
        "forecast_distance": _over_images(record, "given accuracy", "distance"),
        "forecast_choice": regret_sentence(record),
        "forecast_in_short": in_short(record),
    }


def _by_target(record: Record, scope: str, predictor: str) -> dict[str, Verdict]:
    """The verdicts on one predictor over the sources of each image target."""
    judged = {domain: _verdict(record, domain, scope, predictor) for domain in _images(record)}
    return {domain.removeprefix("images, "): verdict for domain, verdict in judged.items() if verdict}


def _over_images(record: Record, scope: str, predictor: str) -> Finding:
    """The same as a finding."""
    judged = _by_target(record, scope, predictor)
    parts = [f"{target} {verdict.correlation}, {verdict.said}" for target, verdict in judged.items()]
    return Finding("; ".join(parts) or "no stored runs", tuple(judged.values()), _size(record))


def _size(record: Record) -> str:
    """How large the image sources are that are pooled."""
    images = _of_images(record)
    made = [next(iter(published("vision").series(str(kind)).values())).config for kind in images["kind"].unique()]
    if not made:
        return ""
    low, high = (pick(config["width"] for config in made) for pick in (min, max))
    least, most = (pick(config["epochs"] for config in made) for pick in (min, max))
    recipes, targets = images["recipe"].nunique(), images["domain"].nunique()
    return f"{recipes} recipes, ResNets of width {low} to {high}, {least} to {most} epochs; {targets} targets"


# The answer.


def answer(record: Record) -> str:
    """The answer in four sentences, written from the numbers; the figure has the intervals."""
    across, own = (_by_target(record, "run", name) for name in ("alpha1", "source_accuracy"))
    within, beyond = (_by_target(record, scope, "alpha1") for scope in ("architecture", "given accuracy"))
    within_own = _by_target(record, "architecture", "source_accuracy")
    if not across:
        return "No run has been stored yet, so there is no answer."
    said = (
        ("Over all sources of a run, α1 ranks them well", "Over all sources of a run"),
        ("Within one architecture it is not certain that it tells sources apart", "Within one architecture"),
        ("The source's accuracy on its own images, which needs no attack, does no worse", "Own accuracy"),
    )
    first, second, third = (f"**{bold}**" if _holds(across, own, within) else plain for bold, plain in said)
    return (
        f"{first}: Spearman's correlation of α1 with accuracy after transfer is {_bare(across)}. {second}: "
        f"{_pair(within)}. {third}: {_pair(own)}, and within one architecture {_pair(within_own)}. With own accuracy "
        f"held fixed, α1 has {_pair(beyond)}. {regret_sentence(record)}"
    )


def in_short(record: Record) -> str:
    """The answer for the first page, in words where the numbers say so."""
    across, own = (_by_target(record, "run", name) for name in ("alpha1", "source_accuracy"))
    within, beyond = (_by_target(record, scope, "alpha1") for scope in ("architecture", "given accuracy"))
    if not across:
        return "No run has been stored yet."
    if not _holds(across, own, within):
        return short(record)
    return (
        f"On images α1 ranks source models well: its rank correlation with accuracy after transfer is {_bare(across)}. "
        f"The sources' own test accuracy, which needs no attack, does no worse ({_pair(own)}). With own accuracy held "
        f"fixed, α1 has {_pair(beyond)}. Whether it tells sources of one architecture apart is not certain "
        f"({_pair(within)}). This rests on {_models(record)} sources, {max(verdict.n for verdict in within.values())} "
        f"of them within architectures, smaller than the paper's: {_size(record)}."
    )


def _models(record: Record) -> int:
    """How many image sources are pooled, each counted once."""
    return len(_of_images(record)[["recipe", "seed"]].drop_duplicates())


def _holds(across: dict[str, Verdict], own: dict[str, Verdict], within: dict[str, Verdict]) -> bool:
    """Whether the numbers say what the bold words of the answer say."""
    return (
        all(verdict.word == "reproduced" for verdict in across.values())
        and all(verdict.word != "reproduced" for verdict in within.values())
        and all(own[target].estimate >= across[target].estimate - 0.02 for target in across)
    )


def figure(record: Record) -> Figure:
    """Spearman's correlations within runs, of α1 and of own accuracy, by domain and scope."""
    table = record.tables["forecasts"]
    shown = table[table["predictor"].isin(["source_accuracy", "alpha1"])]
    return plots.forest(shown.assign(scope=shown["scope"].map(SCOPES)))


def numbers(record: Record) -> pd.DataFrame:
    """The numbers behind the figure, with the verdict on α1."""
    rows = []
    for domain in _domains(record):
        for scope, words in SCOPES.items():
            alpha1, own = (_verdict(record, domain, scope, name) for name in ("alpha1", "source_accuracy"))
            if alpha1 is None:
                continue
            row = {"sources": domain, "compared": words, "n": alpha1.n}
            row |= {r"$\alpha_1$": alpha1.cell, "p": tables.probability(alpha1.p), "verdict": alpha1.said}
            rows.append({**row, "own accuracy": own.cell if own else "held fixed"})
    return pd.DataFrame(rows)


def others(record: Record) -> pd.DataFrame:
    """The other predictors: over all sources of a run, and with own accuracy held fixed."""
    rows = []
    for domain in _domains(record):
        for predictor in ("alpha2", "alpha12", "distance"):
            row = {"sources": domain, "predictor": NAMES[predictor]}
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
    )


def rule() -> str:
    """How the verdicts are made."""
    return (
        f"{verdicts.RULE_WITH_P}. The claimed sign is negative for the distance and positive for the rest. "
        "Intervals draw whole recipes, and p permutes the means of recipes. In simulations a 95% interval over 30 "
        f"recipes holds the truth in {evidence.held('correlation over 30 recipes of 3 seeds: bootstrap', 90)}, and one "
        "over five groups, such as the means of the architectures, in "
        f"{evidence.held('correlation, Spearman: bootstrap', 5)} ({{ref}}`intervals-checked`)."
    )


# The sources.


def points(record: Record) -> Figure:
    """Accuracy after transfer against own accuracy, α1 and the distance, one point per source and image target."""
    return plots.sources(_of_images(record))


def recipes(record: Record) -> pd.DataFrame:
    """What the sources of each image series are, from the parameters of the runs."""
    runs, rows = published("vision"), []
    for kind, part in _of_images(record).groupby("kind", sort=False):
        made = next(iter(runs.series(str(kind)).values()))
        config = made.config
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
    """One paragraph on what is pooled."""
    sources, images = record.tables["sources"], _of_images(record)
    models, texts = images[["recipe", "seed"]].drop_duplicates(), sources[sources["domain"] == "texts"]
    text = (
        f"For images there are **n = {len(models)} source models of {images['recipe'].nunique()} recipes**, each "
        f"transferred to {images['domain'].nunique()} targets, in {images['run'].nunique()} runs: a run is one target "
        "model with its sources. "
    )
    if len(subsets := sources[sources["domain"] == "similar domains"]):
        made = next(iter(published("similarity").series(subsets["series"].iloc[0]).values())).config
        text += (
            f"The similar domains of {{doc}}`Table 3 <similarity>` add {subsets['run'].nunique()} runs of five sources "
            f"(width {made['width']} of 64, {made['epochs']} epochs). "
        )
    if len(texts):
        made = next(iter(published("text").series(texts["kind"].iloc[0]).values())).config
        text += (
            f"The {{doc}}`texts <nlp>` add {texts['run'].nunique()} runs of five sources (MiniLM, at most "
            f"{made['train_texts']:,} texts per corpus, {made['max_length']} tokens): few, and no source of the same "
            "corpus twice but for the seed."
        )
    return text


def by_series(record: Record) -> pd.DataFrame:
    """Correlations within runs for every stored series, old and new; and over all sources thrown together."""
    table, rows = record.tables["series"], []
    for series, part in table.groupby("series", sort=False):
        own, alpha1 = (part[part["predictor"] == name].iloc[0] for name in ("source_accuracy", "alpha1"))
        thrown = series == "all"
        rows.append(
            {
                "series": "all, runs thrown together" if thrown else f"`{series}`",
                "own accuracy, %": "–"
                if thrown
                else f"{100 * own['low_accuracy']:.0f} to {100 * own['high_accuracy']:.0f}",
                "n": own["n"],
                "Spearman, own accuracy": tables.interval(own["r"], own["low"], own["high"], n=own["n"]),
                r"Spearman, $\alpha_1$": tables.interval(alpha1["r"], alpha1["low"], alpha1["high"], n=alpha1["n"]),
            }
        )
    return pd.DataFrame(rows)


# Choices.


def choices(record: Record) -> pd.DataFrame:
    """What one loses by trusting each predictor, in points of accuracy."""
    rows = []
    for _, row in record.tables["choices"].iterrows():
        rows.append(
            {
                "sources": row["domain"],
                "trusted": NAMES[row["predictor"]],
                "lost, of a few": tables.estimate(row, "regret", scale=100, digits=1),
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
        "the accuracy of the best of them after transfer, minus that of the one that the predictor puts first. *Lost, "
        f"of all* is the same among all {first['sources'] // first['runs']} sources of a run. *Error of the forecast* "
        "is how far a straight line in the predictor, fitted to the other recipes of the run, is off at a recipe that "
        "it has not seen. All are points of accuracy, with the interval of a jackknife over "
        f"{first['recipes']} recipes, which in simulations holds the truth in "
        f"{evidence.held('regret among five: jackknife', 30)}; runs: {first['runs']} per target."
    )


def regret_sentence(record: Record) -> str:
    """What trusting α1 loses, beside own accuracy and chance."""
    table, parts = record.tables["choices"], []
    for domain, part in table.groupby("domain", sort=False):
        lost = {row["predictor"]: tables.number(100 * row["regret"], 1) for row in part.to_dict("records")}
        parts.append(
            f"{lost['source_accuracy']} points by the source's own accuracy, {lost['alpha1']} by α1, {lost['chance']} "
            f"by chance ({str(domain).removeprefix('images, ')})"
        )
    if not parts:
        return "No run has sources enough to choose from."
    return (
        f"Whoever takes the best of {record.config['candidates']} sources by a predictor loses, of accuracy after "
        f"transfer, {'; '.join(parts)}."
    )


def short(record: Record) -> str:
    """The answer in two sentences, without intervals."""
    across, own = (_by_target(record, "run", name) for name in ("alpha1", "source_accuracy"))
    within = _by_target(record, "architecture", "alpha1")
    if not across:
        return "No run has been stored yet."
    first = f"Over {_models(record)} sources Spearman's correlation with α1 is {_bare(across)}"
    return f"{first}; with the source's own accuracy {_bare(own)}. Within one architecture α1 has {_bare(within)}."


def _bare(judged: dict[str, Verdict]) -> str:
    """The estimate on each target alone."""
    return " and ".join(f"{tables.number(verdict.estimate)} on {target}" for target, verdict in judged.items())


def _pair(judged: dict[str, Verdict]) -> str:
    """The same without the names of the targets, which are in the sentence before."""
    return " and ".join(tables.number(verdict.estimate) for verdict in judged.values())


def thrown_together(record: Record) -> str:
    """What happens to α1 if the sources of all targets are ranked as if they were alike."""
    table = record.tables["series"]
    found = table[(table["series"] == "all") & (table["predictor"] == "alpha1")].iloc[0]
    return (
        f"The last row ranks all {found['n']} sources together, whatever their target model is. That mixes what "
        f"differs between sources with what differs between targets, and α1 falls to {tables.number(found['r'])}: "
        "compare sources within a run, never across."
    )


def spread(record: Record) -> str:
    """How different the own accuracies of the image sources are."""
    own = 100 * _of_images(record)["source_accuracy"]
    low, middle, high = np.quantile(own, [0, 0.5, 1])
    return f"Own accuracies run from {low:.0f} to {high:.0f}%, half of them above {middle:.0f}%."
