"""Candidates and targets that are legal and strange: what they do to a ranking, to its cache, and to the others."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from advtransfer import attacks, ranking
from advtransfer.commands.main import main
from advtransfer.experiments import choosing
from advtransfer.ranking import Encoder, image_target, measure, scoring, trial, truth
from advtransfer.ranking.candidates import Candidate
from advtransfer.records import compare

FAST = {"samples": 6, "gradients": 3, "steps": 1, "target_epochs": 1, "labels": 24}


class Net(nn.Module):
    """A small network; `act` and `front` are not among its weights."""

    def __init__(self, act=torch.relu, front=None, classes=3, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.body, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, classes)
        self.act, self.front = act, front

    def forward(self, x):
        x = x if self.front is None else self.front(x)
        return self.head(self.act(self.body(x)).mean((2, 3)))


def target(n=36):
    y = torch.arange(n) % 3
    x = 0.2 + 0.2 * y[:, None, None, None] + 0.1 * torch.rand(n, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    return ranking.from_tensors(x, y)


def test_the_cache_tells_candidates_apart_that_differ_in_their_code_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(tmp_path))
    pool, data = {"a": Encoder(Net()), "b": Encoder(Net(act=torch.square))}, target()
    assert pool["a"].digest() == pool["b"].digest()  # their weights are the same
    plain = ranking.score(pool, data, only=["1-NN", "alpha1"], **FAST)
    kept = ranking.score(pool, data, only=["1-NN", "alpha1"], keep=choosing.keeper(pool, data, None, FAST), **FAST)
    assert kept.wide().equals(plain.wide())
    assert len(list((tmp_path / "candidates").rglob("*.npz"))) == 2 * len(("features", "attack", "truth"))
    assert Encoder(Net(), features=partial(lambda module, x, k: x.mean((2, 3)), k=1)).digest()


def test_a_damaged_measurement_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(tmp_path))
    keep = choosing.keeper({"a": Encoder(Net())}, target(), None, FAST)
    keep("a", "attack", lambda: {"x": np.arange(300)})
    (file,) = (tmp_path / "candidates").rglob("*.npz")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.warns(UserWarning, match="is damaged"):
        assert keep("a", "attack", lambda: {"x": np.ones(2)})["x"].tolist() == [1, 1]


def test_a_builder_in_a_package_is_among_the_files_of_a_run(tmp_path, monkeypatch):
    (tmp_path / "ourpackage").mkdir()
    (tmp_path / "ourpackage" / "__init__.py").touch()
    (tmp_path / "ourpackage" / "nets.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    found = Candidate(build="ourpackage.nets:Net").files(tmp_path)
    assert found == [tmp_path / "ourpackage" / "nets.py"]
    assert Candidate(build="gone.nets:Net").files(tmp_path) == []


def test_a_candidate_without_a_gradient_has_no_alpha_and_spoils_no_other():
    pool = {name: Encoder(Net(seed=k)) for k, name in enumerate("bc")}
    pool["a"] = Encoder(Net(front=lambda x: (20 * x).round() / 20))
    with pytest.warns(attacks.NoGradientWarning):
        found = ranking.score(pool, target(), only=["1-NN", "alpha1", "distance"], **FAST)
    table = found.scores.set_index(["candidate", "score"])
    assert np.isfinite(table.loc[("a", "1-NN"), "value"])
    assert table.loc[("a", "alpha1"), "note"] == "the attack on one of the two models does not move its own outputs"
    assert "zero gradient" in table.loc[("a", "distance"), "note"]
    places = ranking.ranks(found).query("score == 'alpha1'")
    assert set(places["candidate"]) == {"b", "c"}
    assert places[["rank", "rank_low", "rank_high", "best"]].notna().all(axis=None)


def test_a_candidate_whose_gradient_is_infinite_is_left_out_and_named():
    black = ranking.from_tensors(torch.cat([torch.zeros(12, 3, 10, 10), torch.ones(12, 3, 10, 10)]),
                                 torch.arange(24) // 12)  # fmt: skip
    pool = {"gamma": Encoder(Net(front=lambda x: x**0.45)), "plain": Encoder(Net())}
    found = ranking.score(pool, black, only=["alpha1"], **FAST)
    assert found.left_out.to_dict("records") == [
        {"name": "gamma", "reason": "the model cannot be attacked: its gradient is not finite at the first two images"}
    ]


def test_a_candidate_that_fails_while_it_is_measured_is_left_out_and_named():
    class Late(Net):
        calls = 0

        def forward(self, x):
            type(self).calls += 1
            if self.calls > 2:  # the two passes in which it is tried
                raise RuntimeError("out of luck")
            return super().forward(x)

    found = ranking.score({"late": Encoder(Late()), "b": Encoder(Net())}, target(), only=["1-NN"], **FAST)
    assert found.left_out["name"].tolist() == ["late"]
    assert "out of luck" in found.left_out["reason"][0]
    assert found.candidates["candidate"].tolist() == ["b"]


def test_a_candidate_that_is_random_or_reads_the_other_images_is_left_out_and_named():
    class Dropped(Net):
        def forward(self, x):
            return nn.functional.dropout(super().forward(x), 0.5)  # `training` is true unless it is given

    class Normalised(Net):
        def forward(self, x):
            return super().forward(nn.functional.batch_norm(x, None, None, training=True))

    pool = {"random": Encoder(Dropped(classes=20)), "normalised": Encoder(Normalised()), "b": Encoder(Net())}
    found = ranking.score(pool, target(), only=["1-NN"], **FAST)
    assert found.candidates["candidate"].tolist() == ["b"]
    reasons = found.left_out.set_index("name")["reason"]
    assert set(reasons.index) == {"random", "normalised"}
    assert reasons.str.contains("for one sample differ by").all()
    with pytest.raises(ranking.EncoderError, match="the target model: its outputs for one sample differ"):
        ranking.score({"b": Encoder(Net())}, target(), target=pool["random"], only=["alpha1"], **FAST)


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-4), (torch.bfloat16, 0.2), (torch.float16, 0.02)])
def test_a_model_of_another_precision_is_ranked_as_it_is(dtype, rel):
    values = []
    for net in (Net(), Net().to(dtype)):
        found = ranking.score({"a": Encoder(net)}, target(), only=["LogME", "alpha1"], **FAST)
        assert found.left_out.empty
        values.append(found.scores["value"].to_numpy())
    assert net.head.weight.dtype == dtype
    np.testing.assert_allclose(values[1], values[0], rtol=rel)


def test_what_a_builder_prints_is_not_in_the_results(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "nets.py").write_text(
        "import torch\nprint('imported')\nclass Net(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.head = torch.nn.Linear(3, 2)\n"
        "        print('built')\n"
        "    def forward(self, x):\n        print('used')\n        return self.head(x.mean((2, 3)))\n"
    )
    (tmp_path / "pool.toml").write_text("[a]\nbuild = 'nets.py:Net'")
    (tmp_path / "settings.toml").write_text("data = 'elsewhere'\nonly = ['1-NN']\nlabels = 40")
    words = ["rank", str(tmp_path / "pool.toml"), "--data", "made-up", "-f", str(tmp_path / "settings.toml")]
    assert main([*words, "--json"]) == 0
    told = capsys.readouterr()
    assert [row["candidate"] for row in json.loads(told.out)["candidates"]] == ["a"]
    assert {"imported", "built", "used"} <= set(told.err.split())


@pytest.mark.parametrize("name", ["ranking.csv", "scores.csv", "ranks.csv"])
def test_a_file_that_is_no_ranking_is_never_replaced(tmp_path, capsys, name):
    (tmp_path / "pool.toml").write_text("[a]\nbuild = 'torchvision.models:resnet18'")
    (tmp_path / name).write_text("name,score\nmine,1\n")
    words = ["rank", str(tmp_path / "pool.toml"), "--data", "made-up", "--out", str(tmp_path)]
    assert main(words) == 2
    assert f"{tmp_path} holds {name} and no ranking (choose_a_source.ipynb)" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "name,score\nmine,1\n"


def test_samples_of_both_parts_are_counted_before_any_long_work(monkeypatch, capsys):
    monkeypatch.setattr(scoring, "_task", lambda *args: pytest.fail("long work began"))
    apart = target()
    leaky = replace(apart, x_test=torch.cat([apart.x_test[:-2], apart.x_train[:2]]))
    for data, told in (
        (apart, ""),
        (leaky, f"2 of {len(leaky.x_test)} test images are also among the training images"),
    ):
        with pytest.raises(pytest.fail.Exception, match="long work"):
            ranking.score({"a": Encoder(Net())}, data, only=["alpha1"], progress=True, **FAST)
        assert [line for line in capsys.readouterr().err.splitlines() if "also" in line] == [told][: bool(told)]
    texts = ["good", "bad", "good", "bad", *(f"film {k}" for k in range(8))]
    assert trial.seen_before(ranking.from_texts(texts, [0, 1] * 6))[0].endswith("are also among the training texts")


def test_one_output_has_no_probabilities_of_classes():
    found = ranking.score({"a": Encoder(Net(classes=1)), "b": Encoder(Net())}, target(), only=["LEEP", "NCE"], **FAST)
    rows = found.scores[found.scores["candidate"] == "a"]
    assert rows["value"].isna().all()
    assert rows["note"].str.contains("needs the probabilities of two classes or more").all()


def test_a_ranking_does_not_depend_on_the_callers_mode_of_autograd():
    pool, data = {"a": Encoder(Net())}, target()
    inside = ranking.score(pool, data, only=["alpha1"], **FAST)
    with torch.no_grad():
        assert ranking.score(pool, data, only=["alpha1"], **FAST).wide().equals(inside.wide())


def test_a_prepared_copy_shares_no_buffer_and_the_target_keeps_its_features():
    encoder = Encoder(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(256, 3)), features="0"
    )
    encoder.module[1].running_var.fill_(4.0)
    encoder.prepared().to(torch.float64)
    assert encoder.mean.dtype == torch.float32
    task = image_target.ImageTarget(target(), measure.Settings(**FAST), encoder)
    plain = encoder.extract(task.data.inputs("train", task.few))[1].double()
    torch.testing.assert_close(task.features, plain)


@pytest.mark.parametrize("counts", [(2, 2), (20, 1), (1, 1, 1)])
def test_the_probe_needs_no_image_to_hold_out(counts):
    y = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    x = 5.0 * torch.nn.functional.one_hot(y).float() + 0.01 * torch.rand(len(y), len(counts))
    found = truth.probe(x, y, x)
    assert (found == y).double().mean() >= 0.9


def test_texts_in_a_series_keep_their_labels():
    table = pd.DataFrame(
        {"text": [f"good {k}" for k in range(6)] + [f"bad {k}" for k in range(6)], "label": [1] * 6 + [0] * 6}
    )
    for rows in (table.sample(frac=1, random_state=0), table[2:]):
        made = ranking.from_texts(rows["text"], rows["label"])
        pairs = [
            *zip(made.x_train, made.y_train.tolist(), strict=True),
            *zip(made.x_test, made.y_test.tolist(), strict=True),
        ]
        assert len(pairs) == len(rows)
        assert all(text.startswith(("bad", "good")[label]) for text, label in pairs)


def test_pictures_of_16_bits_are_scaled_and_others_are_named(tmp_path):
    ramp = np.linspace(0, 65535, 256).reshape(16, 16)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for k in range(2):
            Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / name / f"{k}.png")
    Image.fromarray((ramp / 65535).astype(np.float32)).save(tmp_path / "a" / "float.tif")
    data = ranking.load(tmp_path, size=16)
    assert (data.x_train[0, 0].float() - torch.from_numpy(ramp / 257)).abs().max() <= 1
    assert data.left_out == ("a/float.tif: pixels of mode F, whose range is not known; expected 8 or 16 bits",)


def test_a_class_that_only_the_test_part_has_is_refused_and_files_are_named_by_their_part(tmp_path):
    for part, names in (("train", "ab"), ("test", "ab")):
        for name in names:
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / part / name / "0.png")
        (tmp_path / part / "a" / "9.png").write_bytes(b"no picture")
    assert ranking.load(tmp_path, size=8).left_out == ("train/a/9.png: damaged", "test/a/9.png: damaged")
    (tmp_path / "test" / "c").mkdir()
    with pytest.raises(ranking.DataError, match=r"test has the classes \['c'\], which train does not have"):
        ranking.load(tmp_path, size=8)


def test_an_archive_may_name_its_labels(tmp_path):
    x = np.zeros((8, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.array(["cat", "dog"] * 4))
    assert ranking.load(tmp_path / "a.npz").classes == ("cat", "dog")
    np.savez(tmp_path / "b.npz", x=x, y=np.arange(8) / 2)
    with pytest.raises(ranking.DataError, match=r"y in .* holds float64; expected whole numbers or names"):
        ranking.load(tmp_path / "b.npz")


def test_weights_that_torchvision_does_not_have_are_named(tmp_path):
    pytest.importorskip("torchvision")
    (tmp_path / "pool.toml").write_text("[a]\ntorchvision = 'resnet18'\nweights = 'IMAGENET1K_V9'")
    with pytest.raises(ranking.PoolError, match="IMAGENET1K_V9 is no file, and unknown weights of resnet18"):
        ranking.read(tmp_path / "pool.toml")


def test_a_file_of_builders_may_hold_dataclasses(tmp_path):
    (tmp_path / "nets.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom torch import nn\n\n"
        "@dataclass\nclass Sizes:\n    width: int = 4\n\n"
        "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(48, Sizes().width))\n"
    )
    (tmp_path / "pool.toml").write_text("[a]\nbuild = 'nets.py:make'")
    assert ranking.read(tmp_path / "pool.toml")["a"](torch.rand(2, 3, 4, 4)).shape == (2, 4)


def test_a_ranking_can_be_verified_although_its_seconds_differ(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(tmp_path))
    config = choosing.Config.from_profile("smoke", only=["1-NN", "alpha1"])
    made = choosing.run(config)
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(tmp_path / "empty"))
    assert compare.verify(made).holds
    made.save(tmp_path / "made")
    assert main(["verify", str(tmp_path / "made")]) == 0
    changed = made.tables["scores"].assign(value=made.tables["scores"]["value"] + 1e-9)
    assert not compare.verify(replace(made, tables={**made.tables, "scores": changed})).holds
