"""The image experiments at smoke size: what they count, what they repeat and what they refuse."""

import numpy as np
import pandas as pd
import pytest
import torch

from advtransfer import attacks, datasets, intervals, matching, metrics, spectral
from advtransfer.experiments import ablations, conclusions, evaluation, printed, protocol, similarity, vision
from advtransfer.experiments.vision import Config
from advtransfer.models import images
from advtransfer.pages import tables
from advtransfer.prepare import prepare
from advtransfer.records import published, runs
from advtransfer.records.configs import ConfigError
from advtransfer.records.record import Record
from advtransfer.training import loop

SMALL = {"architectures": ("lenet", "fully_connected"), "target_epochs": 4}


class Counting(torch.nn.Module):
    """A model that counts the rows it is shown."""

    def __init__(self, model):
        super().__init__()
        self.model, self.rows = model, 0

    def forward(self, x):
        self.rows += len(x)
        return self.model(x)


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """A record at smoke size, with what was called for it."""
    calls = {"fit": [], "attack": [], "forward": []}
    fit, attack_of, prepared = protocol.fit_classifier, protocol.attack_of, evaluation.prepared

    def counting_fit(*args, **options):
        calls["fit"].append(options["label"])
        return fit(*args, **options)

    def counting_attack_of(config):
        attack = attack_of(config)

        def counting(model, x):
            before = model.rows
            delta = attack(model, x)
            calls["attack"].append(len(x))
            model.rows = before
            return delta

        return counting

    def counting_prepared(*args):
        calls["forward"].append([Counting(model) for model in prepared(*args)])
        return calls["forward"][-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVTRANSFER_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(protocol, "fit_classifier", counting_fit)
        patch.setattr(protocol, "attack_of", counting_attack_of)
        patch.setattr(evaluation, "prepared", counting_prepared)
        patch.setattr(evaluation, "gram", lambda models, x: np.eye(10 * len(models)))  # counted on its own
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


def test_k_attacks_and_k_squared_attacked_forward_passes_and_no_more(counted):
    config, record, _, after_first, _ = counted
    n = record.arrays["index"].size
    assert after_first["attack"] == [n] * 3  # the target model and two sources, each once
    (models,) = after_first["forward"]
    tests = config.test_images
    passes = 1 + 3 + 1  # clean, attacked, and one that tells whether the outputs for an image depend on the others
    assert [model.rows for model in models] == [tests + passes * n, passes * n, passes * n]
    assert len(record.tables["transfers"]) == 9


def test_from_an_empty_cache_the_same_record(cache):
    config = Config.from_profile("smoke", **SMALL)
    first = vision.run(config, cache=False)
    for file in cache.rglob("*.safetensors"):
        file.unlink()
    assert vision.run(config).digest == first.digest


def test_rows_follow_from_the_arrays_and_from_the_ground_floor(cache):
    config = Config.from_profile("smoke", **SMALL)
    record = vision.run(config)
    sources, arrays = record.tables["sources"], record.arrays
    assert list(sources["architecture"]) == list(config.architectures)
    pearson = record.tables["samples"].query("method == 'pearson'").set_index("source")["r"]
    for place, row in enumerate(sources.itertuples()):
        alpha1 = evaluation.alpha1(arrays, 0, 1 + place)
        loss = arrays["transfer_loss"][place][arrays["index"]]
        assert row.alpha1 == pytest.approx(alpha1.mean(), rel=1e-12)
        assert pearson[row.architecture] == pytest.approx(np.corrcoef(alpha1, loss)[0, 1])
        assert row.n == len(alpha1)
        for name in ("alpha1", "alpha2", "alpha12", "transfer_accuracy", "source_accuracy"):
            assert getattr(row, f"{name}_low") <= getattr(row, f"{name}_high")

    # The same α and distance through the library's own road, with the weights read again; α is kept in half precision.
    data = vision.loaded(config)
    models = vision.trained(config, data)
    target, source = prepare(models.target), prepare(models.sources["lenet"])
    x = evaluation.pixels(data.target.x_test[arrays["index"]])
    assert (target(x).argmax(1) == data.target.y_test[arrays["index"]]).all()
    attack = protocol.attack_of(config)
    for direction, pair in (("T→S", (target, source)), ("S→T", (source, target))):
        found = metrics.transferability(*pair, x, attack)
        ends = ("target", "lenet") if direction == "T→S" else ("lenet", "target")
        row = record.tables["transfers"].set_index(["attacked", "evaluated"]).loc[ends]
        for name in ("alpha1", "alpha2", "alpha12"):
            assert row[name] == pytest.approx(getattr(found, name), rel=2e-3)
    spread = np.linspace(0, len(x) - 1, config.gradients).round().astype(int)  # data may be sorted by class
    assert arrays["matched"].tolist() == arrays["index"][spread].tolist()
    jacs = [spectral.jacobian(model, x[spread]) for model in (target, source)]
    expected = matching.gradient_matching(*jacs).relative
    assert sources.set_index("architecture").loc["lenet", "distance"] == pytest.approx(expected, rel=1e-6)


def test_a_source_at_chance_or_diverged_is_reported_and_left_out(cache, monkeypatch):
    config = Config.from_profile(
        "smoke", architectures="fully_connected, alexnet, lenet", plain_lr=0.05, plain_epochs=4, target_epochs=4
    )
    trained = protocol.trained

    def failing(config, recipe, data):
        if recipe.architecture == "lenet":
            raise loop.TrainingError("the loss is nan")
        return trained(config, recipe._replace(lr=1e-6) if recipe.architecture == "alexnet" else recipe, data)

    monkeypatch.setattr(protocol, "trained", failing)
    tables = vision.run(config).tables
    models = tables["models"].query("role == 'source'").set_index("architecture")
    assert models["learnt"].to_dict() == {"fully_connected": True, "alexnet": False, "lenet": False}
    assert models.loc["lenet", ["parameters", "accuracy"]].tolist() == [0, 0]
    assert list(tables["sources"]["architecture"]) == ["fully_connected"]
    monkeypatch.setattr(protocol, "trained", lambda c, r, d: trained(c, r._replace(lr=1e-9), d))
    with pytest.raises(loop.TrainingError, match="none of alexnet has learnt its images"):
        vision.run(Config.from_profile("smoke", architectures="alexnet"))


def test_table_3_shares_its_sources_between_both_targets(cache, monkeypatch):
    labels = []
    fit = protocol.fit_classifier
    monkeypatch.setattr(protocol, "fit_classifier", lambda *a, **o: labels.append(o["label"]) or fit(*a, **o))
    config = similarity.Config.from_profile("smoke")
    record = similarity.run(config)
    sources = record.tables["sources"]
    learnt = int(record.tables["models"]["learnt"].sum())
    assert learnt >= 3
    assert len([name for name in labels if "source" in name]) == 5
    assert len([name for name in labels if "target" in name]) == 2
    assert len(labels) == 7 + 2 * learnt
    assert (
        sources["similarity"] == sources["animals"].where(sources["domain"] == "animals", 4 - sources["animals"]) * 25
    ).all()
    assert record.arrays["vehicles_deviations"].shape[:2] == (1 + learnt,) * 2
    # In this direction the source is attacked.
    own = {name.removeprefix("animals_"): array for name, array in record.arrays.items() if name.startswith("animals_")}
    kept = np.flatnonzero(record.arrays["kept"])
    for place, animals in enumerate(kept):
        row = sources[(sources["domain"] == "animals") & (sources["animals"] == animals)].iloc[0]
        assert row["alpha1"] == pytest.approx(evaluation.alpha1(own, 1 + place, 0).mean())


@pytest.mark.parametrize("target", ["cifar10-shift", "stl10", "tiny-imagenet-10"])
def test_the_classes_of_table_3_are_those_of_the_text_and_of_the_code(target):
    classes = datasets.sources.source(target).classes
    animals, vehicles = ([classes[k] for k in similarity.TARGET_CLASSES[target][d]] for d in ("animals", "vehicles"))
    assert animals == ["bird", "cat", "antelope" if target.startswith("tiny") else "deer", "dog"]
    assert vehicles[2:] == ["ship", "truck"]
    assert vehicles[0] in ("airplane", "bus")
    assert vehicles[1] in ("automobile", "car")
    cifar = datasets.sources.source("cifar10").classes
    counts = [sum(cifar[k] in ("bird", "cat", "deer", "dog") for k in subset) for subset in similarity.SUBSETS]
    assert counts == list(similarity.ANIMALS)
    assert [similarity.similarity(k, "vehicles") for k in counts] == [100, 75, 50, 25, 0]


def test_a_target_of_one_class_is_refused():
    data = datasets.generated(seed=0, n_train=40, n_test=20)
    some = data.only(["pattern 3", "pattern 1"])
    assert torch.equal(some.x_train[some.y_train == 0], data.x_train[data.y_train == 3])
    assert torch.equal(some.x_test[some.y_test == 1], data.x_test[data.y_test == 1])
    assert some.classes == ("pattern 3", "pattern 1")
    for classes in (["pattern 3"], [], ["pattern 3"] * 2):
        with pytest.raises(ValueError, match="expected at least two different ones"):
            data.only(classes)
    with pytest.raises(ValueError, match="has no class 'cat'"):
        data.only(["cat", "pattern 1"])


def test_ablations_attack_each_model_once_a_setting_and_agree_with_table_1(cache):
    options = {"architectures": ("fully_connected", "lenet"), "plain_epochs": 4}
    config = ablations.Config.from_profile("smoke", **options, studies="attack, protocol")
    record = ablations.run(config)
    table1 = vision.run(Config.from_profile("smoke", **options)).tables["sources"].set_index("architecture")
    curves = record.tables["curves"].set_index(["setting", "architecture"])
    assert len(curves) == 5 * len(table1)
    for name in table1.index:  # PGD is the run's own attack
        for metric in ("alpha1", "alpha2", "alpha12", "alpha1_low", "transfer_accuracy"):
            assert curves.loc[("PGD", name), metric] == pytest.approx(table1.loc[name, metric], rel=1e-12)
    claims = record.tables["claims"]
    assert list(claims.query("study == 'protocol'")["setting"].unique()) == list(ablations.SWITCHES)
    assert (
        ablations._flat(ablations._starred(record.arrays["deviations"][0])).tolist()
        == record.arrays["deviations"][0].tolist()
    )


def test_switches_change_one_point_each():
    config = ablations.Config.from_profile("smoke")
    first, *others = ablations.switched(config)
    assert first == config
    changed = [{name for name, value in other if value != getattr(config, name)} for other in others]
    assert changed == [{"batchnorm_adapts"}, {"checkpoint"}, {"attack_loss"}, {"only_correct"}]


def test_publishing_thins_the_samples_and_derives_the_tables_anew(cache, tmp_path):
    record = vision.run(Config.from_profile("smoke", **SMALL))
    path = published.publish(record, "smoke-seed0", samples=20, results=tmp_path)
    thin = Record.load(path)
    assert thin.arrays["deviations"].shape[2] == len(thin.arrays["index"]) == 20
    assert set(thin.arrays["index"]) < set(record.arrays["index"])
    assert (thin.tables["sources"]["n"] == 20).all()
    assert thin.tables["sources"]["transfer_accuracy"].equals(record.tables["sources"]["transfer_accuracy"])
    for name, table in published.rederived(thin).items():
        pd.testing.assert_frame_equal(table, thin.tables[name])


def test_ablations_can_be_published_with_fewer_samples():
    record = ablations.run(ablations.Config.from_profile("smoke", studies=("start", "protocol")))
    size = len(record.arrays["index"])
    thin = published.thinned(published.thinned(record, 18), 15)
    assert len(thin.arrays["index"]) == 15
    assert thin.provenance["thinned"]["index"] == [size, 15]  # of all that were attacked
    assert set(thin.tables["curves"]["n"]) == {15}
    for name, table in published.rederived(thin).items():
        pd.testing.assert_frame_equal(table, thin.tables[name])


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
    model = prepare(images.build("lenet", width=16))
    delta = protocol.attack_of(config)(model, x)
    size = delta.flatten(1).norm(p=2 if config.norm == "l2" else torch.inf, dim=1)
    assert (size <= reach * (1 + 1e-5)).all()
    assert (size > 0.2 * reach).all()
    assert torch.equal(delta, protocol.attack_of(config)(model, x))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"eps": -0.1}, "eps: got -0.1; expected greater than 0"),
        ({"epsilon": 0.1}, "unknown parameter 'epsilon'; did you mean 'eps'"),
        ({"steps": 3}, "unknown parameter 'steps'; did you mean 'attack_steps'"),
        ({"architectures": "lenet, vgg"}, "architectures: got 'vgg'"),
        ({"architectures": "lenet, lenet"}, "architectures: .* expected each once"),
        ({"target": "stl-10"}, "target: got 'stl-10'"),
        ({"samples": 3}, "samples: got 3; expected greater than or equal to 10"),
        ({"attack": "cw"}, "attack: got 'cw'"),
        ({"batch_size": 64, "train_images": 40}, "batch_size: got 64; expected at most the 40 train_images"),
    ],
)
def test_wrong_parameters_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        Config.from_profile("smoke", **given)


