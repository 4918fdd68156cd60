"""The page of Table 5: other attacks, radii, steps and temperatures, and the points on which text and code disagree."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from advtransfer.experiments import ablations, conclusions, printed, protocol
from advtransfer.experiments.conclusions import Correlation
from advtransfer.models import images
from advtransfer.pages import ablation_plots, comparison, sizes, tables, verdicts
from advtransfer.pages import runs as page_runs
from advtransfer.pages.comparison import Quantity
from advtransfer.pages.runs import HERE, STORED, Runs
from advtransfer.pages.seeds import range_over_seeds
from advtransfer.pages.verdicts import Finding, Verdict
from advtransfer.records.published import rows_of
from advtransfer.records.record import Record

ATTACKS = {"pgd eps=2/255": "PGD, ε = 2/255", "pgd eps=4/255": "PGD, ε = 4/255", "mi": "MI-FGSM"}
ATTACKS |= {"pgd-l2 eps=1": "PGD, ℓ2, ε = 1"}
"""The attacks of Table 5, in words."""
CHOICES: dict[ablations.Study, str] = {
    "attack": "attack",
    "eps": r"radius $\varepsilon$ of PGD",
    "steps": "steps of PGD",
    "temperature": "temperature",
    "start": "start and loss of PGD",
    "loss": "start and loss of PGD",
}
"""What one can choose of the attack, and the panel that shows it."""
PRINTED = "attacks of Table 5"
SERIES = "trained"
"""The stored series that the page shows."""


def load(config: ablations.Config) -> Runs:
    """This run, and the stored ones."""
    runs = page_runs.load(ablations, config, summary)
    return replace(runs, published=runs.series(SERIES))


def summary(published: Mapping[str, Record]) -> dict[str, pd.DataFrame]:
    """What follows from the printed table alone: ``paper``, accuracy after transfer with α1 under each attack."""
    rows = [
        {
            "attack": attack,
            **conclusions.correlation(part["alpha1"], part["transfer_accuracy"], resamples=499)._asdict(),
        }
        for attack, part in printed.table(5).groupby("attack", sort=False)
    ]
    return {"paper": pd.DataFrame(rows)}


def findings(runs: Runs) -> dict[str, Finding]:
    """What other pages quote of this one."""
    judged = verdicts.quoted(verdict for _, verdict, _ in _claims(runs, "table5"))
    text = f"{verdicts.tally(judged)} over settings and seeds" if judged else "not run"
    return {
        "ablations_in_print": in_print(runs),
        "ablations_table5": Finding(text, judged, size(runs)),
        "ablations_protocol": Finding(switched(runs)),
        "ablations_radii": Finding(radii(runs).replace("**", "")),
    }


def in_print(runs: Runs) -> Finding:
    """What the paper's own rows of Table 5 say of its claim."""
    paper = runs.summary["paper"]
    judged = tuple(_judged(line, line["attack"], "paper") for _, line in paper.iterrows())
    return Finding(f"{verdicts.tally(judged)} over the four attacks", judged, "STL-10, as printed")


def size(runs: Runs) -> str:
    """How large the stored runs are, else this run."""
    return sizes.of_images(runs.published or runs.own)


def answer(runs: Runs) -> str:
    """What this page finds, as a list."""
    found = findings(runs)
    return tables.listed(
        _moved(runs),
        radii(runs),
        "**Under the four attacks of Table 5**, the claim is that accuracy after transfer rises with α1. The paper's "
        f"own rows: {found['ablations_in_print']}. Our sources: {found['ablations_table5'].sized}. "
        f"{_within_seeds(runs)}",
        f"**One point of the protocol is switched at a time.** {found['ablations_protocol']}",
    )


