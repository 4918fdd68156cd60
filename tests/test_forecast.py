"""The pooled forecast: planted answers come out, what must not matter does not, and pages say what the record says."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from advtransfer.experiments import crossed, forecast, pool, regret
from advtransfer.experiments.forecast import ranked
from advtransfer.experiments.pool import PREDICTORS
from advtransfer.pages import forecast as page
from advtransfer.pages import forecast_sources
from advtransfer.pages.verdicts import Finding
from advtransfer.records.configs import ConfigError
from advtransfer.records.published import RESULTS, published, rows_of
from advtransfer.records.record import Record

CONFIG = forecast.Config.from_profile("smoke", resamples=199)


@pytest.fixture(scope="module")
def record():
    return forecast.run(CONFIG, cache=False)


def planted(noise=0.0, seed=0, runs=3, models=5, kinds=6):
    """Sources whose accuracy rises with α1, whatever the level of their run; own accuracy is noise."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "domain": "images, planted", "kind": f"k{kind}", "series": f"k{kind}", "seed": run,
            "run": f"r{run}", "recipe": f"k{kind} m{model}", "model": f"m{model}", "of_target": False,
            **{name: rng.random() for name in PREDICTORS}, "level": run,
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
    for scope in forecast.OF_IMAGES:
        assert found.loc[(scope, "alpha1"), "r"] == pytest.approx(1)
    own, alpha1 = (found.loc[("run", name)] for name in ("source_accuracy", "alpha1"))
    assert own["low"] < 0 < own["high"]
    assert (own["n"], own["rows"], own["columns"], own["runs"]) == (90, 5, 6, 3)
    assert alpha1["p"] < 0.02
    assert alpha1["ahead"] == pytest.approx(own["r"] - 1)
    assert alpha1["ahead_high"] < 0
    series = forecast.by_series(CONFIG, planted()).set_index(["series", "predictor"])
    assert series.loc[("ranked together", "alpha1"), "r"] < -0.7  # the levels of the runs decide
    assert series.loc[("all", "alpha1"), "r"] == pytest.approx(1)
    assert series.loc[("k0", "alpha1"), "r"] == pytest.approx(1)


def test_text_models_that_are_ranked_together_have_one_target_model():
    made = published("selection_texts")
    assert set(pool.text_sources(made)["kind"]) == set(pool.TEXTS)
    for run, part in pool.text_sources(made).groupby("run"):
        names = [f"{series}-seed{seed}" for series, seed in part[["series", "seed"]].drop_duplicates().to_numpy()]
        assert len(names) == len(pool.TEXTS), run
        own = [made[name].arrays["deviations"][0, 0] for name in names]  # its outputs under its own attack
        assert all(np.array_equal(each, own[0]) for each in own), run


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
    assert found.loc[("run", "alpha1"), "p"] < 0.05
    assert proxy["low"] < 0 < proxy["high"]
    assert proxy["p"] > 0.05
    assert more["r"] == pytest.approx(1)
    ranks, design = ranked(table, ["run"])
    held = crossed.correlate(
        design, *(ranks[name].to_numpy() for name in ("alpha1", "transfer_accuracy", "source_accuracy")), resamples=99
    )
    assert proxy["r"] == held.r
    other = found.loc[("given accuracy", "source_accuracy")]  # with the proxy held fixed
    assert other["r"] < proxy["r"] + 1


def test_only_ranks_within_runs_matter():
    table = planted(noise=0.3)
    changed = table.assign(
        alpha1=np.exp(table["alpha1"] / 10), transfer_accuracy=table["transfer_accuracy"] ** 3 - table["seed"]
    ).sample(frac=1, random_state=0)
    same = [forecast.forecasts(CONFIG, each).set_index(["scope", "predictor"])["r"] for each in (table, changed)]
    for scope in forecast.OF_IMAGES:
        if scope != "architectures":  # their means are of values
            pd.testing.assert_series_equal(same[1][scope], same[0][scope], rtol=1e-12)


def test_ranks_are_centred_and_a_source_alone_counts_for_nothing():
    table = planted(runs=1, models=2, kinds=3)
    ranks, _ = ranked(table.assign(by=["a", "a", "a", "b", "b", "b"]), ["by"])
    assert sorted(ranks["alpha1"]) == pytest.approx([-1 / 3, -1 / 3, 0, 0, 1 / 3, 1 / 3])
    alone, _ = ranked(table.assign(by=["a", "b", "c", "d", "e", "e"]), ["by"])
    assert alone["alpha1"][:4].tolist() == [0, 0, 0, 0]


def test_only_runs_with_most_recipes_count():
    table = planted()
    short = table.drop(table.query("run == 'r1' and kind in ['k0', 'k1']").index)
    assert set(pool.complete(short)["run"]) == {"r0", "r2"}


