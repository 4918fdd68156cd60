"""The page of the one question: does α forecast transfer? Over the stored source models, within runs."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from advtransfer.experiments.forecast import FIXED, SCOPES
from advtransfer.experiments.pool import PREDICTORS
from advtransfer.pages import evidence, forecast_sources, plots, tables, verdicts
from advtransfer.pages.verdicts import Finding, Verdict
from advtransfer.records.published import NO_RUNS
from advtransfer.records.record import Record
from advtransfer.statistics import Correlation

CLAIMED = {(predictor, scope) for predictor in ("alpha1", "alpha2", "alpha12") for scope in ("run", "other corpora")}
"""What the paper claims, for images and texts (its Table 3 attacks the sources); the rest are our own questions."""


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
        "forecast_texts": _one(record, "texts", "other corpora", _size_of_texts(record)),
        "forecast_texts_all": _one(record, "texts", "run", ""),
        "forecast_alpha2": _over_images(record, "run", "alpha2"),
        "forecast_distance_plain": _over_images(record, "run", "distance"),
        "forecast_distance": _over_images(record, "given accuracy", "distance"),
        "forecast_among_few": forecast_sources.among_few(record),
        "forecast_choice": forecast_sources.regret_sentence(record),
        "forecast_radius": _radii(record),
        "forecast_coverage": evidence.held(UNEQUAL, 60),
        "forecast_by_chance": evidence.signs_by_chance(),
        "forecast_rho": evidence.shares(),
        "forecast_models": f"{_models(record)} models, {_size(record)}",
        **{f"forecast_said_{name}": words for name, (words, _) in sentences(record).items()},
        **{f"forecast_numbers_{name}": numbers for name, (_, numbers) in sentences(record).items()},
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
    images = forecast_sources.of_images(record)
    made = list(forecast_sources.configs(images).values())
    if not made:
        return ""
    low, high = (pick(config["width"] for config in made) for pick in (min, max))
    least, most = (pick(config["epochs"] for config in made) for pick in (min, max))
    models, ways, targets = (images[name].nunique() for name in ("model", "kind", "domain"))
    return (
        f"{models} architectures in {ways} ways of training, ResNets of width {low} to {high}, {least} to {most} "
        f"epochs; {targets} targets"
    )


def _radii(record: Record) -> str:
    """The radius of the attacks on image models, for pixels from 0 to 1."""
    made = forecast_sources.configs(forecast_sources.of_images(record)).values()
    radii = dict.fromkeys(f"{config['eps']:g} ({255 * config['eps']:g}/255)" for config in made)
    return " or ".join(radii) or "no stored radius"


def _size_of_texts(record: Record) -> str:
    """How the runs on texts differ from the paper's, and how large they are."""
    texts = record.tables["sources"].query("domain == 'texts'")
    return (
        "MiniLM, not BERT; attack on embeddings in an ℓ2 ball, not on words; linear probe, not fine-tuning; "
        f"{texts['model'].nunique()} corpora in {texts['kind'].nunique()} ways of training"
    )


UNEQUAL = "correlation over sources, larger between architectures: crossed"
"""What the simulations of the intervals call correlations such as those of the pool."""

# The answer.

_NOT_WITHIN = ". But among ResNets, and among plain networks, this is not certain."


def answer(record: Record) -> str:
    """The answer as a list, its bold words first."""
    return tables.listed(*(f"**{words}** {numbers}" for words, numbers in sentences(record).values())) or NO_RUNS


