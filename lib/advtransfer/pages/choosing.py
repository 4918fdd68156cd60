"""The page *Which of your models?*: a ranking with its uncertainty, its floor and its cost."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from advtransfer import ranking
from advtransfer.datasets import DataUnavailable
from advtransfer.experiments import choosing
from advtransfer.pages import ranked, sizes, tables
from advtransfer.pages.ranked import OWN_DEVIATION, label
from advtransfer.ranking.scoring import ALPHAS, SCORES, SMALLER_IS_BETTER, WITH_TARGET_MODEL
from advtransfer.records.record import Record

SHOWN = ("probe", "1-NN", "LogME", "H-score", "alpha1")
"""The scores of the first table; the others are in the one below."""
DRAWN = ("probe", "1-NN", "LogME", "LEEP", "N-LEEP", "H-score", "alpha1", "back_alpha1", "alpha2")
WITH_FLOOR = ("probe", "1-NN", "LogME", "LEEP", "H-score", "TransRate", "alpha1", "back_alpha1", "alpha2")
"""The scores of the two figures."""
FEWEST = 3  # candidates, to be in an order


def load(config: choosing.Config) -> Record | None:
    """The ranking; None where the target's images are not here."""
    try:
        return choosing.run(config)
    except DataUnavailable:
        return None


def introduction(record: Record | None) -> str | None:
    """What was ranked for what, and what the ranking says, as Markdown."""
    if record is None:
        return None
    return tables.escaped(f"{about(record)}{_small_networks(record)}\n\n{answer(record)}")


def _small_networks(record: Record) -> str:
    """How the book's own candidates were trained; empty for the candidates of a pool file."""
    if record.config["pool"] != choosing.BOOK:
        return ""
    made = choosing.small_networks(choosing.Config(**record.config))
    return (
        f" The networks named CIFAR-10 are small (ResNet18 of width {made.width}, the others {made.plain_width}; all "
        f"were released with {sizes.WIDTH}), and were trained for {made.epochs} epochs on {made.train_images:,} images."
    )


def missing(config: choosing.Config) -> str:
    """What to do where the data are not here."""
    return tables.missing(choosing.required(config))


def about(record: Record) -> str:
    """What was ranked for what, in plain words."""
    target, candidates = record.tables["target"].iloc[0], record.tables["candidates"]
    used = int(record.tables["scores"]["labels"].max())
    size = f" of {target['height']} × {target['width']} pixels" if kind(record) == "images" else ""
    said = (
        f"The target is {target['name']}: {target['classes']} classes, {kind(record)}{size}. "
        f"{_attacked(candidates, {*record.tables['scores']['score']})}"
        f"{f' The scores read {used:,} labels.' if used else ''} "
    )
    if np.isfinite(target["accuracy"]):
        given = record.config["target"]
        said += (
            f"The target model, {given or 'trained on the target alone'}, classifies {100 * target['accuracy']:.0f}% "
            f"of the test {kind(record)} correctly. {_guessing(target, kind(record))}"
        )
    return said.strip() + (_attacked_texts(record) if kind(record) == "texts" else "") + _left_out(record)


def _attacked(candidates: pd.DataFrame, scores: set[str]) -> str:
    """How many candidates there are, and how many of them are attacked."""
    number, attacked = len(candidates), int(candidates["own_deviation"].notna().sum())
    there = f"There are {number} candidates." if number > 1 else "There is 1 candidate."
    if not scores & {*WITH_TARGET_MODEL}:
        return f"{there} These scores need no attack and no target model."
    which = ("each" if attacked == number else str(attacked)) + " of them" if number > 1 else "it"
    return f"{there} An attack is made once on {which}, and once on the target model."


