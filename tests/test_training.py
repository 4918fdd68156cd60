"""Training: it learns, it repeats to the last bit, it is done once, and it leaves no trace."""

import numpy as np
import pytest
import torch
from torch import nn

from advtransfer.datasets import generated
from advtransfer.models import images
from advtransfer.records.weights import Checkpoint, cached, content, restore
from advtransfer.training import images as training
from advtransfer.training import loop
from advtransfer.training.images import PADDING, crop_and_flip, fit_classifier
from advtransfer.training.loop import TrainingError

DATA = generated(seed=0, n_train=300, n_test=100)


def fitted(name="resnet18", width=4, **options):
    model = images.build(name, width=width)
    options = {"epochs": 2, "lr": 0.1, "batch_size": 20} | options
    fit_classifier(model, DATA.x_train, DATA.y_train, **options)
    return model


def accuracy(model):
    with torch.no_grad():
        return (model(DATA.x_test / 255).argmax(1) == DATA.y_test).double().mean().item()


def same(a, b):
    return all(torch.equal(u, v) for u, v in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_learns():
    assert accuracy(fitted(epochs=4)) > 0.9
    assert accuracy(fitted("fully_connected", 16, epochs=8, lr=0.05, augment=False)) > 0.9


def test_the_same_bits_twice_and_others_for_another_seed():
    first = fitted(seed=1, epochs=1)
    assert same(first, fitted(seed=1, epochs=1))
    assert not same(first, fitted(seed=2, epochs=1))


def test_bfloat16_is_close_to_float32_and_weights_stay_float32():
    a, b = fitted("lenet", 64, epochs=1, lr=0.01), fitted("lenet", 64, epochs=1, lr=0.01, precision="bfloat16")
    assert all(weight.dtype == torch.float32 for weight in b.parameters())
    assert not same(a, b)
    for u, v in zip(a.parameters(), b.parameters(), strict=True):
        assert (u - v).norm() < 0.05 * u.norm()


def test_leaves_no_trace():
    model = images.build("lenet", width=16)
    x, y = DATA.x_train[:100], DATA.y_train[:100]
    model.head.weight.requires_grad_(False)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    with torch.no_grad():
        fit_classifier(model, x, y, epochs=1, lr=0.01, batch_size=20)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert all(weight.grad is None for weight in model.parameters())
    assert not model.head.weight.requires_grad
    assert model.body[0].weight.requires_grad
    assert not any(module.training for module in model.modules())


def test_random_layers_follow_the_seed():
    def train():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3072, 10))
        torch.manual_seed(int(torch.initial_seed()) + len(runs))
        fit_classifier(model, DATA.x_train, DATA.y_train, epochs=1, lr=0.01, seed=3)
        return model

    runs: list[nn.Module] = []
    runs.append(train())
    runs.append(train())
    assert same(*runs)


@pytest.mark.parametrize("adapts", [True, False])
def test_fine_tuning_changes_the_head_and_batchnorm_only_if_it_adapts(adapts):
    model = fitted(epochs=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit_classifier(
        model, DATA.x_train, DATA.y_train, epochs=1, lr=0.1, parameters=model.head.parameters(), adapt_norm=adapts
    )
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    statistics = {name for name in before if "running_" in name or "num_batches" in name}
    assert changed == {"head.weight", "head.bias"} | (statistics if adapts else set())


def test_crop_and_flip_shift_and_mirror_and_do_nothing_else():
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (40, 3, 6, 5), dtype=torch.uint8, generator=generator)
    shift = torch.randint(2 * PADDING + 1, (40, 2), generator=generator)
    flip = torch.rand(40, generator=generator) < 0.5
    out = crop_and_flip(x, shift, flip)
    assert out.dtype == torch.uint8
    for n, c, row, column in np.ndindex(*x.shape):
        i = row + int(shift[n, 0]) - PADDING
        j = (4 - column if flip[n] else column) + int(shift[n, 1]) - PADDING
        expected = int(x[n, c, i, j]) if 0 <= i < 6 and 0 <= j < 5 else 0
        assert int(out[n, c, row, column]) == expected
    still = torch.full((40, 2), PADDING)
    assert torch.equal(crop_and_flip(x, still, torch.zeros(40, dtype=torch.bool)), x)


