"""Tables side by side: what stands where, and what is left out."""

import pandas as pd
import pytest

from advtransfer.pages import comparison
from advtransfer.pages.comparison import ACCURACY, ALPHA1, ALPHA2_SQUARED, ALPHA12_SQUARED

PAPER = pd.DataFrame({"label": ["A", "B", "C"], "transfer_accuracy": [0.5, 0.25, 0.1], "alpha1": [0.1234, 0.2, 0.3]})


def test_each_cell_is_the_estimate_of_its_row_wherever_it_stands():
    own = pd.DataFrame({"label": ["C", "A"], "alpha1": [0.3, 0.4], "alpha1_low": [0.2, 0.3], "alpha1_high": [0.4, 0.5]})
    columns = {"paper": PAPER, "this run": own, "nothing": pd.DataFrame()}
    found = comparison.side_by_side(PAPER[["label"]], columns, [ACCURACY, ALPHA1, ALPHA2_SQUARED])
    assert found.columns.tolist() == ["", "label", "paper", "this run", "nothing"]
    assert found["paper"].tolist() == ["50.0", "25.0", "10.0", "0.123", "0.200", "0.300"]  # α2² stands nowhere
    assert found["this run"].str.replace("\N{NO-BREAK SPACE}", " ").tolist() == [
        *["–"] * 3, "0.400 [0.300, 0.500]", "–", "0.300 [0.200, 0.400]",
    ]  # fmt: skip
    assert set(found["nothing"]) == {"–"}


def test_rows_may_be_known_by_several_columns_but_by_each_only_once():
    two = pd.DataFrame({"attack": ["x", "y"], "label": ["A", "A"], "alpha1": [0.1, 0.2]})
    found = comparison.side_by_side(two[["attack", "label"]], {"paper": two}, [ALPHA1])
    assert found["paper"].tolist() == ["0.100", "0.200"]
    with pytest.raises(ValueError, match="'paper' has a row twice; expected each label once"):
        comparison.side_by_side(two[["label"]], {"paper": two}, [ALPHA1])


def test_published_rows_are_means_over_seeds_of_squares():
    rows = pd.DataFrame({"label": "A", "seed": [0, 1], "alpha2": [0.1, 0.3], "alpha12": 0.0})
    (mean,) = comparison.means(rows, ["label"], [ALPHA2_SQUARED])["alpha2_squared"]
    assert mean == pytest.approx((0.01 + 0.09) / 2)
    assert comparison.means(pd.DataFrame(), ["label"]).empty


def test_an_interval_with_impossible_values_gives_way_to_the_seeds():
    rows = pd.DataFrame({"label": "A", "seed": [0, 1, 2], "alpha2": [0.1, 0.9, 0.5], "alpha12": [1e-3, 2e-3, 3e-3]})
    means = comparison.means(rows, ["label"], [ALPHA2_SQUARED, ALPHA12_SQUARED])
    found = comparison.side_by_side(rows[["label"]].head(1), {"ours": means}, [ALPHA2_SQUARED, ALPHA12_SQUARED])
    assert found["ours"].tolist() == ["0.357 (0.010, 0.810, 0.250)", "4.7×10⁻⁶ (1.0×10⁻⁶, 4.0×10⁻⁶, 9.0×10⁻⁶)"]
