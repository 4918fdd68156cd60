"""Which candidates can be told apart, and how well each score orders them."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from advtransfer.names import unknown
from advtransfer.ranking.scoring import SMALLER_IS_BETTER, Ranking
from advtransfer.statistics import Floats

COLUMNS = ("candidate", "score", "rank", "rank_low", "rank_high", "best", "group")


def ranks(ranking: Ranking) -> pd.DataFrame:
    """The place of each candidate under each score that was drawn, and how sure it is.

    Returns
    -------
    DataFrame
        A row per candidate and score: ``rank`` (1 is best; equal values share the mean of their places),
        ``rank_low`` and ``rank_high`` (the interval of the rank over the draws), ``best`` (the share of the draws in
        which it is the best) and ``group``: the candidates that cannot be told apart from the best one, because the
        interval of the difference contains 0, are in group 1; the best of the others begins group 2, and so on.
    """
    tail = [0.025, 0.975]
    rows = []
    for score, drawn in ranking.draws.groupby("score", sort=False):
        sign = -1.0 if score in SMALLER_IS_BETTER else 1.0
        table = sign * drawn.set_index(["draw", "candidate"])["value"].unstack()  # noqa: PD010 - nothing is aggregated
        values = sign * ranking.scores.query("score == @score").set_index("candidate")["value"][table.columns]
        places = np.stack([stats.rankdata(-row, nan_policy="omit") for row in table.to_numpy()])
        low, high = np.nanquantile(places, tail, axis=0)
        wins = places == np.nanmin(places, axis=1, keepdims=True)
        shares = (wins / wins.sum(1, keepdims=True)).mean(0)
        groups = _groups(values.to_numpy(), table.to_numpy(), tail[1])
        rank = stats.rankdata(-values.to_numpy())
        rows += [
            {"candidate": name, "score": score, "rank": rank[k], "rank_low": low[k], "rank_high": high[k],
             "best": shares[k], "group": groups[k]}
            for k, name in enumerate(table.columns)
        ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _groups(values: Floats, drawn: Floats, tail: float) -> NDArray[np.int64]:
    """The number of each candidate's group: those of a group cannot be told apart from its best member.

    The interval of a difference is its value ± Student's quantile times the spread of the differences of the draws.
    """
    quantile = stats.t.ppf(tail, len(drawn) - 1)
    left, group, found = list(np.argsort(-values, kind="stable")), 1, np.zeros(len(values), int)
    while left:
        best = left[0]
        half = [quantile * np.std(drawn[:, best] - drawn[:, k], ddof=1) for k in left]
        members = [k for k, width in zip(left, half, strict=True) if k == best or values[best] - values[k] <= width]
        found[members] = group
        left, group = [k for k in left if k not in members], group + 1
    return found


def compare(table: pd.DataFrame, truth: Mapping[str, float]) -> pd.DataFrame:
    """How well each score orders candidates whose accuracy after transfer is known.

    Parameters
    ----------
    table
        A row per candidate, with its name in a column ``candidate`` or as the index, and a column per score; larger is
        better, except in a column ``distance``. `Ranking.wide` makes one.
    truth
        The accuracy of each candidate after transfer; for all of them a share, or for all in percent.

    Returns
    -------
    DataFrame
        A row per score: ``n`` candidates that have the score, ``kendall`` (τ-b), ``weighted`` (Vigna's weighted τ, in
        which places near the top count more), ``top`` (whether the candidate with the highest score is the best) and
        ``regret`` (the accuracy of the best candidate minus that of the one with the highest score; where several
        share the highest score, the mean over these). The best candidate is that of all, even if it lacks the score.

    Raises
    ------
    ValueError
        Fewer than three candidates, a candidate without a truth, or nothing to compare.

    Examples
    --------
    >>> table = pd.DataFrame({"candidate": ["a", "b", "c"], "alpha1": [0.9, 0.2, 0.5]})
    >>> compare(table, {"a": 0.8, "b": 0.6, "c": 0.85}).round(3).to_dict("records")
    [{'score': 'alpha1', 'n': 3, 'kendall': 0.333, 'weighted': 0.182, 'top': False, 'regret': 0.05}]
    """
    if "candidate" in table:
        table = table.set_index("candidate")
    if missing := [name for name in table.index if name not in truth]:
        raise ValueError(f"{unknown('candidate', str(missing[0]), map(str, truth))}: expected a truth for each one")
    if len(table) < 3:
        raise ValueError(f"there are {len(table)} candidates; expected at least 3 to order")
    accuracy = np.array([truth[name] for name in table.index], float)
    shares, above = int((accuracy <= 1).sum()), int((accuracy > 1).sum())
    if above and shares > 1:  # a single one may be a small percentage
        raise ValueError(f"{shares} truths are at most 1, and {above} above it; expected all in one unit")
    rows = []
    for name in table.select_dtypes("number").columns.drop(["accuracy"], errors="ignore"):
        values = table[name].to_numpy(float)
        known = np.isfinite(values) & np.isfinite(accuracy)
        if known.sum() < 3:
            continue
        signed = -values[known] if name in SMALLER_IS_BETTER else values[known]
        found = agreement(signed, accuracy[known], best=np.nanmax(accuracy))
        rows.append({"score": name, "n": int(known.sum()), **found})
    if not rows:
        raise ValueError(f"no score is known for three candidates (columns {', '.join(map(str, table.columns))})")
    return pd.DataFrame(rows)


def weighted_tau(score: Floats, accuracy: Floats) -> Floats:
    """Vigna's weighted τ of each row, (..., n) and (..., n) -> (...); NaN where one of the two is constant."""
    varied = (np.ptp(score, axis=-1) > 0) & (np.ptp(accuracy, axis=-1) > 0)
    return np.where(varied, stats.weightedtau(score, accuracy, axis=-1).statistic, np.nan)


def agreement(score: Floats, accuracy: Floats, *, best: float | None = None) -> dict[str, float]:
    """Kendall's τ-b, the weighted τ, whether the pick is the best, and its regret.

    `best` is the accuracy of the best candidate, if that is one without a score.
    """
    picked, best = score == score.max(), accuracy.max() if best is None else best
    return {
        "kendall": float(stats.kendalltau(score, accuracy).statistic),
        "weighted": float(weighted_tau(score, accuracy)),
        "top": bool((accuracy[picked] == best).all()),
        "regret": float(best - accuracy[picked].mean()),
    }