@pytest.mark.parametrize("given", [{"norm": "l2", "eps": 5}, {"attack": "mi_fgsm"}])
def test_ablations_vary_the_attack_themselves(given):

    with pytest.raises(ConfigError, match=f"{next(iter(given))}: got '{next(iter(given.values()))}'"):
        ablations.Config.from_profile("smoke", **given)


@pytest.mark.parametrize("loss", ["cross_entropy", "deviation"])
def test_every_setting_of_the_ablations_attacks(loss):
    x, model = datasets.generated(seed=0, n_train=10, n_test=10).x_test[:2] / 255, images.build("lenet", width=8).eval()
    for setting in ablations.settings(ablations.Config.from_profile("smoke", attack_loss=loss)):
        assert setting.attack(model, x).abs().sum() > 0, setting.label


def test_deviations_beyond_half_precision_are_kept():
    found = {(0, 0): torch.tensor([[7e4, 1.0]]), (0, 1): torch.tensor([[1.0]])}
    assert evaluation.filled(found, 2)[0].tolist() == [[[7e4, 1]], [[1, 0]]]
    assert evaluation.filled({(0, 0): torch.ones(1, 2)}, 1).dtype == np.float16


def test_the_paper_profile_is_the_released_protocol():
    config = Config.from_profile("paper")
    assert (config.epochs, config.target_epochs, config.finetune_epochs, config.batch_size) == (100, 100, 10, 64)
    assert (config.lr, config.plain_lr, config.width, config.plain_width) == (0.1, 0.1, 64, 64)
    assert (config.eps, config.attack_steps, config.step_size, config.attack) == (0.1, 50, 0.1, "pgd")
    assert (config.only_correct, config.batchnorm_adapts, config.precision) == (True, True, "bfloat16")
    assert tables.departures({"this run": config}).empty
    runs = {"published": config, "this run": Config.from_profile("paper", eps="4/255")}
    assert tables.departures(runs)[["parameter", "published"]].to_numpy().tolist() == [["`eps`", str(config.eps)]]


