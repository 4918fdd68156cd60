"""Correlations over crossed sources: the plain coefficient, drawn and permuted by rows and columns as wholes."""

from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from advtransfer.experiments import crossed


def table(rows=4, columns=3, runs=2, seed=0):
    """Sources in every pair of row and column of each run, in no order."""
    rng = np.random.default_rng(seed)
    places = list(product([f"run {k}" for k in range(runs)], "abcdefg"[:rows], "uvwxyz"[:columns]))
    made = pd.DataFrame(places, columns=["run", "row", "column"])
    made[["x", "y", "z"]] = rng.normal(size=(len(made), 3)) + 0.5 * rng.normal(size=(len(made), 1))
    return made.sample(frac=1, random_state=seed)


def design(made, by=("run",)):
    return crossed.design(made, "row", "column", list(by))


def within(made, name, times=1.0):
    """Deviations from each run's weighted mean."""
    weighed = made.assign(times=times, product=made[name] * times).groupby("run")[["times", "product"]].transform("sum")
    return (made[name] - weighed["product"] / weighed["times"]).to_numpy()


def columns_of(made):
    return (made[name].to_numpy() for name in ("x", "y", "z"))


def test_the_coefficient_is_pearsons_of_the_deviations_from_each_runs_mean():
    made = table()
    x, y, z = columns_of(made)
    once = np.ones((1, len(made)))
    r = crossed.correlations(once, design(made), x, y)[0]
    assert r == pytest.approx(stats.pearsonr(within(made, "x"), within(made, "y")).statistic, rel=1e-12)
    held = crossed.correlations(once, design(made), x, y, z)[0]
    a, b, c = (within(made, name) for name in ("x", "y", "z"))
    left = [v - c * (v @ c) / (c @ c) for v in (a, b)]  # residuals
    assert held == pytest.approx(left[0] @ left[1] / np.sqrt((left[0] @ left[0]) * (left[1] @ left[1])), rel=1e-10)


def test_a_source_that_is_drawn_twice_counts_as_two():
    made = table(runs=1)
    times = crossed.weights(design(made), 50, seed=0)
    drawn = crossed.correlations(times, design(made), *list(columns_of(made))[:2])
    for row, r in zip(times.astype(int), drawn, strict=True):
        again = made.loc[made.index.repeat(row)]
        expected = again["x"].corr(again["y"]) if np.ptp(again["x"]) > 0 else np.nan
        assert r == pytest.approx(expected, rel=1e-9, nan_ok=True)


def test_whole_rows_and_columns_are_drawn_and_as_many_as_there_are():
    made = table()
    times = crossed.weights(design(made), 200, seed=0)
    assert set(times.sum(1)) == {len(made)}
    grid = made.assign(times=times[0]).pivot_table(index="row", columns="column", values="times", aggfunc=list)
    counts = np.array([[cell[0] for cell in row] for row in grid.to_numpy()])
    assert (np.linalg.matrix_rank(counts), counts.sum()) == (1, 12)  # a product of rows and columns
    assert all(min(cell) == max(cell) for row in grid.to_numpy() for cell in row)  # alike in both runs
    one = crossed.weights(design(table(columns=1)), 200, seed=0)
    assert one.std() > 0


def test_p_counts_every_permutation_of_rows_and_of_columns():
    made = table(rows=4, columns=3)
    x, y, _ = columns_of(made)
    found = crossed.correlate(design(made), x, y, resamples=4 * 3 * 2 * 3 * 2)
    grid = made.assign(x=within(made, "x")).set_index(["run", "row", "column"])["x"]
    drawn = []
    for rows, columns in product(permutations("abcd"), permutations("uvw")):
        to = dict(zip("abcd", rows, strict=True)) | dict(zip("uvw", columns, strict=True))
        moved = [grid[(run, to[row], to[column])] for run, row, column in made[["run", "row", "column"]].to_numpy()]
        drawn.append(stats.pearsonr(moved, within(made, "y")).statistic)
    tails = [np.mean(np.array(drawn) >= found.r - 1e-12), np.mean(np.array(drawn) <= found.r + 1e-12)]
    assert found.p == pytest.approx(min(1, 2 * min(tails)))
    few = crossed.correlate(design(made), x, y, resamples=143)  # one too few for all
    assert few.p == pytest.approx(found.p, abs=0.15)
    assert few.p >= 2 / 144


