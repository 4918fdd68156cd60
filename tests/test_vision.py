"""The image experiment at smoke size: what it counts, what it repeats and what it refuses."""

import numpy as np
import pytest
import torch

from advtransfer import datasets, estimators, metrics, tables, training
from advtransfer.configs import ConfigError
from advtransfer.experiments import evaluation, table1, vision
from advtransfer.experiments.vision import Config
from advtransfer.prepare import prepare
from advtransfer.statistics import Correlation

SMALL = {"architectures": ("lenet", "fully_connected"), "target_epochs": 4}


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """A record at smoke size, with what was called for it."""
    calls = {"fit": [], "attack": []}
    fit, attack_of = vision.fit_classifier, vision.attack_of

    def counting_fit(*args, **options):
        calls["fit"].append(options["label"])
        return fit(*args, **options)

    def counting_attack_of(config):
        attack = attack_of(config)

        def counting(model, x):
            calls["attack"].append(len(x))
            return attack(model, x)

        return counting

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVTRANSFER_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(vision, "fit_classifier", counting_fit)
        patch.setattr(vision, "attack_of", counting_attack_of)
        config = Config.from_profile("smoke", **SMALL)
        first = vision.run(config, cache=False)
        after_first = {name: list(made) for name, made in calls.items()}
        second = vision.run(config, cache=False)
    return config, first, second, after_first, calls


def test_the_same_record_twice_without_training_twice(counted):
    _, first, second, after_first, calls = counted
    assert first.digest == second.digest
    assert calls["fit"] == after_first["fit"]
    assert sorted(calls["fit"]) == sorted(
        ["ResNet18, target"]
        + [f"{label}, {what}" for label in ("LeNet", "Fully Connected") for what in ("source", "new head")]
    )


def test_from_an_empty_cache_the_same_record(counted, cache):
    config, first, *_ = counted
    assert vision.run(config).digest == first.digest


def test_each_model_is_attacked_once(counted):
    _, record, _, after_first, _ = counted
    n = record.arrays["index"].size
    assert after_first["attack"] == [n] * 3  # the target model and two sources


def test_rows_follow_from_the_arrays_and_from_the_ground_floor(counted, monkeypatch, cache):
    config, record, *_ = counted
    sources, target = record.tables["sources"], record.tables["target"].iloc[0]
    assert list(sources["architecture"]) == list(config.architectures)
    assert record.arrays["alpha1"].shape == record.arrays["loss"].shape == (2, target["attacked"])
    np.testing.assert_allclose(sources["alpha1"], record.arrays["alpha1"].mean(1), rtol=1e-12)
    for row, alpha1, loss in zip(sources.itertuples(), record.arrays["alpha1"], record.arrays["loss"], strict=True):
        assert row.pearson == pytest.approx(np.corrcoef(alpha1, loss)[0, 1])
        assert row.n == len(alpha1)
        for name in ("alpha1", "alpha2", "alpha12", "transfer_accuracy", "source_accuracy", "pearson"):
            assert getattr(row, f"{name}_low") <= getattr(row, f"{name}_high")

    # The same α through the library's own road, with the weights trained here again.
    data = vision.domains(config)
    target_model = prepare(vision._trained(config, "resnet18", data.target, "target"))
    x = evaluation.pixels(data.target.x_test[record.arrays["index"]])
    correct = target_model(x).argmax(1) == data.target.y_test[record.arrays["index"]]
    assert correct.all()
    source_model = prepare(vision._trained(config, "lenet", data.source, "source"))
    found = metrics.transferability(target_model, source_model, x, vision.attack_of(config))
    for name in ("alpha1", "alpha2", "alpha12", "alpha2_unbiased", "alpha12_unbiased"):
        assert sources[name].iloc[0] == pytest.approx(getattr(found, name), abs=1e-6)


def test_a_source_at_chance_is_marked(cache):
    config = Config.from_profile("smoke", architectures="alexnet", plain_lr=1e-6, target_epochs=4)
    row = vision.run(config).tables["sources"].iloc[0]
    assert row["source_accuracy_low"] < 0.1
    assert not row["trained"]
    config = config.model_copy(update={"architectures": ("fully_connected",), "plain_lr": 0.05, "epochs": 4})
    row = vision.run(config).tables["sources"].iloc[0]
    assert row["source_accuracy_low"] > 0.1
    assert row["trained"]