def test_each_part_of_the_recipe_makes_other_sources_and_leaves_the_target_model(cache):
    """Augmentation and adversarial training are of the sources alone; decay and schedule of every model."""
    run = lambda **options: vision.run(Config.from_profile("smoke", architectures="resnet18", **options)).arrays  # noqa: E731
    base = run()
    for changed, targets_too in (
        ({"augment": False}, False),
        ({"robust_eps": "1/255"}, False),
        ({"weight_decay": 0.01}, True),
        ({"schedule": "one_cycle"}, True),
    ):
        found = run(**changed)
        assert not np.array_equal(found["transfer_loss"], base["transfer_loss"]), changed
        same = np.array_equal(found["deviations"][0, 0, :20], base["deviations"][0, 0, :20])  # of the target model
        assert same is not targets_too, changed


def test_training_on_pgd_examples_makes_a_source_robust():
    config = Config.from_profile("smoke", epochs=6, train_images=400)
    data = vision.loaded(config)
    attack = protocol.climbing(config, attacks.pgd, eps=16 / 255, steps=5)
    right = {}
    for eps in (0.0, 16 / 255):
        recipe = protocol.source_recipe(config, "resnet18")._replace(robust_eps=eps)
        model = protocol.trained(config, recipe, data.source)
        x = evaluation.pixels(data.source.x_test)
        right[eps] = (model(x + attack(model, x)).argmax(1) == data.source.y_test).double().mean().item()
    assert right[16 / 255] > right[0.0] + 0.1


