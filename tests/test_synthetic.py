"""The synthetic experiment at its smallest, its data and its networks."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from advtransfer.datasets.regression import gaussian_mixture
from advtransfer.experiments import synthetic
from advtransfer.models.mlp import OneHiddenLayer, tanh_network
from advtransfer.spectral import jacobian
from cases import normal, refuses, seeded

CONFIG = synthetic.Config.from_profile("smoke")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A cache, and no released files: this is about the random sources."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVTRANSFER_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("ADVTRANSFER_DATA", str(tmp_path_factory.mktemp("data")))
        yield synthetic.run(CONFIG, cache=False)


def test_a_source_that_has_not_moved_is_the_target(kept):
    still = kept.tables["transfer"].query("t == 0")
    assert len(still) == 3 * 2 * 2  # directions V, directions of transfer, levels
    first = still.query("level == 0")
    np.testing.assert_allclose(first[["alpha1", "ratio"]], 1, rtol=0, atol=1e-12)
    assert (first.ratio_first <= first.rho + 1e-12).all()
    assert (still.relative_distance < 1e-12).all()
    assert still.query("level == 1").alpha1.between(0.01, 0.9999).all()
    sources = kept.tables["sources"].query("t == 0")
    assert (sources.surrogate_loss < 1e-6 * sources.transfer_loss).all()
    target = kept.tables["target"].iloc[0]
    assert (sources.transfer_loss <= target.loss * (1 + 1e-9)).all()  # an affine map can only help
    assert target.gradient_norm > 0


def test_the_table_is_a_row_a_source_direction_and_level(kept):
    transfer = kept.tables["transfer"]
    scales = sorted({0, 0.5, 1} | {i * (i + 1) / 20 for i in range(10)})
    assert sorted(transfer.t.unique()) == pytest.approx(scales)
    assert len(transfer) == 3 * len(scales) * 4 == 4 * len(kept.tables["sources"])
    assert "released" not in kept.tables
    exact = (1 - transfer.ratio).clip(0) ** 0.5  # equation 12 in every row
    far = transfer.relative_distance > 1e-3
    np.testing.assert_allclose(transfer.relative_distance[far], exact[far], rtol=1e-8)
    moved = transfer.query("level == 0").groupby("t").relative_distance.mean()
    assert moved.loc[0] < moved.loc[0.1] < moved.loc[1.0]
    assert transfer.alpha1[transfer.level == 0].between(0, 1 + 1e-12).all()


def test_the_same_parameters_give_the_same_record_to_the_last_bit(kept, monkeypatch, tmp_path):
    monkeypatch.setenv("ADVTRANSFER_DATA", str(tmp_path / "none"))
    assert synthetic.run(CONFIG, cache=False).digest == kept.digest  # the target trained anew: the cache is another


def test_the_accumulated_scale_is_the_loops():
    reached = 0.0
    for i in range(10):
        reached += i / 10
        assert synthetic.accumulated_scale(i) == pytest.approx(reached, abs=1e-12)


# Data and networks.


def test_the_mixture_is_what_its_docstring_says():
    x, y = gaussian_mixture(samples=100_000, n=3, d=4, generator=seeded(1))
    assert (x.shape, y.shape) == ((100_000, 3), (100_000, 4))
    assert x.dtype == y.dtype == torch.float32
    means = torch.rand(10, 3, generator=seeded(1)) - 0.5  # the first that is drawn
    groups = x.unflatten(0, (10, 10_000))
    torch.testing.assert_close(groups.mean(1), means, rtol=0, atol=0.05)
    torch.testing.assert_close(groups.var(1), torch.ones(10, 3), rtol=0, atol=0.08)
    assert y.abs().max() <= 0.5 * 100 + 0.5  # Aφ(x) + b with φ in (0, 1]


def test_the_targets_are_radial_basis_functions():
    samples, n, d = 20, 3, 2
    x, y = gaussian_mixture(samples=samples, n=n, d=d, bases=5, generator=seeded(2))
    generator = seeded(2)

    def draw(*size):
        return (torch.rand(size, generator=generator) - 0.5).double()

    draw(10, n), torch.randn(samples, n, generator=generator)
    mu, s = draw(5, n), 100 * (draw(5) + 0.5)
    a, b = draw(d, 5), draw(d)
    for i in range(samples):
        phi = torch.stack([torch.exp(-((x[i].double() - mu[k]) ** 2).sum() / s[k]) for k in range(5)])
        torch.testing.assert_close(y[i].double(), a @ phi + b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("samples", [0, 15, -10])
def test_a_mixture_needs_as_many_points_around_each_centre(samples):
    message = f"samples = {samples}; expected a positive multiple of the 10 centres"
    refuses(message, lambda: gaussian_mixture(samples=samples, n=2, d=2, generator=seeded()))


def test_the_networks_jacobian_is_autograds():
    net, x = OneHiddenLayer.uniform(6, 9, 4, seeded(), torch.float64), normal(7, 6)
    torch.testing.assert_close(net.jacobian(x), jacobian(net, x), rtol=0, atol=1e-14)
    moved = net.moved(0.25, net)
    torch.testing.assert_close(moved(x), OneHiddenLayer(*(1.25 * w for w in net))(x), rtol=0, atol=1e-14)
    assert net.hidden(x).equal(torch.sigmoid(x @ net.w1.T + net.b1))


def test_a_tanh_network_has_the_widths_asked_for():
    net = tanh_network([6, 20, 3], seeded())
    assert net(normal(5, 6)).shape == (5, 3)
    assert [type(layer).__name__ for layer in net] == ["Linear", "Tanh", "Linear"]
    assert tanh_network([6, 20, 3], seeded())[0].weight.equal(net[0].weight)


def test_p_of_mean_rank_correlations_permutes_whole_columns():
    value, loss = np.random.default_rng(0).normal(size=(2, 3, 5))
    value += loss
    every = [
        np.mean([stats.spearmanr(v[list(order)], y).statistic for v, y in zip(value, loss, strict=True)])
        for order in itertools.permutations(range(5))
    ]
    r = every[0]
    exact = 2 * min(np.mean(np.array(every) >= r - 1e-9), np.mean(np.array(every) <= r + 1e-9))
    assert synthetic._p(value, loss, np.random.default_rng(1)) == pytest.approx(exact, abs=0.02)
    assert synthetic._p(loss, loss, np.random.default_rng(1)) < 0.03  # 2 in 120 and what chance adds