@pytest.mark.parametrize(
    ("options", "reach"),
    [
        ({"attack": "fgsm"}, 0.1),
        ({"attack": "mi_fgsm", "norm": "l2", "eps": "1"}, 1),
        ({"attack": "pgd", "attack_loss": "deviation", "eps": "4/255"}, 4 / 255),
        ({"attack": "fgsm", "attack_loss": "deviation"}, 0.1),
    ],
)
def test_every_attack_stays_in_its_ball(options, reach):
    config = Config.from_profile("smoke", **options)
    x = datasets.generated(seed=0, n_train=10, n_test=10).x_test / 255
    model = prepare(vision.images.build("lenet", width=16))
    delta = vision.attack_of(config)(model, x)
    size = delta.flatten(1).norm(p=2 if config.norm == "l2" else torch.inf, dim=1)
    assert (size <= reach * (1 + 1e-5)).all()
    assert (size > 0.2 * reach).all()
    assert torch.equal(delta, vision.attack_of(config)(model, x))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"eps": -0.1}, "eps: got -0.1; expected greater than 0"),
        ({"epsilon": 0.1}, "unknown parameter 'epsilon'; did you mean"),
        ({"architectures": "lenet, vgg"}, "architectures: got 'vgg'"),
        ({"architectures": "lenet, lenet"}, "architectures: .* expected each architecture once"),
        ({"target": "stl-10"}, "target: got 'stl-10'"),
        ({"samples": 3}, "samples: got 3; expected greater than or equal to 10"),
        ({"attack": "cw"}, "attack: got 'cw'"),
        ({"batch_size": 64, "train_images": 40}, "batch_size: got 64; expected at most the 40 train_images"),
    ],
)
def test_wrong_parameters_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        Config.from_profile("smoke", **given)


def test_the_paper_profile_is_the_released_protocol():
    config = Config.from_profile("paper")
    assert (config.epochs, config.target_epochs, config.finetune_epochs, config.batch_size) == (100, 100, 10, 64)
    assert (config.lr, config.plain_lr, config.width, config.plain_width) == (0.1, 0.1, 64, 64)
    assert (config.eps, config.attack_steps, config.step_size, config.attack) == (0.1, 50, 0.1, "pgd")
    assert (config.only_correct, config.batchnorm_adapts, config.precision) == (True, True, "float32")
    assert tables.departures(config).empty
    assert list(tables.departures(Config.from_profile("paper", eps="4/255"))["parameter"]) == ["`eps`"]


@pytest.mark.parametrize("target", ["cifar10-shift", "stl10", "tiny-imagenet-10"])
def test_missing_images_stop_it_before_any_training(target, tmp_path, monkeypatch, cache):
    monkeypatch.setenv("ADVTRANSFER_DATA", str(tmp_path / "empty"))
    monkeypatch.setattr(vision, "fit_classifier", lambda *_, **__: pytest.fail("it trained"))
    config = Config(target=target)
    assert set(vision.inputs(config).values()) == {"missing"}
    with pytest.raises(datasets.DataUnavailable, match="python -m advtransfer data fetch"):
        vision.run(config)
    assert not list(cache.rglob("record.json"))


