"""The page of Table 3: five source models that share 0 to 100% of the target's domain; the sources are attacked."""

from collections.abc import Iterator, Mapping
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
from advtransfer.statistics import METHODS, Method

NOT_RUN = "not run, the images are missing"
WORDS = {"animals": "the animals, as released", "vehicles": "the vehicles, as the text says"}


def load(config: similarity.Config) -> Runs:
    """This run, and the stored ones."""
    return page_runs.load(similarity, config)


SERIES = ("trained", "trained-shift")
"""The stored series of Table 3, a column each and by domain; other pages quote the first that is there."""


def summary(published: Mapping[str, Record]) -> dict[str, pd.DataFrame]:
    """What follows from the printed table and the stored runs alone.

    ``sources``, the rows of all source models, and ``correlations`` of `conclusions.over_sources`, for the paper and
    for each series and domain over the means of the seeds.
    """
    everything = rows_of(published)
    correlations = [conclusions.over_sources(printed.table3(), "paper")]
    for where, part in _parts(everything).items():
        means = over_seeds(part, ["similarity"], ["transfer_accuracy", *METRICS])
        correlations.append(conclusions.over_sources(means, where))
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
    judged = {domain: _verdict(runs, domain) for domain in WORDS}
    return {
        "similarity_in_print": paper(runs),
        **{
            f"similarity_{domain}": Finding(f"r = {verdict.correlation}", (verdict,), size(runs))
            if verdict
            else Finding(NOT_RUN)
            for domain, verdict in judged.items()
        },
        "similarity_both_targets": Finding(
            "; ".join(f"{WORDS[domain]}: {verdict.correlation}" for domain, verdict in judged.items() if verdict),
            tuple(filter(None, judged.values())),
            size(runs),
        ),
        "similarity_images": over_images(runs),
        "similarity_knowledge": (knowledge := with_similarity(runs, "transfer_accuracy")),
        "similarity_attacks": (attacks := with_similarity(runs, "alpha1")),
        "similarity_both": Finding(
            f"knowledge: {knowledge}. Attacks: {attacks}", (*knowledge.verdicts, *attacks.verdicts), knowledge.size
        ),
    }


def paper(runs: Runs) -> Finding:
    """What the paper's own five rows say of its claim."""
    score = conclusions.row(
        _correlations(runs)["paper"], outcome="transfer_accuracy", metric="alpha1", method="pearson"
    )
    word = verdicts.judge_correlation(score, claimed=1)
    verdict = Verdict.of("accuracy after transfer rises with α1", score, word, "paper")
    return Finding(f"r = {verdict.correlation}, {verdict.said}", (verdict,), "STL-10, as printed")


def with_similarity(runs: Runs, outcome: str) -> Finding:
    """Whether accuracy after transfer, or α1, rises with the share of the target's classes that a source has learnt."""
    found = {words: _along(runs, domain, outcome) for domain, words in WORDS.items()}
    judged = {words: verdict for words, verdict in found.items() if verdict}
    said = "; ".join(f"with {words}, {_ordered(verdict)}, {verdict.word}" for words, verdict in judged.items())
    return Finding(said or NOT_RUN, tuple(judged.values()), size(runs))


def _along(runs: Runs, domain: str, outcome: str) -> Verdict | None:
    """The rank correlation of similarity with an outcome in one domain."""
    rows = _by_domain(runs).get(domain, pd.DataFrame())
    if len(rows) < 3:
        return None
    means = rows.groupby("similarity", as_index=False)[outcome].mean()
    found = conclusions.correlation(means["similarity"], means[outcome], "spearman", resamples=499)
    word = verdicts.judge_correlation(found, claimed=1)
    return Verdict.of(f"{outcome} rises with similarity, {domain}", found, word, _by(runs))


def over_images(runs: Runs) -> Finding:
    """Whether images with a larger α1(x) have a smaller loss, over the images of each stored source."""
    judged = []
    for label, domain, source, scores in _samples(runs):
        if label.startswith(STORED):
            score = conclusions.row(scores, method="pearson")
            word = verdicts.judge_correlation(score, claimed=-1)
            judged.append(Verdict.of(f"loss falls with α1(x), {domain}, {source}% shared", score, word, STORED))
    return Finding(verdicts.tally(judged) if judged else NOT_RUN, tuple(judged), size(runs))


