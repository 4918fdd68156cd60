"""Rank a pool: encoders of every form, images as people have them, pool files, and what must not change a ranking."""

import io
import json
import math
import re
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import settings
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy import stats
from torch import nn

from advtransfer import attacks, ranking, spectral
from advtransfer.commands.main import main
from advtransfer.experiments import choosing
from advtransfer.models import images
from advtransfer.pages import choosing as page
from advtransfer.ranking import Encoder, comparing, image_target, measure, pools, scoring
from advtransfer.records.storage import sha256
from cases import refuses, seeded

FAST = {"samples": 6, "gradients": 3, "steps": 1, "target_epochs": 1, "labels": 36}


def net(width=4, classes=3, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, classes)
    )


def pictures(n=36, classes=3, seed=0):
    """Images whose brightness tells the class, with noise."""
    y = torch.arange(n) % classes
    x = 0.2 + 0.2 * y[:, None, None, None] + 0.1 * torch.rand(n, 3, 12, 12, generator=seeded(seed))
    return x, y


def target():
    return ranking.from_tensors(*pictures(90), classes=["dark", "grey", "light"])


# Encoders.


def test_features_are_where_they_were_asked_for():
    module, x = net(), pictures(4)[0]
    inner = module[:4](x)
    for place, expected in (
        (None, inner),
        ("3", inner),
        ("1", module[:2](x).mean((2, 3))),  # maps are averaged over their pixels
        ("", module(x)),
        (lambda whole, pixels: whole[0](pixels).flatten(1), module[0](x).flatten(1)),
    ):
        outputs, features = Encoder(module, features=place).both(x)
        torch.testing.assert_close(features, expected)
        torch.testing.assert_close(outputs, module(x))


class InPlace(nn.Module):
    """Layers of `net` whose results are overwritten by what comes after them, and logits inside an object."""

    def __init__(self):
        super().__init__()
        self.layers = net().eval()

    def forward(self, x):
        convolution, _, *others, head = self.layers
        h = nn.Sequential(*others)(convolution(x.mul_(1)).relu_())
        found = SimpleNamespace(logits=head(h))
        h.zero_()
        return found


@pytest.mark.parametrize(("place", "same"), [(None, None), ("layers.0", "0"), ("layers.3", "3")])
def test_features_are_not_those_that_later_layers_write_over_them(place, same):
    """A ReLU in place behind the layer that was asked for: its values were taken for those of the layer."""
    x = pictures(4)[0]
    for found, expected in zip(Encoder(InPlace(), features=place).both(x), Encoder(net(), features=same).both(x),
                               strict=True):  # fmt: skip
        torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore::advtransfer.prepare.NotFoldedWarning")
def test_a_candidate_that_works_in_place_and_returns_an_object_is_scored_as_any_other():
    pool = {"odd": Encoder(InPlace()), "plain": Encoder(net())}
    rows = ranking.score(pool, target(), truth="none", **FAST).scores.set_index(["candidate", "score"])["value"]
    np.testing.assert_allclose(rows["odd"], rows["plain"], rtol=1e-5, atol=1e-6)


def test_a_radius_of_any_kind_is_that_number():
    for eps in (Fraction(8, 255), Decimal(8 / 255), np.array(8 / 255), torch.tensor(8 / 255, dtype=torch.float64)):
        assert measure.Settings(eps=eps) == measure.Settings(eps=8 / 255)
    score = partial(ranking.score, {"a": Encoder(net())}, ranking.from_tensors(*pictures(36)))
    refuses("eps is '8/255'; expected a number", lambda: score(eps="8/255"), TypeError)
    refuses("labels is '60'; expected a whole number", lambda: score(labels="60"), TypeError)
    refuses("target_epochs is 0; expected at least 1", lambda: score(target_epochs=0))
    refuses("full_epochs is -1; expected at least 1", lambda: score(full_epochs=-1, truth="full"))


def test_an_encoder_normalises_and_resizes_and_passes_the_gradient():
    seen = []

    class Probe(nn.Module):
        def forward(self, x):
            seen.append(x)
            return x.flatten(1)

    x = torch.full((2, 3, 8, 8), 0.75, requires_grad=True)
    Encoder(Probe(), size=4, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0), features="")(x).sum().backward()
    assert seen[0].shape == (2, 3, 4, 4)
    torch.testing.assert_close(seen[0][0, :, 0, 0], torch.tensor([0.5, 2.0, 0.75]))
    assert (x.grad > 0).all()


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("unknown layer '7'; expected one of 0, 1, 2, 3, 4", lambda: Encoder(net(), features="7")),
        ("the model has no linear layer", lambda: Encoder(nn.Conv2d(3, 3, 3))),
        ("size is 0; expected a number of pixels", lambda: Encoder(net(), size=0)),
        (
            "std (0.0, 1.0, 1.0); expected numbers from 0 to 1, and std above 0",
            lambda: Encoder(net(), std=(0.0, 1.0, 1.0)),
        ),
        ("mean is (123.0,) and std (58.0,); expected", lambda: Encoder(net(), mean=(123.0,), std=(58.0,))),
        ("it is TorchScript; expected a plain", lambda: Encoder(torch.jit.script(net()), features="")),
        ("its part 0 is TorchScript", lambda: Encoder(nn.Sequential(torch.jit.script(net())), features="")),
        ("mean is (1.0, 2.0); expected three numbers", lambda: Encoder(net(), mean=(1.0, 2.0))),
        (
            "model outputs have shape (4, 2, 10, 10); expected (N, d)",
            lambda: Encoder(nn.Conv2d(3, 2, 3), features="").both(pictures(4)[0]),
        ),
        ("the layer 'idle' was not used", lambda: Encoder(Idle(), features="idle").both(pictures(4)[0])),
    ],
)
def test_what_cannot_be_an_encoder_is_said(message, call):
    refuses(message, call)


class Idle(nn.Module):
    def __init__(self):
        super().__init__()
        self.idle, self.used = nn.Sequential(nn.Linear(2, 2)), net()

    def forward(self, x):
        return self.used(x)


class Rounded(nn.Module):
    """Outputs (N, 3) without a gradient."""

    def forward(self, x):
        return x.mean((2, 3)).detach().round()


