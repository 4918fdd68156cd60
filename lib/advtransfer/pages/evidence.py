"""What is behind the numbers: how the stored sources were trained, and how often our intervals are right.

`benchmarks/schedules.py`, `benchmarks/coverage_of_intervals.py` and `benchmarks/first_attacks.py` measure what is shown
here; the results lie beside the stored records.
"""

import json
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from advtransfer.certificates import distance_interval
from advtransfer.experiments import pool
from advtransfer.models.images import LABELS
from advtransfer.pages import plots, sizes, tables
from advtransfer.records.published import RESULTS, published, rows_of

CLAIMED = 0.95


def _stored(name: str) -> list[dict[str, Any]]:
    path = RESULTS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def matched_on_one_class() -> str:
    """How many runs on Tiny ImageNet have the Jacobians of one class alone, and are left out; empty if none has."""
    runs = {name: each for name, each in published("vision").items() if each.config["target"] == "tiny-imagenet-10"}
    kept = [f"`{name}`" for name, each in runs.items() if not pool.matched_on_one_class(each)]
    if len(kept) == len(runs):
        return ""
    return (
        f" The distances of {len(runs) - len(kept)} of the {len(runs)} stored runs on Tiny ImageNet are left out on "
        "this page: their Jacobians were taken at the first attacked images, and as this data set is sorted by class, "
        f"all of these are buses. Those that remain ({', '.join(kept)}) were measured on images of every class."
    )


# Training.


def curves() -> Figure | None:
    """Accuracy over epochs of one network under the released recipe and under that of the stored sources."""
    rows = [row for row in _stored("schedules.json") if row["part"] == "recipes"]
    return plots.learning({row["recipe"]: row["accuracy"] for row in rows}) if len(rows) > 1 else None


def about_curves() -> str:
    """What the two recipes are, and where they end."""
    rows = [row for row in _stored("schedules.json") if row["part"] == "recipes"]
    if len(rows) < 2:
        return "The two schedules have not been compared yet."
    said = [
        f"*{row['recipe']}*: batches of {row['batch_size']}, highest learning rate {row['lr']:g}, weight decay "
        f"{row['weight_decay']:g}, ends at {100 * row['accuracy'][-1]:.1f}%"
        for row in rows
    ]
    first = rows[0]
    return (
        f"A {LABELS[first['architecture']]} of width {first['width']}, both times {first['epochs']} epochs of the "
        f"same images, at equal cost: {'; '.join(said)}. The released schedule takes {sizes.EPOCHS} epochs; here its "
        "cosine-shaped learning rate is shortened to the same length."
    )


def longer() -> str | None:
    """What half as many epochs again gain for the networks without BatchNorm."""
    rows = [row for row in _stored("schedules.json") if row["part"] == "longer"]
    made = published("vision").series("trained")
    if not rows or not made:
        return None
    first = next(iter(made.values()))
    known = rows_of(made).groupby("architecture")["source_accuracy"].agg(["min", "max"])
    reached = [
        f"{LABELS[name]} {100 * row['accuracy'][-1]:.1f}% ({100 * known['min'][name]:.1f} to "
        f"{100 * known['max'][name]:.1f}%)"
        for row in rows
        if (name := row["architecture"]) in known.index
    ]
    return (
        f"With {rows[0]['epochs']} epochs instead of {first.config['plain_epochs']} the plain networks reach, on the "
        f"same test images (one seed; in parentheses the {len(made)} stored seeds): {', '.join(reached)}."
        f"{_still(rows, known)}"
    )


def _still(rows: list[dict[str, Any]], known: pd.DataFrame) -> str:
    """Which networks gain a point or more, and so are not at their plateau."""
    gains = {
        LABELS[name]: row["accuracy"][-1] - known["max"][name]
        for row in rows
        if (name := row["architecture"]) in known.index
    }
    surely = [label for label, gain in gains.items() if gain >= 0.01]
    perhaps = [label for label, gain in gains.items() if 0 < gain < 0.01]
    if not surely:
        return ""
    beside = f", and perhaps {' and '.join(perhaps)}," if perhaps else ""
    return f" So, in this seed, {' and '.join(surely)}{beside} would still gain from longer training."


# First attacks.


