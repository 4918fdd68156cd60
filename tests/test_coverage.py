"""The check of our intervals: it finds what is known in closed form, and it can fail."""

import importlib
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from advtransfer.pages import evidence

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def coverage():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("coverage_of_intervals")


def test_students_interval_of_normal_values_holds_the_truth_as_often_as_it_says(coverage):
    row = coverage.simulated({}, partial(coverage.seeds, 3, False), 2000)
    assert row["held_low"] < 0.95 < row["held_high"]


def test_wilsons_interval_holds_the_truth_as_often_as_the_binomial_says(coverage):
    n, p = 300, 0.95
    counts = np.arange(n + 1)
    held = [
        low <= p <= high for low, high in (stats.binomtest(int(k), n).proportion_ci(method="wilson") for k in counts)
    ]
    exact = stats.binom.pmf(counts, n, p)[held].sum()
    row = coverage.simulated({}, partial(coverage.share, n, p), 2000)
    assert row["held"] == pytest.approx(exact, abs=0.02)


def test_the_bootstrap_of_five_points_falls_short_and_its_p_does_not(coverage):
    row = coverage.simulated({}, partial(coverage.pairs, 5, 0.9, "spearman"), 200)
    nothing = coverage.simulated({}, partial(coverage.pairs, 5, 0.0, "pearson"), 200)
    assert row["held_high"] < 0.99
    assert nothing["rejected_low"] < 0.05
    assert nothing["reproduced"] <= nothing["rejected"]


def test_an_interval_that_is_too_short_is_seen(coverage):
    def half(rng):
        values = rng.normal(size=30)
        return {"held": bool(abs(values.mean()) < 0.5 * 1.96 / 30**0.5)}

    assert coverage.simulated({}, half, 500)["held_high"] < 0.75


def test_every_kind_has_a_stored_row_and_the_page_shows_it(coverage):
    stored = json.loads((ROOT / "data" / "results" / "coverage.json").read_text("utf-8"))
    asked = [about for about, _ in coverage.cases()]
    assert [{key: row[key] for key in about} for about, row in zip(asked, stored, strict=True)] == asked
    table = evidence.coverage()
    assert len(table) == len(stored)
    short = sum(row["held_high"] < 0.95 for row in stored)
    assert (table["short"] == "**yes**").sum() == short
    assert evidence.about_coverage().startswith(f"In {short} of {len(stored)} settings")
