"""Attacks: closed forms on linear models, bounds, invariances, and that nothing is left changed."""

import re
from collections import Counter
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from advtransfer import attacks
from advtransfer.attacks import NoGradientWarning, fgsm, mi_fgsm, pgd

ATTACKS = {"pgd": pgd, "fgsm": fgsm, "mi_fgsm": mi_fgsm}
seeds = st.integers(0, 2**31)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def random_net(seed=0, n=12, d=4, dtype=torch.float64):
    """Two layers from (N, 1, 3, n/3) to (N, d), strongly curved."""
    generator = seeded(seed)
    draw = partial(torch.randn, generator=generator, dtype=dtype)
    first, second = draw(n, 8), draw(8, d)
    return lambda x: torch.tanh(x.flatten(1) @ first) @ second


def pixels(seed=0, samples=5, n=12, dtype=torch.float64):
    return torch.rand(samples, 1, 3, n // 3, generator=seeded(seed), dtype=dtype)


def norms(delta, norm):
    return delta.flatten(1).norm(p=2 if norm == "l2" else torch.inf, dim=1)


ROUNDING = {torch.float64: 1e-16, torch.float32: 2.98e-8, torch.float16: 2e-4, torch.bfloat16: 2e-3}
"""How far pixels may be outside the box after they were normalised and brought back."""

# Right results.


@pytest.mark.filterwarnings("ignore::advtransfer.attacks.NoGradientWarning")
@settings(max_examples=60, deadline=None)
@given(
    seed=seeds,
    name=st.sampled_from(sorted(ATTACKS)),
    norm=st.sampled_from(["linf", "l2"]),
    loss=st.sampled_from(["cross_entropy", "deviation"]),
    dtype=st.sampled_from(list(ROUNDING)),
    eps=st.sampled_from([0.1, 8 / 255, 1.0]) | st.floats(1e-2, 10),
)
def test_delta_stays_in_the_ball_and_in_the_box(seed, name, norm, loss, dtype, eps):
    x = pixels(seed, dtype=dtype)
    x[0], x[1], x[2] = x[0].round(), 0.0, x[2].clamp(-ROUNDING[dtype], 1 + ROUNDING[dtype])
    x[2, 0, 0, 0], x[2, 0, 0, 1] = -ROUNDING[dtype], 1 + ROUNDING[dtype]  # on the edge of the box, and off by rounding
    net = lambda x: random_net(seed)(x.double())  # noqa: E731
    attack = partial(ATTACKS[name], net, x, norm=norm, loss=loss, random_start=True, generator=seeded(seed))
    delta = attack(eps=min(eps, 1))
    assert delta.shape == x.shape
    assert delta.dtype == dtype
    assert norms(delta.double(), norm).max() <= min(eps, 1)
    assert (x + delta).min() >= 0
    assert (x + delta).max() <= 1
    assert norms(attack(eps=eps, bounds=None).double(), norm).max() <= eps


@settings(max_examples=25, deadline=None)
@given(seed=seeds, eps=st.floats(1e-3, 10), name=st.sampled_from(sorted(ATTACKS)))
def test_two_classes_of_a_linear_model_have_a_closed_form(seed, eps, name):
    """The cross-entropy falls along w = (row of the class) − (row of the other), so δ = −eps·w/‖w‖ or −eps·sign(w)."""
    weight = torch.randn(2, 12, generator=seeded(seed), dtype=torch.float64) / 10
    x = pixels(seed, samples=3)
    y = torch.tensor([0, 1, 0])
    w = (weight[y] - weight[1 - y]).view_as(x)
    attack = partial(ATTACKS[name], lambda x: x.flatten(1) @ weight.T, x, eps=eps, y=y, bounds=None, random_start=False)
    torch.testing.assert_close(attack(norm="linf"), -eps * w.sign())
    torch.testing.assert_close(attack(norm="l2"), -eps * w / w.flatten(1).norm(dim=1).view(-1, 1, 1, 1))


def test_pgd_climbs_the_deviation_to_the_first_singular_vector():
    """Equation 3 on a linear model: the maximum over the ball is eps times the largest singular value."""
    weight = torch.randn(4, 12, generator=seeded(1), dtype=torch.float64)
    x, eps = pixels(samples=6), 0.3
    climb = partial(pgd, eps=eps, loss="deviation", step_size=100 * eps, steps=50, bounds=None)  # a power iteration
    delta = climb(lambda x: x.flatten(1) @ weight.T, x, norm="l2")
    reached = (delta.flatten(1) @ weight.T).norm(dim=1)
    torch.testing.assert_close(reached, (eps * torch.linalg.matrix_norm(weight, 2)).expand(6), rtol=1e-5, atol=0)

    w = weight[:1]  # one output: the closed form again, up to its sign
    delta = climb(lambda x: x.flatten(1) @ w.T, x, norm="linf").flatten(1)
    torch.testing.assert_close(delta * delta[:, :1].sign(), (eps * w.sign() * w[0, 0].sign()).expand(6, 12))


@settings(max_examples=25, deadline=None)
@given(seed=seeds, norm=st.sampled_from(["linf", "l2"]), eps=st.floats(1e-3, 0.5))
def test_fgsm_never_lowers_the_loss_of_a_linear_model(seed, norm, eps):
    weight = torch.randn(12, 4, generator=seeded(seed), dtype=torch.float64)
    x, y = pixels(seed), torch.arange(5) % 4
    delta = fgsm(lambda x: x.flatten(1) @ weight, x, eps=eps, y=y, norm=norm)
    before, after = (F.cross_entropy(z.flatten(1) @ weight, y, reduction="none") for z in (x, x + delta))
    assert (after >= before).all()  # it is convex, and the box only shortens a step along the gradient


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("decay", [0.0, 0.7])
def test_the_loop_is_the_published_one(norm, decay):
    """A literal transcription, sample by sample: Madry et al. (2018), and equations 6 and 7 of Dong et al. (2018)."""
    net, xs, eps, step = random_net(), pixels(), 0.4, 0.15
    attack = partial(mi_fgsm, decay=decay) if decay else partial(pgd, random_start=False)
    deltas = attack(net, xs, eps=eps, step_size=step, steps=7, norm=norm)
    for x, delta in zip(xs[:, None], deltas[:, None], strict=True):
        label, adversarial, momentum = net(x).argmax(dim=1), x, torch.zeros_like(x)
        for _ in range(7):
            leaf = adversarial.clone().requires_grad_()
            (grad,) = torch.autograd.grad(F.cross_entropy(net(leaf), label), leaf)
            momentum = decay * momentum + grad / grad.abs().sum()
            shift = adversarial + step * (momentum.sign() if norm == "linf" else momentum / momentum.norm()) - x
            shift = shift.clamp(-eps, eps) if norm == "linf" else shift * min(1, eps / shift.norm())
            adversarial = (x + shift).clamp(0, 1)
        torch.testing.assert_close(delta, adversarial - x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ATTACKS)
def test_a_batch_is_attacked_row_by_row(name, norm):
    net, x = random_net(), pixels()
    attack = partial(ATTACKS[name], net, eps=0.2, norm=norm, random_start=False)
    rows = torch.cat([attack(x[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(attack(x), rows, rtol=0, atol=1e-12)


def test_default_labels_are_the_predictions_and_a_callable_is_a_loss():
    net, x = random_net(), pixels()
    attack = partial(pgd, net, x, eps=0.2)
    assert attack().equal(attack(y=net(x).argmax(dim=1).int()))
    assert not attack().equal(attack(y=net(x).argmin(dim=1)))
    assert attack(loss="deviation").equal(attack(loss=lambda out, clean: (out - clean).norm(dim=1)))


def test_zero_radius_gives_zeros():
    assert pgd(random_net(), pixels(), eps=0, loss="deviation").equal(torch.zeros_like(pixels()))


# Random start.


def start(norm, samples=4000, n=6, **keywords):
    """Where an attack starts: its steps are too short to change a number."""
    x = torch.full((samples, n), 0.5)
    return pgd(lambda x: x, x, eps=0.4, norm=norm, steps=1, step_size=1e-30, **keywords)


def test_random_start_is_uniform_in_the_ball():
    """In ℓ2, (‖δ‖/eps)ⁿ is uniform, and E[δδᵀ] = eps²/(n + 2)·I; in ℓ∞ each pixel is uniform."""
    ball, cube = start("l2").double() / 0.4, start("linf").double() / 0.4
    for uniform in (ball.norm(dim=1) ** 6, (cube.flatten() + 1) / 2):
        at = torch.linspace(0, 1, len(uniform), dtype=torch.float64)
        assert (uniform.sort().values - at).abs().max() < 1.63 / len(uniform) ** 0.5  # Kolmogorov–Smirnov, 1%
    torch.testing.assert_close(ball.T @ ball / 4000, torch.eye(6).double() / 8, rtol=0, atol=0.01)
    torch.testing.assert_close(cube.T @ cube / 4000, torch.eye(6).double() / 3, rtol=0, atol=0.03)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_start_comes_from_the_generator_alone(norm):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = start(norm, generator=seeded(7))
    torch.manual_seed(2)
    assert start(norm, generator=seeded(7)).equal(first)
    assert not start(norm, generator=seeded(8)).equal(first)
    assert start(norm).equal(start(norm, generator=seeded(0)))  # the default
    torch.manual_seed(1)
    start(norm)
    assert torch.get_rng_state().equal(state)


# Rows without a gradient.


@pytest.mark.parametrize("bounds", [(-0.4242, 2.8215), (-1.7, 1.7)])
@pytest.mark.parametrize("dtype", ROUNDING)
def test_in_a_box_of_normalised_pixels_no_pixel_leaves_it_by_rounding(bounds, dtype):
    low, high = (torch.tensor(bound, dtype=dtype) for bound in bounds)
    x = (low + (high - low) * torch.rand(50, 784, generator=seeded(0)).to(dtype)).clamp(low, high)
    weights = torch.randn(784, 3, generator=seeded(0)).to(dtype)
    for eps in (0.1, 0.3, 1.0):
        eps *= bounds[1] - bounds[0]
        delta = pgd(lambda v: v @ weights, x, eps=eps, bounds=(low.item(), high.item()), steps=2, loss="deviation")
        assert (x + delta >= low).all()
        assert (x + delta <= high).all()
        assert norms(delta.double(), "linf").max() <= eps


def test_a_row_that_no_step_moves_stays_even_if_it_is_outside_the_box_by_rounding():
    x = torch.tensor([[1.0234, 0.5]], dtype=torch.bfloat16)
    with pytest.warns(NoGradientWarning, match="1 of 1 rows"):
        assert not pgd(lambda v: 0 * v, x, eps=0.1).any()


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_rows_that_cannot_move_are_counted(name, norm):
    x = torch.tensor([[0.2, 0.4], [0.7, 0.9], [0.0, 0.0], [0.9, 0.7]])
    flat_or_steep = lambda x: torch.relu(x - 0.5) + torch.sqrt(x) * (x.detach() == 0)  # noqa: E731
    # Row 0 has a zero gradient, row 2 an infinite one.
    with pytest.warns(NoGradientWarning, match="2 of 4 rows") as caught:
        delta = ATTACKS[name](flat_or_steep, x, eps=0.1, norm=norm, random_start=False)
    assert caught[0].filename == __file__
    assert str(caught[0].message).endswith(
        "their δ is 0: 1 have a gradient that is NaN or infinite; 1 have a gradient of 0"
    )
    assert delta[[0, 2]].equal(torch.zeros(2, 2))
    assert (norms(delta[[1, 3]], norm) > 0.0999).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_gradients_too_small_to_square_still_count(norm):
    x = torch.tensor([[0.6, 0.4]])
    faint = partial(mi_fgsm, lambda x: 1e-30 * x, x, eps=0.1, norm=norm, loss=lambda out, clean: out[:, 1] - out[:, 0])
    expected = torch.tensor([[-0.1, 0.1]]) / (1 if norm == "linf" else 2**0.5)
    torch.testing.assert_close(faint(), expected)


# Nothing twice.


@pytest.mark.parametrize(("labels", "random_start", "more"), [(True, True, 0), (False, False, 0), (False, True, 1)])
def test_the_model_is_run_once_a_step_and_on_the_clean_samples_only_where_no_step_sees_them(labels, random_start, more):
    net, x, calls = random_net(), pixels(), []
    y = net(x).argmax(dim=1) if labels else None
    pgd(lambda x: calls.append(len(x)) or net(x), x, eps=0.1, y=y, steps=3, random_start=random_start)
    assert calls == [5] * (3 + more)


class Calls(TorchDispatchMode):
    """Counts the calls of each operator."""

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count[func.overloadpacket] += 1
        return func(*args, **(kwargs or {}))


def test_the_steps_of_mi_fgsm_together_just_reach_the_edge():
    model, x = random_net(), pixels(seed=3)
    found, same, longer = (
        mi_fgsm(model, x, eps=5.0, steps=3, bounds=None, step_size=step) for step in (None, 5 / 3, 2.5 * 5 / 3)
    )
    torch.testing.assert_close(found, same)
    assert not found.equal(longer)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["pgd", "mi_fgsm"])
def test_no_step_waits_for_the_device_or_computes_the_gradient_of_a_parameter(name, norm):
    net, counts = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), []
    for steps in (2, 7):
        with Calls() as calls:
            ATTACKS[name](net, pixels(dtype=torch.float32), eps=0.1, steps=steps, norm=norm)
        counts.append(calls.count)
    few, many = counts
    grown = {operator for operator in many if many[operator] > few[operator]}
    assert torch.ops.aten.addmm in grown
    assert not grown & {torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten._to_copy}
    assert many[torch.ops.aten.mm] == 7  # backward to the input; the weight would take another 7


def test_a_gradient_that_cannot_be_written_to_is_not():
    """That of a sum is one number, seen as often as there are outputs."""
    x = torch.full((2, 3), 0.5)
    delta = pgd(lambda x: x, x, eps=0.1, loss=lambda out, clean: out.sum(1), random_start=False)
    torch.testing.assert_close(delta, torch.full((2, 3), 0.1))


# No trace.


class Net(nn.Sequential):
    """Convolution, BatchNorm, dropout."""

    def __init__(self):
        super().__init__(nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(24, 3))


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_leaves_no_trace(name):
    torch.manual_seed(0)
    net = Net().train()
    net[1].eval()  # modes are mixed
    net[0].weight.requires_grad_(False)
    net[4].bias.grad = torch.ones(3)
    state = {key: value.clone() for key, value in net.state_dict().items()}
    x = pixels(dtype=torch.float32).requires_grad_()
    random_state = torch.get_rng_state()

    delta = ATTACKS[name](net, x, eps=0.1)

    assert not delta.requires_grad
    assert [m.training for m in net.modules()] == [True, True, False, True, True, True]
    assert [p.requires_grad for p in net.parameters()] == [False, True, True, True, True, True]
    assert [p.grad is None for p in net.parameters()] == [True] * 5 + [False]
    assert net[4].bias.grad.equal(torch.ones(3))
    assert x.grad is None
    assert all(value.equal(state[key]) for key, value in net.state_dict().items())
    assert torch.get_rng_state().equal(random_state)
    assert torch.is_grad_enabled()


def test_modes_are_restored_after_an_error():
    net = Net().train()
    with pytest.raises(ValueError, match="loss has shape"):
        pgd(net, pixels(dtype=torch.float32), eps=0.1, loss=lambda out, clean: out)
    assert all(m.training for m in net.modules())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_an_attack_works_in_any_autograd_mode(name, mode):
    net = Net()
    attack = partial(ATTACKS[name], net, eps=0.1)
    x = pixels(dtype=torch.float32)
    y = net.eval()(x).argmax(dim=1)
    expected = attack(x, y=y)
    with mode():
        inside = attack(pixels(dtype=torch.float32), y=y.clone())  # made in that mode, labels too
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    assert inside.equal(expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_stepped_in_float32(dtype):
    x = torch.rand(2, 3, 160, 160, generator=seeded(0)).to(dtype)  # 76,800 values: ‖g‖₁ would overflow float16
    delta = pgd(lambda x: x.mean(dim=(2, 3)), x, eps=0.25, random_start=False)
    assert delta.dtype == dtype
    assert norms(delta.float(), "linf").tolist() == [0.25, 0.25]
    assert (x + delta).min() >= 0
    assert (x + delta).max() <= 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ATTACKS)
def test_cpu_and_gpu_agree(name):
    torch.manual_seed(0)
    net, x = Net().double(), pixels()
    expected = ATTACKS[name](net, x, eps=0.1, random_start=True)
    found = ATTACKS[name](net.cuda(), x.cuda(), eps=0.1, random_start=True)
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-9)


# Refusals.

LABELS = torch.zeros(5, dtype=torch.long)
NAN = pixels()
NAN[0, 0, 0, 0] = torch.nan


@pytest.mark.parametrize(
    ("error", "message", "changed"),
    [
        (ValueError, "eps is -0.1; expected a finite number, at least 0", {"eps": -0.1}),
        (ValueError, "eps is nan; expected a finite number", {"eps": float("nan")}),
        (TypeError, "eps is '8/255'; expected a number", {"eps": "8/255"}),
        (ValueError, "steps is 0; expected at least 1", {"steps": 0}),
        (TypeError, "steps is 2.5; expected a whole number", {"steps": 2.5}),
        (ValueError, "step_size is 0; expected a number above 0", {"step_size": 0}),
        (ValueError, "norm is 'l1'; expected one of 'linf', 'l2'", {"norm": "l1"}),
        (ValueError, "loss is 'hinge'; expected 'cross_entropy', 'deviation' or a callable", {"loss": "hinge"}),
        (ValueError, "no gradient at δ = 0; expected random_start=True", {"loss": "deviation", "random_start": False}),
        (TypeError, "generator is 3; expected a torch.Generator", {"generator": 3}),
        (ValueError, "bounds is (1, 0); expected (low, high)", {"bounds": (1, 0)}),
        (ValueError, "x spans [-1, 1]; expected values within bounds (0.0, 1.0)", {"x": pixels().round() * 2 - 1}),
        (ValueError, "x is an empty batch", {"x": pixels()[:0]}),
        (ValueError, "x holds 1 values that are NaN or infinite", {"x": NAN}),
        (TypeError, "x is torch.int64; expected a floating-point tensor", {"x": pixels().long()}),
        (ValueError, "x has shape (5,); expected (N, ...)", {"x": torch.zeros(5)}),
        (ValueError, "x has shape (5, 0); expected (N, ...)", {"x": torch.zeros(5, 0)}),
        (ValueError, "expected (N, d) with N = 5", {"model": lambda x: x}),
        (ValueError, "holds 15 values that are NaN", {"model": lambda x: x.flatten(1)[:, :3] * torch.nan}),
        (ValueError, "the loss does not depend on x", {"model": lambda x: x.detach().flatten(1)}),
        (ValueError, "y has shape (4,); expected (5,)", {"y": LABELS[:4]}),
        (TypeError, "y is torch.float32; expected a tensor of integer labels", {"y": LABELS.float()}),
        (TypeError, "y is list; expected a tensor of integer labels", {"y": [0] * 5}),
        (ValueError, "y spans [4, 4]; expected labels in [0, 3]", {"y": LABELS + 4}),
        (ValueError, "y is given with loss='deviation'", {"y": LABELS, "loss": "deviation"}),
    ],
)
def test_what_is_refused_is_said_in_one_line(error, message, changed):
    arguments = {"model": random_net(), "x": pixels(), "eps": 0.1} | changed
    with pytest.raises(error, match=re.escape(message)) as caught:
        pgd(arguments.pop("model"), arguments.pop("x"), **arguments)
    assert "\n" not in str(caught.value)


def test_labels_of_every_whole_type_are_those_labels():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 3))
    x, y = torch.rand(6, 3, 8, 8), torch.arange(6) % 3
    found = [attacks.fgsm(net, x, y=y.to(kind), eps=0.1) for kind in (torch.int64, torch.uint16, torch.uint8)]
    assert found[0].equal(found[1])
    assert found[0].equal(found[2])