def _guessing(target: "pd.Series[Any]", what: str) -> str:
    """A warning if the target model is not certainly better than a guess."""
    right, tests, guess = round(target["accuracy"] * target["test"]), int(target["test"]), 1 / target["classes"]
    if stats.binomtest(right, tests).proportion_ci(method="wilson").low > guess:
        return ""
    return (
        f"Beware: this may be no better than a guess, which is right in {100 * guess:.0f}% of cases with "
        f"{target['classes']} classes. Then the scores that need this model say nothing. More {what} or a larger "
        "target_epochs may help."
    )


def kind(record: Record) -> str:
    """What the target's data are: images or texts."""
    return "images" if record.tables["target"].iloc[0]["height"] else "texts"


def _attacked_texts(record: Record) -> str:
    """What is attacked in a text, and which candidates cannot be attacked."""
    scores = record.tables["scores"]
    alphas = scores[scores["score"].isin(ALPHAS)]
    if alphas.empty:
        return ""
    said = " An attack moves the word embeddings of a text, all of them together by at most ε."
    without = alphas[~np.isfinite(alphas["value"])].drop_duplicates("candidate")
    if without.empty:
        return said
    reasons = "; ".join(f"{row['candidate']} ({row['note']})" for _, row in without.iterrows())
    return f"{said} There is no α for {reasons}."


def _left_out(record: Record) -> str:
    rows = [f"{row['name']} ({row['reason']})" for _, row in record.tables["left_out"].iterrows()]
    shown = rows[:5] + ([f"and {len(rows) - 5} more"] if len(rows) > 5 else [])
    return f" Left out: {'; '.join(shown)}." if rows else ""


def answer(record: Record) -> str:
    """What the ranking says, in three sentences of plain words."""
    if len(record.tables["candidates"]) == 1:
        return f"Only {record.tables['candidates']['candidate'][0]} could be used, so there is nothing to rank."
    target, known = record.tables["target"].iloc[0], set(record.tables["ranks"]["score"])
    if np.isfinite(target["accuracy"]) and _guessing(target, kind(record)):
        known -= {"alpha1"}  # it says nothing, and no sentence about it is advice
    said = [_by_own_accuracy(record), *(_by_score(record, score) for score in ("probe", "alpha1") if score in known)]
    if "accuracy" in record.tables["candidates"]:
        said.append(_after_transfer(record))
    return " ".join([*filter(None, said), *(_no_more_than_noise(record) if "alpha1" in known else ())])


def _by_own_accuracy(record: Record) -> str:
    """Which candidate is the best on its own test samples; empty where the pool file does not say."""
    candidates = record.tables["candidates"]
    if "own_accuracy" not in candidates:
        return ""
    known = candidates.dropna(subset="own_accuracy").set_index("candidate")["own_accuracy"]
    if len(known) < len(candidates):
        return f"The pool file gives the own accuracy of {len(known)} of {len(candidates)} candidates."
    best = str(known.idxmax())
    first = _equal(known, best, "and better than all others") or f"the best is {best}"
    return f"By own accuracy, which compares only models that were trained on the same data, {first}."


def _by_score(record: Record, score: str) -> str:
    """Which candidate is the best by a score, and which cannot be told from it."""
    places, scores = (table[table["score"] == score] for table in (record.tables["ranks"], record.tables["scores"]))
    best = places.sort_values("rank").iloc[0]["candidate"]
    others = places[(places["group"] == 1) & (places["candidate"] != best)]["candidate"]
    tied = (
        f"; it cannot be told apart from {_listed(others)}"
        if len(others)
        else ", which can be told apart from all others"
    )
    values = scores.set_index("candidate")["value"]
    apart = others[values[others].to_numpy() != values[best]]
    more = f"and cannot be told apart from {_listed(apart)}" if len(apart) else "and better than all others"
    first = _equal(values, best, more) or f"the best is {best}{tied}"
    return f"By {'the ' if score == 'probe' else ''}{label(score)}, {first}{_at_the_floor(record, score, best)}."


