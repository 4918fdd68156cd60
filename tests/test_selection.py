"""The study of scores: its targets, its measurements, and an analysis that finds what was put into made-up ones."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from transformers import BertConfig

from advtransfer.datasets import generated_texts, variants
from advtransfer.experiments import selection, selection_texts, study, study_checks
from advtransfer.models.text import build
from advtransfer.pages import study as page
from advtransfer.ranking.truth import probe
from advtransfer.records import published
from advtransfer.records.record import Record
from cases import refuses, seeded


def test_the_changes_of_images_do_what_they_say():
    x = torch.randint(256, (3, 3, 8, 8), generator=seeded(1), dtype=torch.uint8)
    squares = variants.blocks(x).reshape(3, 3, 2, 4, 2, 4)
    assert (squares == squares[:, :, :, :1, :, :1]).all()
    torch.testing.assert_close(
        squares[:, :, :, 0, :, 0].double(), x.double().reshape(3, 3, 2, 4, 2, 4).mean((3, 5)).round()
    )
    assert (variants.negative(x).int() + x.int() == 255).all()
    grey = torch.full((20, 3, 16, 16), 128, dtype=torch.uint8)
    noise = variants.noisy(grey).double() - 128
    assert abs(noise.std().item() - variants.NOISE) < 1
    assert torch.equal(variants.noisy(grey), variants.noisy(grey))
    refuses(
        "unknown target domain 'cifar10-nois'; did you mean 'cifar10-noise'?", lambda: variants.variant("cifar10-nois")
    )


def test_the_probe_is_a_logistic_regression_that_finds_a_linear_rule():
    x = torch.randn(400, 5, generator=seeded(0), dtype=torch.float64)
    y = (x[:, 0] + 2 * x[:, 1] > 0).long()
    found = probe(x[:200], y[:200], x[200:])
    assert (found == y[200:]).double().mean() > 0.93
    assert torch.equal(found, probe(x[:200] * 1000 + 5, y[:200], x[200:] * 1000 + 5))  # features are standardised


@pytest.fixture(scope="module")
def measured():
    config = selection.Config.from_profile(
        "smoke", target="generated", full_epochs=1, architectures=("lenet", "alexnet")
    )
    return selection.run(config, cache=False)


def test_the_tables_of_a_measurement_follow_from_its_arrays(measured):
    again = published.rederived(measured)["sources"]
    pd.testing.assert_frame_equal(again, measured.tables["sources"])
    assert published.thinned(measured, 10).digest == measured.digest  # it is published whole


def test_a_measurement_has_every_score_in_its_range(measured):
    table = measured.tables["sources"]
    assert np.isfinite(table.select_dtypes("number")).all(axis=None)
    for name in ("source_accuracy", "probe_accuracy", "full_accuracy", "1-NN", "probe", "alpha2", "back_alpha2"):
        assert table[name].between(0, 1).all(), name
    assert (table["probe_accuracy"] > 0.5).all()  # the made-up images are easy
    labels = measured.arrays["labels"]
    assert set(np.bincount(labels)) == {6}  # 60 labels, equally many of each class
    assert all(measured.arrays[f"{name}_features"].dtype == np.float16 for name in ("lenet", "alexnet"))


def test_wide_sources_and_narrow_ones_are_scored_alike(measured):
    """The features of wide sources are kept centred, so it must not matter where those of the others lie."""
    far = dict(measured.arrays)
    far["lenet_features"] = (far["lenet_features"].astype(np.float32) + 3).astype(np.float32)
    config = selection.Config(**measured.config)
    found, expected = (selection.derive(config, each)["sources"].loc[0] for each in (far, measured.arrays))
    pd.testing.assert_series_equal(found, expected, rtol=1e-4)


def test_a_record_of_texts_depends_on_the_corpus_of_its_target(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVTRANSFER_DATA", str(tmp_path))
    read = selection_texts.files(selection_texts.Config(target="yelp", corpora=("mr",)))
    assert list(read) == ["mr/train", "mr/test", "yelp/train", "yelp/test", "encoder"]


def test_untrained_sources_are_at_their_first_weights():
    config = selection.Config.from_profile("smoke", target="generated", untrained=True, architectures=("lenet",))
    row = selection.run(config, cache=False).tables["sources"].iloc[0]
    assert row["untrained"]
    assert row["source_accuracy"] < 0.3


@pytest.fixture(scope="module")
def measured_texts():
    return selection_texts.run(selection_texts.Config.from_profile("smoke"), cache=False)


def test_text_models_are_measured_as_images_are(measured_texts, measured):
    table = measured_texts.tables["sources"]
    pd.testing.assert_frame_equal(published.rederived(measured_texts)["sources"], table)
    assert set(measured.tables["sources"]) - set(table) == {
        "full_accuracy", "full_accuracy_low", "full_accuracy_high"
    }  # fmt: skip
    assert np.isfinite(table.select_dtypes("number")).all(axis=None)
    assert table["label"].tolist() == ["MR", "IMDB"]
    kept = measured_texts.arrays["deviations"]
    assert (np.linalg.norm(kept[[0, 1, 2], [0, 1, 2]].astype(float), axis=2) > 0).all()  # each attack moves its model
    assert (kept[1, 2] == 0).all()  # sources are not attacked with each other's δ


def test_a_text_is_a_source_s_or_a_target_s():
    whole = generated_texts(seed=0, n_train=11, n_test=4)
    own, other = (selection_texts._half(whole, part) for part in (0, 1))
    assert own.train + other.train == whole.train[::2] + whole.train[1::2]
    assert torch.equal(torch.cat([own.y_train, other.y_train]), torch.cat([whole.y_train[::2], whole.y_train[1::2]]))
    assert own.test == other.test == whole.test


def test_a_whole_classifier_gives_the_same_logits_and_shares_its_weights():
    config = BertConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    model = build(config, 3, seeded(0)).eval()
    ids = torch.randint(1, 30, (4, 6), generator=seeded(1))
    whole = model.whole()
    logits = whole(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    torch.testing.assert_close(logits, model(model.embed(ids), torch.ones(4, 6, dtype=torch.bool)))
    assert whole.classifier.weight is model.head.weight


# The analysis, of made-up measurements.

RECIPES, TARGETS = 12, 4


def made_up(predictors):
    """Records of 12 recipes on 4 targets whose truth is known; `predictors` gives the other columns from it."""
    rng = np.random.default_rng(0)
    quality = np.linspace(0.3, 0.9, RECIPES)
    records = {}
    for k in range(TARGETS):
        truth = quality + 0.1 * rng.normal(size=RECIPES)
        for series in range(RECIPES // 4):
            part = slice(4 * series, 4 * series + 4)
            columns = {name: rng.normal(size=4) for name in study.PREDICTORS if name != "elsewhere"}
            columns |= {name: function(truth[part], rng) for name, function in predictors.items()}
            table = pd.DataFrame({"architecture": list("abcd"), "untrained": False, "probe_accuracy": truth[part],
                                  "own_deviation": rng.random(4) + 1, **columns})  # fmt: skip
            config = {"target": f"target {k}", "seed": 1}
            records[f"s{series}-target {k}-seed1"] = Record("selection", config, {"sources": table}, {}, {})
    return records


@pytest.fixture(scope="module")
def pooled():
    records = made_up({
        "LogME": lambda truth, rng: truth,
        "distance": lambda truth, rng: -truth,
        "source_accuracy": lambda truth, rng: truth + 0.05 * rng.normal(size=len(truth)),
        "NCE": lambda truth, rng: -truth,
    })  # fmt: skip
    return records, study.pooled(study.Config.from_profile("quick", resamples=99), records)


def test_the_truth_itself_is_the_best_score_and_its_opposite_the_worst(pooled):
    scores = pooled[1]["scores"].set_index("predictor")
    for name in ("LogME", "distance"):  # a distance is better when it is small
        assert scores.loc[name, ["weighted", "kendall", "top", "regret", "regret_few"]].tolist() == pytest.approx(
            [1, 1, 1, 0, 0]
        )
    assert scores.loc["NCE", "kendall"] == pytest.approx(-1)
    assert scores["weighted"].idxmin() == "NCE"
    assert (scores[["recipes", "targets"]] == [RECIPES, TARGETS]).all(axis=None)


def test_numbers_that_mean_nothing_have_intervals_around_zero(pooled):
    scores = pooled[1]["scores"].set_index("predictor")
    noise = scores.loc[["TransRate", "GBC", "PARC", "H-score", "alpha1", "back_alpha1", "parameters"]]
    assert ((noise["weighted_low"] < 0) & (noise["weighted_high"] > 0)).mean() > 0.7
    assert (noise["weighted"].abs() < 0.6).all()


def test_differences_are_paired_and_adjusted(pooled):
    pairs = pooled[1]["differences"]
    own = pairs[(pairs["against"] == "source_accuracy")].set_index("predictor")
    assert own.loc["LogME", "low"] >= 0
    assert own.loc["NCE", "high"] < -1
    assert own.loc["NCE", "p_holm"] <= 0.05 * len(own)
    assert (pairs["p_holm"] >= pairs["p"] - 1e-12).all()
    assert study.tail_probability(np.array([1.0, np.nan, 2.0, -1.0])) == pytest.approx(2 * 2 / 4)
    assert np.isnan(study.tail_probability(np.full(3, np.nan)))
    by_hand = study.holm(pd.Series([0.01, 0.02, 0.9]))
    assert by_hand.tolist() == pytest.approx([0.03, 0.04, 0.9])


def test_a_target_is_judged_within_itself(pooled):
    records, tables = pooled
    one = tables["by_target"].query("target == 'target 2' and predictor == 'source_accuracy'").iloc[0]
    part = pd.concat([r.tables["sources"] for n, r in records.items() if "target 2" in n])
    expected = stats.weightedtau(part["source_accuracy"], part["probe_accuracy"]).statistic
    assert one["weighted"] == pytest.approx(expected)


def test_seeds_of_one_recipe_are_averaged(pooled):
    records, _ = pooled
    twice = records | {
        name.replace("seed1", "seed2"): Record("selection", {**r.config, "seed": 2}, r.tables, {}, {})
        for name, r in records.items()
    }
    first, second = (study.grid(study.sources_of(r), "probe_accuracy") for r in (records, twice))
    assert first.recipes == second.recipes
    np.testing.assert_allclose(first.truth, second.truth)


def test_mean_rank_on_other_targets_never_looks_at_this_one(pooled):
    records, _ = pooled
    changed = {}
    for name, record in records.items():
        table = record.tables["sources"]
        if "target 0" in name:
            table = table.assign(probe_accuracy=table["probe_accuracy"][::-1].to_numpy() * 0.1)
        changed[name] = Record("selection", record.config, {"sources": table}, {}, {})
    first, second = (study.grid(study.sources_of(r), "probe_accuracy") for r in (records, changed))
    column = first.targets.index("target 0")
    assert np.array_equal(first.predictors["elsewhere"][:, column], second.predictors["elsewhere"][:, column])
    assert not np.array_equal(first.truth[:, column], second.truth[:, column])


def test_the_published_table_of_others_is_led_by_a_score_that_never_looks():
    found = study.elsewhere().groupby("estimator")["weighted"].mean()
    assert found.idxmax() == "mean rank elsewhere"
    assert round(found["mean rank elsewhere"], 2) == 0.84
    assert round(found["SFDA"], 2) == 0.71


def test_the_page_says_what_the_numbers_say(pooled):
    record = Record("study", {}, pooled[1], {}, {})
    said = page.answer(record).replace("matching distance", "LogME")  # both are the truth
    assert "**LogME has the largest mean weighted τ**" in said
    assert len(page.numbers(record)) == len(study.PREDICTORS)
    assert page.pairs(record, "alpha1") is not None
    for figure in (page.figure(record), page.targets_figure(record), page.elsewhere_figure(record)):
        assert figure.axes


def test_texts_have_the_same_analysis_without_the_number_of_weights(pooled):
    records, tables = pooled
    texts = study.of_texts(study.Config.from_profile("quick", resamples=99), records)
    both = [part.set_index("predictor")["weighted"] for part in (tables["scores"], texts["text_scores"])]
    pd.testing.assert_series_equal(both[0].drop("parameters"), both[1])
    for name in ("text_scores", "text_by_target", "text_differences"):
        assert "parameters" not in set(texts[name]["predictor"])
    record = Record("study", {}, tables | texts, {}, {})
    assert page.choice(page.of_texts(record)) == page.choice(record)
    about = page.about(page.of_texts(record), "corpora")
    assert about.startswith(f"{RECIPES} recipes (corpora: ")
    empty = study.of_texts(study.Config(), {})
    assert not page.about(page.of_texts(Record("study", {}, empty, {}, {})))


def test_the_checks_take_shared_architectures_images_and_corpora_into_account():
    rng = np.random.default_rng(0)
    targets = ("cifar10-shift", "cifar10-noise", "tiny-animals", "tiny-vehicles")
    known = rng.normal(size=5)  # of the architecture alone
    rows = [
        {"target": target, "architecture": name, "series": way, "recipe": f"{way} {name}", "alpha1": known[k],
         "source_accuracy": known[k], "probe_accuracy": known[k] + 0.3 * rng.normal()}
        for target in targets for k, name in enumerate("abcde") for way in "uvwxyz"
    ]  # fmt: skip
    sources = pd.DataFrame(rows)
    scores = pd.DataFrame(
        {"truth": "probe_accuracy", "predictor": ["alpha1", "source_accuracy"], "weighted": [0.9, 0.8]}
    )
    found = study_checks.checks(sources, study.PREDICTORS, scores, resamples=199, seed=0)
    crossed = found[found["check"] == study_checks.CROSSED].set_index("predictor")
    apart = study.judge(study.Config(resamples=199), sources, "probe_accuracy")["scores"].set_index("predictor")
    widths = [each.loc["alpha1", high] - each.loc["alpha1", low] for each, low, high in (
        (crossed, "low", "high"), (apart, "weighted_low", "weighted_high"),
    )]  # fmt: skip
    assert widths[0] > 1.2 * widths[1]  # thirty recipes are only five architectures
    assert crossed.loc["source_accuracy", ["less_low", "less_high"]].tolist() == [0, 0]  # alike, in the same draws
    truth = sources.pivot_table(index="recipe", columns="target", values="probe_accuracy")
    expected = []
    for target in targets:
        others = [name for name in targets if name[:4] != target[:4]]
        expected.append(stats.weightedtau(truth[others].rank().mean(axis=1), truth[target]).statistic)
    other = found[found["check"] == study_checks.OTHER_SET]["weighted"]
    assert other.tolist() == [pytest.approx(np.mean(expected))]
    texts = sources.replace({"target": dict(zip(targets, "abcd", strict=True))})
    kept = texts[texts["architecture"] != texts["target"]]
    taus = [stats.weightedtau(part["alpha1"], part["probe_accuracy"]).statistic for _, part in kept.groupby("target")]
    best = pd.DataFrame({"truth": "probe_accuracy", "predictor": ["elsewhere"], "weighted": [0.95]})
    found = study_checks.checks(texts, study.PREDICTORS, pd.concat([scores, best]), resamples=9, seed=0)
    row = found[(found["check"] == study_checks.OTHER_CORPORA) & (found["predictor"] == "alpha1")]
    assert row["weighted"].tolist() == [pytest.approx(np.mean(taus))]
    sparse = sources[(sources["series"] == "u") | (sources["architecture"] == "a")].query("series in ['u', 'v']")
    row = study_checks.checks(sparse, study.PREDICTORS, scores, resamples=99, seed=0).iloc[0]
    assert -1 <= row["low"] < row["high"] <= 1  # draws in which a target has no source are left out


def test_without_measurements_the_page_says_so():
    empty = Record("study", {}, study.pooled(study.Config(), {}), {}, {})
    assert page.answer(empty) == page.NO_RUNS
    assert page.figure(empty) is None
    assert page.elsewhere_figure(empty) is not None
