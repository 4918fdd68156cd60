"""Models are evaluated without a trace, and inputs are refused before any work."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import advtransfer.modes
from advtransfer.checks import check_batch
from advtransfer.modes import evaluating, one_thread, outputs_of
from advtransfer.prepare import prepare
from cases import ConvNet, refuses


def modes(*nets):
    return [m.training for net in nets for m in net.modules()]


@pytest.mark.parametrize("fails", [False, True])
def test_every_module_is_in_eval_mode_inside_and_as_it_was_after(fails):
    shared = nn.Dropout()
    first, second = nn.Sequential(ConvNet(), shared).train(), nn.Sequential(shared, ConvNet()).train()
    first[0][1].eval()  # modes are mixed
    second.training = False
    before = modes(first, second)
    try:
        with evaluating(first, torch.tanh, second):
            assert not any(modes(first, second))
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert modes(first, second) == before
    assert set(before) == {True, False}


@pytest.mark.parametrize("outside", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("gradients", [False, True])
def test_autograd_is_as_asked_inside_and_as_it_was_after(outside, gradients):
    with outside():
        state = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        with evaluating(torch.tanh, gradients=gradients):
            assert torch.is_grad_enabled() is gradients
            assert not torch.is_inference_mode_enabled()
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == state


@pytest.mark.parametrize(
    ("outputs", "given"),
    [
        (torch.zeros(5), (5,)),
        (torch.zeros(5, 2, 2), (5, 2, 2)),
        (torch.zeros(4, 2), (4, 2)),
    ],
)
def test_outputs_that_are_not_a_matrix_are_refused(outputs, given):
    refuses(
        f"model outputs have shape {given}; expected (N, d) with N = 5",
        lambda: outputs_of(lambda x: outputs, torch.zeros(5, 3)),
    )


@pytest.mark.parametrize(
    ("returned", "given", "choose"),
    [
        (lambda z: (z, None), "tuple of 2", "[0]"),
        (lambda z: [z.mean(), z], "list of 2", "[1]"),
        (lambda z: {"loss": 0, "logits": z}, "dict with 'loss', 'logits'", "['logits']"),
        (lambda z: {"out": z}, "dict with 'out'", "['out']"),
        (lambda z: {"loss": z.mean(), "scores": z}, "dict with 'loss', 'scores'", "['scores']"),
        (lambda z: SimpleNamespace(loss=z.mean(), scores=z), "SimpleNamespace", ".scores"),
    ],
)
def test_outputs_that_are_no_tensor_are_refused_with_the_wrapper_that_helps(returned, given, choose):
    model = lambda x: returned(2 * x)  # noqa: E731
    wrapper = f"advtransfer.modes.Select(model, lambda out: out{choose})"
    refuses(f"the model returns {given}; expected a tensor (N, d)", lambda: outputs_of(model, torch.ones(5, 3)))
    refuses(wrapper, lambda: outputs_of(model, torch.ones(5, 3)))
    selected = eval(wrapper, {"advtransfer": advtransfer, "model": model})
    assert outputs_of(selected, torch.ones(5, 3)).equal(2 * torch.ones(5, 3))


@pytest.mark.parametrize("returned", [None, 3.0, (), {}, torch.zeros(5, 3).numpy()], ids=str)
def test_no_wrapper_is_advised_that_would_not_help(returned):
    refuses("modes.Select(model, lambda out: ...)", lambda: outputs_of(lambda x: returned, torch.ones(5, 3)))


def test_logits_are_taken_from_an_object_that_has_them():
    assert outputs_of(lambda x: SimpleNamespace(logits=2 * x, loss=None), torch.ones(5, 3)).equal(2 * torch.ones(5, 3))


def test_a_model_may_write_into_its_input_and_into_its_last_output():
    kept, x = torch.zeros(2, 3), torch.ones(2, 3)

    def reused(x):
        x.mul_(2)
        return kept.add_(x)

    first, second = outputs_of(reused, x), outputs_of(reused, x)
    assert (x.unique(), first.unique(), second.unique()) == (1, 2, 4)


def test_a_half_model_that_gets_single_precision_is_refused_with_both_dtypes():
    refuses(
        "x is torch.float32, and the model's parameters are torch.bfloat16; expected the same dtype",
        lambda: outputs_of(nn.Linear(3, 2).bfloat16(), torch.zeros(5, 3)),
        TypeError,
    )


def test_only_a_half_model_is_advised_to_be_prepared():
    """A prepared copy of any other model converts nothing."""
    for own, advised in ((torch.bfloat16, True), (torch.float64, False)):
        with pytest.raises(TypeError) as caught:
            outputs_of(nn.Linear(3, 2, dtype=own), torch.zeros(5, 3))
        assert ("prepare.prepare" in str(caught.value)) == advised


def test_four_threads_leave_one_model_as_it_was():
    """Each puts it into eval mode and back: without a count, the first to go back would end eval mode for all."""
    model, gate = nn.Sequential(nn.BatchNorm1d(3)).train(), threading.Barrier(4)

    def visit(wait):
        gate.wait()
        with evaluating(model):
            time.sleep(wait)
            return any(modes(model))

    with ThreadPoolExecutor(4) as pool:
        assert not any(pool.map(visit, [0.01, 0.05, 0.02, 0.04]))
    assert all(modes(model))


@pytest.mark.parametrize("bound", [lambda m: m.forward, lambda m: partial(m.forward)])
def test_a_bound_method_runs_in_eval_mode_and_is_told(bound):
    model = ConvNet().train()
    told = pytest.warns(UserWarning, match="the model is the bound method ConvNet.forward: pass the module itself")
    with told, evaluating(bound(model)):
        assert not any(modes(model))
    assert all(modes(model))


def with_values(*values):
    x = torch.ones(3, 2)
    x.view(-1)[: len(values)] = torch.tensor(values)
    return x


@pytest.mark.parametrize(
    ("error", "message", "x"),
    [
        (TypeError, "image is list; expected a floating-point tensor", [[1.0]]),
        (TypeError, "image is torch.uint8; expected a floating-point tensor", torch.ones(3, 2, dtype=torch.uint8)),
        (ValueError, "image has shape (3,); expected 2 axes", torch.ones(3)),
        (ValueError, "image has shape (); expected 2 axes", torch.tensor(1.0)),
        (ValueError, "image is an empty batch of shape (0, 2); expected at least one sample", torch.ones(0, 2)),
        (ValueError, "image holds 1 values that are NaN or infinite", with_values(torch.nan)),
        (ValueError, "image holds 1 values that are NaN or infinite", with_values(torch.inf)),
        (ValueError, "image holds 3 values that are NaN or infinite", with_values(torch.inf, -torch.inf, torch.nan)),
    ],
)
def test_a_bad_batch_is_refused(error, message, x):
    refuses(message, lambda: check_batch("image", x, ndim=2), error)


def test_large_values_are_no_infinity():
    check_batch("x", torch.full((70_000, 2), 60_000.0).half())  # their sum overflows
    refuses("x has shape (); expected at least 1 axes", lambda: check_batch("x", torch.tensor(1.0)))


def test_one_thread_is_one_thread_and_gives_them_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_model_that_fails_for_another_reason_than_its_type_says_its_own_reason():
    ready = prepare(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 3)), dtype=torch.bfloat16)
    with pytest.raises(RuntimeError, match="channels"):
        outputs_of(ready, torch.rand(2, 1, 8, 8))


def test_a_method_of_a_prepared_module_is_told_to_pass_the_module():
    half = prepare(nn.Linear(3, 2), dtype=torch.bfloat16)
    with pytest.raises(TypeError, match=r"or attack the module itself, and not its method$"):
        outputs_of(half.forward, torch.rand(4, 3))
    assert outputs_of(half, torch.rand(4, 3)).shape == (4, 2)


def test_overlapping_blocks_of_one_thread_give_the_threads_of_the_process_back():
    from threadpoolctl import threadpool_info

    def limits():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    np.ones((2, 2)) @ np.ones((2, 2))
    before, gates = limits(), [threading.Event() for _ in range(2)]
    inside = threading.Barrier(3)

    def block(gate):
        with one_thread():
            inside.wait(10)
            gate.wait(10)

    threads = [threading.Thread(target=block, args=[gate]) for gate in gates]
    for thread in threads:
        thread.start()
    inside.wait(10)
    assert set(limits()) <= {1}
    gates[0].set()
    threads[0].join()
    assert set(limits()) <= {1}  # the other block is still there
    gates[1].set()
    threads[1].join()
    assert limits() == before
