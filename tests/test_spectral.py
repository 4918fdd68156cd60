"""Jacobians against autograd one sample at a time, and attacks against numpy's SVD of H^½ J."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advtransfer import spectral
from advtransfer.spectral import first_attack, jacobian, matrix_root, singular_attacks
from cases import ConvNet, assert_no_trace, inner_product, normal, orthogonal, refuses, seeds, trace

# Jacobians.


def pixels(samples=5, dtype=torch.float64):
    return normal(samples, 1, 3, 4, seed=1, dtype=dtype)


def one_by_one(net, x):
    """The Jacobian of each sample by itself, in eval mode."""
    net.eval()
    rows = [torch.autograd.functional.jacobian(lambda z: net(z[None])[0], sample) for sample in x]
    return torch.stack(rows).flatten(2)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
@pytest.mark.parametrize("chunk_size", [None, 1, 2, 7])
def test_a_network_in_train_mode_is_differentiated_in_eval_mode_without_a_trace(dtype, tolerance, chunk_size):
    net, x = ConvNet(dtype).train(), pixels(dtype=dtype).requires_grad_()
    net[0].eval()  # modes are mixed
    net[0].weight.requires_grad_(False)
    before = trace(net)
    found = jacobian(net, x, chunk_size=chunk_size)
    assert_no_trace(net, before)
    assert x.grad is None
    assert not found.requires_grad
    assert found.dtype == dtype
    assert found.shape == (5, 3, 12)
    torch.testing.assert_close(found, one_by_one(net, x.detach()), rtol=0, atol=tolerance)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_jacobian_is_found_in_any_autograd_mode(mode):
    net = ConvNet()
    expected = jacobian(net, pixels())
    with mode():
        assert jacobian(net, pixels()).equal(expected)  # of inputs made in that mode
        assert not torch.is_grad_enabled()


def test_outputs_that_do_not_depend_on_the_inputs_have_a_zero_row():
    x = normal(4, 3)
    assert jacobian(lambda x: torch.ones(len(x), 2), x).equal(torch.zeros(4, 2, 3).double())
    weight = torch.ones(2, dtype=torch.float64, requires_grad=True)
    assert jacobian(lambda x: weight.expand(len(x), 2), x).equal(torch.zeros(4, 2, 3).double())
    partly = jacobian(lambda x: torch.stack([x[:, 0].exp(), torch.ones(len(x)).double()], 1), x)
    assert partly[:, 0, 0].equal(x[:, 0].exp())
    assert partly.count_nonzero() == 4


# Singular attacks.


def svd(jac, hessian):
    """Singular values and right vectors of C J for one sample, where CᵀC = H: any such factor has the same."""
    factor = np.eye(len(jac))
    if hessian is not None:
        u, values, _ = np.linalg.svd(hessian.numpy())
        factor = np.sqrt(values)[:, None] * u.T
    return np.linalg.svd(factor @ jac.numpy(), full_matrices=False)[1:]


@settings(max_examples=80, deadline=None)
@given(
    seed=seeds,
    samples=st.integers(1, 4),
    d=st.integers(1, 7),
    n=st.integers(1, 9),
    kind=st.sampled_from(["I", "PD", "PSD"]),
)
def test_attacks_are_the_singular_vectors(seed, samples, d, n, kind):
    jac, hessian = normal(samples, d, n, seed=seed), inner_product(kind, d, seed)
    sigma, delta = singular_attacks(jac, hessian)
    assert sigma.shape == (samples, min(d, n))
    assert delta.shape == (samples, min(d, n), n)
    for found, vectors, one in zip(sigma.numpy(), delta.numpy(), jac, strict=True):
        values, right = svd(one, hessian)
        clear = values > 1e-2 * values[0]  # below, the squares in the Gram matrix are rounded
        np.testing.assert_allclose(found[clear], values[clear], rtol=1e-9)
        np.testing.assert_allclose(found**2, values**2, rtol=0, atol=1e-13 * values[0] ** 2)
        np.testing.assert_allclose((vectors @ vectors.T)[np.ix_(clear, clear)], np.eye(clear.sum()), atol=1e-8)
        gaps = np.minimum(-np.diff(values, prepend=np.inf), -np.diff(values, append=-np.inf))
        for i in np.flatnonzero(clear & (gaps > 1e-2 * values[0])):
            assert abs(vectors[i] @ right[i]) > 1 - 1e-9
        assert not vectors[found == 0].any()
        if kind == "PSD" and 1 < d <= n:
            assert found[-1] == 0  # no noise of the eigensolver is normalised into a direction
    for k in range(1, min(d, n) + 1):
        first = singular_attacks(jac, hessian, k)
        assert first.sigma.equal(sigma[:, :k])
        torch.testing.assert_close(first.delta, delta[:, :k], rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(5, 3, 20), (5, 20, 3), (5, 6, 6)])
def test_singular_values_are_exact_to_ten_digits(shape):
    jac = normal(*shape)
    expected = np.linalg.svd(jac.numpy(), compute_uv=False)
    np.testing.assert_allclose(singular_attacks(jac).sigma, expected, rtol=1e-10)


def test_tied_singular_values_span_their_space():
    rows = orthogonal(6)[:3]
    sigma, delta = singular_attacks(3 * rows[None])
    torch.testing.assert_close(sigma, torch.full((1, 3), 3.0).double(), rtol=1e-14, atol=0)
    torch.testing.assert_close(delta[0].T @ delta[0], rows.T @ rows, rtol=0, atol=1e-14)


def test_no_noise_of_the_eigensolver_is_made_a_direction():
    jac = torch.zeros(4, 3, 5).double()
    jac[1] = normal(3, 1) @ normal(1, 5)  # rank 1
    jac[2], jac[3] = normal(3, 5), torch.diag(torch.tensor([1e-7, 1.0, 1e-5]))[:, [0, 1, 2, 0, 1]] / 2**0.5
    jac[3, :, 3:] = 0
    sigma, delta = singular_attacks(jac)
    assert (sigma > 0).tolist() == [[False] * 3, [True, False, False], [True] * 3, [True, True, False]]
    assert (delta.norm(dim=2) > 0).equal(sigma > 0)
    kept = delta[sigma > 0]
    torch.testing.assert_close(kept.norm(dim=1), torch.ones(len(kept)).double(), rtol=0, atol=1e-6)


def test_an_inner_product_a_sample():
    jac, hessians = normal(4, 3, 6), torch.stack([inner_product("PD", 3, seed) for seed in range(4)])
    together = singular_attacks(jac, hessians)
    for i in range(4):
        one = singular_attacks(jac[i : i + 1], hessians[i])
        torch.testing.assert_close(together.sigma[i], one.sigma[0], rtol=1e-13, atol=0)
        torch.testing.assert_close((together.delta[i] * one.delta[0]).sum(1).abs(), torch.ones(3).double())


def test_single_precision_is_kept_and_only_rounds_the_result():
    jac = normal(5, 3, 8, dtype=torch.float32)
    found, exact = singular_attacks(jac), singular_attacks(jac.double())
    assert found.sigma.dtype == found.delta.dtype == torch.float32
    assert found.sigma.equal(exact.sigma.float())
    assert found.delta.equal(exact.delta.float())


def test_cores_share_a_large_batch_without_changing_it(monkeypatch):
    pools = []

    class Pool(spectral.ThreadPoolExecutor):
        def __init__(self, workers):
            pools.append(workers)
            super().__init__(workers)

    monkeypatch.setattr(spectral, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    jac = normal(1501, 4, 6)
    together = singular_attacks(jac)
    assert pools == [3]
    parts = [singular_attacks(part) for part in jac.split(999)]
    assert pools == [3]
    for found, expected in zip(together, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", ["PD", "PSD"])
def test_a_root_squares_to_its_matrix(kind):
    h = inner_product(kind, 5)
    root = matrix_root(h, 5)
    torch.testing.assert_close(root @ root, h, rtol=0, atol=1e-13)
    assert torch.linalg.eigvalsh(root)[0] > -1e-7
    torch.testing.assert_close(root, root.T, rtol=0, atol=1e-13)
    torch.testing.assert_close(matrix_root(torch.stack([2 * h, h]), 5, samples=2)[1], root, rtol=0, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_root_forgives_the_rounding_of_its_matrix_and_nothing_else(dtype, scale):
    """diag(p) - p pᵀ is the H of cross-entropy; it is singular, so that rounding gives it negative eigenvalues."""
    for seed in range(50):
        p = normal(10, seed=seed).to(dtype).softmax(0)
        h = scale * (p.diag() - torch.outer(p, p))
        root = matrix_root(h, 10)
        torch.testing.assert_close(root @ root, h.double(), rtol=0, atol=scale * 10 * torch.finfo(dtype).eps)
    skewed = scale * torch.tensor([[2.0, 1.0], [0.0, 2.0]], dtype=dtype)
    refuses("hessian is not symmetric", lambda: matrix_root(skewed, 2))
    indefinite = scale * torch.tensor([1.0, -0.2], dtype=dtype).diag()
    refuses("expected positive semi-definite", lambda: matrix_root(indefinite, 2))


# Refusals.

NAN = normal(2, 3, 4)
NAN[0, 0, 0] = torch.nan
JAC = normal(2, 3, 4)
ASYMMETRIC = torch.tensor([[1.0, 2, 0], [0, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("x is an empty batch", lambda: jacobian(torch.tanh, normal(0, 3))),
        ("x holds 1 values that are NaN", lambda: jacobian(lambda x: x.flatten(1), NAN)),
        ("model outputs have shape (2, 3, 4); expected (N, d) with N = 2", lambda: jacobian(torch.tanh, JAC)),
        ("chunk_size is 0; expected at least 1", lambda: jacobian(torch.tanh, normal(2, 3), chunk_size=0)),
        ("jac has shape (2, 3); expected 3 axes", lambda: singular_attacks(normal(2, 3))),
        ("jac holds 1 values that are NaN", lambda: singular_attacks(NAN)),
        ("k is 0; expected 1 to 3", lambda: singular_attacks(JAC, k=0)),
        ("k is 4; expected 1 to 3", lambda: singular_attacks(JAC, k=4)),
        ("hessian has shape (2, 2); expected (3, 3) or (2, 3, 3)", lambda: singular_attacks(JAC, torch.eye(2))),
        (
            "hessian has shape (5, 3, 3); expected (3, 3) or (2, 3, 3)",
            lambda: singular_attacks(JAC, torch.eye(3).expand(5, 3, 3)),
        ),
        ("hessian has shape (3,); expected (3, 3) or (2, 3, 3)", lambda: singular_attacks(JAC, torch.ones(3))),
        ("hessian is not symmetric (largest difference 2)", lambda: singular_attacks(JAC, ASYMMETRIC)),
        ("hessian is not symmetric (largest difference nan)", lambda: singular_attacks(JAC, torch.eye(3) * torch.nan)),
        ("hessian has the eigenvalue -1; expected positive semi-definite", lambda: matrix_root(-torch.eye(3), 3)),
    ],
)
def test_what_is_refused_is_said_in_one_line(message, call):
    refuses(message, call)


# The exact first attack.


def test_the_first_attack_of_a_linear_model_is_numpys_first_singular_vector():
    weight, x = normal(3, 12, seed=4), pixels() * 0.01
    delta = first_attack(lambda z: z.flatten(1) @ weight.T, x, eps=0.3, bounds=None)
    leading = torch.from_numpy(np.linalg.svd(weight.numpy())[2][0])
    cosine = delta.flatten(1) @ leading / 0.3
    torch.testing.assert_close(cosine.abs(), torch.ones_like(cosine), rtol=1e-12, atol=0)


@pytest.mark.parametrize("scale", [1, -1])
def test_of_the_two_signs_it_takes_the_one_that_moves_further(scale):
    """f(x) = ±(x + x²): from x = ±1 the way outwards from −½ is the further one."""
    x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    delta = first_attack(lambda z: scale * (z + z.square()), x, eps=0.1, bounds=None)
    torch.testing.assert_close(delta, 0.1 * x, rtol=1e-12, atol=0)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, eps=st.floats(0, 2))
def test_it_stays_in_the_ball_and_in_the_box(seed, eps):
    net, x = ConvNet(torch.float64), torch.rand(4, 1, 3, 4, generator=torch.Generator().manual_seed(seed)).double()
    delta = first_attack(net, x, eps=eps)
    assert delta.flatten(1).norm(dim=1).max() <= eps + 1e-12
    assert (x + delta).min() >= -1e-15
    assert (x + delta).max() <= 1 + 1e-15


@pytest.mark.parametrize("eps", [-0.1, float("nan"), float("inf")])
def test_a_radius_that_is_none_is_refused(eps):
    refuses(f"eps is {eps}", lambda: first_attack(ConvNet(torch.float64), pixels(), eps=eps))


def test_a_chunk_size_is_a_whole_number_of_any_kind():
    x = normal(3, 4)
    assert jacobian(torch.tanh, x, chunk_size=np.int64(2)).equal(jacobian(torch.tanh, x))
    with pytest.raises(TypeError, match=r"chunk_size is 2\.5; expected a whole number"):
        jacobian(torch.tanh, x, chunk_size=2.5)
