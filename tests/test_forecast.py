"""The pooled forecast: planted answers come out, what must not matter does not, and pages say what the record says."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from advtransfer.experiments import forecast
from advtransfer.experiments.forecast import PREDICTORS, centred_ranks, expected_best
from advtransfer.pages import forecast as page
from advtransfer.pages.verdicts import Finding
from advtransfer.records.configs import ConfigError
from advtransfer.records.published import RESULTS, published, rows_of
from advtransfer.statistics import correlate

CONFIG = forecast.Config.from_profile("smoke", resamples=199)


@pytest.fixture(scope="module")
def record():
    return forecast.run(CONFIG, cache=False)


def planted(noise=0.0, seed=0, runs=3, models=5, kinds=6):
    """Sources whose accuracy rises with α1, whatever the level of their run; own accuracy is noise."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "domain": "images, planted", "kind": f"k{kind}", "series": f"k{kind}", "run": f"r{run}", "seed": run,
            "recipe": f"k{kind} m{model}", "model": f"m{model}", **{name: rng.random() for name in PREDICTORS},
            "level": run,
        }
        for run in range(runs) for model in range(models) for kind in range(kinds)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    high = 10 * table.pop("level")  # a target on which every source is better, with a smaller α1
    table["transfer_accuracy"] = table["alpha1"] + noise * rng.normal(size=len(table)) + high
    table["alpha1"] -= high
    return table


def test_what_is_planted_within_runs_is_found_and_own_accuracy_is_not():
    found = forecast.forecasts(CONFIG, planted()).set_index(["scope", "predictor"])
    for scope in ("run", "architecture", "architectures"):
        assert found.loc[(scope, "alpha1"), "r"] == pytest.approx(1)
    assert found.loc[("given accuracy", "alpha1"), "r"] == pytest.approx(1)
    own = found.loc[("run", "source_accuracy")]
    assert own["low"] < 0 < own["high"]
    assert (own["n"], own["recipes"], own["runs"]) == (90, 30, 3)
    series = forecast.by_series(CONFIG, planted()).set_index(["series", "predictor"])
    assert series.loc[("all", "alpha1"), "r"] < -0.7  # thrown together, the levels of the runs decide
    assert series.loc[("k0", "alpha1"), "r"] == pytest.approx(1)


def test_a_metric_that_only_knows_the_better_source_is_found_out():
    rng = np.random.default_rng(0)
    table = planted()
    accuracy = table.groupby("recipe")["source_accuracy"].transform("first")
    true = table.groupby("recipe")["alpha2"].transform("first")
    level = 3 * table["seed"]
    table = table.assign(
        source_accuracy=accuracy,
        transfer_accuracy=accuracy + true + level,
        alpha1=accuracy + 0.1 * rng.normal(size=len(table)),  # a proxy
        alpha2=accuracy + true - level,  # knows more
    )
    found = forecast.forecasts(CONFIG, table).set_index(["scope", "predictor"])
    proxy, more = found.loc[("given accuracy", "alpha1")], found.loc[("given accuracy", "alpha2")]
    assert found.loc[("run", "alpha1"), "low"] > 0
    assert proxy["low"] < 0 < proxy["high"]
    assert proxy["p"] > 0.05
    assert more["r"] == pytest.approx(1)
    ranked = centred_ranks(table, ["run"])
    held = correlate(
        ranked["alpha1"], ranked["transfer_accuracy"], given=ranked["source_accuracy"], groups=ranked["recipe"],
        resamples=99,
    )  # fmt: skip
    assert proxy["r"] == held.r


def test_only_ranks_within_runs_matter():
    table = planted(noise=0.3)
    changed = table.assign(
        alpha1=np.exp(table["alpha1"] / 10), transfer_accuracy=table["transfer_accuracy"] ** 3 - table["seed"]
    ).sample(frac=1, random_state=0)
    same = [forecast.forecasts(CONFIG, each).set_index(["scope", "predictor"])["r"] for each in (table, changed)]
    for scope in ("run", "architecture", "band", "given accuracy"):  # the means of architectures are of values
        pd.testing.assert_series_equal(same[1][scope], same[0][scope], rtol=1e-12)