# Images.


def written(path, value=128, size=(20, 14), kind="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path, kind)


def test_a_folder_of_class_folders_is_read_and_what_is_broken_is_named(tmp_path):
    for k in range(4):
        written(tmp_path / "pets" / "chat noir" / f"bild {k} ä.png", 40)
        written(tmp_path / "pets" / "Hündchen" / "deep" / f"{k}.jpg", 200, kind="JPEG")
    (tmp_path / "pets" / "chat noir" / "cut.png").write_bytes(
        (tmp_path / "pets" / "chat noir" / "bild 0 ä.png").read_bytes()[:40]
    )
    (tmp_path / "pets" / "chat noir" / "notes.txt").write_text("no picture")
    (tmp_path / "pets" / "empty").mkdir()
    written(tmp_path / "pets" / ".hidden" / "x.png")
    written(tmp_path / "pets" / "chat noir" / "._x.png")
    written(tmp_path / "pets" / "loose.png")
    (tmp_path / "pets" / "labels.csv").touch()
    data = ranking.load(tmp_path / "pets", size=8)
    assert data.classes == ("Hündchen", "chat noir")
    assert data.x_train.shape == (4, 3, 8, 8)
    assert [len(data.y_test), data.y_test.sum()] == [4, 2]
    assert abs(int(data.x_train[data.y_train == 0].float().mean()) - 200) < 3
    reasons = dict(line.split(": ", 1) for line in data.left_out)
    assert reasons.pop("chat noir/notes.txt") == "not a picture"
    assert reasons.pop("empty") == "a class without a picture"
    assert reasons.pop("loose.png") == "a picture outside the folders of the classes"
    assert list(reasons) == ["chat noir/cut.png"]


def test_pixels_outside_the_box_by_rounding_are_taken():
    x, y = pictures()
    x[0, 0, 0, 0], x[0, 0, 0, 1] = -2.98e-8, 1 + 1.19e-7
    data = ranking.from_tensors(x, y, x, y)
    assert data.x_train[0, 0, 0, :2].tolist() == [0, 255]


def test_train_and_validation_folders_stay_apart(tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        for name in ("a", "b"):
            for k in range(count):
                written(tmp_path / split / name / f"{k}.png")
    written(tmp_path / "val" / "loose.png")
    data = ranking.load(tmp_path, size=8)
    assert data.left_out == ("val/loose.png: a picture outside the folders of the classes",)
    assert (len(data.y_train), len(data.y_test), data.classes) == (6, 4, ("a", "b"))


def test_archives_with_and_without_a_test_part(tmp_path):
    x, y = (np.random.default_rng(0).integers(0, 255, (8, 6, 6, 3), dtype=np.uint8), np.arange(8) % 2 + 5)
    np.savez(tmp_path / "one.npz", x=x, y=y)
    one = ranking.load(tmp_path / "one.npz")
    assert (len(one.y_train), len(one.y_test), one.classes) == (4, 4, ("5", "6"))
    np.savez(tmp_path / "two.npz", x_train=x, y_train=y - 5, x_test=x[:3], y_test=y[:3] - 5, classes=["cat", "dog"])
    two = ranking.load(tmp_path / "two.npz")
    assert (len(two.y_test), two.classes) == (3, ("cat", "dog"))
    torch.testing.assert_close(two.x_train[0], torch.from_numpy(x[0]).permute(2, 0, 1))


X, Y = pictures(6)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("all 6 labels are [1]; expected at least two classes", lambda: ranking.from_tensors(X, Y * 0 + 1)),
        ("images span [0, 2]; expected floats in [0, 1]", lambda: ranking.from_tensors(X.round() * 2, Y)),
        ("images are (6, 12, 12, 3); expected a tensor (N, 3,", lambda: ranking.from_tensors(X.movedim(1, 3), Y)),
        ("labels are torch.float32 of shape (6,)", lambda: ranking.from_tensors(X, Y.float())),
        ("the class 2 has 1 image; expected at least two", lambda: ranking.from_tensors(X[:5], Y[:5])),
        ("the test images have the labels [5, 6, 7]", lambda: ranking.from_tensors(X, Y, X, Y + 5)),
        ("2 labels are negative; expected 0 or more", lambda: ranking.from_tensors(X, Y - 1)),
        ("6 of 6 images hold NaN or infinite values", lambda: ranking.from_tensors(X * float("nan"), Y)),
        (
            "no/where does not exist; expected a folder, an .npz archive, a table of texts",
            lambda: ranking.load("no/where"),
        ),
    ],
)
def test_images_that_cannot_be_used_are_refused(message, call):
    refuses(message, call)


# Rankings.


@pytest.fixture(scope="module")
def found():
    pool = {"small": net(2), "twin": net(6, seed=1), "other": net(6, seed=1), "wide": net(8, 40, seed=2)}
    encoders = {name: Encoder(module) for name, module in pool.items()}
    calls, pgd = [], attacks.pgd

    def counted(model, x, **options):
        calls.append(model)
        return pgd(model, x, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attacks, "pgd", counted)
        result = ranking.score(encoders, target(), **FAST)
    return encoders, result, calls


def test_a_pool_of_k_takes_k_plus_one_attacks(found):
    encoders, _, calls = found
    assert len(calls) == len(set(map(id, calls))) == len(encoders) + 1


def test_every_score_has_a_value_and_says_on_what_it_rests(found):
    _, result, _ = found
    table = result.scores
    assert set(table["score"]) == set(ranking.NAMES)
    assert np.isfinite(table["value"]).all(), table[~np.isfinite(table["value"])]
    read = table[table["score"].isin(ranking.SCORES) & (table["score"] != "CKA")]
    assert (read["labels"] == 36).all()
    assert (table[table["score"].str.contains("alpha")]["labels"] == 0).all()
    assert (result.candidates["accuracy_low"] <= result.candidates["accuracy"]).all()


def test_two_identical_candidates_are_never_told_apart(found):
    _, result, _ = found
    places = ranking.ranks(result).set_index(["candidate", "score"])
    for column in ("rank", "group", "best"):
        table = places[column].unstack()  # noqa: PD010
        assert (table.loc["twin"] == table.loc["other"]).all(), column