def sentences(record: Record) -> dict[str, tuple[str, str]]:
    """The answer by question, each in words and in numbers; the words judge only where the numbers do."""
    across, own = (_by_target(record, "run", name) for name in ("alpha1", "source_accuracy"))
    within, beyond, family = (
        _by_target(record, scope, "alpha1") for scope in ("architecture", "given accuracy", "family")
    )
    if not across:
        return {}
    judged = _holds(across, own, within)
    said = {
        "many": (
            "Over image models of many kinds, those with a larger α1 (T→S) transfer better: "
            f"{_by_verdict(across)}{'.' if any(each.word == 'reproduced' for each in family.values()) else _NOT_WITHIN}"
            if judged
            else "Over image models of many kinds, with α1 (T→S).",
            f"Spearman's correlation of α1 with accuracy after transfer is {_said(across)}. Knowing only whether a "
            "model is a ResNet or a plain network (LeNet, AlexNet or the fully connected one) already gives "
            f"{_of_families(record)}. Inside these two families, the correlation of α1 is {_on(family)}.",
        ),
        "own": (
            "Image models with a higher accuracy on their own test images also tend to transfer better, and measuring "
            "this accuracy needs no attack."
            if judged
            else "Over the same models, with their accuracy on their own test images.",
            f"The correlation of own accuracy is {_on(own)}. With own accuracy held fixed, the correlation of α1 is "
            f"{_said(beyond)}{_rows_alone(record, 'given accuracy')}.",
        ),
        "within": (
            "Within one architecture, it is not certain that α1 tells better image models from worse ones."
            if judged
            else "Within one architecture.",
            f"The correlation of α1 is {_on(within)}.",
        ),
    }
    if beside := forecast_sources.beside_target(record):
        said["target"] = beside
    if similar := _verdict(record, "similar domains", "run"):
        said["similar"] = (
            "Over image models from domains more or less similar to the target's, those with a larger α1 transfer "
            f"better: {similar.said}.",
            f"The correlation of α1 is {_counted(record, 'similar domains', 'run')} (T→S; Table 3 attacks the sources "
            "instead). Counting the classes that a source shares with the target needs no attack. In these runs, the "
            "correlation of this number with accuracy after transfer is "
            f"{tables.number(forecast_sources.of_shared_classes())}; with it held fixed, that of α1 is "
            f"{forecast_sources.beyond_shared_classes(record)}. All runs have the same "
            f"{forecast_sources.networks_of_subsets()} networks.",
        )
    if texts := _verdict(record, "texts", "other corpora"):
        said["texts"] = (
            "Over text models that have not learnt the target's own corpus, those with a larger α1 transfer better: "
            f"{texts.said}.",
            "The attack is on embeddings, not on words, and accuracy after transfer is that of a linear probe. The "
            f"correlation of α1 (T→S) is {_counted(record, 'texts', 'other corpora')}. If the models that "
            f"have learnt the target's corpus are included, the correlation is {_counted(record, 'texts', 'run')}: "
            f"{_one(record, 'texts', 'run', '').verdicts[0].said}.",
        )
    return said


def _of_families(record: Record) -> str:
    """Spearman's correlation within runs of accuracy after transfer with being a ResNet, on each image target.

    Beside it stands the largest that is possible: two groups cannot order the sources inside a group.
    """
    images = forecast_sources.of_images(record)
    rows = images.assign(resnet=images["model"].str.startswith("ResNet"))
    parted = rows.assign(transfer_accuracy=rows["transfer_accuracy"] + rows["resnet"])  # every ResNet ahead
    found, most = (
        [forecast_sources.within_runs(part, ["run"], "resnet") for _, part in table.groupby("domain", sort=False)]
        for table in (rows, parted)
    )
    parts = [
        f"{tables.number(r)} on {domain.removeprefix('images, ')}"
        for domain, r in zip(rows["domain"].unique(), found, strict=True)
    ]
    return f"{' and '.join(parts)} (two groups can give at most {tables.number(max(most))})"


def _counted(record: Record, domain: str, scope: str) -> str:
    """The correlation, and how many sources each of how many runs has."""
    row, found = _row(record, domain, scope), _verdict(record, domain, scope)
    if row is None or found is None:
        return "–"
    size = f"{row['runs']} target models with {round(row['n'] / row['runs'])} sources each"
    return f"{found.cell}, {tables.p_value(found.p)}, {size}"


def _one(record: Record, domain: str, scope: str, size: str) -> Finding:
    """The finding on α1 in one domain."""
    found = _verdict(record, domain, scope)
    if found is None:
        return Finding("no stored runs")
    return Finding(f"{_counted(record, domain, scope)}: {found.said}", (found,), size)


def _models(record: Record) -> int:
    """How many image sources are pooled, each counted once."""
    return len(forecast_sources.of_images(record)[["recipe", "seed"]].drop_duplicates())