def _ordered(verdict: Verdict) -> str:
    """A rank correlation with interval, p and n; in words where every resample gives the same."""
    if verdict.low < verdict.high:
        return verdict.correlation
    return f"{tables.number(verdict.estimate)} (a perfect order), p = {tables.probability(verdict.p)}, n = {verdict.n}"


def _by_domain(runs: Runs) -> dict[str, pd.DataFrame]:
    """The source models that other pages quote, by domain."""
    parts = _parts(_published(runs))
    if parts:
        return {domain: parts[head] for domain in WORDS if (head := f"{_by(runs)}, {domain}") in parts}
    own = runs.record.tables["sources"] if runs.record else pd.DataFrame({"domain": []})
    return {str(domain): rows for domain, rows in own.groupby("domain")}


def size(runs: Runs) -> str:
    """How large the first stored series is, else this run."""
    series = next(iter(_shown(runs)), "")
    return sizes.of_images(runs.series(series) or runs.own)


def _by(runs: Runs) -> str:
    """The runs that other pages quote: the first stored target, else this run."""
    heads = _parts(_published(runs))
    return next(iter(heads)).rpartition(", ")[0] if heads else HERE


def _published(runs: Runs) -> pd.DataFrame:
    """All stored source models."""
    return runs.summary.get("sources", pd.DataFrame({"series": []}))


def _shown(runs: Runs) -> list[str]:
    """The stored series that this page shows."""
    return [series for series in SERIES if runs.series(series)]


def _correlations(runs: Runs) -> dict[str, pd.DataFrame]:
    """Correlations over the five sources: in the paper, and by domain over the stored rows and in this run."""
    stored = runs.summary.get("correlations")
    if stored is None:
        stored = conclusions.over_sources(printed.table3(), "paper")
    by_run = {str(where): part for where, part in stored.groupby("where", sort=False)}
    if runs.record:
        own = runs.record.tables["correlations"].query("where == 'here'")
        by_run |= {f"{HERE}, {domain}": own[own["domain"] == domain] for domain in runs.config.target_domains}
    return by_run


def _verdict(runs: Runs, domain: str) -> Verdict | None:
    """Whether accuracy after transfer rises with α1 in a domain: over stored rows, else in this run."""
    table = _correlations(runs).get(f"{_by(runs)}, {domain}")
    if table is None:
        return None
    score = conclusions.row(table, outcome="transfer_accuracy", metric="alpha1", method="pearson")
    if score.n < 3:
        return None
    word = verdicts.judge_correlation(score, claimed=1)
    return Verdict.of(f"accuracy after transfer rises with α1, {domain}", score, word, _by(runs))


# What was run.


def about(runs: Runs) -> str:
    """What the stored runs and this one rest on."""
    text = []
    if shown := _shown(runs):
        made = next(iter(runs.series(shown[0]).values()))
        settings, seeds = made.config, len(runs.series(shown[0]))
        targets = [next(iter(runs.series(series).values())).config["target"] for series in shown]
        own = _published(runs)["source_accuracy"]
        text.append(
            f"The **stored** columns rest on n = {seeds} {'seed' if seeds == 1 else 'seeds'}; target domains: "
            f"{' and '.join(protocol.TARGETS[target] for target in targets)}. They are ResNets of width "
            f"{settings['width']} (64 as released), {settings['epochs']} passes over the sources' images (100 as "
            f"released), on {made.provenance['device']}. On their own test images the sources classify "
            f"{100 * own.min():.0f} to {100 * own.max():.0f}% correctly."
        )
    if runs.record is None:
        text.append(tables.missing(protocol.required(runs.config)))
    else:
        text.append(
            f"**This run** has the target domain {protocol.TARGETS[runs.config.target]} and is smaller still; the "
            "table below says in what."
        )
    return "\n\n".join(text)


def departures(runs: Runs) -> pd.DataFrame:
    """The parameters in which this run differs from the released protocol."""
    return tables.departures({HERE: runs.config})


# Table 3.