def test_the_order_of_the_pool_changes_nothing(found):
    encoders, result, _ = found
    again = ranking.score(dict(reversed(encoders.items())), target(), **FAST)
    keys = ["candidate", "score"]
    first, second = (r.scores.sort_values(keys).reset_index(drop=True).drop(columns="seconds") for r in (result, again))
    np.testing.assert_allclose(first["value"], second["value"], rtol=1e-9)
    a, b = (ranking.ranks(r).sort_values(keys).reset_index(drop=True) for r in (result, again))
    assert a["group"].equals(b["group"])


def test_a_candidate_that_fails_is_named_and_the_others_are_ranked():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x):
            return x.mean((2, 3)) / 0

    pool = {
        "good": Encoder(net()),
        "maps": Encoder(nn.Conv2d(3, 2, 3), features=""),
        "nan": Encoder(Broken(), features=""),
    }
    result = ranking.score(pool, target(), only=["1-NN"], **FAST)
    assert list(result.candidates["candidate"]) == ["good"]
    reasons = dict(result.left_out.to_numpy())
    assert "expected (N, d)" in reasons["maps"]
    assert "not finite at 2 of 2 images" in reasons["nan"]


def test_scores_that_need_no_target_model_train_none_and_attack_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(tmp_path / "cache"))
    pool, field = {"a": Encoder(net()), "b": Encoder(net(seed=1))}, ["LogME", "1-NN", "probe"]
    whole = ranking.score(pool, target(), only=[*field, "alpha1"], **FAST)
    for module in (image_target.attacks, image_target.spectral):
        monkeypatch.setattr(module, "pgd" if module is image_target.attacks else "jacobian", None)
    monkeypatch.setattr(image_target, "fit_classifier", None)
    part = ranking.score(pool, target(), only=field, **FAST)
    columns = ["candidate", "score", "value", "low", "high", "floor"]
    same = whole.scores[whole.scores["score"] != "alpha1"][columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(part.scores[columns], same)
    assert part.candidates["accuracy"].equals(whole.candidates["accuracy"])
    assert math.isnan(part.target["accuracy"])
    unattackable = ranking.score({"a": Encoder(Rounded(), features="")}, target(), only=["1-NN"], **FAST)
    assert unattackable.left_out.empty
    (tmp_path / "pool.toml").write_text("[a]\nbuild = 'torchvision.models:resnet18'\nsize = 32")
    assert main(["rank", str(tmp_path / "pool.toml"), "--data", "made-up", "--only", "1-NN", "--labels", "40"]) == 0
    said = capsys.readouterr().out
    assert "target model: not needed" in said
    assert "eps" not in said
    assert "These scores need no attack and no target model." in " ".join(said.split())


def test_models_and_data_that_cannot_be_used_are_refused_before_the_target_model_is_trained(monkeypatch):
    monkeypatch.setattr(image_target, "fit_classifier", lambda *args, **options: pytest.fail("long work began"))
    column = nn.Sequential(net(), nn.Unflatten(1, (3, 1)))
    flat = nn.Sequential(nn.Flatten(), nn.Linear(768, 2))
    for message, pool in (
        ("no candidate can be used: a: the model cannot be used at 12 × 12 pixels: model outputs have shape (2, 3, 1); "
         "expected (N, d)", {"a": Encoder(column, features="")}),
        ("a: the model cannot be used at 12 × 12 pixels: mat1 and mat2 shapes", {"a": Encoder(flat)}),
        (r"a: the model cannot be used at 8 × 8 pixels: mat1 and mat2 shapes cannot be multiplied (2x192 and 768x2); "
         "expected size, the pixels that the model takes, not 8", {"a": Encoder(flat, size=8)}),
        ("a: the model cannot be attacked: ", {"a": Encoder(Rounded(), features="")}),
        ("a: the model cannot be used at 12 × 12 pixels: 'Tensor' object has no attribute 'gone'",
         {"a": Encoder(net(), features=lambda module, x: x.gone)}),
        ("a is a Sequential; expected ranking.Encoder(model, size=...) around it", {"a": net()}),
        ("the pool is a str; expected models by name", "pool.toml"),
    ):  # fmt: skip
        refuses(message, lambda pool=pool: ranking.score(pool, target(), **FAST))
    fine = {"a": Encoder(net())}
    refuses("the data are a str; expected what ranking.load", lambda: ranking.score(fine, "photographs"))
    refuses("the target model: the model cannot be used", lambda: ranking.score(fine, target(), target=Encoder(flat)))


def test_a_target_model_of_other_classes_has_no_accuracy():
    given = {classes: Encoder(net(classes=classes)) for classes in (3, 7)}
    found = [
        ranking.score({"a": Encoder(net(6))}, target(), target=model, only=["alpha1"], **FAST).target["accuracy"]
        for model in given.values()
    ]
    assert 0 <= found[0] <= 1
    assert np.isnan(found[1])


def test_settings_and_scores_that_do_not_exist_are_refused_before_any_work():
    pool = {"a": Encoder(net())}
    refuses("unknown setting 'epsilon'; did you mean 'eps'?", lambda: ranking.score(pool, target(), epsilon=1))
    refuses("unknown score 'LogMe'; did you mean 'LogME'?", lambda: ranking.score(pool, target(), only=["LogMe"]))
    refuses(
        "eps is 8; expected at most 1, the width of the box: did you mean 8/255?",
        lambda: ranking.score(pool, target(), eps=8),
    )
    refuses("the pool is empty", lambda: ranking.score({}, target()))


def test_the_models_of_the_caller_are_left_as_they_were():
    module = net()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.train()
    ranking.score({"a": Encoder(module)}, target(), only=["alpha1"], truth="full", full_epochs=1, **FAST)
    assert module.training
    assert not module._forward_hooks
    assert not module[4]._forward_pre_hooks
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert all(parameter.grad is None for parameter in module.parameters())


def test_projected_outputs_give_no_smaller_distance():
    """Fewer directions can only explain less of the target model's gradient."""
    pool, apart = {"wide": Encoder(net(8, 40, seed=2))}, []
    for outputs in (2, 8, 40):
        result = ranking.score(pool, target(), only=["distance"], outputs=outputs, **FAST)
        apart.append(result.scores["value"].item())
    assert apart[0] >= apart[1] - 1e-9 >= apart[2] - 2e-9


def test_a_ranking_by_one_score_without_draws_is_a_ranking():
    result = ranking.score({"a": Encoder(net()), "b": Encoder(net(6))}, target(), only=["distance"], **FAST)
    assert ranking.ranks(result).empty
    assert len(result.wide()) == 2


# Comparisons.


def test_agreement_is_that_of_scipy_and_the_regret_is_that_of_the_pick():
    score, accuracy = np.array([0.1, 0.9, 0.4, 0.3]), np.array([0.5, 0.7, 0.8, 0.2])
    found = ranking.agreement(score, accuracy)
    assert found["kendall"] == stats.kendalltau(score, accuracy).statistic
    assert found["weighted"] == stats.weightedtau(score, accuracy).statistic
    assert (found["top"], round(found["regret"], 12)) == (False, 0.1)
    tied = ranking.agreement(np.ones(4), accuracy)
    assert np.isnan(tied["kendall"])
    assert tied["regret"] == pytest.approx(0.8 - accuracy.mean())


def test_ranks_are_those_of_the_values_and_their_intervals_those_of_the_draws():
    values = {"LogME": {"a": 3.0, "b": 2.0, "c": 1.0}, "distance": {"a": 3.0, "b": 2.0, "c": 1.0}}
    scores = pd.DataFrame([(c, s, v) for s, row in values.items() for c, v in row.items()],
                          columns=["candidate", "score", "value"])  # fmt: skip
    orders = [(3, 2, 1)] * 30 + [(2, 3, 1)] * 9 + [(1, 2, 3)]  # the values of a, b and c in forty draws
    draws = pd.DataFrame([(d, c, s, float(v)) for s in values for d, order in enumerate(orders)
                          for c, v in zip("abc", order, strict=True)],
                         columns=["draw", "candidate", "score", "value"])  # fmt: skip
    candidates = pd.DataFrame({"candidate": list("abc"), "accuracy": [0.1, 0.2, 0.3]})
    made = ranking.Ranking(candidates, scores, draws, pd.DataFrame(), {})
    found = ranking.ranks(made).set_index(["score", "candidate"])
    assert found.loc["LogME", "rank"].to_dict() == {"a": 1, "b": 2, "c": 3}
    assert found.loc["LogME", "best"].to_dict() == {"a": 30 / 40, "b": 9 / 40, "c": 1 / 40}
    assert found.loc[("LogME", "a"), ["rank_low", "rank_high"]].tolist() == pytest.approx([1, 2.025])
    assert found.loc["distance", "rank"].to_dict() == {"a": 3, "b": 2, "c": 1}  # smaller is better
    assert found.loc["distance", "best"].to_dict() == {"a": 1 / 40, "b": 0, "c": 39 / 40}
    first = replace(made, scores=scores[scores["score"] == "LogME"])
    assert first.wide()["candidate"].tolist() == ["a", "b", "c"]
    last = replace(made, scores=scores[scores["score"] == "distance"])
    assert last.wide()["candidate"].tolist() == ["c", "b", "a"]


def test_fine_tuning_of_all_weights_trains_them_for_the_new_classes():
    x, y = torch.rand(200, 3, 8, 8, generator=seeded(0)) / 2, torch.arange(200) % 2
    x[y == 1, 0] += 0.3  # more red
    data = ranking.from_tensors(x, y)
    torch.manual_seed(0)
    encoder = ranking.Encoder(nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 4)))
    before = [weight.detach().clone() for weight in encoder.parameters()]
    tuned = image_target.fully_tuned(encoder, data, ranking.measure.Settings(full_epochs=100))
    with torch.no_grad():
        right = (tuned(data.x_test / 255).argmax(1) == data.y_test).double().mean()
    assert right > 0.8
    assert all(weight.equal(old) for weight, old in zip(encoder.parameters(), before, strict=True))  # a copy is trained
    assert not next(tuned.encoder.parameters()).equal(before[0])


