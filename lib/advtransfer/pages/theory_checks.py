"""The page of the theory checks: every statement on random networks, and the small-ε theory as ε grows."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from advtransfer.experiments import sampling
from advtransfer.pages import plots, synthetic_plots, tables
from advtransfer.records.record import Record

SMALL = 0.1  # radii below it show how fast a limit is reached
SUMMARIES = {
    "mean": r"mean of $\alpha_1(x)$, Definition 1",
    "median": r"median of $\alpha_1(x)$",
    "ratio": "ratio of the mean deviations",
}
MEASURED = {"equality": "largest error", "inequality": "largest left / right"}


def findings(record: Record) -> dict[str, Any]:
    """The values of this page that it and other pages quote."""
    rows = record.tables["statements"].set_index("key")
    worst = rows["worst"]
    return {
        "theory_cases": int(rows["cases"].iloc[0]),
        "theory_samples": record.config["samples"],
        "theory_statements": len(rows),
        "theory_verified": int(rows["verified"].sum()),
        "theory_equation12_error": float(worst["theorem-3-1"]),
        "theory_theorem32_ratio": float(worst[["theorem-3-2-first", "theorem-3-2-second"]].max()),
        **_samples(record),
        **_orders(record),
    }


def _samples(record: Record) -> dict[str, Any]:
    """How many samples the metrics need, and the share of one of them where the tail is heavy."""
    needed = record.tables["needed"].set_index("half_width")
    heavy = record.tables["heavy_tails"]
    most = heavy[heavy["n"] == heavy["n"].max()].set_index("summary")
    return {
        "theory_width": float(needed.index[1]),
        "theory_needed_alpha1": int(needed["alpha1"].iloc[1]),
        "theory_needed_alpha2": int(needed["alpha2"].iloc[1]),
        "theory_heavy_n": int(most["n"].iloc[0]),
        "theory_heavy_largest": float(most["largest"].iloc[0]),
        "theory_heavy_eps": sampling.EPS,
    }


def _orders(record: Record) -> dict[str, Any]:
    """How many orders of two sources first attacks certified, and how many of them the distances contradict.

    Where the first attack is the only one (ρ = 1) there is nothing to certify, and these are left out.
    """
    orders = record.tables["orders"].query("rho_low < 0.999")
    shares = [
        f"{row['certified'] / row['pairs']:.0%} of {row['pairs']} with ρ from {row['rho_low']:.2f} to "
        f"{row['rho_high']:.2f}"
        for row in orders.to_dict("records")
    ]
    return {
        "theory_orders_least": shares[0],
        "theory_orders_most": shares[-1],
        "theory_orders": int(orders["pairs"].sum()),
        "theory_orders_certified": int(orders["certified"].sum()),
        "theory_orders_wrong": int(orders["wrong"].sum()),
    }


def statements(record: Record, *keys: str) -> pd.DataFrame:
    """The table of some statements: what is compared, the worst value over all cases, and whether it was verified."""
    rows = record.tables["statements"].set_index("key").loc[list(keys)]
    ratios = rows["worst"].map("{:.3f}".format)
    return pd.DataFrame(
        {
            "statement": rows["where"].replace("New", "of this book"),
            "what is compared": rows["form"],
            "measured": rows["kind"].map(MEASURED),
            "value": rows["worst"].map(tables.power).where(rows["kind"] == "equality", ratios),
            "cases": rows["cases"],
            "verified": rows["verified"].map({True: "yes", False: "**no**"}),
        }
    )


def growing_eps(record: Record) -> Figure:
    """The figure of the metrics at radius ε beside their limit, for the strongest attack and for PGD."""
    return synthetic_plots.growing_eps(record.tables["growing_eps"])


def convergence(record: Record) -> pd.DataFrame:
    """The table of how fast each metric reaches its limit: the largest error over networks, and its slope in ε."""
    table = record.tables["growing_eps"]
    best = table[(table["attack"] == "best attack") & (table["eps"] < SMALL)]
    rows = []
    for metric in ("alpha1", "alpha2", "alpha12"):
        error = (best[metric] - best[f"{metric}_limit"]).abs().groupby(best["eps"]).max()
        slope = np.polyfit(np.log(error.index), np.log(error), 1)[0]
        rows.append(
            {
                "metric": plots.SYMBOLS[metric],
                "smallest ε": tables.power(error.index[0]),
                "largest error there": tables.power(error.iloc[0]),
                "slope of log error against log ε": f"{slope:.2f}",
            }
        )
    return pd.DataFrame(rows)


def definition_1(record: Record) -> pd.DataFrame:
    """The table of α1 of Definition 1 for the KL divergence, beside the first entry of A1 and its square."""
    means = record.tables["cross_entropy"].mean(numeric_only=True)
    quantities = {
        "a1": "$A_1^{(1)}$",
        "a1_squared": "$(A_1^{(1)})^2$",
        "definition_1_kl": r"$\alpha_1$ of Definition 1, KL, $\varepsilon = 10^{-3}$",
    }
    return pd.DataFrame(
        {
            "mean over samples and networks": list(quantities.values()),
            "value": [f"{means[name]:.4f}" for name in quantities],
        }
    )


def counterexamples(record: Record) -> pd.DataFrame:
    """The table of the smallest examples in which a statement fails as printed, each with a link to its erratum."""
    examples = record.tables["counterexamples"]
    return pd.DataFrame(
        {
            "erratum": "{ref}`" + examples["where"] + " <" + examples["key"] + ">`",
            "example": examples["example"],
            "quantity": examples["quantity"],
            "as printed": examples["printed"].map("{:.4g}".format),
            "holds": examples["holds"].map("{:.4g}".format),
        }
    )


def network_effects(record: Record) -> pd.DataFrame:
    """The table of two errata that need a network, measured with softmax outputs and cross-entropy."""
    measured = record.tables["cross_entropy"]
    effects = {
        "{ref}`H varies with x <erratum-varying-h>`: by how much the squared distance with $W = P K^\\dagger$ "
        "exceeds that with the best map for H(x)": f"{measured['excess'].mean():.2%}",
        "the same, largest over networks": f"{measured['excess'].max():.2%}",
        "{ref}`α1 above one <erratum-alpha1-range>`: share of samples, sign-PGD on cross-entropy, measured in "
        "ℓ2": f"{measured['alpha1_above_one'].mean():.1%}",
    }
    return pd.DataFrame({"effect": list(effects), "value": list(effects.values())})


def needed(record: Record) -> pd.DataFrame:
    """The table of how many samples are enough for a half-width, whatever the models, and of how many are necessary."""
    rows = record.tables["needed"]
    return pd.DataFrame(
        {
            "half-width": rows["half_width"].map("{:g}".format),
            r"$\alpha_1$, exact attacks": rows["alpha1"].map("{:,}".format),
            r"$\alpha_2$ and $\alpha_1 {*}\, \alpha_2$": rows["alpha2"].map("{:,}".format),
            r"plug-in $\alpha_2$ needs at least": rows["least"].map("{:,}".format),
            "ratio of the two": (rows["alpha2"] / rows["least"]).map("{:.2f}".format),
        }
    )


def heavy_tails(record: Record) -> pd.DataFrame:
    """The table of three summaries of α1(x) where its tail is heavy, on samples of growing size."""
    rows = record.tables["heavy_tails"]
    return pd.DataFrame(
        {
            "samples": rows["n"].map("{:,}".format),
            "summary": rows["summary"].map(SUMMARIES),
            "middle of the values": rows["middle"].map("{:.2f}".format),
            "80% of them": [f"{low:.2f} to {high:.2f}" for low, high in zip(rows["low"], rows["high"], strict=True)],
            "truth": rows["truth"].map(lambda value: "∞" if np.isinf(value) else f"{value:.2f}"),
            "share of the largest sample in the mean": rows["largest"]
            .map("{:.0%}".format)
            .where(rows["summary"] == "mean", "–"),
        }
    )


def orders(record: Record) -> pd.DataFrame:
    """The table of how many orders of two sources first attacks certify, by the share ρ of the first attack."""
    rows = record.tables["orders"]
    return pd.DataFrame(
        {
            r"$\rho$": [
                "1" if low > 0.999 else f"{low:.2f} to {high:.2f}"
                for low, high in zip(rows["rho_low"], rows["rho_high"], strict=True)
            ],
            "pairs of sources": rows["pairs"],
            "certified": rows["certified"],
            "share": (rows["certified"] / rows["pairs"]).map("{:.0%}".format),
            "certified and wrong": rows["wrong"],
        }
    )
