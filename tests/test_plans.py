"""Plans and collecting: a grid is what was typed, each run once, and tables are what the records say."""

import math
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import trials
from advtransfer.notebooks.read import read
from advtransfer.pages.seeds import over_seeds
from advtransfer.records import storage
from advtransfer.records.configs import ConfigError
from advtransfer.records.record import Record
from advtransfer.records.runs import place
from advtransfer.sweeps import figures
from advtransfer.sweeps import plan as plans
from advtransfer.sweeps.collect import collect, summarise
from advtransfer.sweeps.plan import Plan, Run


@pytest.fixture
def notebook(toys):
    yield read(trials.write(toys))
    sys.modules.pop("toys.trial", None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("eps=2/255,4/255", ("eps", ["2/255", "4/255"])),
        ("seed=0:10", ("seed", range(10))),
        ("seed=4:10:3", ("seed", range(4, 10, 3))),
        ("radii=0.1,0.2;0.3", ("radii", ["0.1,0.2", "0.3"])),
        ("attack-steps=1", ("attack_steps", ["1"])),
    ],
)
def test_an_axis(text, expected):
    assert plans.axis(text) == expected


@pytest.mark.parametrize("text", ["seed", "seed=", "seed=,", "seed=5:5", "=1"])
def test_an_axis_without_name_or_values_is_told(text):
    with pytest.raises(ValueError, match=r"has no (values|name); expected NAME=VALUE"):
        plans.axis(text)


def test_a_plan_is_the_grid_with_each_run_once(notebook):
    grid = plans.axes(["eps=1/2,0.5,1/4", "seed=0:3"])
    plan = plans.plan(notebook, {"profile": "smoke"}, grid)
    assert [run.set for run in plan.runs] == [{"eps": eps, "seed": seed} for eps in (0.5, 0.25) for seed in range(3)]
    module = notebook.experiment_module
    records = [module.run(module.Config.from_profile("smoke", **run.set)) for run in plan.runs[1:3]]
    assert [record.key for record in records] == [run.key for run in plan.runs[1:3]]
    assert plans.kept(plan) == {record.key for record in records}
    assert plans.size(plans.axes([f"{name}=0:100000" for name in "abcd"])) == 10**20


@pytest.mark.parametrize(
    ("fixed", "grid", "message"),
    [
        ({}, {"epsilon": ["1"]}, "unknown parameter 'epsilon'; did you mean 'eps'"),
        ({"epz": "1"}, {"eps": ["1"]}, "unknown parameter 'epz'; did you mean 'eps'"),
        ({"eps": "1"}, {"eps": ["1"]}, "both set and in the grid"),
        ({}, {"eps": ["1", "-1"]}, "eps: got '-1'; expected greater than 0"),
        ({}, {"mood": ["well", "ill"]}, "mood: got 'ill'; expected 'well', 'fails', 'dies once', 'dies' or 'kills'"),
    ],
)
def test_a_plan_that_cannot_be_is_told(notebook, fixed, grid, message):
    with pytest.raises(ConfigError, match=message):
        plans.plan(notebook, fixed, grid)


def test_a_file_is_read_once_for_all_runs_and_again_when_it_has_changed(notebook, toys, monkeypatch):
    data = toys.parent / "data.txt"
    data.write_text("one")
    read = []
    monkeypatch.setattr(storage, "sha256", lambda path: read.append(path) or path.read_text())
    monkeypatch.setattr(notebook.experiment_module, "files", lambda config: {"data": data}, raising=False)
    first = plans.plan(notebook, {}, {"seed": range(20)})
    assert (len(first.runs), read) == (20, [data])
    data.write_text("three")
    second = plans.plan(notebook, {}, {"seed": range(20)})
    assert read == [data, data]
    assert not {run.key for run in first.runs} & {run.key for run in second.runs}


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
ROWS = st.lists(st.tuples(TEXT, st.floats(), st.booleans(), st.integers(-(2**63), 2**63 - 1)))