def test_groups_hold_candidates_that_the_draws_do_not_separate():
    rng = np.random.default_rng(0)
    common = rng.normal(size=(200, 1))  # noise that all candidates share cancels in their differences
    drawn = np.array([3.0, 2.9, 1.0, 1.0]) + 5 * common + 0.1 * rng.normal(size=(200, 4))
    assert comparing._groups(np.array([3.0, 2.9, 1.0, 1.0]), drawn, 0.975).tolist() == [1, 1, 2, 2]


def test_the_jacobians_are_of_samples_of_every_class(monkeypatch):
    x, y = pictures(90)
    order = y.argsort(stable=True)
    data = ranking.from_tensors(x[order], y[order], x[order], y[order])
    seen, real = [], spectral.jacobian
    monkeypatch.setattr(spectral, "jacobian", lambda model, part: seen.append(part) or real(model, part))
    ranking.score({"a": Encoder(net())}, data, only=["distance"], **{**FAST, "samples": 30, "gradients": 6})
    of_target = (torch.cat(seen)[:6].mean((1, 2, 3)) * 5 - 1.25).round()  # from the brightness, which tells the class
    assert set(of_target.tolist()) == {0, 1, 2}


# Pool files.


def pool_file(folder, text):
    file = folder / "pool.toml"
    file.write_text(text, encoding="utf-8")
    return file


NETS = """
from torch import nn

def make(width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 2))

def number():
    return 3

def fails():
    return {}["gone"]
"""