@pytest.mark.parametrize("candidates", [1, 2, 4, 6])
def test_the_expected_best_is_the_mean_over_all_draws(candidates):
    rng = np.random.default_rng(0)
    score, value = rng.random(6), rng.random(6)
    draws = [max(draw, key=lambda k: score[k]) for draw in combinations(range(6), candidates)]
    assert regret.expected_best(score, value, candidates) == pytest.approx(value[draws].mean(), rel=1e-12)
    tied = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 2.0])  # of equal scores each is taken equally often
    means = [
        value[[k for k in draw if tied[k] == max(tied[list(draw)])]].mean()
        for draw in combinations(range(6), candidates)
    ]
    for order in (np.arange(6), np.arange(6)[::-1], rng.permutation(6)):
        found = regret.expected_best(tied[order], value[order], candidates)
        assert found == pytest.approx(np.mean(means), rel=1e-12)


def test_a_perfect_predictor_loses_nothing_and_chance_loses_what_it_must():
    found = regret.choices(planted(), CONFIG.candidates, CONFIG.resamples).set_index("predictor")
    assert found.loc["alpha1", ["regret", "regret_all", "error"]].tolist() == pytest.approx([0, 0, 0], abs=1e-9)
    values = [part["transfer_accuracy"].to_numpy() for _, part in planted().groupby("run")]
    assert found.loc["chance", "regret_all"] == pytest.approx(np.mean([v.max() - v.mean() for v in values]))
    assert found.loc["chance", "error"] > 0.1


def test_the_error_of_a_forecast_is_that_of_a_line_fitted_without_the_source():
    rng = np.random.default_rng(0)
    score, value = rng.normal(size=(2, 8))
    times = np.array([1.0, 2, 0, 1, 3, 1, 0, 1])
    drawn = np.repeat(np.arange(8), times.astype(int))
    for known in (score, None):
        off = []
        for k in drawn:
            others = drawn[drawn != k]
            line = np.polynomial.Polynomial.fit(score[others], value[others], 0 if known is None else 1)
            off.append(abs(value[k] - line(score[k])))
        assert regret.error(times, known, value) == pytest.approx(np.mean(off), rel=1e-9)


def test_where_one_source_alone_is_drawn_there_is_no_error_and_no_choice():
    times = np.array([0.0, 0, 2, 0])
    score, value = np.arange(8.0).reshape(2, 4)
    assert all(np.isnan(regret.error(times, known, value)) for known in (score, None))
    assert np.isnan(regret.regret(3)(times, score, value))


def test_a_run_that_lacks_a_way_of_training_counts_in_intervals_and_choices():
    table = planted(noise=0.3, runs=2)
    short = table.drop(table.query("run == 'r1' and kind == 'k0'").index)
    assert set(pool.complete(short)["run"]) == {"r0", "r1"}
    found = forecast.forecasts(CONFIG, short).set_index(["scope", "predictor"]).loc[("run", "alpha1")]
    assert (found["n"], found["rows"], found["columns"], found["runs"]) == (55, 5, 6, 2)
    assert found["low"] <= found["r"] <= found["high"]
    lost = regret.choices(short, CONFIG.candidates, 999).set_index("predictor").loc["alpha1"]
    assert lost["regret_low"] <= lost["regret"] <= lost["regret_high"]
    assert lost["error_low"] <= lost["error"] <= lost["error_high"]


def test_what_is_lost_counts_a_source_as_often_as_it_is_drawn():
    rng = np.random.default_rng(0)
    score, value = rng.normal(size=(2, 5))
    times = np.array([2.0, 0, 1, 1, 2])
    drawn = np.repeat(np.arange(5), [2, 0, 1, 1, 2])
    lost = [max(value[list(few)]) - value[max(few, key=lambda k: score[k])] for few in combinations(drawn, 3)]
    assert regret.regret(3)(times, score, value) == pytest.approx(np.mean(lost), rel=1e-9)
    best = np.mean([max(value[list(few)]) for few in combinations(drawn, 3)])
    assert regret.regret(3)(times, None, value) == pytest.approx(best - value[drawn].mean())


def test_the_pool_is_what_is_published_and_each_source_once(record):
    sources = record.tables["sources"]
    images = sources[sources["domain"].str.startswith("images")]
    table = rows_of(published("vision"))
    mine = table[table["series"].str.removesuffix("-shift").isin(CONFIG.series) & (table["seed"] == 0)]
    assert sorted(images.query("seed == 0")["alpha1"]) == sorted(mine["alpha1"])
    assert not images.duplicated(["domain", "run", "recipe"]).any()
    assert images["recipe"].nunique() == 5 * len(CONFIG.series)
    moved = rows_of(published("similarity"), "transfers").query("attacked == 'target' and evaluated != 'target'")
    assert sorted(sources.query("domain == 'similar domains'")["alpha1"]) == sorted(moved["alpha1"])  # T→S
    texts = sources.query("domain == 'texts'")
    assert texts["of_target"].mean() == 1 / 5
    assert set(forecast.files(CONFIG)) >= {f"vision/{name}" for name in published("vision")}
    assert all(path.is_file() for path in forecast.files(CONFIG, RESULTS).values())