@given(st.lists(ROWS, min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_collected_tables_are_those_of_the_records(tmp_path_factory, contents):
    """Against loading each record by itself, to the last bit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVTRANSFER_CACHE", str(tmp_path_factory.mktemp("cache")))
        expected, runs = [], []
        for number, rows in enumerate(contents):
            table = pd.DataFrame(rows, columns=["text", "x", "yes", "n"]).astype(
                {"text": "str", "x": "float64", "yes": "bool", "n": "int64"}
            )
            record = Record("trial", {"eps": number / 7}, {"first": table}, {}, {})
            runs.append(Run(f"{number:02}abc", {"eps": number / 7}))
            record.save(place("trial", runs[-1].key))
            expected.append(table.assign(eps=number / 7)[["eps", *table.columns]])
        plan = Plan("trials", "toys.trial", {}, ("eps",), tuple(runs))
        found, broken = collect(plan, {run.key for run in runs})
        assert not broken
        whole = pd.concat(expected, ignore_index=True)
        if len(whole):
            pd.testing.assert_frame_equal(found, whole, check_exact=True)
        with pytest.raises(ValueError, match=r"no table 'second' .* expected one of first"):
            collect(plan, {runs[0].key}, "second")
        folder = place("trial", runs[0].key)
        table = folder / "tables" / "first.csv"
        whole = table.read_bytes()
        for file, damage in ((table, whole[:-1]), (table, whole + b"0\n"), (folder / "record.json", b"{")):
            file.write_bytes(damage)
            rows, broken = collect(plan, {run.key for run in runs})
            assert list(broken) == [runs[0].key]
            assert f"broken record {folder}" in broken[runs[0].key]
            assert len(rows) == len(found) - len(contents[0])
            if file == table:
                table.write_bytes(whole)


def test_intervals_over_seeds_are_students():
    """Against scipy, with rows in an order of their own in every run, as a sweep and as published runs have them."""
    rng = np.random.default_rng(0)
    rows = [
        {"seed": seed, "eps": eps, "t": t, "name": name, "value": rng.normal(), "other": rng.normal()}
        for seed in range(4)
        for eps in (0.1, 0.2)
        for name in "xy"
        for t in (0.0, 0.5)
    ]
    table = pd.DataFrame(rows)
    means = summarise(table, ("seed", "eps"), ("t",))
    assert list(means.columns) == ["eps", "t", "name", "measure", "mean", "low", "high", "seeds"]
    by = over_seeds(table, ["eps", "t", "name"], ["value", "other"])
    names = ["eps", "t", "name"]
    for key, part in table.groupby(names):
        for measure in ("value", "other"):
            low, high = stats.t.interval(0.95, 3, part[measure].mean(), stats.sem(part[measure]))
            expected = [part[measure].mean(), low, high, 4]
            long = means.set_index([*names, "measure"]).loc[(*key, measure), ["mean", "low", "high", "seeds"]]
            wide = by.set_index(names).loc[key, [measure, f"{measure}_low", f"{measure}_high", "seeds"]]
            for row in (long, wide):
                np.testing.assert_allclose(row.to_numpy(float), expected, rtol=1e-12)


def test_rows_keep_what_tells_them_apart_and_a_table_that_no_parameter_changes_has_measures():
    rows = [{"scales": scales, "t": k / scales, "loss": scales + k} for scales in (3, 4) for k in range(scales)]
    found = summarise(pd.DataFrame(rows), ("scales",))
    assert list(found.columns) == ["scales", "row", "measure", "mean", "low", "high", "seeds"]
    assert found[found["measure"] == "t"].groupby("scales")["row"].agg(list).to_dict() == {
        3: [0, 1, 2],
        4: [0, 1, 2, 3],
    }
    same = summarise(pd.DataFrame({"scales": [3, 4], "name": ["a", "a"], "r2": [0.9, 0.9]}), ("scales",))
    assert same[["name", "measure", "mean"]].to_numpy().tolist() == [["a", "r2", 0.9]] * 2
    assert figures.figure(same, ("scales",)).axes


def test_a_line_of_a_sweep_is_the_mean_and_its_band_the_interval():
    table = pd.DataFrame({"eps": [0.1, 0.2] * 3, "seed": [0, 0, 1, 1, 2, 2], "value": [1.0, 4.0, 2.0, 6.0, 3.0, 11.0]})
    means = summarise(table, ("eps", "seed"))
    (panel, *_) = figures.figure(means, ("eps", "seed")).axes
    assert panel.lines[0].get_ydata().tolist() == [2, 7]
    heights = panel.collections[0].get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(min(means["low"]))
    assert heights.max() == pytest.approx(max(means["high"]))


def test_one_seed_has_no_interval_and_a_share_is_a_mean():
    table = pd.DataFrame({"eps": [0.1, 0.2], "value": [1.0, 2.0], "n": [5, 5]})
    found = summarise(table, ("eps",), ("n",))
    assert found["n"].tolist() == [5, 5]
    assert found["mean"].tolist() == [1, 2]
    assert found["low"].isna().all()
    shares = summarise(pd.DataFrame({"seed": [0, 1, 2, 3], "right": [True, True, False, True]}), ("seed",))
    assert shares["mean"].tolist() == [0.75]
    assert math.isclose(shares["high"][0] - shares["low"][0], 2 * 3.182446305284263 * 0.5 / 2)