def test_candidates_of_every_origin_are_built(tmp_path):
    from transformers import ViTConfig, ViTForImageClassification

    (tmp_path / "nets.py").write_text(NETS)
    torch.manual_seed(1)
    made = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2))
    torch.save({"state_dict": {f"module.{k}": v for k, v in made.state_dict().items()}}, tmp_path / "mine.pt")
    lenet = images.build("lenet", width=8)
    save_file(lenet.state_dict(), tmp_path / "lenet.safetensors")
    small = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=16,
                      patch_size=8, num_labels=3)  # fmt: skip
    vit = ViTForImageClassification(small)
    vit.save_pretrained(tmp_path / "vit")
    file = pool_file(
        tmp_path,
        f"""
        [mine]
        build = "nets.py:make"
        arguments = {{ width = 5 }}
        weights = "mine.pt"
        sha256 = "{sha256(tmp_path / "mine.pt")}"
        size = 16
        [lenet]
        architecture = "lenet"
        arguments = {{ width = 8 }}
        weights = "lenet.safetensors"
        [vision_transformer]
        transformers = "vit"
        [squeeze]
        build = "torchvision.models:squeezenet1_1"
        arguments = {{ num_classes = 4 }}
        features = "features"
        size = 32
        """,
    )
    pool = ranking.read(file)
    x = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(pool["mine"](x), made.eval()(x))
    assert pool["lenet"].size == 32
    outputs, features = pool["vision_transformer"].both(x)
    assert (pool["vision_transformer"].size, features.shape) == (16, (2, 8))
    torch.testing.assert_close(outputs.logits if hasattr(outputs, "logits") else outputs, vit.eval()(x).logits)
    assert pool["squeeze"].both(x)[1].shape == (2, 512)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("is empty; expected a table per candidate", ""),
        ("is not a pool file: ", "[a\n"),
        ("a = 'resnet18' is outside any table; expected [a]", "a = 'resnet18'"),
        ("a: unknown parameter 'weight'; did you mean 'weights'?", "[a]\nbuild = 'x:y'\nweight = 'z'"),
        ("exactly one of build, torchvision, timm, transformers, encoder, architecture, not none", "[a]\nsize = 3"),
        ("not build and timm", "[a]\nbuild = 'x:y'\ntimm = 'z'"),
        ("a: sha256: got 'abc'; expected 64 digits from 0 to f", "[a]\nbuild = 'x:y'\nweights = 'z'\nsha256 = 'abc'"),
        ("nets.py:fails failed: KeyError: 'gone'", "[a]\nbuild = 'nets.py:fails'"),
        ("a: build is 'nets.py'; expected package.module:name", "[a]\nbuild = 'nets.py'"),
        ("unknown name in nets.py 'mak'; did you mean 'make'?", "[a]\nbuild = 'nets.py:mak'"),
        ("nets.py:number made a int; expected a torch.nn.Module", "[a]\nbuild = 'nets.py:number'"),
        ("gone.pt does not exist; expected a file of weights", "[a]\nbuild = 'nets.py:make'\nweights = 'gone.pt'"),
        ("unknown torchvision model 'resnet19'; did you mean 'resnet18'?", "[a]\ntorchvision = 'resnet19'"),
        ("unknown image encoder 'mobilnet-v2'; did you mean 'mobilenet-v2'?", "[a]\nencoder = 'mobilnet-v2'"),
        ("a: mean: got 0.5; expected one number per channel", "[a]\nbuild = 'nets.py:make'\nmean = 0.5"),
        ("architecture without weights", "[a]\narchitecture = 'lenet'"),
        ("arguments and weights beside a saved folder or an", "[a]\nencoder = 'mobilenet-v2'\nweights = 'w.pt'"),
        ("sha256 beside DEFAULT", f"[a]\ntorchvision = 'resnet18'\nweights = 'DEFAULT'\nsha256 = '{'0' * 64}'"),
        ("vit has no config.json; expected a folder that transformers saved", "[a]\ntransformers = 'vit'"),
    ],
)
def test_what_is_wrong_in_a_pool_file_is_said(tmp_path, message, text):
    (tmp_path / "nets.py").write_text(NETS)
    with pytest.raises(ranking.PoolError) as caught:
        ranking.read(pool_file(tmp_path, text))
    assert message in str(caught.value)


@pytest.mark.parametrize(("given", "lacking"), [("mean", "std"), ("std", "mean")])
def test_half_a_normalisation_is_refused(tmp_path, given, lacking):
    (tmp_path / "nets.py").write_text(NETS)
    with pytest.raises(ranking.PoolError, match=f"a: {given} without {lacking}; expected both or neither"):
        ranking.read(pool_file(tmp_path, f"[a]\nbuild = 'nets.py:make'\n{given} = [0.5, 0.5, 0.5]"))


def test_weights_must_be_the_right_ones(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "w.pt")
    text = "[a]\nbuild = 'nets.py:make'\nweights = 'w.pt'\n"
    with pytest.raises(
        ranking.PoolError, match=r"does not fit the model: it lacks 0.weight, 0.bias, 3.weight … and also"
    ):
        ranking.read(pool_file(tmp_path, text))
    torch.save(nn.Sequential(nn.Conv2d(3, 6, 3), *[nn.Identity()] * 2, nn.Linear(6, 2)).state_dict(), tmp_path / "v.pt")
    with pytest.raises(
        ranking.PoolError,
        match=r"v\.pt does not fit the model: 0\.weight has shape \(6, 3, 3, 3\) in the file and \(4, 3, ",
    ):
        ranking.read(pool_file(tmp_path, "[a]\nbuild = 'nets.py:make'\nweights = 'v.pt'\n"))
    with pytest.raises(ranking.PoolError, match=f"w.pt has sha256 {sha256(tmp_path / 'w.pt')}; expected 000"):
        ranking.read(pool_file(tmp_path, f"{text}sha256 = '{'0' * 64}'"))

    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "touched").touch, ())

    torch.save({"a": Evil()}, tmp_path / "w.pt")
    with pytest.raises(ranking.PoolError, match=r"w\.pt holds more than tensors \(\S+\); expected a state dict, as"):
        ranking.read(pool_file(tmp_path, text))
    assert not (tmp_path / "touched").exists()
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "w.pt")
    with pytest.raises(ranking.PoolError, match=r"w\.pt is a TorchScript archive; expected a state dict"):
        ranking.read(pool_file(tmp_path, text))
    for name in ("w.pt", "w.safetensors"):
        (tmp_path / name).write_bytes(b"no weights")
        with pytest.raises(
            ranking.PoolError, match=rf"{name} is damaged, or no file of weights; expected a state dict"
        ):
            ranking.read(pool_file(tmp_path, text.replace("w.pt", name)))