def _after_transfer(record: Record) -> str:
    """Which candidate has the largest accuracy after transfer, and whose interval meets its own."""
    known = record.tables["candidates"].sort_values("accuracy", ascending=False)
    first = known.iloc[0]
    near = known[known["accuracy_high"] >= first["accuracy_low"]].iloc[1:]
    tied = f", but its interval overlaps with the interval of {_listed(near['candidate'])}" if len(near) else ""
    other = near[near["accuracy"] < first["accuracy"]]["candidate"]
    more = f"but their intervals overlap with the interval of {_listed(other)}" if len(other) else (
        "and better than all others"
    )  # fmt: skip
    equal = _equal(known.set_index("candidate")["accuracy"], first["candidate"], more)
    return f"On the test {kind(record)} {equal or f'{first.candidate} is the best after transfer{tied}'}."


def _equal(values: "pd.Series[float]", best: str, others: str) -> str:
    """Words for candidates that are as good as the best to the last digit; empty if there is none."""
    alike = values.index[values == values[best]].to_series()
    if len(alike) == 1:
        return ""
    return f"{_listed(alike)} are equally good" + (f", {others}" if len(alike) < len(values) else "")


def _at_the_floor(record: Record, score: str, candidate: str) -> str:
    """A warning where even the best candidate is not above what labels or noise without meaning give."""
    scores = record.tables["scores"]
    row = scores[(scores["score"] == score) & (scores["candidate"] == candidate)].iloc[0]
    known = candidate in set(_moved_by_noise(record)) if score == "alpha1" else row["value"] <= row["floor_high"]
    return ", but even the best value is at the floor: do not choose by this score" if known else ""


def _no_more_than_noise(record: Record) -> list[str]:
    """A sentence about the candidates that noise moves as far as the target model's attack does."""
    found = _moved_by_noise(record)
    if found.empty:
        return []
    return [
        "Beware: random noise of the same size moves the following candidates as far as the target model's attack "
        f"does: {_listed(found)}."
    ]


def _moved_by_noise(record: Record) -> "pd.Series[Any]":
    """The candidates that noise moves as far as the target model's attack does, as far as the interval can tell."""
    scores = record.tables["scores"]
    return scores[(scores["score"] == "alpha1") & (scores["low"] <= scores["floor"])]["candidate"]


def _listed(names: pd.Series) -> str:
    *some, last = map(str, names)
    return f"{', '.join(some)} and {last}" if some else last


def table(record: Record | None) -> pd.DataFrame | str | None:
    """The candidates, best first by the probe: accuracy after transfer, and the scores that are read first."""
    if record is None:
        return None
    rows, scores = [], record.tables["scores"].set_index(["candidate", "score"])
    groups = record.tables["ranks"].set_index(["candidate", "score"])["group"]
    shown = [name for name in SHOWN if name in set(record.tables["scores"]["score"])]
    for _, candidate in record.tables["candidates"].iterrows():
        row: dict[str, Any] = {"candidate": tables.escaped(candidate["candidate"])}
        if "accuracy" in candidate:
            row["after transfer, %"] = tables.percent(candidate, "accuracy")
        if "own_accuracy" in candidate:
            row["own accuracy, %"] = tables.number(100 * candidate["own_accuracy"], 1)
        for name in shown:
            found = scores.loc[(candidate["candidate"], name)]
            scale = 100 if name in ("probe", "1-NN") else 1
            mark = " ★" if groups.get((candidate["candidate"], name)) == 1 else ""
            head = f"{label(name)}, %" if scale == 100 else label(name)
            row[head] = tables.number(scale * found["value"], 1 if scale == 100 else 2) + mark
        rows.append((-scores.loc[(candidate["candidate"], shown[0]), "value"] if shown else 0, row))
    return pd.DataFrame([row for _, row in sorted(rows, key=lambda each: each[0])])


def ranks_figure(record: Record | None) -> Figure | None:
    """The rank of each candidate under nine of the scores, with intervals."""
    return None if record is None else ranked.ranks(_only(record, "ranks", DRAWN))


