"""The page of Figure 2: sources that are moved away from a target network on made-up data."""

from typing import Any, Literal

import pandas as pd
from matplotlib.figure import Figure

from advtransfer.experiments import synthetic
from advtransfer.pages import evidence, plots, synthetic_plots, tables, verdicts
from advtransfer.pages.verdicts import Finding, Verdict
from advtransfer.records.published import RESULTS
from advtransfer.records.record import Record
from advtransfer.statistics import Correlation

QUANTITIES = {
    "alpha_T_S": "α1, T→S",
    "alpha_S_T": "α1, S→T",
    "gamma_T_S": "α2, T→S",
    "gamma_S_T": "α2, S→T",
    "alpha_gamma_combined_T_S": "α1∗α2, T→S",
    "alpha_gamma_combined_S_T": "α1∗α2, S→T",
    "gradient_loss": "gradient matching distance",
    "loss_f_S": "transfer loss, on the hidden layer",
    "loss_f_T": "loss of the target",
}
"""The columns of the authors' released files, in words for the page."""

NAMES = {"alpha1": "α1", "alpha2": "α2", "alpha12": "α1∗α2", "distance": "the gradient matching distance"}


def findings(record: Record) -> dict[str, Any]:
    """The values of this page that it and other pages quote."""
    config, transfer = record.config, record.tables["transfer"]
    regular = transfer[transfer["level"] == 0]
    target_attacked = regular[regular["direction"] == "T→S"]
    source_attacked = regular[(regular["direction"] == "S→T") & (regular["t"] <= 1)]
    return {
        "synthetic_samples": f"{config['samples']:,}",
        "synthetic_width": config["width"],
        "synthetic_directions": config["directions"],
        "synthetic_steps": f"{config['train_steps']:,}",
        "synthetic_fit": float(record.tables["target"]["relative_loss"].iloc[0]),
        "synthetic_rho": float(target_attacked["rho"].median()),
        "synthetic_rho_source": float(source_attacked.groupby("t")["rho"].median().min()),
        "synthetic_rank_alpha12": combined_rank(record),
        "synthetic_rank_metrics": metric_ranks(record),
        "synthetic_distance": distance_ranks(record),
        "synthetic_both_ways": both_directions(record),
    }


def answer(record: Record) -> str:
    """What this page finds, as a list."""
    along, among = combined_rank(record), metric_ranks(record)
    return tables.listed(
        "**As one source moves away**, the metrics fall and the loss rises: the rank correlation of α1∗α2 (T→S) with "
        f"the loss is {along}. That is a weak test, for everything changes along the way.",
        f"**Among sources that are equally far**, the harder question, the claims on the metrics are: {among}.",
    )


# Figure 2.


def figure_2(record: Record) -> Figure:
    """Figure 2 of the paper against the scale t, for the regular and the secondary attacks."""
    sources, transfer = record.tables["sources"], record.tables["transfer"]
    return synthetic_plots.figure_2(sources[sources["t"] <= 1], transfer[transfer["t"] <= 1])


def figure_2_accumulated(record: Record) -> Figure:
    """Figure 2 against the scale s of the released script, for the regular attacks."""
    plotted = {round(synthetic.accumulated_scale(i), 12): i / 10 for i in range(10)}  # s by the t that it has reached

    def reached(table: pd.DataFrame) -> pd.DataFrame:
        return table[table["t"].isin(list(plotted))].assign(s=lambda part: part["t"].map(plotted))

    return synthetic_plots.figure_2_accumulated(reached(record.tables["sources"]), reached(record.tables["transfer"]))


def shares(record: Record) -> Figure:
    """The figure of R, R1 and the share ρ of the first attack, for both directions of transfer."""
    return synthetic_plots.shares(record.tables["transfer"])


# How well each metric ranks sources.


def _agreement(record: Record) -> pd.DataFrame:
    """The rank correlations of the record, with a label for each predictor and direction."""
    table = record.tables["agreement"]
    return table.assign(label=table["predictor"].map(plots.SYMBOLS) + ", " + table["direction"])


def _verdicts(agreement: pd.DataFrame) -> tuple[Verdict, ...]:
    """The verdict on each row: the loss should fall with a metric and rise with the distance."""
    judged = []
    for row in agreement.to_dict("records"):
        claimed: Literal[1, -1] = 1 if row["predictor"] == "distance" else -1
        moves = "rises" if claimed == 1 else "falls"
        claim = f"{row['question']}, the transfer loss {moves} with {NAMES[row['predictor']]}, {row['direction']}"
        found = Correlation(*(row[name] for name in Correlation._fields))
        judged.append(Verdict.of(claim, found, "this run", sign=claimed))
    return tuple(judged)