def test_the_interval_is_that_of_all_draws_of_rows_and_of_columns():
    made = table(rows=3, columns=2)
    x, y, _ = columns_of(made)
    found = crossed.correlate(design(made), x, y, resamples=30)  # of 10 × 3 draws that differ
    row, column = (made[name].map(ord).to_numpy() for name in ("row", "column"))
    drawn = []
    for rows, columns in product(product(map(ord, "abc"), repeat=3), product(map(ord, "uv"), repeat=2)):
        times = np.array([rows.count(r) * columns.count(c) for r, c in zip(row, column, strict=True)], float)
        drawn.append(crossed.correlations(times[None], design(made), x, y)[0])
    assert (found.low, found.high) == pytest.approx(np.nanquantile(drawn, [0.025, 0.975], method="inverted_cdf"))
    assert found == crossed.correlate(design(made), x, y, resamples=5000, seed=9)  # nothing is random
    times, chances = crossed.every_weight(design(made), 30)
    assert chances.sum() == pytest.approx(1)
    assert (chances @ times).tolist() == pytest.approx([1] * len(made))
    assert crossed.every_weight(design(made), 29) is None


def test_p_of_the_rows_alone_keeps_every_column_in_its_place():
    made = table(rows=4, columns=3)
    x, y, _ = columns_of(made)
    grid = made.assign(x=within(made, "x")).set_index(["run", "row", "column"])["x"]
    drawn = []
    for rows in permutations("abcd"):
        to = dict(zip("abcd", rows, strict=True))
        moved = [grid[(run, to[row], column)] for run, row, column in made[["run", "row", "column"]].to_numpy()]
        drawn.append(stats.pearsonr(moved, within(made, "y")).statistic)
    r = stats.pearsonr(within(made, "x"), within(made, "y")).statistic
    tails = [np.mean(np.array(drawn) >= r - 1e-12), np.mean(np.array(drawn) <= r + 1e-12)]
    p = min(1, 2 * min(tails))
    assert crossed.p_of_rows(design(made), x, y) == pytest.approx(p)
    assert crossed.p_of_rows(design(made), x, y, resamples=23) == pytest.approx(p, abs=0.3)  # one too few for all
    many = table(rows=7, columns=2)
    assert 0 < crossed.p_of_rows(design(many), *list(columns_of(many))[:2], resamples=99) <= 1


def test_neither_the_order_of_the_sources_nor_their_names_matter():
    made = table(rows=5, columns=4)
    again = made.sample(frac=1, random_state=3).replace({"row": {"a": "z"}, "column": {"u": "t"}})
    both = [crossed.correlate(design(each), *columns_of(each), resamples=999) for each in (made, again)]
    assert both[0].r == pytest.approx(both[1].r, rel=1e-12)
    assert both[0].p == pytest.approx(both[1].p, abs=0.06)


def test_what_a_run_lacks_is_left_out_and_twice_is_refused():
    made = table()
    x, y, _ = columns_of(made[1:])
    found = crossed.correlate(design(made[1:]), x, y, resamples=199)
    assert found.n == len(made) - 1
    assert -1 <= found.low <= found.r <= found.high <= 1
    sparse = made.query("run == 'run 0' and (row == 'a' or column == 'u')").iloc[:4]  # most permutations leave nothing
    x, y, _ = columns_of(sparse)
    made_of_few = design(sparse)
    order, every = crossed._orders(made_of_few, 1999, 0)
    assert every
    permuted = crossed.correlations((order >= 0).astype(float), made_of_few, x[order], y)
    assert np.isnan(permuted).any()
    r, permuted = stats.pearsonr(x, y).statistic, permuted[np.isfinite(permuted)]
    smaller = min((permuted >= r - 1e-9).mean(), (permuted <= r + 1e-9).mean())
    assert crossed.correlate(made_of_few, x, y).p == pytest.approx(min(1, 2 * smaller))
    with pytest.raises(ValueError, match=r"occurs twice; expected once"):
        design(pd.concat([made, made[:1]]))


def test_nothing_is_found_in_what_only_shares_rows():
    """Where architecture decides everything, 30 sources are five: p must not count them as thirty."""
    rejected = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(2, 5, 1)) + 0.2 * rng.normal(size=(2, 5, 6))
        x, y = rows.reshape(2, 30)
        places = [values.ravel() for values in np.indices((5, 6))]
        made = crossed.Design(np.zeros(30, int), *places, np.zeros(30, int))
        rejected += crossed.correlate(made, x, y, resamples=199, seed=seed).p <= 0.05
    assert stats.binomtest(rejected, 200, 0.05).pvalue > 0.001
    assert rejected > 0


def test_a_correlation_that_rounding_keeps_from_zero_is_zero():
    """Ranks have many correlations of exactly 0, whose sign would decide a verdict."""
    rng = np.random.default_rng(0)
    ranks = np.arange(-2, 3) / 5
    x, y = (np.concatenate([rng.permutation(ranks) for _ in range(3)]) for _ in range(2))
    group, row = np.divmod(np.arange(15), 5)
    times = np.random.default_rng(0).multinomial(5, [0.2] * 5, 5000)[:, row].astype(float)
    found = crossed.correlations(times, crossed.Design(0 * group, row, group, group), x, y)
    assert (found == 0).sum() > 200
    assert not ((found != 0) & (np.abs(found) < 1e-9)).any()