def test_a_builder_without_weights_gives_the_same_model_each_time_and_is_named(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "w.pt")
    file = pool_file(tmp_path, "[a]\nbuild = 'nets.py:make'\n[b]\nbuild = 'nets.py:make'\nweights = 'w.pt'")
    assert [line.partition(";")[0] for line in pools.doubts(file)] == [
        "a: no weights in the pool file", "a: no mean and std in the pool file", "b: no mean and std in the pool file"
    ]  # fmt: skip
    file = pool_file(tmp_path, "[a]\nbuild = 'nets.py:make'")
    before = torch.get_rng_state()
    first, second = (ranking.read(file)["a"] for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.digest() == second.digest()


def test_shuffled_directions_keep_their_lengths_so_the_floor_of_alpha12_is_no_larger_than_alpha1():
    rng = torch.Generator().manual_seed(0)
    d00, d10, noise = (torch.randn(40, 3, generator=rng, dtype=torch.float64) for _ in range(3))
    d00[0] *= 1e-6  # one sample that hardly moves the attacked model
    d10[0] *= 1e-6
    arrays = {"d11": d10, "d10": d10, "d00": d00, "noise0": noise, "seconds_attack": torch.tensor(0.0)}
    arrays = {name: value.numpy() for name, value in arrays.items()}
    alpha1, _ = scoring._alpha("back_alpha1", arrays, measure.Settings())
    row, _ = scoring._alpha("back_alpha12", arrays, measure.Settings())
    assert row["floor_high"] <= alpha1["value"]


def test_misplaced_settings_are_pointed_to_their_place():
    pool, data = {"a": ranking.Encoder(net())}, target()
    with pytest.raises(ValueError, match=r"size is no setting of score; expected it in ranking\.load"):
        ranking.score(pool, data, size=64)
    with pytest.raises(ValueError, match=r"only is 'probe'; expected a list of scores, such as \['probe'\]"):
        ranking.score(pool, data, only="probe")
    with pytest.raises(ValueError, match=r"mean is 0\.5; expected three numbers, one per channel"):
        ranking.Encoder(net(), mean=0.5)


def test_weights_from_a_file_get_the_pixels_that_the_architecture_is_made_for(tmp_path):
    from torchvision.models import efficientnet_b3

    torch.save(efficientnet_b3(weights=None, num_classes=3).state_dict(), tmp_path / "w.pt")
    text = "[a]\ntorchvision = 'efficientnet_b3'\nweights = 'w.pt'\narguments = { num_classes = 3 }"
    assert ranking.read(pool_file(tmp_path, text))["a"].size == 300


def test_a_saved_folder_in_half_precision_is_computed_in_float32_and_its_bare_pixels_are_told(tmp_path):
    from transformers import ViTConfig, ViTForImageClassification, ViTMAEConfig, ViTMAEModel

    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    small |= {"image_size": 16, "patch_size": 4}
    ViTForImageClassification(ViTConfig(**small)).bfloat16().save_pretrained(tmp_path / "vit")
    ViTMAEModel(ViTMAEConfig(**small)).save_pretrained(tmp_path / "masked")
    file = pool_file(tmp_path, "[a]\ntransformers = 'vit'\n[b]\ntransformers = 'masked'")
    pool, x = ranking.read(file), torch.rand(2, 3, 16, 16)
    assert {weight.dtype for weight in pool["a"].parameters()} == {torch.float32}
    torch.testing.assert_close(pool["b"](x), pool["b"](x))  # no part of a picture is hidden at random
    told = "no mean and std in the pool file or in preprocessor_config.json; it gets pixels from 0 to 1 as they are"
    assert pools.doubts(file) == [f"a: {told}", f"b: {told}"]


def test_no_pass_of_an_attack_has_more_pixels_than_its_memory_allows(monkeypatch):
    monkeypatch.setattr(image_target, "PIXELS", 4 * 24**2)
    module, seen = net(), []
    made = image_target.ImageTarget(target(), measure.Settings(**FAST), Encoder(net(), size=24))
    module[0].register_forward_pre_hook(lambda conv, given: seen.append(given[0].shape))
    made.attack(Encoder(module, size=24), made.x)
    assert len(made.x) > 4
    assert {shape[2] for shape in seen} == {24}
    assert max(shape[0] for shape in seen) == 4


def test_an_encoder_is_where_its_model_is():
    assert Encoder(net().to("meta")).mean.device.type == "meta"


def test_a_folder_whose_head_is_missing_is_refused(tmp_path):
    from transformers import ViTConfig, ViTForImageClassification, ViTModel

    small = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=16,
                      patch_size=8, num_labels=3)  # fmt: skip
    ViTModel(small).save_pretrained(tmp_path / "vit")
    about = json.loads((tmp_path / "vit" / "config.json").read_text())
    ViTForImageClassification(small).config.save_pretrained(tmp_path / "vit")
    (tmp_path / "vit" / "config.json").write_text(json.dumps({**about, "architectures": ["ViTForImageClassification"]}))
    with pytest.raises(
        ranking.PoolError, match=r"lack 2 tensors of ViTForImageClassification, such as classifier\.bias"
    ):
        ranking.read(pool_file(tmp_path, "[a]\ntransformers = 'vit'"))


# Runs.


def test_a_stopped_run_goes_on_with_the_candidates_that_are_left(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(tmp_path / "cache"))
    done, real = [], measure._features

    def stopping(encoder, drawn):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(encoder)
        return real(encoder, drawn)

    config = choosing.Config.from_profile("smoke", only=["1-NN", "alpha1"])
    monkeypatch.setattr(measure, "_features", stopping)
    with pytest.raises(KeyboardInterrupt):
        choosing.run(config)
    monkeypatch.setattr(measure, "_features", lambda encoder, drawn: done.append(encoder) or real(encoder, drawn))
    record = choosing.run(config)
    assert len(done) == 3  # two before the stop, one after it
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(tmp_path / "other"))
    undisturbed = choosing.run(config)
    values = ["candidate", "score", "value", "low", "high", "floor"]
    assert record.tables["scores"][values].equals(undisturbed.tables["scores"][values])