def combined_rank(record: Record) -> Finding:
    """The rank correlation of the loss with α1∗α2, T→S, as one source moves away, with a verdict."""
    table = record.tables["agreement"].query("predictor == 'alpha12' and direction == 'T→S'")
    (verdict,) = _verdicts(table[table["question"] == synthetic.ALONG])
    return Finding(_seen(verdict), (verdict,))


def metric_ranks(record: Record) -> Finding:
    """How many metrics rank sources at one t as claimed, with a verdict on each metric and direction."""
    table = record.tables["agreement"].query("predictor != 'distance'")
    judged = _verdicts(table[table["question"] == synthetic.AMONG])
    return Finding(verdicts.tally(judged), judged)


def distance_ranks(record: Record) -> Finding:
    """Whether the loss rises with the gradient matching distance: along the way of one source, and among others."""
    table = record.tables["agreement"].query("predictor == 'distance'")
    return _listed(table, table["question"] + ", " + table["direction"])


def both_directions(record: Record) -> Finding:
    """Whether a metric ranks sources that are equally far alike when the target and when the source is attacked."""
    table = record.tables["agreement"].query("predictor != 'distance'")
    table = table[table["question"] == synthetic.AMONG]
    return _listed(table, table["predictor"].map(NAMES) + ", " + table["direction"])


def _listed(table: pd.DataFrame, labels: pd.Series) -> Finding:
    judged = _verdicts(table)
    return Finding("; ".join(f"{label}: {_seen(v)}, {v.word}" for label, v in zip(labels, judged, strict=True)), judged)


def _seen(verdict: Verdict) -> str:
    """A rank correlation with its interval and n; in words where it is the same in every direction."""
    if verdict.low == verdict.high:
        return f"{tables.number(verdict.estimate)} in all {verdict.n} directions, {tables.p_value(verdict.p)}"
    return verdict.correlation


def ranking_figure(record: Record) -> Figure:
    """The figure of the rank correlations of each predictor with the transfer loss."""
    return synthetic_plots.rankings(_agreement(record))


def rankings(record: Record) -> pd.DataFrame:
    """The table of the rank correlations of each predictor with the transfer loss, and a verdict on each."""
    table = _agreement(record)
    cells = table.assign(value=[f"{_seen(verdict)}, {verdict.word}" for verdict in _verdicts(table)])
    wide = cells.pivot_table(index="label", columns="question", values="value", aggfunc="first", sort=False)
    return wide.rename_axis("predictor").reset_index()


def rule(record: Record) -> str:
    """The sentence on how the verdicts on predictors are made."""
    return (
        f"Spearman's correlation with its 95% interval over n = {record.config['directions']} directions. "
        f"{verdicts.RULE}. The claim is a negative correlation for a metric and a "
        "positive one for the distance. In simulations such an interval from ten pairs holds the truth in "
        f"{evidence.held('correlation, Spearman: bootstrap', 10)} ({{ref}}`intervals-checked`); the averages over "
        "scales or directions, which these correlations are, were not simulated. p permutes whole scales, or whole "
        "directions."
    )


# The released files.

DIFFERENCES = "released.csv"
"""Our values minus the released ones, among the stored results; `benchmarks/evidence.py --released` writes them."""


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """Our values minus the released ones, one row per value, from the table ``released`` of a record."""
    return table[["file", "scale", "quantity"]].assign(difference=table["here"] - table["released"])


def released(record: Record) -> pd.DataFrame:
    """The largest differences from the authors' released values: of this run, else as they are stored."""
    here = "released" in record.tables
    table = differences(record.tables["released"]) if here else pd.read_csv(RESULTS / DIFFERENCES)
    worst = table.assign(size=table["difference"].abs()).pivot_table(
        index="quantity", columns="file", values="size", aggfunc="max"
    )
    named = worst.loc[list(QUANTITIES)].rename(index=QUANTITIES, columns=_released_run)
    return named.map(tables.power).rename_axis("largest difference from the released value").reset_index()


def about_released(record: Record) -> str:
    """Whether the comparison is of this run."""
    if "released" in record.tables:
        return "The differences were computed in this run, from the released files."
    return (
        "The files were not here when this page was made, so the differences are those stored with the book. To "
        "compute them again, copy the files from the authors' repository into `synthetic/authors/` in the data root."
    )


def _released_run(file: str) -> str:
    return "another source of 50 units, δ⁽¹⁾" if "crossmodel" in file else "the same network moved, δ⁽²⁾"
