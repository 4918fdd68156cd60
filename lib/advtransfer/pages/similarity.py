"""The page of Table 3: five source models that share 0 to 100% of the target's domain; the sources are attacked."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from advtransfer.experiments import conclusions, evaluation, printed, protocol, similarity
from advtransfer.experiments.conclusions import METRICS
from advtransfer.pages import comparison, evidence, plots, sizes, tables, verdicts
from advtransfer.pages import runs as page_runs
from advtransfer.pages.runs import HERE, STORED, Runs
from advtransfer.pages.seeds import over_seeds, range_over_seeds
from advtransfer.pages.verdicts import Finding, Verdict
from advtransfer.records.published import rows_of
from advtransfer.records.record import Record

NOT_RUN = "not run, the images are missing"


def load(config: similarity.Config) -> Runs:
    """This run, and the stored ones."""
    return page_runs.load(similarity, config, summary)


SERIES = ("trained", "trained-shift")
"""The stored series of Table 3, a column each and by domain; other pages quote the first that is there."""


def summary(published: Mapping[str, Record]) -> dict[str, pd.DataFrame]:
    """What follows from the printed table and the stored runs alone.

    ``sources``, the rows of all source models, and ``correlations`` of `conclusions.over_sources`, for the paper and
    for each series and domain over the means of the seeds.
    """
    everything = rows_of(published)
    correlations = [conclusions.over_sources(printed.table(3)).assign(where="paper")]
    for where, part in _parts(everything).items():
        means = over_seeds(part, ["similarity"], ["transfer_accuracy", *METRICS])
        correlations.append(conclusions.over_sources(means).assign(where=where))
    return {"sources": everything, "correlations": pd.concat(correlations, ignore_index=True)}


def _parts(everything: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The stored rows by series and domain, under the heads of their columns."""
    parts = {}
    for series in SERIES if len(everything) else ():
        own = everything[everything["series"] == series]
        for domain in similarity.DOMAINS:
            if len(rows := own[own["domain"] == domain]):
                parts[f"{STORED}, {protocol.SHORT[rows['target'].iloc[0]]}, {domain}"] = rows
    return parts


def findings(runs: Runs) -> dict[str, Any]:
    """What other pages quote of this one."""
    by_domain = {domain: _judged(runs, _rises, domain) for domain in similarity.DOMAINS}
    asked = _questions(runs)
    knowledge, attacks = (_listed(runs, asked.get(question, {})) for question in (KNOWLEDGE, ATTACKS))
    return {
        "similarity_in_print": paper(runs),
        **{f"similarity_{domain}": _listed(runs, part) for domain, part in by_domain.items()},
        "similarity_both_targets": _listed(runs, asked.get(RISES, {})),
        "similarity_images": over_images(runs),
        "similarity_knowledge": knowledge,
        "similarity_attacks": attacks,
        "similarity_both": Finding(
            f"knowledge: {knowledge}. Attacks: {attacks}", (*knowledge.verdicts, *attacks.verdicts), knowledge.size
        ),
        "similarity_counted": Finding(
            f"Knowledge: {verdicts.tally(knowledge.verdicts)}. Attacks: {verdicts.tally(attacks.verdicts)}"
        ),
    }


def _judged(runs: Runs, judge: Callable[[Runs, str], Verdict | None], domain: str) -> dict[str, Verdict]:
    """The verdicts for one domain, by stored target; or that of this run."""
    found = {head: judge(runs, f"{head}, {domain}") for head in _heads(runs)}
    return {head.removeprefix(f"{STORED}, "): verdict for head, verdict in found.items() if verdict}


def _listed(runs: Runs, judged: Mapping[str, Verdict]) -> Finding:
    said = "; ".join(f"{verdict.correlation}, {verdict.word} ({where})" for where, verdict in judged.items())
    return Finding(said or NOT_RUN, tuple(judged.values()), size(runs))


def paper(runs: Runs) -> Finding:
    """What the paper's own five rows say of its claim."""
    score = conclusions.row(
        _correlations(runs)["paper"], outcome="transfer_accuracy", metric="alpha1", method="pearson"
    )
    return verdicts.in_print("accuracy after transfer rises with α1", score)