@pytest.fixture
def a_task(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "nets.py").write_text(NETS)
    text = "[a_1]\nbuild = 'nets.py:make'\n['b*']\nbuild = 'nets.py:make'\narguments = { width = 6 }"
    for k in range(12):
        for name, value in (("dark", 40), ("light", 200)):
            written(tmp_path / "photos_*" / name / f"{k}.png", value + k)
    (tmp_path / "photos_*" / "dark" / "notes.txt").touch()
    options = ["--size", "16", "--samples", "4", "--steps", "1", "--labels", "12", "--target-epochs", "1"]
    return ["rank", str(pool_file(tmp_path, text)), "--data", str(tmp_path / "photos_*"), *options]


def test_the_command_prints_a_ranking_as_plain_text(a_task, capsys):
    assert main([*a_task, "--json"]) == 0
    told = capsys.readouterr()
    assert {row["candidate"] for row in json.loads(told.out)["candidates"]} == {"a_1", "b*"}
    assert main(a_task) == 0
    shown, complaints = capsys.readouterr()
    assert max(map(len, shown.splitlines()[4:])) <= 120
    lines = " ".join(shown.split())
    first, _, second = lines.partition(" The target is ")
    assert " ".join(told.err.split()).startswith(first)
    assert first.startswith(f"data: {a_task[3]}; target model: trained on these data; settings: seed 0, size 16, only")
    assert "target_epochs 1" in first
    assert second.startswith("photos_*: 2 classes, images of 16 × 16 pixels. There are 2 candidates")
    assert re.search(r"By the cross-validated probe, the best is (a_1|b\*)", lines)
    assert "`" not in shown
    assert "Left out: dark/notes.txt (not a picture" in lines
    assert "a_1: no weights in the pool file; it is ranked as its builder makes it" in complaints
    assert main(["rank", "gone.toml", "--data", "made-up", "--out", "new/place"]) == 2
    assert not Path("new").exists()
    assert "gone.toml does not exist" in capsys.readouterr().err
    assert main(["rank", a_task[1]]) == 2
    assert "no data given; expected --data DATA (images: folder of class folders" in capsys.readouterr().err


def test_a_page_of_ones_own_holds_only_what_concerns_it(a_task, tmp_path, capsys):
    assert main([*a_task, "--out", str(tmp_path / "out")]) == 0
    made = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"ranking.csv", "scores.csv", "ranks.csv", "choose_a_source.html", "choose_a_source.ipynb"} <= made
    page = (tmp_path / "out" / "choose_a_source.html").read_text(encoding="utf-8")
    body = page[page.index("<main") :]
    assert "Which of your models?" in body
    assert "<code>target_epochs</code>" in body
    assert "photos_*" in body
    assert "jp-CodeCell" in body
    assert "jp-Editor" not in body  # no code, and so no parameters and no example
    for of_the_book in ("at their first weights", "Your own models", "nn.Sequential"):
        assert of_the_book not in body
    pictures = re.findall(r"<img [^>]*>", body)
    assert len(pictures) == 2  # two candidates have no order, and so the third figure and its caption are not there
    assert "What the choice by each score loses" not in body
    assert "There are too few candidates" in body
    assert all(re.search(r' alt="[^"]{40,}"', picture) for picture in pictures)


def test_a_folder_with_another_ranking_is_refused_and_left_as_it_is(a_task, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*a_task, "--only", "1-NN", "--out", str(out)]) == 0
    before = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    capsys.readouterr()
    assert main([*a_task, "--only", "probe", "--out", str(out)]) == 2
    assert f"{out} holds a ranking with other parameters; expected another folder in --out" in capsys.readouterr().err
    assert {file.name: file.stat().st_mtime_ns for file in out.iterdir()} == before


def test_too_few_labels_for_the_probe_are_told_by_class_before_the_target_model_is_trained(monkeypatch, capsys):
    monkeypatch.setattr(scoring, "_task", lambda *args: pytest.fail("long work began"))
    x, y = pictures(36)
    data = ranking.from_tensors(x[y < 2], y[y < 2], classes=["cat", "rare"])
    rare = (data.y_train == 1).nonzero().squeeze(1)
    kept = torch.cat([(data.y_train == 0).nonzero().squeeze(1), rare[:2]])
    data = replace(data, x_train=data.x_train[kept], y_train=data.y_train[kept])
    with pytest.raises(pytest.fail.Exception, match="long work"):
        ranking.score({"a": Encoder(net())}, data, only=["probe", "alpha1"], progress=True, **FAST)
    assert "no cross-validated probe: it needs 5 labels of each class; fewer: rare (2)" in capsys.readouterr().err


