"""Numbers on a page: formats that a reader can trust."""

import math

import pandas as pd

from advtransfer.pages import tables


def test_numbers_are_set_as_in_print() -> None:
    assert tables.number(-0.126) == "−0.13"
    assert tables.number(-0.001) == "0.00"
    assert [tables.probability(p) for p in (0.0001, 0.001, 0.05)] == ["< 0.001", "0.001", "0.050"]
    row = {"a": 0.5, "a_low": 0.25, "a_high": 0.75, "b": 0.5}
    assert tables.percent(row, "a") == "50.0 [25.0,\N{NO-BREAK SPACE}75.0]"
    assert tables.estimate(row, "b", digits=1) == "0.5"
    assert tables.number(math.nan) == "–"
    assert tables.interval(0.5, -0.25, 1, digits=1) == "0.5 [−0.2,\N{NO-BREAK SPACE}1.0]"
    assert tables.power(4.83e-15) == r"$4.8 \times 10^{-15}$"
    assert tables.power(0.0) == "0"


def test_a_table_keeps_its_columns_whatever_its_cells_hold() -> None:
    shown = tables.show(pd.DataFrame({"norm": ["|x|", "‖x‖"], "n": [1, 2]}))
    lines = shown.data.splitlines()
    assert lines[1] == "|:-------|----:|"
    assert [line.replace(r"\|", "").count("|") for line in lines] == [3, 3, 3, 3]


def test_an_estimate_without_an_interval_stands_alone():
    nan = float("nan")
    assert tables.interval(0.5, nan, nan) == "0.50"
    assert tables.interval(nan, nan, nan) == "–"


def test_an_interval_from_few_points_is_marked_and_the_mark_explained():
    assert tables.interval(0.5, 0, 1, n=5) == tables.interval(0.5, 0, 1) + "†"
    assert tables.interval(0.5, 0, 1, n=6) == tables.interval(0.5, 0, 1)
    assert tables.interval(0.5, math.nan, math.nan, n=3) == "0.50"
    assert tables.interval(-1, -1 - 1e-16, -1, n=5) == "−1.00 (a perfect order)"
    assert tables.interval(1, 0.5, 1, n=5).endswith("1.00]†")
    assert tables.interval(2, 2, 2, n=5).endswith("2.00]†")
    marked, plain = (tables.show(pd.DataFrame({"r": [tables.interval(0.5, 0, 1, n=n)]})).data for n in (5, 6))
    assert marked.endswith(f"\n\n{tables.NOTE}")
    assert tables.NOTE not in plain
    assert marked.splitlines()[1].endswith(":|")  # still a number


def test_columns_of_numbers_are_set_right():
    cells = {
        "numbers": ["1.5", "−0.20 [−0.3,\N{NO-BREAK SPACE}0.1]", "–", "12,000", "3%", "< 0.001", r"$4 \times 10^{-5}$"],
        "words": [r"$\alpha_1$", "0.3, reproduced", "–", "2 of 3", "", "a", "b"],
    }
    numbers, words = tables.show(pd.DataFrame(cells)).data.splitlines()[1].strip("|").split("|")
    assert (numbers[-1], words[0]) == (":", ":")
    assert tables.show("a *text*").data == "a *text*"
    assert tables.show(None) is tables.show(pd.DataFrame()) is None