def switched(runs: Runs) -> str:
    """By how much the correlation changes, seed by seed, if one point of the protocol is switched."""
    rows = _by_seed(runs).query("study == 'protocol'")
    usual = rows[rows["setting"] == ablations.SWITCHES[0]]
    if usual.empty:
        return "The points on which text and code differ were not switched."
    by_seed = rows.assign(seed=rows.get("seed", 0)).pivot_table(index="seed", columns="setting", values="r")
    parts = []
    for setting in ablations.SWITCHES[1:]:
        if setting in by_seed:
            change = (by_seed[setting] - by_seed[ablations.SWITCHES[0]]).agg(["min", "max"])
            low, high = (tables.number(value) for value in change)
            parts.append(f"{_switched(_settings(runs))[setting]} {low}{f' to {high}' if len(by_seed) > 1 else ''}")
    return (
        f"Over {usual['n'].max()} sources, the correlation of accuracy after transfer with α1 changes by: "
        f"{'; '.join(parts)} ({_seeds(len(by_seed))})."
    )


def _seeds(n: int) -> str:
    return f"least and greatest of {n} seeds" if n > 1 else "one seed"


def _moved(runs: Runs) -> str:
    """How the correlation moves with the attack and with the seed; empty where nothing was tried."""
    tried = _by_seed(runs).query("study in @CHOICES")
    if tried.empty:
        return ""
    # The usual attack is a choice in several studies, under several names; it counts once.
    tried = tried.drop_duplicates([name for name in ("seed", "r", "pearson_samples") if name in tried])
    signs = tried.assign(sign=np.sign(tried["r"])).groupby(["study", "setting"])["sign"].agg(["min", "max"])
    positive, negative = int((signs["min"] > 0).sum()), _named(signs.index[signs["max"] < 0])
    seeds = tried["seed"].nunique() if "seed" in tried else 1
    judged = [_judged(line, line["setting"], STORED) for _, line in tried.iterrows()]
    each = f"in every one of {seeds} seeds" if seeds > 1 else "in the one seed"
    return (
        f"**Over {tried['n'].max()} sources**, {len(signs)} different choices of the attack were tried (below). The "
        f"correlation of accuracy after transfer with α1 is positive {each} under {positive} of them, and negative "
        f"{each} under {negative}. {_one_ball(tried)}Verdicts over choices and seeds: {verdicts.tally(judged)}. "
    )


def _named(choices: pd.Index) -> str:
    """How many choices of the attack there are, and which."""
    names = [f"PGD, ε = {setting}" if study == "eps" else setting for study, setting in choices]
    return f"{len(names)} ({'; '.join(names)})" if names else "none"


def _one_ball(tried: pd.DataFrame) -> str:
    """PGD beside the exact singular vector in one ball, a sentence if their correlations differ in sign."""
    pgd, exact = (tried.loc[tried["setting"] == name, "r"].mean() for name in ablations.IN_ONE_BALL)
    if not pgd * exact < 0:
        return ""
    return (
        f"In one and the same ℓ2 ball PGD gives {tables.number(pgd)} and the exact singular vector "
        f"{tables.number(exact)} (means over seeds), so the "
        "radius is not the only cause. "
    )


def radii(runs: Runs) -> str:
    """How the correlation moves with the radius of PGD, seed by seed; empty where no radius was tried."""
    rows = _by_seed(runs).query("study == 'eps'")
    if rows.empty:
        return ""
    ends = [rows[rows["value"] == value] for value in (rows["value"].min(), rows["value"].max())]
    turned = bool((ends[0]["r"] < 0).all() and (ends[1]["r"] > 0).all())
    said = []
    for end in ends:
        judged = [_judged(line, line["setting"], STORED) for _, line in end.iterrows()]
        cells = ", ".join(each.cell for each in judged)
        said.append(f"{cells} at ε = {end['setting'].iloc[0]}: {verdicts.tally(judged)}")
    targets = rows["target"].unique() if "target" in rows else [runs.config.target]
    where = " and ".join(protocol.SHORT[name] for name in targets)
    return (
        f"**The radius of PGD{' can change the sign' * turned}**: over {rows['n'].max()} sources, T→S, on {where}, "
        f"the correlation of accuracy after transfer with α1, one number per seed, is "
        f"{'; '.join(said)}."
    )