def test_ranks_are_centred_and_small_groups_go():
    table = planted(runs=1, models=2, kinds=3).assign(by=["a", "a", "a", "a", "b", "b"])
    ranked = centred_ranks(table, ["by"])
    assert len(ranked) == 4
    assert sorted(ranked["alpha1"]) == [-0.375, -0.125, 0.125, 0.375]


@pytest.mark.parametrize("candidates", [1, 2, 4, 6])
def test_the_expected_best_is_the_mean_over_all_draws(candidates):
    rng = np.random.default_rng(0)
    score, value = rng.random(6), rng.random(6)
    draws = [max(draw, key=lambda k: score[k]) for draw in combinations(range(6), candidates)]
    assert expected_best(score, value, candidates) == pytest.approx(value[draws].mean(), rel=1e-12)


def test_a_perfect_predictor_loses_nothing_and_chance_loses_what_it_must():
    found = forecast.choices(CONFIG, planted()).set_index("predictor")
    assert found.loc["alpha1", ["regret", "regret_all", "error"]].tolist() == pytest.approx([0, 0, 0], abs=1e-12)
    values = [part["transfer_accuracy"].to_numpy() for _, part in planted().groupby("run")]
    assert found.loc["chance", "regret_all"] == pytest.approx(np.mean([v.max() - v.mean() for v in values]))
    assert found.loc["chance", "error"] > 0.1


def test_the_jackknife_of_a_mean_is_its_standard_error():
    table = pd.DataFrame({"recipe": list("abcdef"), "value": [1.0, 2, 4, 8, 16, 32]})
    found = forecast._jackknifed("mean", table, lambda part: part["value"].mean())
    half = 1.96 * table["value"].std() / len(table) ** 0.5
    assert (found["mean_low"], found["mean_high"]) == pytest.approx((10.5 - half, 10.5 + half))


def test_the_pool_is_what_is_published_and_each_source_once(record):
    sources = record.tables["sources"]
    images = sources[sources["domain"].str.startswith("images")]
    table = rows_of(published("vision"))
    mine = table[table["series"].str.removesuffix("-shift").isin(CONFIG.series)]
    assert sorted(images["alpha1"]) == sorted(mine["alpha1"])
    assert not images.duplicated(["domain", "run", "recipe"]).any()
    assert images["recipe"].nunique() == 5 * len(CONFIG.series)
    assert set(forecast.files(CONFIG)) >= {f"vision/{name}" for name in published("vision")}
    assert all(path.is_file() for path in forecast.files(CONFIG, RESULTS).values())


def test_pages_quote_the_verdicts_of_the_table(record):
    quoted, table = page.findings(record), page.numbers(record).set_index(["sources", "compared"])
    scopes = {"forecast_alpha1": "run", "forecast_within": "architecture", "forecast_beyond": "given accuracy"}
    for key, scope in scopes.items():
        verdicts = dict(zip(page._images(record), quoted[key].verdicts, strict=True))
        for domain, verdict in verdicts.items():
            assert table.loc[(domain, forecast.SCOPES[scope]), "verdict"] == verdict.said
            assert verdict.interval in str(quoted[key])
    assert "reproduced" not in str(quoted["forecast_beyond"])  # the paper does not claim it
    assert "reproduced" not in str(quoted["forecast_accuracy"])
    assert all(isinstance(value, Finding | str) for value in quoted.values())


def test_the_bold_words_of_the_answer_stand_only_where_the_numbers_do(record):
    sources = record.tables["sources"]
    mixed = sources.groupby("run")["transfer_accuracy"].transform(
        lambda part: part.sample(frac=1, random_state=1).array
    )
    shuffled = sources.assign(transfer_accuracy=mixed)
    tables = record.tables | {"forecasts": forecast.forecasts(CONFIG, shuffled)}
    other = type(record)(record.experiment, record.config, tables, {}, record.provenance)
    assert "**" not in page.answer(other)


def test_a_series_that_is_not_published_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"series.*expected.*trained.*not nonsense"):
        forecast.Config(series=("trained", "nonsense"))


def test_of_one_series_no_choice_is_made_since_its_runs_have_too_few_sources():
    one = CONFIG.model_copy(update={"series": ("trained",)})
    few = forecast.pooled(one, {name: published(name) for name in ("vision", "similarity", "text")})
    assert set(few["sources"].query("domain.str.startswith('images')")["kind"]) == {"trained"}
    assert few["choices"].empty