def floors_figure(record: Record | None) -> Figure | None:
    """How far nine of the scores are above their floor."""
    return None if record is None else ranked.floors(_only(record, "scores", WITH_FLOOR))


def _only(record: Record, table: str, scores: tuple[str, ...]) -> pd.DataFrame:
    """The rows of these scores, in their order; of all scores if there is none of these."""
    found = record.tables[table]
    chosen = [found[found["score"] == name] for name in scores if name in set(found["score"])]
    return pd.concat(chosen) if chosen else found


def details(record: Record | None) -> pd.DataFrame | None:
    """Every score of every candidate, with interval and floor."""
    if record is None:
        return None
    rows = [
        {
            "candidate": tables.escaped(row["candidate"]),
            "score": label(row["score"]),
            "value": tables.interval(row["value"], row["low"], row["high"]),
            "floor": tables.number(row["floor"]),
            "upper end of the floor": tables.number(row["floor_high"]),
            "note": tables.escaped(row["note"]),
        }
        for _, row in record.tables["scores"].iterrows()
    ]
    return pd.DataFrame(rows)


def attacks_table(record: Record | None) -> pd.DataFrame | None:
    """α in both directions, with ‖Δ_SS‖ and what noise in the attack's place gives."""
    if record is None:
        return None
    scores = record.tables["scores"].set_index(["candidate", "score"])
    rows = []
    for _, candidate in record.tables["candidates"].iterrows():
        row = {"candidate": tables.escaped(candidate["candidate"])}
        for name in ("alpha1", "back_alpha1", "alpha2"):
            if (candidate["candidate"], name) in scores.index:
                found = scores.loc[(candidate["candidate"], name)]
                row[label(name)] = tables.interval(found["value"], found["low"], found["high"])
                if name == "alpha1":
                    row["noise instead"] = tables.number(found["floor"])
        row[OWN_DEVIATION] = tables.number(candidate["own_deviation"])
        rows.append(row)
    return pd.DataFrame(rows) if any(name in set(record.tables["scores"]["score"]) for name in ALPHAS) else None


def trained_for(*epochs: int) -> pd.DataFrame:
    """α1 of small untrained networks for made-up images, with target models that were trained for fewer or more epochs.

    This is an example that takes seconds: a row per target model, with its accuracy.
    """
    rows = []
    for count in epochs:
        found = choosing.run(
            choosing.Config.from_profile(
                "smoke", samples=60, steps=5, only=("alpha1",), truth="none", target_epochs=count
            )
        ).tables
        row = {"target_epochs": count, "accuracy of the target model, %": f"{100 * found['target']['accuracy'][0]:.0f}"}
        for _, each in found["scores"].iterrows():
            row[f"α1 of {each['candidate']}"] = tables.interval(each["value"], each["low"], each["high"])
        rows.append(row)
    return pd.DataFrame(rows)


def judged(record: Record | None) -> pd.DataFrame | None:
    """How well each score orders the candidates by the truth: regret, rank correlation, cost."""
    if record is None or not _is_judged(record):
        return None
    rows = [
        {
            "score": label(row["score"]),
            "candidates": int(row["n"]),
            "points lost": tables.number(100 * row["regret"], 1),
            "Kendall's τ": tables.number(row["kendall"]),
            "seconds": tables.number(row["seconds"], 1),
            "labels": f"{row['labels']:,}" if row["labels"] else "–",
        }
        for _, row in costs(record).sort_values(["regret", "seconds"]).iterrows()
    ]
    return pd.DataFrame(rows)