def _holds(across: dict[str, Verdict], own: dict[str, Verdict], within: dict[str, Verdict]) -> bool:
    """Whether the numbers say what the bold words of the answer say."""
    return (
        all(verdict.word in ("reproduced", "right sign only") for verdict in across.values())
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
            row |= {r"Spearman, $\alpha_1$": alpha1.cell, "p": tables.probability(alpha1.p)}
            if (alone := _row(record, domain, scope)) is not None:
                row["p′"] = tables.probability(alone["p_of_rows"])
            row["verdict"] = alpha1.said
            rows.append({**row, "Spearman, own accuracy": own.cell if own else "–", "n": alpha1.n})
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
            row = {"sources": domain.removeprefix("images, "), "predictor": forecast_sources.NAMES[predictor]}
            for scope in ("run", "given accuracy"):
                if found := _verdict(record, domain, scope, predictor):
                    about = f"{found.said}, {tables.p_value(found.p)}"
                    row |= {SCOPES[scope]: found.cell, f"verdict, {SCOPES[scope]}": about}
            rows.append(row)
    return pd.DataFrame(rows).fillna("–")


def about_distance(record: Record) -> str:
    """What the relative distances of the sources say of the theory."""
    low, middle, high = forecast_sources.of_images(record)["distance"].quantile([0, 0.5, 1])
    explained = 100 * (1 - low**2)
    return (
        f"The relative distances lie between {tables.number(low, 4)} and {tables.number(high, 4)}, half of them above "
        f"{tables.number(middle, 4)}; 1 would mean that no linear map explains anything. So the best map explains at "
        f"most {explained:.1f}% of the mean square of the target model's Jacobian. Its ranks may still say what those "
        "of α1 say: with the distance held fixed, the correlation of α1 with accuracy after transfer is "
        f"{_said(_by_target(record, 'given distance', 'alpha1'))}."
        f"{evidence.matched_on_one_class()}\n\n{evidence.first_attacks()}"
    )


def rule(record: Record) -> str:
    """How the verdicts are made."""
    sources = "correlation over sources, 5 architectures × 6 ways: crossed"
    fixed = "correlation over sources, one variable held fixed: crossed"
    texts = "correlation over sources, 5 corpora × 3 ways for 5 targets: crossed"
    return (
        f"{verdicts.RULE}; *found* replaces *reproduced* where the paper claims nothing. The claimed sign is negative "
        "for the distance and positive for the rest. In simulations of sources that combine architectures with ways "
        f"of training, an interval contains the true value in {evidence.held(sources, 30)}; if the correlation is "
        "much larger between architectures than within them, as it seems to be here, in "
        f"{evidence.held(UNEQUAL, 60)}. Where there is nothing to find, p is at most 0.05 in "
        f"{evidence.rejected(sources, 30)}, and with a variable held fixed in {evidence.rejected(fixed, 30)} "
        f"({{ref}}`intervals-checked`). For texts the shares are {evidence.held(texts, 75)} and "
        f"{evidence.rejected(texts, 75)}; similar domains were not simulated. *p′* permutes "
        "only architectures (or corpora, or sets of classes), which differ more than ways of training. The sign † "
        "counts pairs of an architecture and a way of training; all intervals over image models rest on five "
        "architectures. *About the same accuracy* means in "
        f"one band of {100 * record.config['band']:.0f} points. In the rows where a quantity is held fixed, the column "
        "of own accuracy shows its correlation with accuracy after transfer when α1 is held fixed. A dash stands where "
        "own accuracy is not compared. The own accuracies of text models belong to different tasks, so that column "
        "says little there. In n, a source counts once per target model. The p values are not corrected for the number "
        "of rows."
    )


def _said(judged: dict[str, Verdict]) -> str:
    """The estimate on each target with its verdict."""
    return " and ".join(
        f"{verdict.cell}, {tables.p_value(verdict.p)}, on {target} ({verdict.said})"
        for target, verdict in judged.items()
    )


def _on(judged: dict[str, Verdict]) -> str:
    """The estimates with their intervals alone."""
    return " and ".join(f"{verdict.cell} on {target}" for target, verdict in judged.items())


def _by_verdict(judged: dict[str, Verdict]) -> str:
    """The verdict on each target."""
    return ", ".join(f"{verdict.said} on {target}" for target, verdict in judged.items())


def _rows_alone(record: Record, scope: str) -> str:
    """The p of α1 if only whole architectures are permuted, on each image target."""
    found = [row["p_of_rows"] for domain in _images(record) if (row := _row(record, domain, scope)) is not None]
    return f"; if only architectures are permuted, p is {' and '.join(map(tables.probability, found))}"