def test_every_shift_and_both_flips_are_drawn():
    shift, flip = training._draw_augmentation(2000, torch.Generator().manual_seed(0))
    assert {tuple(pair) for pair in shift.tolist()} == set(np.ndindex(9, 9))
    assert 900 < int(flip.sum()) < 1100


def test_narrow_strided_convolutions_are_trained_safely():
    """Channels-last, oneDNN writes past its memory here: wrong gradients, or a crash."""
    conv = nn.Conv2d(4, 8, 1, stride=2, bias=False)
    model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), conv, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    wide = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 8, 1, stride=2))
    cpu = torch.device("cpu")
    assert training._memory_format(model, cpu) == torch.contiguous_format
    assert training._memory_format(model, torch.device("cuda")) == torch.channels_last
    assert training._memory_format(wide, cpu) == torch.channels_last

    start = [weight.detach().clone() for weight in model.parameters()]
    x, y = DATA.x_train[:20], DATA.y_train[:20] % 8
    fit_classifier(model, x, y, epochs=1, lr=0.5, momentum=0, weight_decay=0, batch_size=20, augment=False)
    weights = [weight.double().requires_grad_() for weight in start]
    hidden = nn.functional.conv2d(x.double() / 255, weights[0])
    logits = nn.functional.conv2d(hidden, weights[1], stride=2).mean((2, 3))
    gradients = torch.autograd.grad(nn.functional.cross_entropy(logits, y), weights)
    for after, before, gradient in zip(model.parameters(), start, gradients, strict=True):
        torch.testing.assert_close(after.double(), before.double() - 0.5 * gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
def test_the_learning_rate_follows_its_schedule(schedule, monkeypatch):
    """Half a cosine from the highest rate; or one up from 1/25 of it in 3/10 of the steps, and one down to nothing."""
    rates, step = [], torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda o, *a: rates.append(o.param_groups[0]["lr"]) or step(o, *a))
    fitted("lenet", 4, epochs=4, lr=0.2, batch_size=30, schedule=schedule)  # 40 steps
    half = lambda a, b, t: b + (a - b) * (1 + np.cos(np.pi * t)) / 2  # noqa: E731
    if schedule == "cosine":
        expected = [half(0.2, 0, k / 40) for k in range(40)]
    else:
        top = 0.3 * 41 - 1  # the step with the highest rate
        expected = [half(0.2 / 25, 0.2, k / top) if k < top else half(0.2, 0.2 / 25e4, (k - top) / (40 - top))
                    for k in range(40)]  # fmt: skip
    np.testing.assert_allclose(rates, expected, atol=1e-9)


def test_a_one_cycle_training_goes_on_after_a_stop(tmp_path):
    options = {"epochs": 3, "schedule": "one_cycle", "seed": 4}
    whole = fitted("lenet", 8, **options)

    class Stopped(Checkpoint):
        def save(self, state):
            super().save(state)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted("lenet", 8, **options, checkpoint=Stopped(tmp_path / "state"))
    assert same(whole, fitted("lenet", 8, **options, checkpoint=Checkpoint(tmp_path / "state")))


def test_training_on_perturbed_images_is_training_on_those():
    seen = []

    def perturb(model, x, y, generator):
        assert model.training
        assert x.shape[0] == len(y) == 20
        seen.append(float(x.min()))
        return 1 - 2 * x  # the negative

    negative = DATA.x_train.bitwise_not()
    options = {"epochs": 1, "lr": 0.05, "augment": False}
    a, b = fitted("lenet", 8, **options, perturb=perturb), images.build("lenet", width=8)
    fit_classifier(b, negative, DATA.y_train, batch_size=20, **options)
    assert len(seen) == 15
    for u, v in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(u, v, rtol=1e-3, atol=1e-5)


