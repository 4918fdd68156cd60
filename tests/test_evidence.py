"""How the published runs are made: their parameters are those of the benchmark, and a short visit stops in time."""

import importlib
import json
import sys
import time
from pathlib import Path

import pytest
import torch

from advtransfer.certificates import distance_interval
from advtransfer.experiments import protocol, text_protocol
from advtransfer.records.published import RESULTS, published

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def load():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module


def test_published_records_have_the_parameters_of_their_series(load):
    evidence, found = load("evidence"), 0
    for name, series in evidence.SERIES.items():
        experiment, own = name.split("/")
        for key, record in published(experiment).series(own).items():
            expected = evidence.config_of(name, record.config["seed"], smoke=False).model_dump(mode="json")
            unlike = {k for k in expected if record.config[k] != expected[k]} - {"precision"}
            assert not unlike, f"{name}: {key} has other {unlike}"
            if kept := record.provenance["thinned"]:  # empty for a record that is published whole
                assert next(iter(kept.values()))[1] == min(series.samples, series.parameters["samples"])
            found += 1
    assert found >= 16


def test_a_series_at_smoke_size_takes_the_same_course(load):
    evidence = load("evidence")
    config = evidence.config_of("vision/robust-shift", 3, smoke=True)
    assert (config.profile, config.target, config.seed) == ("smoke", "generated", 3)
    assert config.robust_eps == pytest.approx(2 / 255)
    assert config.schedule == "one_cycle"


@pytest.mark.parametrize(
    ("name", "fit"), [("vision/slim", (protocol, "fit_classifier")), ("text/whole", (text_protocol, "fit_text"))]
)
def test_a_run_trains_nothing_again_that_was_trained_ahead(load, monkeypatch, name, fit):
    evidence = load("evidence")
    config = evidence.config_of(name, 17, smoke=True)
    evidence.train(name, config, list(evidence.models_of(name)))
    module, function = fit
    original = getattr(module, function)

    def only_heads(*given, **options):
        assert "parameters" in options, "a model was trained again"  # the new heads of images follow in the run
        return original(*given, **options)

    monkeypatch.setattr(module, function, only_heads)
    assert evidence.SERIES[name].experiment.run(config).config["seed"] == 17


def test_models_of_a_series_that_has_none_are_refused(load, monkeypatch, capsys):
    for series, models in (("similarity/trained", "resnet50"), ("text/whole", "resnet50"), ("vision/slim", "imdb")):
        monkeypatch.setattr(sys, "argv", ["evidence.py", series, "--models", models])
        with pytest.raises(SystemExit):
            load("evidence").main()
        assert f"{series} does not have {models}; expected" in capsys.readouterr().err


def test_models_are_trained_before_their_run_and_each_target_once(load):
    gpu = load("gpu")
    runs = [
        "vision/trained:0",
        "vision/trained-shift:0",
        "vision/slim:0",
        "vision/slim-shift:0",
        "similarity/trained:0",
    ]
    names = [job.name for job in gpu.jobs(runs, [])]
    assert sorted(name for name in names if name.endswith(", target")) == [
        "vision/trained-shift:0, target", "vision/trained:0, target",
    ]  # fmt: skip
    for run in runs:
        own = [place for place, name in enumerate(names) if name.startswith(f"{run},")]
        assert all(place < names.index(run) for place in own)
    trained = {name for name in names if name.startswith("vision/trained:0,")}
    assert {word for name in trained for word in name.split(", ")[1:]} == {"target", *gpu.ARCHITECTURES}
    assert not any(", resnet50" in name for name in names if "-shift" in name)  # both targets have the same sources


def test_a_visit_stops_in_time_tells_failures_and_keeps_what_is_done(load, tmp_path, monkeypatch, capsys):
    gpu = load("gpu")
    monkeypatch.setattr(gpu, "OUT", tmp_path)

    def job(name, code):
        return gpu.Job(name, [sys.executable, "-c", code])

    visit = gpu.Visit(minutes=3 / 60)
    start = time.monotonic()
    queue = [
        job("writes", f"open({str(tmp_path / 'made')!r}, 'w').close()"), job("breaks", "raise SystemExit('no luck')"),
        job("hangs", "import time; time.sleep(60)"), job("waits", "import time; time.sleep(60)"), job("late", "0"),
    ]  # fmt: skip
    visit.together(queue, workers=2)
    assert time.monotonic() - start < 20
    told = capsys.readouterr().out
    assert (tmp_path / "made").exists()
    assert "writes: done" in told
    assert "breaks: failed with code 1" in told
    assert "no luck" in told
    assert told.count("stopped, for the time is over") == 2
    assert "late: not begun" in told


def test_the_share_of_the_first_attack_is_that_of_the_theory(load):
    """ρ is given by hand: Jacobians with the singular values 2 and 1, and 3 and 1."""
    first = load("first_attacks")
    jac = torch.stack([torch.diag(torch.tensor([2.0, 1.0])), torch.diag(torch.tensor([3.0, 1.0]))])
    found = first.share(jac.repeat(20, 1, 1))
    assert found["rho"] == pytest.approx((4 + 9) / (5 + 10))
    assert found["rho_low"] < found["rho"] < found["rho_high"]
    place = RESULTS / "first_attacks.json"
    for row in json.loads(place.read_text("utf-8")) if place.exists() else ():
        assert row["series"] in first.NAMES
        assert 0 < row["rho_low"] <= row["rho"] <= row["rho_high"] <= 1
        assert row["ratio_first"] <= min(row["rho"], 1)
        assert distance_interval(row["ratio_first"], row["rho"]).low <= (1 - row["ratio"]) ** 0.5


def test_training_curves_are_of_the_recipes_that_they_name(load):
    place = RESULTS / "schedules.json"
    if not place.exists():
        pytest.skip("not measured yet")
    schedules = load("schedules")
    for row in json.loads(place.read_text("utf-8")):
        if row["part"] == "recipes":
            assert schedules.RECIPES[row["recipe"]].items() <= row.items()
        assert len(row["accuracy"]) == row["epochs"]