def test_pages_quote_the_verdicts_of_the_table(record):
    quoted, table = page.findings(record), page.numbers(record).set_index(["sources", "compared"])
    scopes = {"forecast_alpha1": "run", "forecast_within": "architecture", "forecast_beyond": "given accuracy"}
    for key, scope in scopes.items():
        verdicts = dict(zip(page._images(record), quoted[key].verdicts, strict=True))
        for domain, verdict in verdicts.items():
            assert table.loc[(domain.removeprefix("images, "), forecast.SCOPES[scope]), "verdict"] == verdict.said
            assert verdict.cell in str(quoted[key])
    assert "reproduced" not in str(quoted["forecast_beyond"])  # the paper does not claim it
    assert "reproduced" not in str(quoted["forecast_accuracy"])
    assert all(isinstance(value, Finding | str) for value in quoted.values())


def test_the_answer_judges_only_where_the_numbers_do(record):
    sources = record.tables["sources"]
    mixed = sources.groupby("run")["transfer_accuracy"].transform(
        lambda part: part.sample(frac=1, random_state=1).array
    )
    shuffled = sources.assign(transfer_accuracy=mixed)
    tables = record.tables | {"forecasts": forecast.forecasts(CONFIG, shuffled)}
    other = type(record)(record.experiment, record.config, tables, {}, record.provenance)
    judged = "a larger α1 (T→S) transfer better: reproduced on", "also tend to transfer better", "not certain"
    assert all(words in page.answer(record) for words in judged)
    assert not any(words in page.answer(other) for words in judged)


def test_what_is_said_beside_alpha1_follows_from_the_stored_runs(record):
    """The target models' own accuracies and the share of common classes, each counted in another way."""
    gains = [
        gain
        for made in published("vision").values()
        for target in made.tables["models"].set_index("role")["accuracy"][["target"]]
        for gain in made.tables["sources"]["transfer_accuracy"] - target
    ]
    words, numbers = forecast_sources.beside_target(record)
    beaten = (
        f"better in {sum(gain > 0 for gain in gains)} of {len(gains)} pairs, by at most {100 * max(gains):.1f} points"
    )
    assert beaten in numbers
    assert f"in none of {record.tables['sources']['domain'].str.startswith('images').sum()} pairs" in words
    similar = rows_of(published("similarity"), "targets").rename(columns={"accuracy": "own"})
    pairs = rows_of(published("similarity")).merge(similar[["series", "seed", "domain", "own"]])
    beaten, whole = pairs["transfer_accuracy"] > pairs["own"], pairs["similarity"] == 100
    similar = f"better in {beaten.sum()} of {len(pairs)} pairs, and in {beaten[whole].sum()} of {whole.sum()} where"
    assert f"Among sources of similar domains it is {similar}" in numbers
    made = [each for name, each in published("selection_texts").items() if not name.startswith("pretrained")]
    better = [
        (row["architecture"] == each.config["target"], row["probe_accuracy"] > each.arrays["target_accuracy"])
        for each in made
        for _, row in each.tables["sources"].iterrows()
    ]
    others, own = ([won for same, won in better if same is which] for which in (False, True))
    texts = f"better in {sum(others)} of {len(others)} pairs, and in {sum(own)} of {len(own)} where"
    assert f"Among text models it is {texts}" in numbers
    assert "% (Tiny ImageNet) and " in numbers
    runs = [
        part for made in published("similarity").values() for _, part in made.tables["sources"].groupby("domain")
    ]  # of equally many sources without ties, so that the mean is the pooled correlation
    each = [stats.spearmanr(part["similarity"], part["transfer_accuracy"]).statistic for part in runs]
    assert forecast_sources.of_shared_classes() == pytest.approx(np.mean(each))
    assert f"with accuracy after transfer is {np.mean(each):.2f};" in page.sentences(record)["similar"][1]


def test_a_series_that_is_not_published_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"series.*expected.*trained.*not nonsense"):
        forecast.Config(series=("trained", "nonsense"))


def test_of_one_series_no_choice_is_made_since_its_runs_have_too_few_sources():
    one = CONFIG.model_copy(update={"series": ("trained",)})
    few = forecast.pooled(one, {name: published(name) for name in forecast.EXPERIMENTS})
    assert set(few["sources"].query("domain.str.startswith('images')")["kind"]) == {"trained"}
    assert few["choices"].empty


def test_where_there_is_nothing_to_choose_from_the_record_can_be_read(tmp_path):
    empty = regret.choices(pd.DataFrame({"domain": ["x"], "recipe": ["a"], **dict.fromkeys(PREDICTORS, 0.5)}), 5, 9)
    made = Record("forecast", {}, {"choices": empty}, {}, {"module": "m", "source": "s", "inputs": {}})
    made.save(tmp_path / "made")
    assert Record.load(tmp_path / "made").tables["choices"].empty
