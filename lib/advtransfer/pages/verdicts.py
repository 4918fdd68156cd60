"""Verdicts as values: made once from an estimate and its interval; prose, first page and ledger are written from them.

A notebook glues a `Finding` as data. What quotes it shows its words; the ledger of claims reads its verdict.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from advtransfer.pages import tables
from advtransfer.statistics import Correlation

Word = Literal["reproduced", "direction only", "not reproduced"]

RULE = (
    "*reproduced*: the 95% interval lies on the claimed side of zero; "
    "*direction only*: the estimate does, the interval does not; "
    "*not reproduced*: the estimate does not"
)
"""How `judge` decides, in words for the page."""

SIGNIFICANT = 0.05
MIME = "application/vnd.advtransfer.finding+json"  # of a finding as data
RULE_OVER_SOURCES = f"{RULE}. Over source models, *reproduced* also asks for a permutation p of at most {SIGNIFICANT:g}"
"""How `judge_over_sources` decides, in words for the page."""


def judge(estimate: float, low: float, high: float, *, claimed: Literal[1, -1] = 1) -> Word:
    """Judge a claimed sign by an estimate and its interval, as `RULE` says."""
    if not claimed * estimate > 0:
        return "not reproduced"
    return "reproduced" if claimed * (low if claimed > 0 else high) > 0 else "direction only"


def judge_over_sources(found: Correlation, *, claimed: Literal[1, -1]) -> Word:
    """`judge` a correlation over source models, with the permutation test as a second hurdle.

    A bootstrap of five rows often repeats a few of them and then gives an interval that is too short.
    """
    word = judge(found.r, found.low, found.high, claimed=claimed)
    return "direction only" if word == "reproduced" and not found.p <= SIGNIFICANT else word


@dataclass(frozen=True)
class Verdict:
    """What a claim about one number came to."""

    claim: str
    """In words, such as "accuracy after transfer rises with α1"."""
    word: Word
    estimate: float
    low: float
    high: float
    """The ends of its 95% interval."""
    n: int
    """The points behind it."""
    p: float = math.nan
    """By permutation, where there is a test."""
    run: str = ""
    """Whose numbers these are: "paper", "published" or "this run"."""

    @classmethod
    def of(cls, claim: str, found: Correlation, word: Word, run: str = "") -> "Verdict":
        """The verdict on a correlation."""
        return cls(claim, word, found.r, found.low, found.high, found.n, found.p, run)

    @property
    def interval(self) -> str:
        """The estimate with its interval."""
        return tables.interval(self.estimate, self.low, self.high)

    @property
    def correlation(self) -> str:
        """The estimate with its interval, p and n."""
        return f"{self.interval}, p = {tables.probability(self.p)}, n = {self.n}"


@dataclass(frozen=True)
class Finding:
    """What a page found about a claim: a sentence, and the verdicts that it tells of."""

    text: str
    verdicts: tuple[Verdict, ...] = ()

    @property
    def word(self) -> str:
        """The one word of all verdicts; "mixed" if they differ, "not run" if there is none."""
        words = {verdict.word for verdict in self.verdicts}
        return words.pop() if len(words) == 1 else "mixed" if words else "not run"

    def __str__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        verdicts = [
            {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in asdict(verdict).items()}
            for verdict in self.verdicts
        ]
        return {
            "text/plain": repr(self.text),
            MIME: {"text": self.text, "word": self.word, "verdicts": verdicts},
        }


def share(verdicts: Iterable[Verdict]) -> str:
    """How many of several verdicts are *reproduced*, such as "3 of 20"."""
    words = Counter(verdict.word for verdict in verdicts)
    return f"{words['reproduced']} of {words.total()}"


def glue_all(values: Mapping[str, Any]) -> None:
    """Glue each value under its name, for the pages that quote it."""
    from myst_nb import glue  # here, as it takes a moment, and only notebooks need it

    for name, value in values.items():
        glue(name, value, display=False)