def _within_seeds(runs: Runs) -> str:
    """Whether the attacks of Table 5 agree within a seed, in a sentence."""
    shown = _by_seed(runs).query("study == 'table5'")
    if "seed" not in shown:
        return ""
    signs = np.sign(shown["r"]).groupby(shown["seed"]).agg(["min", "max"])
    positive, negative = int((signs["min"] > 0).sum()), int((signs["max"] < 0).sum())
    if len(signs) == 1:
        sign = "positive" if positive else "negative" if negative else "not of one sign"
        return f"In the one seed the correlation is {sign} under the four attacks."
    if not positive + negative:
        return f"In each of the {len(signs)} seeds, the sign of the correlation differs among the four attacks."
    return (
        f"Of {len(signs)} seeds the correlation is positive under all four attacks in {positive}, and negative under "
        f"all four in {negative}. "
    )


# What was run.


def about_this_run(runs: Runs) -> str:
    """One paragraph on this run, or on the data that it lacks."""
    if runs.record is None:
        return tables.missing(protocol.required(runs.config))
    models = runs.record.tables["curves"]["architecture"].nunique()
    return (
        f"The models of the run rebuilt here are those of the run on {{doc}}`Table 1 <cifar_to_stl>`. Its target "
        f"domain is **{sizes.targets([runs.config.target])}**. Each setting is measured on "
        f"{len(runs.record.arrays['index'])} images, {models or 'all'} source models, T→S."
    )


def about_published(runs: Runs) -> str:
    """One paragraph on the stored runs."""
    if not runs.published:
        return "No ablations are stored, so the figures show this run."
    settings, n = _settings(runs), len(runs.published)
    attacked = len(next(iter(runs.published.values())).arrays["index"])
    norm, levels = "ℓ∞" if settings["norm"] == "linf" else "ℓ2", 255 * settings["eps"]
    radius = f"{levels:.0f}/255" if math.isclose(levels, round(levels)) else f"{settings['eps']:g}"
    return (
        f"The figures show the stored runs: {len(settings['architectures'])} sources, trained to the end of a "
        f"{settings['schedule'].replace('_', '-')} schedule (width {settings['width']}, {settings['plain_width']} "
        f"without BatchNorm; epochs: {settings['epochs']} for the ResNets, {settings['plain_epochs']} for the others), "
        f"n = {n} seed{'s' * (n > 1)}, {attacked} images each, on {sizes.targets([settings['target']])}. "
        f"Unless it is varied, the attack is PGD in the {norm} ball, ε = {radius}, {settings['attack_steps']} steps."
    )


def _settings(runs: Runs) -> Mapping[str, Any]:
    """The parameters of the stored runs, else of this one."""
    made = next(iter(runs.published.values()), None)
    return made.config if made else runs.config.model_dump(mode="json")


# Table 5.


def table5(runs: Runs, *quantities: Quantity) -> pd.DataFrame:
    """Columns of Table 5: paper, stored and this run. Accuracies do not depend on the attack, and are shown once."""
    paper, by = printed.table(5), ["attack", "label"]
    columns = {"paper": paper}
    for where, rows in ((STORED, rows_of(runs.published, "curves")), (HERE, _own(runs, "curves"))):
        if len(rows):
            part = _labelled(rows[rows["study"] == "table5"]).rename(columns={"setting": "attack"})
            stored = where == STORED
            columns[where] = comparison.means(part, by, quantities) if stored else conclusions.squared(part)
    table = comparison.side_by_side(paper[by], columns, quantities)
    table.loc[table[""] == comparison.ACCURACY.words, "attack"] = "any"
    table = table.drop_duplicates(ignore_index=True)
    return table.replace({"attack": ATTACKS}).rename(columns={"label": "source model"})


