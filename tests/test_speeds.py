"""The benchmarks: they fail on wrong answers, and what they write is what the page shows."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import bench

    yield bench
    for name in ("bench", "apart", "clock", "machine", "attack_speed", "pool_speed", "figure2"):
        sys.modules.pop(name, None)


@pytest.fixture
def speeds(monkeypatch):
    pytest.importorskip("sphinx", reason="no Sphinx here")
    monkeypatch.syspath_prepend(str(ROOT / "book" / "_ext"))
    import measured_speeds

    yield measured_speeds
    sys.modules.pop("measured_speeds", None)


def test_a_record_is_what_the_page_shows(bench, speeds, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", "one-pair", "growth", "--repeats", "3", "--out", str(tmp_path)])
    monkeypatch.setattr("bench.limits", lambda device: {"operations": {}, "copy": 1.0})
    monkeypatch.setattr("pool_speed.AXES", {"N": ([500, 1000], bench.pool_speed.by_samples)})
    bench.main()
    assert "sample by sample" in capsys.readouterr().out
    record = speeds.read(speeds.place("cpu", "one-pair", tmp_path))
    assert [row["ratio"] for row in record["rows"] if row["name"] == record["baseline"]] == [1.0]
    text = speeds.parts(record)
    assert record["machine"]["device"] in text
    assert "3 interleaved repeats" in text
    wide, narrow = speeds.drawn(speeds.read(speeds.place("cpu", "growth", tmp_path))["growth"])
    assert all("</svg>" in drawing for drawing in (wide, narrow))
    assert wide != narrow
    assert speeds.read(speeds.place("cuda", "one-pair", tmp_path)) is None
    assert not list(tmp_path.glob(".*"))


def test_an_attack_that_takes_other_steps_or_follows_other_gradients_ends_the_run(bench):
    speed = bench.attack_speed
    setting = speed.Setting("lenet", 8, torch.device("cpu"))
    name = "ours, PGD ℓ∞"
    about, delta = speed.OURS[name], setting.ours(setting.prepared, 4)
    errors = speed.check(setting, 4, {name: (delta, *about)})
    assert 0 < errors[name] < 1e-3
    with pytest.raises(SystemExit, match="rise of the loss"):
        speed.check(setting, 4, {name: (0.9 * delta, *about)})
    with torch.no_grad():
        setting.prepared.head.weight[0] *= 1.01
    with pytest.raises(SystemExit, match="the gradient is off by"):
        speed.check(setting, 4, {})


def test_what_a_machine_emulates_is_left_out_and_the_page_says_so(bench, speeds, tmp_path, monkeypatch):
    rates = {"matrix product, float32": 2e11, "convolution, float32": 4e11, "convolution, bfloat16": 1e11}
    monkeypatch.setattr("bench.limits", lambda device: {"operations": rates, "copy": 1.0})
    monkeypatch.setattr("attack_speed.WORKLOADS", {"lenet-4": ("lenet", 4, 1, 3, False)})
    described, kept = bench.attack_speed.described, ["torchattacks", "ours, PGD ℓ∞", "ours, PGD ℓ∞, bfloat16"]
    monkeypatch.setattr("attack_speed.described", lambda *about: {name: described(*about)[name] for name in kept})
    monkeypatch.setattr("attack_speed.FLOORS", ())
    monkeypatch.setattr(sys, "argv", ["bench", "lenet-4", "--out", str(tmp_path)])
    bench.main()
    record = speeds.read(speeds.place("cpu", "lenet-4", tmp_path))
    assert [row["name"] for row in record["rows"]] == kept[:2]
    assert [share["of"] for share in record["shares"]] == ["convolution, float32"]
    text = speeds.parts(record)
    assert "bfloat16: not measured, for the machine computes in bfloat16 at 0.25 of its rate in float32." in text


def a_process():
    """Calls for `apart`, which each process makes anew."""
    return {
        "its number and memory": lambda: torch.tensor([os.getpid(), int(os.environ.get("MALLOC_MMAP_MAX_", -1))]),
        "fails": lambda: torch.zeros(2) @ torch.zeros(3),
    }


def test_every_contender_has_a_process_of_its_own(bench):
    from apart import KEEP_MEMORY, apart

    name = "its number and memory"
    with apart(a_process, [name, "fails"], {name: KEEP_MEMORY}) as calls, apart(a_process, [name], {}) as others:
        assert calls[name]() is None
        (number, kept), (other, not_kept) = calls[name](result=True).tolist(), others[name](result=True).tolist()
        assert len({number, other, os.getpid()}) == 3
        assert (kept, not_kept) == (0, int(os.environ.get("MALLOC_MMAP_MAX_", -1)))
        with pytest.raises(SystemExit, match="fails failed"):
            calls["fails"]()


def test_every_name_is_one_that_a_process_can_call(bench):
    speed = bench.attack_speed
    speed.peers = lambda setting, steps: dict.fromkeys(speed.PEERS, None)
    speed._torchattacks = lambda setting, model, steps: None
    found = speed.calls("lenet", 4, torch.device("cpu"), 1)
    assert set(found) == {*speed.described(speed.Setting("lenet", 4, torch.device("cpu")), True), *speed.FLOORS}


def test_ratios_are_taken_round_by_round(bench):
    from clock import compared

    times = {"base": [1.0, 2.0, 4.0], "half": [0.5, 1.0, 2.0]}  # a machine that slows down
    assert compared(times, "base")[1] == {"name": "half", "seconds": 1.0, "ratio": 0.5, "least": 0.5, "most": 0.5}


def test_published_records_are_whole():
    for path in (ROOT / "data" / "results" / "bench").rglob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert path.stem == f"{record['kind']}-{record['workload']}"
        assert record["repeats"] >= 3
        assert all(row["least"] <= row["ratio"] <= row["most"] for row in record.get("rows", []))


def test_each_published_record_is_on_the_page():
    page = (ROOT / "book" / "speed.md").read_text(encoding="utf-8")
    found = re.findall(r"```\{speed(-growth)?\} (\w+) ?(\S*)\n(?::machine: (\w+)\n)?", page)
    shown = {Path(machine, f"{kind}-{'growth' if grows else name}.json") for grows, kind, name, machine in found}
    results = ROOT / "data" / "results" / "bench"
    published = {path.relative_to(results) for path in results.rglob("*.json")}
    assert published
    assert published <= shown