def test_a_diverging_loss_is_an_error():
    with pytest.raises(TrainingError, match=r"trial: the loss is (nan|inf) in epoch \d of 3; .* below 1000000"):
        fitted("lenet", 64, epochs=3, lr=1e6, label="trial")


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (DATA.x_train / 255, DATA.y_train, TypeError, "x is torch.float32 .* expected uint8 images"),
        (DATA.x_train[0], DATA.y_train, TypeError, r"expected uint8 images \(N, C, H, W\)"),
        (
            DATA.x_train,
            DATA.y_train[:5],
            TypeError,
            r"x's labels are torch.int64 of shape \(5,\); expected int64 labels \(300,\)",
        ),
        (DATA.x_train[:7], DATA.y_train[:7], ValueError, "there are 7 images; expected at least one batch of 20"),
    ],
)
def test_bad_images_are_refused(x, y, error, message):
    with pytest.raises(error, match=message):
        fit_classifier(images.build("lenet", width=16), x, y, epochs=1, lr=0.1, batch_size=20)


def test_a_label_without_a_logit_is_refused_at_the_first_batch():
    y = DATA.y_train.clone()
    y[-1] = 12
    with pytest.raises(ValueError, match="a label is 12; expected below 10, the number of logits"):
        fit_classifier(images.build("lenet", width=16), DATA.x_train, y, epochs=1, lr=0.1, batch_size=20)


def test_a_setting_of_cudnn_stays_as_it_was(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    seen = []
    fit_classifier(
        images.build("lenet", width=16), DATA.x_train, DATA.y_train, epochs=1, lr=0.1, batch_size=150,
        perturb=lambda model, x, y, g: seen.append(torch.backends.cudnn.allow_tf32) or 0 * x,
    )  # fmt: skip
    assert seen == [False, False]


WATCH = (DATA.x_test, DATA.y_test)
CODE = ("advtransfer.training.images", "advtransfer.models.images")


def test_watching_measures_each_epoch_and_keeps_the_best(monkeypatch):
    seen = iter([0.2, 0.6, 0.6, 0.5])
    monkeypatch.setattr(training, "_accuracy", lambda *_: next(seen))
    states = []
    monkeypatch.setattr(loop, "weights_of", lambda model: states.append(len(states)) or {"n": len(states)})
    fit = fit_classifier(images.build("lenet", width=16), DATA.x_train, DATA.y_train, epochs=4, lr=0.01, watch=WATCH)
    assert fit.accuracy.tolist() == [0.2, 0.6, 0.6, 0.5]
    assert (fit.best, fit.last) == ({"n": 2}, {"n": 3})  # after epochs 2 (not 3, its equal) and 4


def test_what_is_watched_is_the_accuracy_of_the_model_and_changes_nothing():
    model, alone = images.build("resnet18", width=4), fitted(epochs=2)
    fit = fit_classifier(model, DATA.x_train, DATA.y_train, epochs=2, lr=0.1, batch_size=20, watch=WATCH)
    assert same(model, alone)
    assert fit.accuracy[-1].item() == pytest.approx(accuracy(model), abs=0.011)  # a tie may round differently
    assert content(fit.last) == content(model.state_dict())
    plain = fit_classifier(images.build("lenet", width=16), DATA.x_train, DATA.y_train, epochs=1, lr=0.01)
    assert plain.accuracy.numel() == 0
    assert content(plain.best) == content(plain.last)


class Killed(Checkpoint):
    """A checkpoint in whose training somebody pulls the plug after some epochs."""

    def __init__(self, path, after):
        super().__init__(path)
        self.after = after

    def save(self, state):
        super().save(state)
        if len(state["accuracy"]) == self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 3])
