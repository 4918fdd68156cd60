"""Scores against independent implementations, closed forms and invariances; their intervals against known variances."""

import importlib
import itertools
import math
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from scipy.spatial.distance import pdist

from advtransfer import extras, scores
from advtransfer.scores import classifiers
from cases import normal, orthogonal, refuses, seeded

SHAPES = [(60, 7, 3), (40, 90, 4), (30, 30, 2)]  # N > D, N < D, N = D
FEATURE_SCORES = ["logme", "h_score", "transrate", "gbc", "parc", "knn"]


def gaussian(n=60, d=7, classes=3, seed=0, apart=1.0):
    """Features of classes of different sizes that are apart, but not separable, in units of their own."""
    labels = torch.randint(classes, (n,), generator=seeded(seed)).sort().values
    labels[: 2 * classes] = torch.arange(2 * classes) % classes
    means = normal(classes, d, seed=seed + 1)
    return 3 * (apart * means[labels] + normal(n, d, seed=seed + 2)) + 1, labels


def one_hot(labels):
    return torch.nn.functional.one_hot(labels).double()


def probabilities(n=60, z=5, seed=0):
    return normal(n, z, seed=seed).softmax(1)


@pytest.mark.parametrize("shape", SHAPES)
def test_logme_is_the_maximum_of_the_evidence_of_a_normal_distribution(shape):
    f, y = gaussian(*shape)
    n, kernel = len(f), (f @ f.T).numpy()

    def loss(log_variances, t):
        noise, weight = np.exp(log_variances)
        return -stats.multivariate_normal(cov=noise * np.eye(n) + weight * kernel, allow_singular=False).logpdf(t) / n

    found = [
        -optimize.minimize(loss, [-2.0, -7.0], t.numpy(), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-13})
        .fun for t in one_hot(y).T
    ]  # fmt: skip
    assert scores.logme(f, y) == pytest.approx(np.mean(found), abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_logme_equals_bayesian_ridge(shape):
    ridge = pytest.importorskip("sklearn.linear_model").BayesianRidge(
        alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0, fit_intercept=False, compute_score=True, tol=1e-13,
        max_iter=10**6,
    )  # fmt: skip
    f, y = gaussian(*shape)
    expected = np.mean([ridge.fit(f.numpy(), t.numpy()).scores_[-1] / len(f) for t in one_hot(y).T])
    assert scores.logme(f, y) == pytest.approx(expected, rel=1e-10)


def test_logme_finds_the_greater_of_two_maxima_and_the_limits():
    """Two orthogonal features of very different size, both of which explain a part of the labels."""
    y, n, sizes = torch.arange(40) % 2, 40, np.array([1.0, 1e-6])
    u = torch.linalg.qr(torch.stack([y - 0.5 + 0.5 * normal(40, seed=3), y - 0.5 + 0.1 * normal(40, seed=4)], 1))[0]
    expected, maxima = [], 0
    ratios = np.exp(np.linspace(-40, 20, 60001))[:, None]
    for t in one_hot(y).T:
        squares = (u.T @ t).square().numpy()
        residual = (ratios / (ratios + sizes)) @ squares + 20 - squares.sum()
        curve = -(np.log1p(sizes / ratios).sum(1) / n + np.log(2 * np.pi * residual / n) + 1) / 2
        expected.append(curve.max())
        maxima += ((curve[1:-1] > curve[:-2]) & (curve[1:-1] > curve[2:])).sum()
    assert maxima == 4
    assert scores.logme(u * torch.from_numpy(sizes).sqrt(), y) == pytest.approx(np.mean(expected), abs=1e-7)
    silent = torch.tensor([1.0, 1.0, -1.0, -1.0])[:, None]  # orthogonal to both classes: w = 0 is best
    assert scores.logme(silent, torch.tensor([0, 1, 0, 1])) == pytest.approx(-(math.log(math.pi) + 1) / 2, abs=1e-10)


@pytest.mark.parametrize("shape", [SHAPES[0], (200, 20, 10)])
def test_the_plain_h_score_is_the_sum_of_squared_canonical_correlations(shape):
    f, y = gaussian(*shape)
    centred = [v - v.mean(0) for v in (f, one_hot(y)[:, 1:])]
    q = [torch.linalg.qr(v)[0] for v in centred]
    expected = torch.linalg.svdvals(q[0].T @ q[1]).square().sum().item()
    assert scores.h_score(f, y, shrinkage=None) == pytest.approx(expected, rel=1e-10)
    bent = torch.cat([f @ normal(f.shape[1], f.shape[1], seed=5) + 3, f[:, :1], torch.ones(len(f), 1)], 1)
    assert scores.h_score(bent, y, shrinkage=None) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_h_score_uses_the_covariance_of_ledoit_and_wolf(shape):
    covariance = pytest.importorskip("sklearn.covariance")
    f, y = gaussian(*shape)
    fitted = covariance.LedoitWolf().fit(f.numpy())
    means = (one_hot(y) @ (one_hot(y).T @ f / one_hot(y).sum(0)[:, None])).numpy()
    between = np.cov(means.T, bias=True)
    expected = (1 - fitted.shrinkage_) * np.trace(np.linalg.solve(fitted.covariance_, between))
    assert scores.h_score(f, y) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_transrate_is_a_difference_of_log_determinants(shape):
    f, y = gaussian(*shape)
    z = (f - f.mean(0)).numpy()

    def rate(v):
        return np.linalg.slogdet(np.eye(v.shape[1]) + v.T @ v / (len(v) * 0.01))[1] / 2

    expected = rate(z) - np.mean([rate(z[y.numpy() == c]) for c in y.unique()])
    assert scores.transrate(f, y, eps=0.01) == pytest.approx(expected, rel=1e-10)
    assert scores.transrate(4 * f, y, eps=0.16) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("covariance", ["spherical", "diagonal"])
def test_gbc_sums_the_overlaps_of_gaussians(shape, covariance):
    f, y = gaussian(*shape, apart=0.3)
    x = (f - f.mean(0)).numpy()
    z = x @ np.linalg.svd(x, full_matrices=False)[2][:5].T
    groups = [z[y.numpy() == c] for c in y.unique()]
    spread = [g.var(0) if covariance == "diagonal" else np.full(5, g.var(0).mean()) for g in groups]
    expected = 0.0
    for i, j in itertools.permutations(range(len(groups)), 2):
        a, b, between = np.diag(spread[i]), np.diag(spread[j]), groups[i].mean(0) - groups[j].mean(0)
        both = (a + b) / 2
        log = np.log(np.linalg.det(both) / np.sqrt(np.linalg.det(a) * np.linalg.det(b)))
        expected -= np.exp(-between @ np.linalg.solve(both, between) / 8 - log / 2)
    assert scores.gbc(f, y, components=5, covariance=covariance) == pytest.approx(expected, rel=1e-10)


def test_leep_is_its_formula_and_nce_if_the_source_is_sure():
    p, y = probabilities(z=5), torch.arange(60) % 3
    joint = one_hot(y).T @ p / 60
    expected = ((joint / joint.sum(0))[y] * p).sum(1).log().mean().item()
    assert scores.leep(p, y) == pytest.approx(expected, rel=1e-12)
    assert scores.leep(p.half(), y) == pytest.approx(expected, rel=1e-3)
    z = p.argmax(1)
    sure = torch.nn.functional.one_hot(z, 9).float()  # source classes 5 to 8 have no mass
    assert scores.leep(sure, y) == pytest.approx(scores.nce(z, y), rel=1e-12)
    tiny = torch.cat([p, torch.full((60, 1), 5e-324)], 1)
    assert scores.leep(tiny.double(), y) == pytest.approx(expected, rel=1e-12)


def test_nce_is_mutual_information_less_entropy():
    metrics = pytest.importorskip("sklearn.metrics")
    z, y = probabilities(z=5).argmax(1), torch.arange(60) % 3
    expected = metrics.mutual_info_score(y.numpy(), z.numpy()) - stats.entropy(np.bincount(y))
    assert scores.nce(z, y) == pytest.approx(expected, rel=1e-10)
    assert scores.nce(torch.zeros_like(y), y) == pytest.approx(-math.log(3), rel=1e-12)


def test_n_leep_is_leep_of_the_clusters_of_the_principal_components():
    mixture = pytest.importorskip("sklearn.mixture")
    f, y = gaussian(80, 12, 3)
    x = (f - f.mean(0)).numpy()
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    k = np.searchsorted(np.cumsum(s**2) / (s**2).sum(), 0.6) + 1
    fitted = mixture.GaussianMixture(6, random_state=4).fit(u[:, :k] * s[:k])
    expected = scores.leep(torch.from_numpy(fitted.predict_proba(u[:, :k] * s[:k])), y)
    found = scores.n_leep(f, y, components_per_class=2, variance=0.6, seed=4)
    assert found == pytest.approx(expected, rel=1e-6)  # the signs of components are free, and EM stops where it may


@pytest.mark.parametrize("shape", SHAPES)
def test_parc_is_spearmans_correlation_of_two_lists_of_correlation_distances(shape):
    f, y = gaussian(*shape)
    distances = pdist(f.numpy(), "correlation"), pdist(one_hot(y).numpy(), "correlation").round(9)
    assert scores.parc(f, y) == pytest.approx(stats.spearmanr(*distances).statistic, rel=1e-10)


def test_parc_of_too_many_samples_is_that_of_some():
    f, y = gaussian()
    found = [scores.parc(f, y, most=most, seed=seed) for most, seed in [(20, 0), (20, 0), (20, 1), (60, 0), (60, 1)]]
    assert found[0] == found[1] != found[2]
    assert found[3] == found[4] == scores.parc(f, y)


@pytest.mark.parametrize("widths", [(2, 3), (9, 2)])
def test_cka_is_a_ratio_of_means_over_all_tuples_of_different_samples(widths):
    """Song et al., their equation for the unbiased estimate as a U-statistic."""
    n = 6
    x, y = (normal(n, d, seed=d) for d in widths)
    kernels = [(v @ v.T).numpy() for v in (x, y)]

    def hsic(k, m):
        tuples = itertools.permutations(range(n), 4)
        return np.mean([k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in tuples])

    expected = hsic(*kernels) / math.sqrt(hsic(kernels[0], kernels[0]) * hsic(kernels[1], kernels[1]))
    assert scores.cka(x, y) == pytest.approx(expected, rel=1e-9)
    assert scores.cka(x, x @ orthogonal(widths[0]) * 5 - 2) == pytest.approx(1, rel=1e-10)


def test_cka_of_unrelated_features_is_zero_on_average():
    found = [scores.cka(normal(20, 30, seed=k), normal(20, 40, seed=1000 + k)) for k in range(200)]
    assert abs(np.mean(found)) < 4 * np.std(found) / math.sqrt(200)


@pytest.mark.parametrize("k", [1, 4])
def test_knn_equals_the_classifier_fitted_without_each_sample(k, monkeypatch):
    neighbors = pytest.importorskip("sklearn.neighbors")
    monkeypatch.setattr(classifiers, "BLOCK", 7)
    f, y = gaussian(60, 7, 3, apart=0.5)
    x, truth = f.numpy(), y.numpy()
    rest = [np.delete(np.arange(60), i) for i in range(60)]
    fitted = (neighbors.KNeighborsClassifier(k).fit(x[kept], truth[kept]) for kept in rest)
    expected = np.mean([model.predict(x[i : i + 1])[0] == truth[i] for i, model in enumerate(fitted)])
    assert 0.4 < expected < 1
    assert scores.knn(f, y, k=k) == expected


def test_the_probe_reads_a_linear_signal_and_guesses_without_one():
    pytest.importorskip("sklearn")
    y = torch.arange(300) % 3
    x = torch.cat([one_hot(y) + 0.2 * normal(300, 3), 100 * normal(300, 20, seed=1)], 1)
    found = [scores.probe(v, y) for v in (x, 50 * x + 7, torch.cat([x, torch.ones(300, 1)], 1))]
    assert min(found) > 0.95
    assert max(found) - min(found) < 0.01
    assert scores.probe(x[:, 3:], y) == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / 300))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("logme", "rotated scaled"),
        ("h_score", "rotated scaled shifted padded"),
        ("transrate", "rotated shifted padded doubled"),
        ("gbc", "rotated scaled shifted padded doubled"),
        ("parc", "scaled"),
        ("knn", "rotated scaled shifted padded"),
        ("cka", "rotated scaled shifted padded"),
    ],
)
def test_what_leaves_a_score_as_it_is(name, same, shape):
    f, y = gaussian(*shape)
    target = normal(len(f), 3, seed=8) + f[:, :3]
    score = {"cka": lambda x, labels: scores.cka(x, torch.cat([target] * (len(x) // len(f))))}.get(
        name, getattr(scores, name)
    )
    changed = {
        "rotated": (f @ orthogonal(f.shape[1]), y),
        "scaled": (1000 * f, y),
        "shifted": (f + normal(f.shape[1], seed=9), y),
        "padded": (torch.cat([f, torch.full((len(f), 2), 3.0)], 1), y),
        "doubled": (f.repeat(2, 1), y.repeat(2)),
        "renamed": (f, 7 - 3 * y),
        "kept in int8": (f, y.to(torch.int8)),
    }
    expected = score(f, y)
    for how in [*same.split(), "renamed", "kept in int8"]:
        assert score(*changed[how]) == pytest.approx(expected, rel=1e-8, abs=1e-8), how
    half = f.bfloat16()
    assert score(half, y) == score(half.double(), y)
    if name != "cka":
        order = torch.randperm(len(f), generator=seeded())
        assert score(f[order], y[order]) == pytest.approx(expected, rel=1e-9)


def test_duplicated_samples_leave_leep_and_nce_as_they_are_and_so_do_other_names():
    p, y = probabilities(), torch.arange(60) % 3
    z = p.argmax(1)
    assert scores.leep(p.repeat(2, 1), 5 - y.repeat(2)) == pytest.approx(scores.leep(p, y), rel=1e-12)
    assert scores.nce(9 - 2 * z.repeat(2), 5 - y.repeat(2)) == pytest.approx(scores.nce(z, y), rel=1e-12)


F, Y = gaussian()
P = probabilities()
LONELY = torch.where(torch.arange(60) == 0, 9, Y)


@pytest.mark.parametrize("name", [*FEATURE_SCORES, "n_leep", "probe"])
def test_every_score_of_features_refuses_what_it_cannot_score(name):
    score, broken = getattr(scores, name), F.clone()
    broken[3, 0] = torch.nan
    refuses("features is torch.int64; expected a floating-point tensor", lambda: score(Y[:, None], Y), TypeError)
    refuses("features has shape (60,)", lambda: score(F[:, 0], Y))
    refuses("features is an empty batch", lambda: score(F[:0], Y[:0]))
    refuses("features holds 1 values that are NaN", lambda: score(broken, Y))
    refuses("are the same for all samples", lambda: score(torch.ones(60, 4), Y))
    refuses("labels is torch.float64; expected a tensor of integers", lambda: score(F, Y.double()), TypeError)
    refuses("labels is list; expected a tensor of integers", lambda: score(F, Y.tolist()), TypeError)
    refuses("labels has shape (59,); expected (60,)", lambda: score(F, Y[1:]))
    refuses("labels hold one class, 4; expected at least two", lambda: score(F, torch.full((60,), 4)))


def test_every_score_names_what_it_cannot_take():
    refuses(
        "features of rank 3 reproduce a class of the 60 samples exactly",
        lambda: scores.logme(one_hot(Y) + 0.0, Y),
    )
    few = gaussian(8, 9, 2)
    refuses("reproduce a class of the 16 samples exactly", lambda: scores.logme(few[0].repeat(2, 1), few[1].repeat(2)))
    refuses("shrinkage = 'oas'; expected 'ledoit_wolf' or None", lambda: scores.h_score(F, Y, shrinkage="oas"))
    refuses(
        "the 8 samples have centred features of rank 7, so that the plain H-score is 1 whatever the labels",
        lambda: scores.h_score(*few, shrinkage=None),
    )
    refuses("eps is 0; expected a positive number", lambda: scores.transrate(F, Y, eps=0))
    refuses("is lost beside features of size", lambda: scores.transrate(1e9 * gaussian(20, 40)[0], gaussian(20, 40)[1]))
    refuses("components = 0, covariance = 'spherical'", lambda: scores.gbc(F, Y, components=0))
    refuses("components = 64, covariance = 'full'", lambda: scores.gbc(F, Y, covariance="full"))
    for score in (scores.gbc, scores.knn):
        refuses("class 9 has 1 of the 60 samples; expected at least 2 of each class", lambda s=score: s(F, LONELY))
    still = torch.where((Y == 1)[:, None], 2.0, F)
    refuses("class 1 has no variance in some component", lambda: scores.gbc(still, Y))
    refuses("rows of probabilities that sum to 1: pass the softmax of logits", lambda: scores.leep(normal(60, 5), Y))
    refuses("rows of probabilities that sum to 1", lambda: scores.leep(2 * P, Y))
    refuses("labels has shape (60,); expected (59,)", lambda: scores.leep(P[1:], Y))
    refuses("labels hold one class, 0", lambda: scores.leep(P, 0 * Y))
    refuses("labels hold one class, 0", lambda: scores.nce(Y, 0 * Y))
    refuses("source_labels is (60, 5); expected a tensor of shape (N,)", lambda: scores.nce(P, Y))
    refuses("source_labels is torch.float64; expected a tensor of integers", lambda: scores.nce(P[:, 0], Y), TypeError)
    refuses("labels has shape (60,); expected (59,)", lambda: scores.nce(Y[1:], Y))
    refuses("components_per_class = 5, variance = 1; expected", lambda: scores.n_leep(F, Y, variance=1))
    refuses("there are 60 samples for 63 Gaussians", lambda: scores.n_leep(F, Y, components_per_class=21))
    refuses("1 samples have features that are all equal", lambda: scores.parc(torch.cat([F[:59], torch.ones(1, 7)]), Y))
    refuses("all pairs of samples are of different classes", lambda: scores.parc(F, torch.arange(60)))
    refuses("features have 60 samples and target_features 59", lambda: scores.cka(F, F[1:]))
    refuses("target_features holds 60 values", lambda: scores.cka(F, F[:, :1] * torch.nan))
    refuses("k is 60; expected 1 to 59", lambda: scores.knn(F, Y, k=60))
    refuses("k is 1.5; expected a whole number", lambda: scores.knn(F, Y, k=1.5), TypeError)
    refuses("folds = 1; expected at least 2", lambda: scores.probe(F, Y, folds=1))
    refuses("class 9 has 1 of the 60 samples; expected at least 5 of each class", lambda: scores.probe(F, LONELY))


def test_parc_without_any_difference_is_refused():
    share = 0.4 * torch.rand(30, 1, generator=torch.Generator().manual_seed(0))
    refuses("the features of all pairs of samples are equally dissimilar",
            lambda: scores.parc(torch.cat([share, 1 - share], 1), torch.arange(30) % 2))  # fmt: skip


def test_a_score_that_needs_scikit_learn_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    for score in (scores.n_leep, scores.probe):
        refuses("sklearn is not installed; install it with: python -m pip install ", lambda s=score: s(F, Y),
                extras.MissingExtraError)  # fmt: skip


@pytest.mark.parametrize("fraction", [0.5, 0.8])
def test_the_interval_of_a_mean_over_samples_is_that_of_a_stratified_mean(fraction):
    """And what a score adds for its number of samples shifts nothing."""
    y = torch.arange(90) % 3
    x = 5.0 * y + normal(90, seed=1)
    within = sum(x[y == c].var(correction=0).item() * 30**2 / 29 for c in range(3)) / 90**2
    found = scores.estimate(
        lambda v, _: v.mean().item() + 100 / len(v), x, y,
        permutations=0, subsamples=4000, fraction=fraction, level=0.9,
    )  # fmt: skip
    expected = math.sqrt(within) * stats.t.ppf(0.95, 3999)
    assert found.value == pytest.approx(x.mean().item() + 100 / 90)
    assert found.high - found.value == pytest.approx(expected, rel=0.05)  # four standard deviations
    assert found.value - found.low == pytest.approx(found.high - found.value)
    assert math.isnan(found.floor)
    assert found.labels == 90


def test_subsamples_hold_the_share_of_each_class_without_repeats():
    seen = []

    def score(x, y):
        assert (x == y).all()
        seen.append(torch.bincount(y, minlength=4).tolist())
        return float(len(set(x[:, 1].tolist())) == len(x))

    y = torch.tensor([0] * 50 + [1] * 5 + [2] * 3 + [3])
    x = torch.stack([y, y], 1)
    scores.estimate(lambda v, t: seen.append(torch.bincount(t).tolist()) or 0.0, x, y, permutations=0, subsamples=3)
    assert seen == [[50, 5, 3, 1]] + 3 * [[40, 4, 2, 1]]
    index = torch.arange(59)
    found = scores.estimate(lambda v, t: float(len(set(v.tolist())) == len(v)), index, y, permutations=0)
    assert found.low == found.value == found.high == 1


def test_gbc_tells_classes_apart_that_hardly_overlap():
    y = torch.arange(80) % 2
    found = [scores.gbc(normal(80, 3) + apart * y[:, None], y) for apart in (15, 20)]
    assert found[0] < found[1] < 0


def test_the_h_score_of_classes_that_have_collapsed_is_one():
    y = torch.arange(40) % 2
    for seed in range(50):
        direction = normal(1, 3 + seed % 20, seed=seed)
        assert scores.h_score((2 * y - 1).double()[:, None] * direction, y) == pytest.approx(1)


@pytest.mark.parametrize("name", ["h_score", "leep", "cka"])
def test_intervals_cover_and_a_score_without_signal_passes_its_floor_as_often_as_they_say(name, monkeypatch):
    """100 times 90%, and one of ten exchangeable values is the largest; both within four standard deviations."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    simulated = importlib.import_module("coverage_of_scores").simulated
    row = simulated(name, 60, 4, 3, 100, level=0.9, permutations=9, subsamples=25)
    assert 0.78 <= row["held"][0] <= 1
    assert 0.75 < row["spread estimated / true"] < 1.4
    assert row["above the floor"][0] <= 0.22


def test_the_floor_is_the_score_of_permuted_labels():
    y = torch.arange(60) % 3
    seen = []

    def score(x, labels):
        seen.append(labels)
        return scores.nce(x, labels)

    found = scores.estimate(score, y, y, subsamples=0, permutations=20)
    assert found.value == 0
    mixed = [scores.nce(y, labels) for labels in seen[1:]]
    assert len(mixed) == 20
    assert all(labels.bincount().tolist() == [20, 20, 20] for labels in seen)
    assert (found.floor, found.floor_high) == (np.mean(mixed), max(mixed))
    assert scores.estimate(score, y, y, subsamples=0, permutations=20, seed=1).floor != found.floor
    assert scores.estimate(score, y, y, subsamples=0, permutations=20).floor == found.floor
    assert math.isnan(found.low)
    related = scores.estimate(scores.cka, F, F[:, :3], permutations=19, subsamples=10)
    assert related.floor_high < related.low < related.value


def test_an_estimate_of_a_score_that_writes_into_its_inputs_leaves_them_as_they_were():
    def reckless(f, y):
        f.sub_(f.mean(0)).mul_(2)
        y.zero_()
        return f.square().mean().item()

    x, labels = gaussian()
    before, names = x.clone(), labels.clone()
    found = scores.estimate(reckless, x, labels, subsamples=4)
    assert x.equal(before)
    assert labels.equal(names)
    assert found.floor == pytest.approx(found.value)


def test_the_distortion_of_transrate_is_a_number_of_any_kind():
    x, labels = gaussian()
    for eps in (Fraction(1, 100), Decimal("0.01"), torch.tensor(0.01, dtype=torch.float64)):
        assert scores.transrate(x, labels, eps=eps) == scores.transrate(x, labels, eps=0.01)


def test_an_estimate_refuses_numbers_out_of_range_and_says_which_subsample_was_refused():
    plain = partial(scores.h_score, shrinkage=None)
    refuses("permutations = -1", lambda: scores.estimate(scores.knn, F, Y, permutations=-1))
    refuses(
        "subsamples = 1; expected 0 or more, and 0 or at least 2", lambda: scores.estimate(plain, F, Y, subsamples=1)
    )
    refuses("fraction = 1, level = 0.95", lambda: scores.estimate(plain, F, Y, fraction=1))
    refuses("fraction = 0.8, level = 95", lambda: scores.estimate(plain, F, Y, level=95))
    refuses("there are 60 inputs and 59 labels", lambda: scores.estimate(plain, F, Y[1:]))
    wide, y = gaussian(60, 50)
    refuses(
        "a subsample of 30 of the 60 samples is refused: the 30 samples have centred features of rank 29",
        lambda: scores.estimate(plain, wide, y, fraction=0.5),
    )
    refuses("leaves out none of the 4 samples", lambda: scores.estimate(scores.nce, Y[:4], torch.tensor([0, 0, 1, 1])))


def test_ties_of_parc_are_ties():
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = (x[:, 0] > x[:, 1]).long()
    assert scores.parc(x, y) == pytest.approx(1)
    assert scores.parc(3 * x, y) == scores.parc(x, y)