def claims(runs: Runs, study: str) -> pd.DataFrame:
    """The claim of Table 1 under each setting of a study, with a verdict, and the mean score over images."""
    rows = []
    if study == "table5":
        for _, line in runs.summary["paper"].iterrows():
            verdict = _judged(line, line["attack"], "paper")
            rows.append(_row(line["attack"], verdict, printed.pearson("table5", line["attack"])))
    rows += [_row(setting, verdict, over_images) for setting, verdict, over_images in _claims(runs, study)]
    rows = [{**row, "setting": ATTACKS.get(row["setting"], row["setting"])} for row in rows]
    by_setting = [part for _, part in pd.DataFrame(rows).groupby("setting", sort=False)] if rows else []
    return pd.concat(by_setting) if rows else pd.DataFrame()


def _row(setting: str, verdict: Verdict, over_images: float) -> dict[str, Any]:
    return {
        "setting": setting,
        "run": verdict.run,
        "accuracy with α1, Pearson": verdict.cell,
        "p": tables.probability(verdict.p),
        "n": verdict.n,
        "verdict": verdict.said,
        "mean r over images": tables.number(over_images),
    }


def _claims(runs: Runs, study: str) -> Iterator[tuple[str, Verdict, float]]:
    """Setting, verdict on α1, and mean score over images, for each run and each setting of a study."""
    made = runs.published.values()
    shown = {f"stored, seed {each.config['seed']}": (each.tables["claims"], each.config) for each in made}
    shown[HERE] = _own(runs, "claims"), runs.config.model_dump(mode="json")
    for run, (table, settings) in shown.items():
        part = table[(table["study"] == study) & (table["metric"] == "alpha1")] if len(table) else table
        for _, line in part.iterrows():
            setting = _switched(settings)[line["setting"]] if study == "protocol" else line["setting"]
            yield setting, _judged(line, setting, run), line["pearson_samples"]


def _judged(line: pd.Series, setting: str, run: str) -> Verdict:
    """The verdict on a row of correlations."""
    score = Correlation(*line[list(Correlation._fields)])
    return Verdict.of(f"accuracy after transfer rises with α1, {setting}", score, run)


def _switched(settings: Mapping[str, Any]) -> dict[str, str]:
    """What each switch of the protocol turns on in a run with these parameters."""
    deviation, adapts = settings["attack_loss"] == "cross_entropy", settings["batchnorm_adapts"]
    return {
        "as the run": "baseline",
        "BatchNorm": "BatchNorm frozen" if adapts else "BatchNorm adapting",
        "checkpoint": f"weights of the {'last' if settings['checkpoint'] == 'best' else 'best'} epoch",
        "attack loss": "attack climbs deviation" if deviation else "attack climbs cross-entropy",
        "samples": "all images" if settings["only_correct"] else "correct images only",
    }


def rule() -> str:
    """How the verdicts are made."""
    return f"{verdicts.RULE}. The score over images is claimed to be negative."


# Curves, settings and switches.


def _own(runs: Runs, table: str) -> pd.DataFrame:
    """A table of this run; without rows where there is no record."""
    return runs.record.tables[table] if runs.record else pd.DataFrame({"study": pd.Series(dtype=str)})