def test_inputs_are_the_checksums_of_the_files(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVTRANSFER_DATA", str(tmp_path))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "cifar10.npz").write_bytes(b"abc")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert vision.inputs(Config()) == {"cifar10": abc}
    assert vision.inputs(Config(target="stl10")) == {"cifar10": abc, "stl10": "missing"}
    assert vision.inputs(Config(target="generated")) == {}


def test_a_target_model_that_gets_nothing_right_is_an_error():
    config = Config.from_profile("smoke")
    with pytest.raises(training.TrainingError, match="classifies 2 of 50 test images correctly; expected at least 3"):
        vision._chosen(config, torch.arange(50) < 2)
    assert len(vision._chosen(config.model_copy(update={"only_correct": False}), torch.zeros(40) > 0)) == 40


def test_samples_are_drawn_among_the_correct_ones():
    config = Config.from_profile("smoke", samples=20)
    correct = torch.arange(100) % 3 == 0
    chosen = vision._chosen(config, correct)
    assert len(chosen) == 20
    assert correct[chosen].all()
    assert (chosen.diff() > 0).all()
    assert not torch.equal(chosen, correct.nonzero().squeeze(1)[:20]), "the first ones are no sample"


def test_wilson_interval_against_its_closed_form():
    outputs = torch.eye(3)[torch.tensor([0] * 7 + [1] * 5)]
    found = evaluation.accuracy("share", outputs, torch.zeros(12, dtype=torch.int64))
    p, n, z = 7 / 12, 12, 1.959963984540054
    middle, half = (p + z * z / (2 * n)), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert found["share"] == p
    assert found["share_low"] == pytest.approx((middle - half) / (1 + z * z / n), rel=1e-9)
    assert found["share_high"] == pytest.approx((middle + half) / (1 + z * z / n), rel=1e-9)


def test_metric_columns_are_the_estimates_and_intervals():
    generator = torch.Generator().manual_seed(0)
    d11, d12, d22 = (torch.randn(200, 3, generator=generator) + 1 for _ in range(3))
    found, ranges = metrics.from_deviations(d11, d12, d22), estimators.intervals(d11, d12, d22)
    columns = evaluation.metric_columns(found, ranges)
    assert columns["alpha2_unbiased"] == found.alpha2_unbiased
    assert (columns["alpha12_low"], columns["alpha12_high"]) == ranges.alpha12
    assert len(columns) == 11


def test_printed_rows_and_their_correlation():
    printed = table1.printed()
    assert list(printed["label"]) == list(vision.images.LABELS.values())
    np.testing.assert_allclose(printed["alpha2"] ** 2, printed["alpha2_squared"])
    found = table1.correlation(printed["alpha1"], printed["transfer_accuracy"])
    assert found.r == pytest.approx(0.86, abs=0.005)
    assert found.p == pytest.approx(round(found.p * 120) / 120), "an exact p over 5! orders"


def test_correlations_of_a_record_hold_both_tables(counted):
    table = counted[1].tables["correlations"]
    assert len(table) == 3 * (5 + 2 * 3)
    here = table1.row(table, where="here", outcome="transfer_loss", metric="alpha1", method="spearman")
    paper = table1.row(table, where="paper", outcome="transfer_accuracy", metric="alpha12", method="spearman")
    assert (here.n, paper.n) == (2, 5)
    assert np.isnan(here.r), "two points have no correlation"
    assert paper.r == pytest.approx(0.9)
    with pytest.raises(ValueError, match="matches 0 rows"):
        table1.row(table, where="there", outcome="transfer_loss", metric="alpha1", method="pearson")


def test_correlation_of_too_few_or_constant_values_is_nan():
    nan = float("nan")
    for x, y in [([1, 2], [2, 1]), ([1, 1, 1], [1, 2, 3]), ([1, 2, nan, nan], [1, 2, 3, 4])]:
        assert np.isnan(table1.correlation(x, y).r)
    assert table1.correlation([1, 2, nan, 4], [1, 2, 3, 4]).n == 3


@pytest.mark.parametrize(
    ("found", "claimed", "expected"),
    [
        (Correlation(0.9, 0.2, 1.0, 0.02, 5), 1, "reproduced"),
        (Correlation(0.9, 0.2, 1.0, 0.06, 5), 1, "direction only"),
        (Correlation(0.9, -0.2, 1.0, 0.02, 5), 1, "direction only"),
        (Correlation(0.9, 0.2, 1.0, 0.02, 5), -1, "not reproduced"),
        (Correlation(-0.9, -1.0, -0.2, 0.02, 5), -1, "reproduced"),
        (Correlation(float("nan"), float("nan"), float("nan"), float("nan"), 2), 1, "not reproduced"),
    ],
)
def test_verdict_over_models_asks_for_interval_and_p(found, claimed, expected):
    assert table1.verdict(found, claimed=claimed) == expected