def test_targets_share_their_sources_where_the_held_out_images_are_left_out(monkeypatch):
    asked = []
    monkeypatch.setattr(protocol, "load", lambda name, without=None: asked.append((name, without)))
    for target in ("tiny-imagenet-10", "cifar10-shift"):
        protocol.domains(Config(target=target, hold_out=True))
    protocol.domains(Config(target="tiny-imagenet-10"))
    sources = [without for name, without in asked if name == "cifar10"]
    assert sources == ["cifar10-shift", "cifar10-shift", None]


@pytest.mark.parametrize("target", ["cifar10-shift", "stl10", "tiny-imagenet-10"])
def test_missing_images_stop_it_before_any_training(target, tmp_path, monkeypatch, cache):
    monkeypatch.setenv("ADVTRANSFER_DATA", str(tmp_path / "empty"))
    monkeypatch.setattr(protocol, "fit_classifier", lambda *_, **__: pytest.fail("it trained"))
    config = Config(target=target)
    assert set(runs.address(vision, config)[0]["inputs"].values()) == {"missing"}
    with pytest.raises(datasets.DataUnavailable, match="python -m advtransfer data fetch"):
        vision.run(config)
    assert not list(cache.rglob("record.json"))


def test_inputs_are_the_checksums_of_the_files(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVTRANSFER_DATA", str(tmp_path))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "cifar10.npz").write_bytes(b"abc")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

    def inputs(config):
        return runs.address(vision, config)[0]["inputs"]

    assert inputs(Config()) == {"cifar10": abc}
    assert inputs(Config(target="stl10")) == {"cifar10": abc, "stl10": "missing"}
    assert inputs(Config(target="generated")) == {}


def test_a_target_model_that_gets_nothing_right_is_an_error():
    config = Config.from_profile("smoke")
    with pytest.raises(loop.TrainingError, match=r"classifies 9 of 50 .* as many samples as outputs \(10\)"):
        protocol.attackable(config, torch.arange(50) < 9, 10)
    assert len(protocol.attackable(config.model_copy(update={"only_correct": False}), torch.zeros(40) > 0, 10)) == 40


def test_samples_are_drawn_among_the_correct_ones():
    config = Config.from_profile("smoke", samples=20)
    correct = torch.arange(100) % 3 == 0
    chosen = protocol.attackable(config, correct, 10)
    assert len(chosen) == 20
    assert correct[chosen].all()
    assert (chosen.diff() > 0).all()
    assert not torch.equal(chosen, correct.nonzero().squeeze(1)[:20]), "the first ones are no sample"


def test_wilson_interval_against_its_closed_form():
    found = evaluation.accuracy("share", np.array([True] * 7 + [False] * 5))
    p, n, z = 7 / 12, 12, 1.959963984540054
    middle, half = (p + z * z / (2 * n)), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert found["share"] == p
    assert found["share_low"] == pytest.approx((middle - half) / (1 + z * z / n), rel=1e-9)
    assert found["share_high"] == pytest.approx((middle + half) / (1 + z * z / n), rel=1e-9)


def test_metric_columns_are_the_estimates_and_intervals():
    generator = torch.Generator().manual_seed(0)
    d11, d12, d22 = (torch.randn(200, 3, generator=generator) + 1 for _ in range(3))
    kept = np.stack([torch.stack([d11, d12]), torch.stack([torch.zeros_like(d22), d22])]).astype(np.float16)
    three = evaluation.triple(kept, 0, 1)
    found, ranges = metrics.from_deviations(*three), intervals.intervals(*three)
    columns = evaluation.metric_columns({"deviations": kept}, 0, 1)
    assert columns["alpha2_unbiased"] == found.alpha2_unbiased
    assert (columns["alpha12_low"], columns["alpha12_high"]) == ranges.alpha12
    assert (columns["alpha1_median"], columns["alpha1_ratio"]) == (found.alpha1_median, found.alpha1_ratio)
    assert len(columns) == 15


def test_printed_rows_and_their_correlation():
    table = printed.table(1)
    assert list(table["label"]) == list(images.LABELS.values())
    np.testing.assert_allclose(table["alpha2"] ** 2, table["alpha2_squared"])
    found = conclusions.correlation(table["alpha1"], table["transfer_accuracy"])
    assert found.r == pytest.approx(0.86, abs=0.005)
    assert found.p == pytest.approx(round(found.p * 120) / 120), "an exact p over 5! orders"


def test_correlations_over_sources_are_those_of_a_record_and_of_the_printed_table(counted):
    own, paper = counted[1].tables["correlations"], conclusions.over_sources(printed.table(1))
    assert len(own) == 2 * (3 * 3 + 2)  # outcomes; metrics by methods, and the squares
    here = conclusions.row(own, outcome="transfer_loss", metric="alpha1", method="spearman")
    assert here.n == 2
    assert np.isnan(here.r), "two points have no correlation"
    found = conclusions.row(paper, outcome="transfer_accuracy", metric="alpha12", method="spearman")
    assert found.n == 5
    assert found.r == pytest.approx(0.9)
    with pytest.raises(ValueError, match="matches 0 rows"):
        conclusions.row(paper, outcome="transfer_loss", metric="alpha3", method="pearson")


def test_correlation_of_too_few_or_constant_values_is_nan():
    nan = float("nan")
    for x, y in [([1, 2], [2, 1]), ([1, 1, 1], [1, 2, 3]), ([1, 2, nan, nan], [1, 2, 3, 4])]:
        assert np.isnan(conclusions.correlation(x, y).r)
    assert conclusions.correlation([1, 2, nan, 4], [1, 2, 3, 4]).n == 3