def answer(runs: Runs) -> str:
    """What this page finds, in words; `found` has the numbers."""
    judged = _questions(runs)
    said = [
        f"**With {words}**: {'; '.join(f'{question}: {verdict.said}' for question, verdict in asked.items())}."
        for words, asked in judged.items()
    ]
    return (
        f"**The paper's own five rows**: accuracy after transfer rises with α1: {paper(runs).word}. Our five networks, "
        f"for two targets ({size(runs)}): {' '.join(said) or NOT_RUN}"
    )


def found(runs: Runs) -> pd.DataFrame:
    """The numbers behind the answer."""
    asked = {"the vehicles, as printed": {RISES: paper(runs).verdicts[0]}} | {
        f"{words}, ours": each for words, each in _questions(runs).items()
    }
    rows = [
        {
            "target": words,
            "question": question,
            "r": verdict.cell,
            "verdict": verdict.said,
            "p": tables.probability(verdict.p),
            "n": verdict.n,
        }
        for words, each in asked.items()
        for question, verdict in each.items()
    ]
    return pd.DataFrame(rows)


RISES = "accuracy rises with α1 (Pearson)"


def _questions(runs: Runs) -> dict[str, dict[str, Verdict]]:
    """The verdicts by target and question."""
    asked: dict[str, dict[str, Verdict]] = {words: {} for words in WORDS.values()}
    for domain, words in WORDS.items():
        if verdict := _verdict(runs, domain):
            asked[words][RISES] = verdict
        for outcome, question in (
            ("transfer_accuracy", "accuracy rises with similarity (Spearman)"),
            ("alpha1", "α1 rises with similarity (Spearman)"),
        ):
            if verdict := _along(runs, domain, outcome):
                asked[words][question] = verdict
    return {words: each for words, each in asked.items() if each}


def forecast(runs: Runs) -> Figure:
    """Accuracy after transfer against α1, one point per source: paper, and by domain stored, else this run."""
    panels = {"Paper, as printed": printed.table3().assign(label=lambda rows: _shared(rows["similarity"]))}
    parts = _parts(_published(runs))
    if not parts and runs.record:
        own = runs.record.tables["sources"]
        parts = {f"{HERE}, {domain}": own[own["domain"] == domain] for domain in runs.config.target_domains}
    for head, rows in parts.items():
        means = range_over_seeds(rows, ["similarity"], ["transfer_accuracy", "alpha1"])
        panels[f"Ours, {head.rpartition(', ')[2]}"] = means.assign(label=_shared(means["similarity"]))
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
    paper = printed.table3()
    table = comparison.side_by_side(paper[["similarity"]], {"paper": paper, **columns})
    return table.rename(columns={"similarity": "similarity, %"})


def over_models(runs: Runs) -> pd.DataFrame:
    """Correlations of accuracy after transfer with each metric over the five sources, with verdicts."""
    rows = []
    for metric in METRICS:
        for method in ("pearson", "spearman"):
            for name, table in _correlations(runs).items():
                score = conclusions.row(table, outcome="transfer_accuracy", metric=metric, method=method)
                verdict = Verdict.of("", score, verdicts.judge_correlation(score, claimed=1), name)
                about = {"accuracy with": f"{plots.SYMBOLS[metric]}, {method.title()}", "run": name}
                found = {"r": verdict.cell, "p": tables.probability(verdict.p), "n": verdict.n}
                rows.append({**about, **found, "verdict": verdict.said})
    return pd.DataFrame(rows)


def rule() -> str:
    """The rule behind the verdicts on α1."""
    return (
        f"{verdicts.RULE}. The claim is a positive correlation. The "
        "sources are five, so the smallest p is 2/120, and in simulations a 95% interval holds the truth in "
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


def by_sample(runs: Runs, *methods: Method) -> pd.DataFrame:
    """The correlation of loss with α1(x) over the images of each source model.

    By these methods, or else by Pearson's with a verdict.
    """
    rows = []
    for label, domain, source, scores in _samples(runs):
        score = conclusions.row(scores, method="pearson")
        word = verdicts.judge_correlation(score, claimed=-1)
        row = {"target": domain, "% shared": source, "run": label}
        judged = {} if methods else {"n": score.n, "a negative r is": word}
        rows.append({**row, **comparison.scores(scores, *methods or METHODS[:1]), **judged})
    return pd.DataFrame(rows)


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