@pytest.mark.parametrize("watch", [WATCH, None])
def test_killed_and_started_again_it_ends_in_the_same_bits(tmp_path, monkeypatch, after, watch):
    def train(checkpoint=None):
        torch.manual_seed(0)
        model = nn.Sequential(images.build("resnet18", width=4), nn.Dropout(0.2))
        options = {"epochs": 4, "lr": 0.1, "batch_size": 20, "watch": watch}
        return fit_classifier(model, DATA.x_train, DATA.y_train, checkpoint=checkpoint, **options)

    whole = train()
    with pytest.raises(KeyboardInterrupt):
        train(Killed(tmp_path / "state", after))
    epochs = []
    draw = training._draw_augmentation
    monkeypatch.setattr(training, "_draw_augmentation", lambda *a: epochs.append(1) or draw(*a))
    again = train(Checkpoint(tmp_path / "state"))
    assert len(epochs) == 4 - after  # not an epoch more than was lost
    assert content(again.last) == content(whole.last)
    assert content(again.best) == content(whole.best)
    assert torch.equal(again.accuracy, whole.accuracy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "constant"}, "schedule is 'constant'; expected one of 'cosine', 'one_cycle'"),
        ({"precision": "bf16"}, "precision is 'bf16'; expected one of 'float32', 'bfloat16'"),
        ({"epochs": 0}, "epochs is 0, batch_size 20; expected at least 1"),
        ({"watch": (DATA.x_test[:0], DATA.y_test[:0])}, "watch has 0 labels"),
        ({"watch": (DATA.x_test, DATA.y_test - 100)}, "watch has 100 labels, of which one is -100"),
    ],
)
def test_what_training_does_not_know_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fitted("lenet", 16, **options)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Training that was stopped after an epoch, and its state."""
    given, state = {"epochs": 4, "lr": 0.1, "batch_size": 20, "seed": 0}, tmp_path_factory.mktemp("stopped") / "state"
    with pytest.raises(KeyboardInterrupt):
        fitted(checkpoint=Killed(state, 1), **given)
    return given, state


@pytest.mark.parametrize(
    "changed",
    [
        {"lr": 0.05}, {"epochs": 8}, {"seed": 1}, {"batch_size": 30}, {"momentum": 0.5}, {"weight_decay": 0.0},
        {"schedule": "one_cycle"}, {"augment": False}, {"adapt_norm": False}, {"perturb": lambda model, x, y, g: 0 * x},
    ],
)  # fmt: skip
def test_no_training_goes_on_from_the_state_of_another(stopped, changed):
    given, state = stopped
    with pytest.raises(ValueError, match=r"the checkpoint is of training with .* expected the same training"):
        fitted(checkpoint=Checkpoint(state), **given | changed)


def test_training_goes_on_after_torch_has_learnt_another_option(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fitted(checkpoint=Killed(tmp_path / "state", 1), epochs=2)
    kept = Checkpoint(tmp_path / "state")
    state = kept.load()
    del state["asked"]["differentiable"]
    kept.save(state)
    assert same(fitted(checkpoint=kept, epochs=2), fitted(epochs=2))


def test_on_another_kind_of_device_training_starts_anew(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fitted(checkpoint=Killed(tmp_path / "state", 1), epochs=2)
    kept = Checkpoint(tmp_path / "state")
    kept.save({**kept.load(), "device": "cuda"})
    assert same(fitted(checkpoint=kept, epochs=2), fitted(epochs=2))


def test_a_damaged_checkpoint_is_told_and_training_starts_anew(tmp_path):
    checkpoint = Checkpoint(tmp_path / "state")
    checkpoint.save({"epoch": 3})
    assert checkpoint.load() == {"epoch": 3}
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:100])
    with pytest.warns(UserWarning, match="is damaged .* training from the start"):
        assert checkpoint.load() is None


def test_cached_trains_once_for_the_same_settings(cache):
    calls = []

    def train(checkpoint):
        calls.append(checkpoint.path)
        checkpoint.save({"epoch": 1})
        return fitted("lenet", 16, epochs=1).state_dict()

    first, second = cached({"a": 1}, train, code=CODE), cached({"a": 1}, train, code=CODE)
    assert len(calls) == 1
    assert content(first) == content(second)
    cached({"a": 2}, train, code=CODE)
    assert len(calls) == 2
    assert [path.suffix for path in cache.rglob("*") if path.is_file()] == [".safetensors"] * 2  # no state is left


def test_what_a_killed_process_left_of_a_checkpoint_is_removed(cache):
    settings, train = {"n": 1}, lambda checkpoint: {"w": torch.ones(2)}
    cached(settings, train, code=CODE)
    (path,) = cache.rglob("*.safetensors")
    left = path.parent / f".writing-{path.stem}.checkpoint-abc"
    path.unlink()
    left.mkdir()
    cached(settings, train, code=CODE)
    assert not left.exists()


def test_a_training_that_breaks_off_leaves_nothing(cache):
    with pytest.raises(TrainingError):
        cached({"a": 1}, lambda _: fitted("lenet", 64, epochs=1, lr=1e6).state_dict(), code=CODE)
    assert not list(cache.rglob("*.safetensors"))


def test_a_full_disk_is_an_error_and_nothing_is_half_written(cache, monkeypatch):
    def full(self, data):
        with self.open("wb") as file:
            file.write(bytes(data[:10]))
        raise OSError(28, "No space left on device", str(self))

    old = Checkpoint(cache / "state")
    old.save({"epoch": 1})
    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space left on device"):
        old.save({"epoch": 2})
    with pytest.raises(OSError, match="No space left on device"):
        cached({"a": 1}, lambda _: {"w": torch.zeros(3)}, code=CODE)
    monkeypatch.undo()
    assert old.load() == {"epoch": 1}
    assert [p.name for p in cache.rglob("*") if p.is_file()] == ["state"]


def test_a_damaged_cache_is_told_and_trained_anew(cache):
    cached({"a": 1}, lambda _: {"w": torch.zeros(3)}, code=CODE)
    (path,) = cache.rglob("*.safetensors")
    path.write_bytes(b"no weights")
    with pytest.warns(UserWarning, match="is damaged .* training it anew"):
        again = cached({"a": 1}, lambda _: {"w": torch.ones(3)}, code=CODE)
    assert again["w"].sum() == 3


def test_weights_of_another_architecture_are_refused():
    lenet, narrow, alexnet = (
        images.build(name, width=w) for name, w in (("lenet", 32), ("lenet", 16), ("alexnet", 16))
    )
    for other in (narrow, alexnet):
        before = content(lenet.state_dict())
        with pytest.raises(ValueError, match=r"of another architecture: body\.\d\.weight is \(\d+, .*expected \("):
            restore(lenet, other.state_dict())
        assert content(lenet.state_dict()) == before
    restore(lenet, images.build("lenet", width=32, generator=torch.Generator().manual_seed(1)).state_dict())


def test_content_tells_every_bit():
    a = {"w": torch.zeros(2), "b": torch.zeros(0)}
    assert content(a) == content({"b": torch.zeros(0), "w": torch.zeros(2)})
    for other in ({"w": torch.zeros(2)}, {**a, "w": torch.tensor([0.0, -0.0])}, {**a, "w": torch.zeros(2).double()}):
        assert content(other) != content(a)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cpu_and_gpu_agree_and_captured_graphs_give_the_same_bits():
    def on_gpu(name, **options):
        model = images.build(name, width=8).cuda()
        fit_classifier(model, DATA.x_train, DATA.y_train, epochs=2, lr=0.05, batch_size=20, **options)
        return model.cpu()

    plain = fitted("fully_connected", 8, lr=0.05)
    for found, expected in zip(on_gpu("fully_connected").parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert same(*(on_gpu("resnet18", precision="bfloat16", captured=captured) for captured in (True, False)))
    head = {"precision": "bfloat16", "adapt_norm": False}
    assert same(*(on_gpu("resnet50", captured=captured, **head) for captured in (True, False)))


def test_training_uses_cudnn_deterministically_and_leaves_its_flags():
    before = torch.backends.cudnn.enabled, torch.backends.cudnn.deterministic
    with loop.trained_alone(nn.Linear(2, 2), None, True, 0):
        assert (torch.backends.cudnn.enabled, torch.backends.cudnn.deterministic) == (True, True)
    assert (torch.backends.cudnn.enabled, torch.backends.cudnn.deterministic) == before
