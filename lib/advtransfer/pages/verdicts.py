"""Verdicts as values: made once from an estimate and its interval; prose, first page and ledger are written from them.

A notebook glues a `Finding` as data. What quotes it shows its words; the ledger of claims reads its verdict.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from advtransfer.pages import tables
from advtransfer.pages.runs import HERE
from advtransfer.statistics import Correlation

Word = Literal["reproduced", "right sign only", "cannot tell", "wrong sign only", "reversed"]

SIGNIFICANT = 0.05
MIME = "application/vnd.advtransfer.finding+json"  # of a finding as data
RULE = "The verdicts follow from the numbers, by {ref}`the rules of the ledger <verdict-rules>`"
"""Where a page's reader finds how `judge` and `judge_correlation` decide."""


def judge(estimate: float, low: float, high: float, *, claimed: Literal[1, -1] = 1) -> Word:
    """Judge a claimed sign by an estimate and its interval.

    *Reproduced*: the interval lies on the claimed side of zero; *right sign only*: it contains zero, but the estimate
    is on the claimed side, and farther from zero than the interval reaches on the other side; *reversed* and *wrong
    sign only*: the same for the other side; *cannot tell*: everything else.

    Examples
    --------
    >>> judge(0.5, -0.1, 0.9), judge(0.1, -0.7, 0.8)
    ('right sign only', 'cannot tell')
    >>> judge(-0.5, -0.9, 0.1)
    'wrong sign only'
    """
    if claimed < 0:
        estimate, low, high = -estimate, -high, -low
    if low > 0:
        return "reproduced"
    if high < 0:
        return "reversed"
    if low > -estimate:
        return "right sign only"
    return "wrong sign only" if high < -estimate else "cannot tell"


def judge_correlation(found: Correlation, *, claimed: Literal[1, -1]) -> Word:
    """`judge` a correlation, with the permutation test as a second hurdle.

    Where p is above 0.05, *reproduced* becomes *right sign only*, and *reversed* becomes *wrong sign only*.
    A bootstrap of five rows often repeats a few of them and then gives an interval that is too short.
    """
    word = judge(found.r, found.low, found.high, claimed=claimed)
    if found.p <= SIGNIFICANT:
        return word
    weaker: dict[Word, Word] = {"reproduced": "right sign only", "reversed": "wrong sign only"}
    return weaker.get(word, word)


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
    """Whose numbers these are, "paper", "stored" or "rebuilt here"."""
    claimed: bool = True
    """Whether the paper claims it."""
    units: int = 0
    """How many of the points are drawn one by one, if these are fewer."""

    @classmethod
    def of(
        cls,
        claim: str,
        found: Correlation,
        run: str = "",
        *,
        sign: Literal[1, -1] = 1,
        claimed: bool = True,
        units: int = 0,
    ) -> "Verdict":
        """The verdict on a correlation that the claim says to be positive (`sign` 1) or negative (-1)."""
        word = judge_correlation(found, claimed=sign)
        return cls(claim, word, found.r, found.low, found.high, found.n, found.p, run, claimed, units)

    @property
    def said(self) -> str:
        """The word for a sentence; only others can reproduce what the paper's own numbers support, and only claims."""
        if self.word == "reproduced":
            return "found" if not self.claimed else "supported by its own numbers" if self.run == "paper" else self.word
        return "found reversed" if self.word == "reversed" and not self.claimed else self.word

    @property
    def cell(self) -> str:
        """The estimate with its interval, and a mark where few points are behind it."""
        return tables.interval(self.estimate, self.low, self.high, n=self.units or self.n)

    @property
    def cells(self) -> dict[str, Any]:
        """The same in the columns of a table."""
        return {"r": self.cell, "p": tables.probability(self.p), "n": self.n, "verdict": self.said}

    @property
    def correlation(self) -> str:
        """The estimate with its interval, p and n."""
        return f"{self.cell}, {tables.p_value(self.p)}, n = {self.n}"


@dataclass(frozen=True)
class Finding:
    """What a page found about a claim: a sentence, and the verdicts that it tells of."""

    text: str
    verdicts: tuple[Verdict, ...] = ()
    size: str = ""
    """The size of the runs behind it, beside that of the paper's."""

    @property
    def word(self) -> str:
        """The one word of all verdicts; "mixed" if they differ, "not run at this size" if there is none."""
        words = {verdict.said for verdict in self.verdicts}
        return words.pop() if len(words) == 1 else "mixed" if words else "not run at this size"

    @property
    def sized(self) -> str:
        """The sentence with the size of the runs behind it."""
        return f"{self.text}. Size of the runs: {self.size}" if self.size else self.text

    def __str__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        verdicts = [
            {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in asdict(verdict).items()}
            for verdict in self.verdicts
        ]
        text = self.text.replace("'", "’")  # what is glued does not pass through smartquotes
        return {
            "text/plain": repr(text),
            MIME: {"text": text, "word": self.word, "size": self.size, "verdicts": verdicts},
        }


def in_print(claim: str, score: Correlation) -> Finding:
    """What the paper's own rows of images say of its claim."""
    verdict = Verdict.of(claim, score, "paper")
    return Finding(f"r = {verdict.correlation}, {verdict.said}", (verdict,), "STL-10, as printed")


def quoted(judged: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """The verdicts that other pages quote: of stored runs, if there are any, so that a reader's seed moves no count."""
    every = tuple(judged)
    return tuple(verdict for verdict in every if verdict.run != HERE) or every


def tally(verdicts: Iterable[Verdict]) -> str:
    """How many of several verdicts have each word, such as "3 reproduced, 17 cannot tell (of 20)"."""
    words = Counter(verdict.word for verdict in verdicts)
    counted = [f"{words[word]} {word}" for word in get_args(Word) if words[word]]
    return f"{', '.join(counted)} (of {words.total()})" if counted else "none"


def glue_all(values: Mapping[str, Any]) -> None:
    """Glue each value under its name, for the pages that quote it."""
    from myst_nb import glue  # here, as it takes a moment, and only notebooks need it

    for name, value in values.items():
        glue(name, value, display=False)