def test_help_and_book_list_every_setting_from_the_config(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["rank", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    listed = {name.strip("`"): row for name, *row in settings.rows(choosing.Config).itertuples(index=False)}
    assert set(listed) == set(choosing.Config.model_fields)
    for name, field in choosing.Config.model_fields.items():
        assert name in ("pool",) or f"--{name.replace('_', '-')}" in told
        assert field.description in listed[name][2]
    assert "--truth-samples VALUE target images or texts for the truth, at most" in told
    assert listed["labels"][:2] == ["500", "1000"]


def test_the_identity_of_a_candidate_is_that_of_its_weights_and_inputs():
    made = [
        Encoder(net(seed=0)),
        Encoder(net(seed=1)),
        Encoder(net(seed=0), size=9),
        Encoder(net(seed=0), mean=(0.1,) * 3),
    ]
    digests = [encoder.digest() for encoder in made]
    assert len(set(digests)) == 4
    buffer = io.BytesIO()
    torch.save(made[0].module.state_dict(), buffer)
    again = net(seed=5)
    again.load_state_dict(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
    assert Encoder(again).digest() == digests[0]


def test_the_answer_warns_of_a_best_candidate_at_the_floor_and_ranks_no_single_one():
    record = choosing.run(choosing.Config.from_profile("smoke", only=("probe", "alpha1")))
    record.tables["target"]["accuracy"] = 0.9
    scores, places = record.tables["scores"], record.tables["ranks"]
    best = places[places["score"] == "alpha1"].sort_values("rank")["candidate"].iloc[0]
    for low, warned in ((0.9, False), (0.4, True)):  # the floor is 0.5, and the value above it
        alike = (scores["score"] == "alpha1") & (scores["candidate"] == best)
        scores.loc[alike, ["value", "low", "floor", "floor_high"]] = 1.0, low, 0.5, 0.5
        said = page.answer(record)
        assert bool(re.search(rf"By α1, T→S, the best is {best}[^.]*at the floor: do not choose", said)) == warned
    scores.loc[scores["score"] == "alpha1", "value"] = 1.0
    record.tables["candidates"]["accuracy"] = 0.5
    said = page.answer(record)
    assert "By α1, T→S, LeNet, AlexNet and ResNet18 are equally good" in said.replace("lenet", "LeNet").replace(
        "alexnet", "AlexNet"
    ).replace("resnet18", "ResNet18")
    assert said.count("are equally good") == 2
    for accuracy, warned in ((0.15, True), (0.9, False)):
        record.tables["target"]["accuracy"] = accuracy
        assert ("Beware: this may be no better than a guess" in page.about(record)) == warned
        assert ("By α1" in page.answer(record)) != warned  # a poor target model gives no advice
    record.tables["candidates"] = record.tables["candidates"].iloc[:1]
    assert page.answer(record).endswith("could be used, so there is nothing to rank.")
    assert "There is 1 candidate. An attack is made once on it, and once" in page.about(record)


def test_accuracies_whose_intervals_overlap_are_not_called_better():
    record = choosing.run(choosing.Config.from_profile("smoke", only=("probe",)))
    candidates = record.tables["candidates"]
    for last, said in ((0.93, "but their intervals overlap with the interval of"), (0.5, "and better than all others")):
        for column, off in (("accuracy", 0), ("accuracy_low", -0.1), ("accuracy_high", 0.05)):
            candidates[column] = [1 + off, *[1 + off] * (len(candidates) - 2), last + off]
        assert f"are equally good, {said}" in page.answer(record)


def test_alpha_from_a_part_of_the_samples_says_so():
    d = np.random.default_rng(0).standard_normal((4, 12, 3))
    d[2, :5] = 0  # a candidate that its own attack does not move there
    arrays = {"d00": d[0], "d01": d[1], "d11": d[2], "noise1": d[3], "seconds_attack": np.array(1.0)}
    row, _ = scoring._alpha("alpha1", arrays, measure.Settings())
    assert row["note"] == "from 7 of 12 samples: at the others an attack of its own moves nothing"
    d[2] += 1
    assert scoring._alpha("alpha1", arrays, measure.Settings())[0]["note"] == ""


def test_a_size_is_only_for_pictures_in_folders(a_task, tmp_path, capsys):
    x, y = pictures()
    np.savez(tmp_path / "x.npz", x=x.movedim(1, 3).numpy(), y=y.numpy())
    assert main([*a_task[:3], str(tmp_path / "x.npz"), "--size", "32"]) == 2
    assert "size is 32; expected it only with a folder of pictures" in capsys.readouterr().err
    assert main([*a_task[:3], "phtos", "--size", "32"]) == 2
    assert "phtos does not exist; expected a folder" in capsys.readouterr().err


def test_own_accuracies_of_a_pool_file_are_shown_and_judged_beside_the_scores(a_task, capsys):
    known = {"a": 0.9, "b": 0.7, "c": 0.8}
    text = "".join(
        f"[{name}]\nbuild = 'nets.py:make'\narguments = {{ width = {k} }}\nown_accuracy = {value}\n"
        for k, (name, value) in enumerate(known.items(), 3)
    )
    Path(a_task[1]).write_text(text)
    options = dict(zip([word[2:].replace("-", "_") for word in a_task[4::2]], a_task[5::2], strict=True))
    record = choosing.run(choosing.Config.from_profile("quick", pool=a_task[1], data=a_task[3], **options))
    candidates = record.tables["candidates"].set_index("candidate")
    assert candidates["own_accuracy"].to_dict() == known
    row = page.costs(record).set_index("score").loc["own_accuracy"]
    assert row["regret"] == candidates["accuracy"].max() - candidates.loc["a", "accuracy"]
    expected = stats.kendalltau(list(known.values()), candidates["accuracy"]).statistic
    assert row["kendall"] == pytest.approx(expected, nan_ok=True)
    assert page.table(record).set_index("candidate")["own accuracy, %"].to_dict() == {
        "a": "90.0",
        "b": "70.0",
        "c": "80.0",
    }
    assert (
        "By own accuracy, which compares only models that were trained on the same data, the best is a."
        in page.answer(record)
    )
    assert main(a_task) == 0
    assert re.search(r"candidate +accuracy, % +own, %", capsys.readouterr().out)
    Path(a_task[1]).write_text(text.replace("own_accuracy = 0.8", ""))
    record = choosing.run(choosing.Config.from_profile("quick", pool=a_task[1], data=a_task[3], **options))
    assert "own accuracy of 2 of 3 candidates" in page.answer(record)
    assert "own_accuracy" not in set(page.costs(record)["score"])
    Path(a_task[1]).write_text(text.replace("0.9", "90"))
    with pytest.raises(ranking.PoolError, match="a: own_accuracy: got 90; expected"):
        ranking.read(a_task[1])


def test_truths_in_two_units_are_refused():
    table = pd.DataFrame({"candidate": list("abc"), "LEEP": [0.3, 0.2, 0.1]})
    with pytest.raises(ValueError, match=r"2 truths are at most 1, and 1 above it; expected all in one unit"):
        ranking.compare(table, {"a": 0.5, "b": 0.6, "c": 95})
    assert ranking.compare(table, {"a": 0.5, "b": 40, "c": 60})["regret"].tolist() == [59.5]


def test_regret_is_against_the_best_candidate_even_if_it_lacks_the_score():
    table = pd.DataFrame({"candidate": list("abcd"), "LEEP": [0.3, 0.2, 0.1, np.nan], "1-NN": [0.1, 0.2, 0.3, 0.4]})
    found = ranking.compare(table, {"a": 0.6, "b": 0.5, "c": 0.4, "d": 0.9}).set_index("score")
    assert found.loc["LEEP", ["n", "top"]].tolist() == [3, False]
    assert found["regret"].round(12).to_dict() == {"LEEP": 0.3, "1-NN": 0.0}