def costs(record: Record) -> pd.DataFrame:
    """A row per score: agreement with the truth (`ranking.agreement`), seconds over all candidates, labels used.

    Regret is against the best of all candidates, ``n`` the number of those that have the score. Seconds include the
    features for the scores that read them, and the target model for those that compare with it: its training, with all
    labels, and the attack on it. The row "noise" is α1 with random noise in the place of the attack.
    """
    candidates, target = record.tables["candidates"].set_index("candidate"), record.tables["target"].iloc[0]
    rows, best = [], candidates["accuracy"].max()
    for score, part in record.tables["scores"].groupby("score", sort=False):
        known = part[np.isfinite(part["value"])].set_index("candidate")
        if len(known) < FEWEST:
            continue
        sign = -1 if score in SMALLER_IS_BETTER else 1
        accuracy = candidates.loc[known.index, "accuracy"].to_numpy()
        seconds = known["seconds"].sum()
        if score in SCORES:
            seconds += candidates.loc[known.index, "seconds_features"].sum()
        labels = int(known["labels"].max())
        if score in WITH_TARGET_MODEL:
            seconds += target["seconds"]
            labels = labels if record.config["target"] else int(target["train"])
        about = {"n": len(known), "seconds": float(seconds), "labels": labels}
        agrees = ranking.agreement(sign * known["value"].to_numpy(), accuracy, best=best)
        rows.append({"score": score, **agrees, **about})
        if score == "alpha1":
            noise = ranking.agreement(known["floor"].to_numpy(), accuracy, best=best)
            rows.append({"score": "noise", **noise, **about, "seconds": np.nan})  # measured with the attack
    if "own_accuracy" in candidates and candidates["own_accuracy"].notna().sum() >= FEWEST:
        known = candidates.dropna(subset="own_accuracy")
        agrees = ranking.agreement(known["own_accuracy"].to_numpy(), known["accuracy"].to_numpy(), best=best)
        rows.append({"score": "own_accuracy", **agrees, "n": len(known), "seconds": np.nan, "labels": 0})
    truth = candidates["seconds_truth"].sum() if "seconds_truth" in candidates else np.nan
    perfect = {"kendall": 1.0, "weighted": 1.0, "top": True, "regret": 0.0}
    about = {"n": len(candidates), "seconds": float(truth), "labels": target["train"]}
    return pd.DataFrame([*rows, {"score": "the truth itself", **perfect, **about}])


def regret_figure(record: Record | None) -> Figure | None:
    """Regret of each score against its seconds."""
    return ranked.regret(costs(record)) if record is not None and _is_judged(record) else None


def _width(record: Record) -> float:
    """How wide the interval of the best candidate's accuracy is, in points."""
    best = record.tables["candidates"].sort_values("accuracy").iloc[-1]
    return 100 * float(best["accuracy_high"] - best["accuracy_low"])


def _is_judged(record: Record) -> bool:
    """Whether the accuracy after transfer is known, and of enough candidates that there is an order."""
    return "accuracy" in record.tables["candidates"] and len(record.tables["candidates"]) >= FEWEST


def why_not_the_probe(record: Record | None) -> str | None:
    """The measured costs of the probe, beside those of α."""
    if record is None or "accuracy" not in record.tables["candidates"]:
        return None
    if not _is_judged(record):
        return "There are too few candidates to say how well a score orders them."
    found = costs(record).set_index("score")
    if not {"probe", "alpha1"} <= set(found.index):
        return None
    probe, alpha1 = found.loc["probe"], found.loc["alpha1"]
    candidates = record.tables["candidates"]
    return (
        f"For these {len(candidates)} candidates the cross-validated probe took {probe['seconds']:.0f} seconds, "
        f"including the features that it reads, and loses {100 * probe['regret']:.1f} points against the best "
        f"candidate. α took {alpha1['seconds']:.0f} seconds, including the target model that it needs, and α1 loses "
        f"{100 * alpha1['regret']:.1f} points; with random noise in the place of the target model's attack it would "
        f"lose {100 * float(found['regret'].loc['noise']):.1f}. The truth itself took "
        f"{float(found['seconds'].loc['the truth itself']):.0f} seconds. Where a score puts several candidates first, "
        f"the mean of their accuracies counts. The interval of the best candidate's accuracy is {_width(record):.0f} "
        "points wide, so small differences can be chance."
    )