def _along(runs: Runs, place: str, outcome: str) -> Verdict | None:
    """The rank correlation of similarity with an outcome at a place: a stored target or this run, and a domain."""
    rows = _sources(runs).get(place, pd.DataFrame())
    if len(rows) < 3:
        return None
    means = rows.groupby("similarity", as_index=False)[outcome].mean()
    found = conclusions.correlation(means["similarity"], means[outcome], "spearman", resamples=499)
    return Verdict.of(f"{outcome} rises with similarity, {place}", found, place)


def over_images(runs: Runs) -> Finding:
    """Whether images with a larger α1(x) have a smaller loss, over the images of each stored source."""
    judged = []
    for label, domain, source, scores in _samples(runs):
        if label.startswith(STORED):
            score = conclusions.row(scores, method="pearson")
            judged.append(Verdict.of(f"loss falls with α1(x), {domain}, {source}% shared", score, STORED, sign=-1))
    return Finding(verdicts.tally(judged) if judged else NOT_RUN, tuple(judged), size(runs))


def _sources(runs: Runs) -> dict[str, pd.DataFrame]:
    """The source models that other pages quote, by stored target and domain; or those of this run."""
    if parts := _parts(_published(runs)):
        return parts
    own = runs.record.tables["sources"] if runs.record else pd.DataFrame({"domain": []})
    return {f"{HERE}, {domain}": rows for domain, rows in own.groupby("domain")}


def _heads(runs: Runs) -> list[str]:
    """The stored targets, or this run."""
    return list(dict.fromkeys(place.rpartition(", ")[0] for place in _parts(_published(runs)))) or [HERE]


def size(runs: Runs) -> str:
    """How large the stored runs are, else this run."""
    stored = {f"{series} {name}": made for series in _shown(runs) for name, made in runs.series(series).items()}
    return sizes.of_images(stored or runs.own)


def _published(runs: Runs) -> pd.DataFrame:
    """All stored source models."""
    return runs.summary["sources"]


def _shown(runs: Runs) -> list[str]:
    """The stored series that this page shows."""
    return [series for series in SERIES if runs.series(series)]


def _correlations(runs: Runs) -> dict[str, pd.DataFrame]:
    """Correlations over the five sources: in the paper, and by domain over the stored rows and in this run."""
    by_run = {str(where): part for where, part in runs.summary["correlations"].groupby("where", sort=False)}
    if runs.record:
        own = runs.record.tables["correlations"]
        by_run |= {f"{HERE}, {domain}": own[own["domain"] == domain] for domain in runs.config.target_domains}
    return by_run


def _rises(runs: Runs, place: str) -> Verdict | None:
    """Whether accuracy after transfer rises with α1 at a place: a stored target or this run, and a domain."""
    table = _correlations(runs).get(place)
    if table is None:
        return None
    score = conclusions.row(table, outcome="transfer_accuracy", metric="alpha1", method="pearson")
    if score.n < 3:
        return None
    return Verdict.of(f"accuracy after transfer rises with α1, {place}", score, place)


# What was run.


def about(runs: Runs) -> str:
    """What the stored runs and this one rest on."""
    text = []
    if shown := _shown(runs):
        made = next(iter(runs.series(shown[0]).values()))
        settings, seeds = made.config, {}
        for series in shown:
            stored = runs.series(series)
            seeds[next(iter(stored.values())).config["target"]] = str(len(stored))
        own = _published(runs)["source_accuracy"]
        text.append(
            f"The target images of the **stored** columns come from {sizes.targets(seeds)}. From each set the vehicles "
            f"are one target and the animals another (seeds: {', '.join(dict.fromkeys(seeds.values()))}). The networks "
            f"are ResNets of width {settings['width']} ({sizes.WIDTH} as released), {settings['epochs']} epochs "
            f"({sizes.EPOCHS} as released), on {made.provenance['device']}. On their own test images the sources "
            f"classify {100 * own.min():.0f} to {100 * own.max():.0f}% correctly. {_beside(runs)}"
        )
    if runs.record is None:
        text.append(tables.missing(protocol.required(runs.config)))
    else:
        text.append(
            f"The target of **this run** is {sizes.targets([runs.config.target])}. This run is smaller than "
            "the stored ones; the table below lists the settings that differ."
        )
    return "\n\n".join(text)