def shares() -> str:
    """ρ of the networks on images, T→S and S→T, in words."""
    rows = _stored("first_attacks.json")
    if not rows:
        return "it was not measured for the networks on images"
    of_targets = sorted({row["rho"] for row in rows if row["direction"] == "T→S"})  # one target model, one ρ
    of_sources = [row["rho"] for row in rows if row["direction"] == "S→T"]
    return (
        f"it is {' and '.join(map(tables.number, of_targets))} for {len(of_targets)} target models on images (T→S), "
        f"and {tables.number(min(of_sources))} to {tables.number(max(of_sources))} for {len(of_sources)} pairs of a "
        "source model and a target's images (S→T)"
    )


def first_attacks() -> str:
    """What the first attacks alone say of the distance, for networks on images; a paragraph, empty if not measured."""
    rows = _stored("first_attacks.json")
    if not rows:
        return ""
    known = [distance_interval(min(row["ratio_first"], row["rho"]), row["rho"]) for row in rows]
    distances = [(1 - row["ratio"]) ** 0.5 for row in rows]
    series = ", ".join(f"`{name}`" for name in dict.fromkeys(row["series"] for row in rows))
    seeds = ", ".join(map(str, sorted({row["seed"] for row in rows})))
    widest = max(row["rho_high"] - row["rho_low"] for row in rows)
    return (
        f"**How much the first attacks say.** $\\alpha_1$ and $\\alpha_2$ know only these. Their share $\\rho$ "
        f"({{prf:ref}}`def-rho`) is a property of the attacked network, and {shares()} ({series}; seed {seeds}; "
        f"{rows[0]['n']} images of the target each; the 95% intervals over images are at most {tables.number(widest)} "
        f"wide). So by {{prf:ref}}`prop-angle`, the first attacks leave open whether the distance is "
        f"{tables.number(min(low for low, _ in known))} or {tables.number(max(high for _, high in known))}. All "
        f"attacks together give {tables.number(min(distances), 4)} to {tables.number(max(distances), 4)}: the "
        "gradients of these networks have almost nothing in common that a linear map could find."
    )


# Intervals.


def coverage() -> pd.DataFrame:
    """How often each kind of interval holds the truth, and how often its test rejects where there is nothing."""
    rows = []
    for row in _stored("coverage.json"):
        rejected = tables.percent(row, "rejected") if "rejected" in row else "–"
        verdict = tables.percent(row, "reproduced") if "reproduced" in row else "–"
        about = {"interval": row["what"], "n": row["n"], "truth": row["truth"]}
        rows.append(
            about
            | {
                "holds the truth, %": tables.percent(row, "held"),
                "p ≤ 0.05, %": rejected,
                "*reproduced*, %": verdict,
                "*right sign only*, %": tables.percent(row, "right_sign_only") if "right_sign_only" in row else "–",
                "short": "**yes**" if row["held_high"] < CLAIMED else "no",
            }
        )
    return pd.DataFrame(rows)


def about_coverage() -> str:
    """How many kinds of interval fall short, in a sentence."""
    rows = _stored("coverage.json")
    if not rows:
        return "The intervals have not been checked yet."
    short = [row for row in rows if row["held_high"] < CLAIMED]
    worst = min(rows, key=lambda row: row["held"])
    fewest, most = (pick(row["simulations"] for row in rows) for pick in (min, max))
    drawn = f"{most:,} times" if fewest == most else f"{fewest:,} or {most:,} times"
    return (
        f"In {len(short)} of {len(rows)} settings, each drawn {drawn}, the interval contains the truth less often "
        f"than it claims; the worst is *{worst['what']}* at n = {worst['n']}, with {100 * worst['held']:.0f}%."
    )


def signs_by_chance() -> str:
    """How often a correlation has the right sign only, where there is nothing to find, over all n that were tried."""
    shares = [100 * row["right_sign_only"] for row in _stored("coverage.json") if "right_sign_only" in row]
    return f"{min(shares):.0f} to {max(shares):.0f}% of samples" if shares else "an unknown share of samples"


def held(what: str, n: int) -> str:
    """How often one kind of interval holds the truth, from the least to the most over the truths that were tried."""
    return _share("held", what, n)


def rejected(what: str, n: int) -> str:
    """How often its p is at most 0.05 where there is nothing to find."""
    return _share("rejected", what, n)


def _share(column: str, what: str, n: int) -> str:
    rows = [row for row in _stored("coverage.json") if row["what"] == what and row["n"] == n]
    shares = [100 * row[column] for row in rows if column in row]
    if not shares:
        return "an unknown share of samples"
    low, high = min(shares), max(shares)
    return f"{low:.0f}% of samples" if round(low) == round(high) else f"{low:.0f} to {high:.0f}% of samples"