def _labelled(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(label=rows["architecture"].map(images.LABELS))


def _drawn(runs: Runs) -> pd.DataFrame:
    """What the figures show: means over the seeds of several stored runs, or a single one, or else this run."""
    rows = rows_of(runs.published, "curves") if runs.published else _own(runs, "curves")
    if len(runs.published) > 1:
        rows = range_over_seeds(rows, ["study", "setting", "value", "architecture"], ["alpha1"])
    return _labelled(rows) if len(rows) else rows


def _choices(runs: Runs) -> tuple[pd.DataFrame, dict[str, float]]:
    """The correlation of accuracy with α1 under each choice of the attack, and that under the attack of the run.

    The rows have panel, setting, whose, r, low, high and seeds; of stored runs low and high are the least and the
    greatest seed.
    """
    rows: list[dict[str, Any]] = []
    scores = _by_seed(runs)
    for study, panel in CHOICES.items():
        for setting, found in scores[scores["study"] == study].groupby("setting", sort=False):
            shown = str(setting)
            if study in ("start", "loss"):
                shown = f"{study}: {setting}"
            rows.append({"panel": panel, "setting": shown, "whose": _whose(found), **_spread(found)})
    for setting, found in scores[scores["study"] == "table5"].groupby("setting", sort=False):
        rows.append({"panel": PRINTED, "setting": ATTACKS[str(setting)], "whose": _whose(found), **_spread(found)})
    for _, line in runs.summary["paper"].iterrows():
        about = {"panel": PRINTED, "setting": ATTACKS[line["attack"]], "whose": "paper", "seeds": ()}
        rows.append({**about, **line[["r", "low", "high"]]})
    usual = scores.query("study == 'protocol' and setting == @ablations.SWITCHES[0]")
    panels = [row["panel"] for row in rows if row["panel"] != PRINTED]
    return pd.DataFrame(rows), dict.fromkeys(panels, usual["r"].mean()) if len(usual) else {}


def _by_seed(runs: Runs) -> pd.DataFrame:
    """The correlations with α1 of the stored runs, else of this run."""
    rows = rows_of(runs.published, "claims") if runs.published else _own(runs, "claims")
    return rows[rows["metric"] == "alpha1"] if len(rows) else pd.DataFrame(columns=["study", "setting"])


def _whose(found: pd.DataFrame) -> str:
    return STORED if "seed" in found else HERE


def _spread(found: pd.DataFrame) -> dict[str, Any]:
    """The mean over seeds with the least and the greatest; of one run its interval."""
    if len(found) == 1:
        return {**found.iloc[0][["r", "low", "high"]], "seeds": ()}
    return {"r": found["r"].mean(), "low": found["r"].min(), "high": found["r"].max(), "seeds": tuple(found["r"])}


def choices(runs: Runs) -> Figure:
    """Whether the answer changes with the attack: the correlation of accuracy with α1 under each choice."""
    return ablation_plots.choices(*_choices(runs))


def curves(runs: Runs) -> Figure | None:
    """α1 of each source model against the radius, the steps and the temperature."""
    names = {"eps": r"radius $\varepsilon$, in units of 1/255", "steps": "steps", "temperature": "temperature"}
    drawn = _drawn(runs)
    if len(drawn):
        drawn = drawn.assign(setting=drawn["setting"].str.removesuffix("/255"))
    parts = {label: drawn[drawn["study"] == study] for study, label in names.items()}
    parts = {label: part for label, part in parts.items() if len(part)}
    if not parts:
        return None
    return ablation_plots.curves(parts, {name: images.LABELS[name] for name in drawn["architecture"].unique()})


def settings(runs: Runs) -> Figure | None:
    """α1 of each source model under each kind of attack, start and loss."""
    drawn = _drawn(runs)
    known = {"attack": "attack", "start": "start of PGD", "loss": "loss that PGD climbs"}
    titles = {study: title for study, title in known.items() if (drawn["study"] == study).any()}
    return ablation_plots.settings(drawn[drawn["study"].isin(titles)], titles) if titles else None


def switches(runs: Runs) -> Figure | None:
    """What each switch of the protocol does to the correlations."""
    rows = rows_of(runs.published, "claims") if runs.published else _own(runs, "claims")
    part = rows[rows["study"] == "protocol"]
    if len(runs.published) > 1:
        part = range_over_seeds(part, ["setting", "metric"], ["r", "pearson_samples"])
        part = part.rename(columns={"r_low": "low", "r_high": "high"})
    switched = _switched(_settings(runs))
    return ablation_plots.switches(part.assign(setting=part["setting"].map(switched))) if len(part) else None