def _beside(runs: Runs) -> str:
    """How many sources after transfer are better than the target model itself."""
    shown = [made for series in _shown(runs) for made in runs.series(series).values()]
    pairs = [
        made.tables["sources"].merge(made.tables["targets"][["domain", "accuracy"]], on="domain") for made in shown
    ]
    rows = pd.concat(pairs)
    better = int((rows["transfer_accuracy"] > rows["accuracy"]).sum())
    return (
        "The target models were trained on the target's images alone. They classify "
        f"{100 * rows['accuracy'].min():.0f} to {100 * rows['accuracy'].max():.0f}% of the test images correctly. "
        f"In {better} of {len(rows)} pairs the source is better after transfer than the target model."
    )


def departures(runs: Runs) -> pd.DataFrame:
    """The parameters in which the stored runs and this one differ from the released protocol."""
    shown = [made for series in _shown(runs) for made in runs.series(series).values()]
    stored = {STORED: similarity.Config(**shown[0].config)} if shown else {}
    return tables.departures(stored | {HERE: runs.config})


# Table 3.


def answer(runs: Runs) -> str:
    """What this page finds, as a list; `found` has the numbers."""
    said = [f"Claim “{question}”: {verdicts.tally(judged.values())}." for question, judged in _questions(runs).items()]
    if single := over_images(runs).verdicts:
        said.append(f"Claim on single images, “a larger α1(x), a smaller loss”: {verdicts.tally(single)}.")
    return (
        f"**The paper's own five rows**, on the claim “{RISES}”: {paper(runs).word}.\n\n**Our five networks**, for "
        f"each domain and target. Size of the runs: {size(runs) or 'not run'}.\n\n"
        f"{tables.listed(*said) or NOT_RUN}"
    )


def found(runs: Runs) -> pd.DataFrame:
    """The numbers behind the answer."""
    asked = _questions(runs)
    asked[RISES] = {"vehicles, as printed": paper(runs).verdicts[0], **asked.get(RISES, {})}
    rows = [
        {
            "question": question,
            "target": where,
            "r": verdict.cell,
            "verdict": verdict.said,
            "p": tables.probability(verdict.p),
            "n": verdict.n,
        }
        for question, judged in asked.items()
        for where, verdict in judged.items()
    ]
    return pd.DataFrame(rows)


RISES = "accuracy rises with α1 (Pearson)"
KNOWLEDGE = "accuracy rises with similarity (Spearman)"
ATTACKS = "α1 rises with similarity (Spearman)"
QUESTIONS: dict[str, Callable[[Runs, str], Verdict | None]] = {
    RISES: _rises,
    KNOWLEDGE: partial(_along, outcome="transfer_accuracy"),
    ATTACKS: partial(_along, outcome="alpha1"),
}


def _questions(runs: Runs) -> dict[str, dict[str, Verdict]]:
    """The verdicts by question, and by domain and target."""
    asked: dict[str, dict[str, Verdict]] = {}
    for question, judge in QUESTIONS.items():
        for domain in similarity.DOMAINS:
            for where, verdict in _judged(runs, judge, domain).items():
                asked.setdefault(question, {})[f"{domain}, {where}"] = verdict
    return asked


def forecast(runs: Runs) -> Figure:
    """Accuracy after transfer against α1, one point per source: paper, and by domain stored, else this run."""
    panels = {"Paper, as printed": printed.table(3).assign(label=lambda rows: _shared(rows["similarity"]))}
    parts = _parts(_published(runs))
    if not parts and runs.record:
        own = runs.record.tables["sources"]
        parts = {f"{HERE}, {domain}": own[own["domain"] == domain] for domain in runs.config.target_domains}
    for head, rows in parts.items():
        means = range_over_seeds(rows, ["similarity"], ["transfer_accuracy", "alpha1"])
        where, _, domain = head.rpartition(", ")
        panels[f"{domain}, {where.removeprefix(f'{STORED}, ')}"] = means.assign(label=_shared(means["similarity"]))
    return plots.forecast(panels)


def _shared(similarity: pd.Series) -> pd.Series:
    return similarity.astype(int).astype(str) + "% shared"


def table3(runs: Runs) -> pd.DataFrame:
    """Table 3 with the metrics as printed, squares included: paper, and by domain the stored runs."""
    heads = _parts(_published(runs)).items()
    return _table3({head.removeprefix(f"{STORED}, "): comparison.means(rows, ["similarity"]) for head, rows in heads})


def table3_here(runs: Runs) -> pd.DataFrame | None:
    """The same with the run that was rebuilt here, by domain."""
    if runs.record is None:
        return None
    own = conclusions.squared(runs.record.tables["sources"])
    return _table3({f"{HERE}, {domain}": own[own["domain"] == domain] for domain in runs.config.target_domains})


def _table3(columns: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    paper = printed.table(3)
    table = comparison.side_by_side(paper[["similarity"]], {"paper": paper, **columns})
    return table.rename(columns={"similarity": "similarity, %"})


def over_models(runs: Runs) -> pd.DataFrame:
    """Correlations of accuracy after transfer with each metric over the five sources, with verdicts."""
    rows = []
    for metric in METRICS:
        for method in ("pearson", "spearman"):
            for name, table in _correlations(runs).items():
                score = conclusions.row(table, outcome="transfer_accuracy", metric=metric, method=method)
                about = {"accuracy with": f"{plots.SYMBOLS[metric]}, {method.title()}", "run": name}
                rows.append(about | Verdict.of("", score, name).cells)
    return pd.DataFrame(rows)


def rule() -> str:
    """The rule behind the verdicts on α1."""
    return (
        f"{verdicts.RULE}. The claim is a positive correlation. "
        "There are five sources, so the smallest p is 2/120. In simulations a 95% interval holds the truth in "
        f"{evidence.held('correlation, Pearson: bootstrap', 5)} (Pearson) or "
        f"{evidence.held('correlation, Spearman: bootstrap', 5)} (Spearman; {{ref}}`intervals-checked`)."
    )


# Single images.


def by_image(runs: Runs) -> Figure | None:
    """α1(x) against the loss after transfer, over the images of the first domain of the first run there is."""
    shown = next((made for series in _shown(runs) for made in runs.series(series).values()), runs.record)
    if shown is None:
        return None
    domain = shown.tables["sources"]["domain"].iloc[0]
    arrays = {n.removeprefix(f"{domain}_"): array for n, array in shown.arrays.items() if n.startswith(f"{domain}_")}
    scores = shown.tables["samples"].query("method == 'pearson' and domain == @domain")
    alpha1 = np.stack([evaluation.alpha1(arrays, place, 0) for place in range(1, 1 + len(scores))])
    labels = [f"{name}% {domain}" for name in scores["source"]]
    return plots.sample_scatter(labels, scores, alpha1, arrays["transfer_loss"][:, arrays["index"]])


def by_sample(runs: Runs) -> pd.DataFrame:
    """The correlation of loss with α1(x) over the images of each source model."""
    rows = [({"source model": f"{source}% {domain}", "run": label}, scores)
            for label, domain, source, scores in _samples(runs)]  # fmt: skip
    return comparison.by_sample(rows, -1)


def _samples(runs: Runs) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """Run, domain, source and correlations over samples, of all runs."""
    shown = {
        f"{STORED}, {protocol.SHORT[made.config['target']]}, seed {made.config['seed']}": made
        for series in _shown(runs)
        for made in runs.series(series).values()
    }
    shown |= runs.own
    for label, made in shown.items():
        for (domain, source), scores in made.tables["samples"].groupby(["domain", "source"], sort=False):
            yield label, str(domain), str(source), scores


def in_print() -> str:
    """The score that the paper prints."""
    return f"In print the score is {tables.number(printed.pearson('table3'))}, without an interval."
