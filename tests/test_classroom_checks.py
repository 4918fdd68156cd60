"""The tests of the assignments: right answers pass, and each usual mistake is named."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advtransfer.classroom import sheets
from advtransfer.classroom.checks import Mistake
from advtransfer.classroom.checks.answers import equal
from classroom_cases import NAMES, functions, original

LOOP = """
def {name}(model, x, y, eps, steps, step_size):
    delta = torch.zeros_like(x)
    for _ in range(steps):
        gradient = input_gradient(model, x + delta, y)
        delta = delta + step_size * {step}
        delta = {ball}
        delta = {box}
    return {result}
"""
UNIT = "gradient / gradient.norm(dim=1, keepdim=True)"
BALL = "delta * (eps / delta.norm(dim=1, keepdim=True)).clamp(max=1)"
BOX = "(x + delta).clamp(0, 1) - x"


def linf(step="gradient.sign()", ball="delta.clamp(-eps, eps)", box=BOX, result="delta"):
    return LOOP.format(name="pgd", step=step, ball=ball, box=box, result=result)


def l2(step=UNIT, ball=BALL, box=BOX, result="delta"):
    return LOOP.format(name="pgd_l2", step=step, ball=ball, box=box, result=result)


def gradient(body):
    return f"def input_gradient(model, x, y):\n    x = x.clone().requires_grad_()\n    {body}"


def function(head, body):
    return f"def {head}:\n    " + body.replace("\n", "\n    ")


UNITS = "u, w = (d / d.norm(dim=1, keepdim=True) for d in (d_aa, d_ab))\n"
PK = "p, k = (jac_a @ jac_b.mT).mean(0), (jac_b @ jac_b.mT).mean(0)\nw = p @ torch.linalg.pinv(k)\n"
SVD = "u, s, v = torch.linalg.svd(jac_a, full_matrices=False)\nm = (u * s[:, None] @ (v @ jac_b.mT)).mean(0)\n"
K = "k = (jac_b @ jac_b.mT).mean(0)\nsize = jac_a.square().sum() / len(jac_a)\n"
GROUPS = "low, high = ({r['seed']: r[outcome] for r in rows if r[knob] == v} for v in (low, high))\n"
PAIRS = GROUPS + "d = torch.tensor([high[s] - low[s] for s in sorted(low)]).double()\n"
FOUND = "from scipy.stats import rankdata, spearmanr\n"

WRONG = [  # assignment, cell, answer, part of the message
    ("1-pgd", "project", function("project(x, delta, eps)", "return delta.clamp(-eps, eps)"), "a missing clamp"),
    ("1-pgd", "project", function("project(x, delta, eps)", f"return {BOX}"), "the ball"),
    ("1-pgd", "project", function("project(x, delta, eps)", "return x + delta.clamp(-eps, eps)"), "take x away"),
    ("1-pgd", "project", function("project(x, delta, eps)", "pass"), "`return` missing"),
    ("1-pgd", "input_gradient",
     gradient("return torch.autograd.grad(F.cross_entropy(model(x), y), x)[0]"), "averaged over the batch"),
    ("1-pgd", "input_gradient",
     gradient("F.cross_entropy(model(x), y, reduction='sum').backward(); return model[0].weight.grad"),
     "with respect to the parameters"),
    ("1-pgd", "input_gradient",
     gradient("return torch.autograd.grad(model(x).gather(1, y[:, None]).sum(), x)[0]"), "the logit of y"),
    ("1-pgd", "pgd", linf(box="delta"), "a missing clamp"),
    ("1-pgd", "pgd", linf(step="-gradient.sign()"), "climbs down"),
    ("1-pgd", "pgd", linf(step="gradient"), "the raw gradient"),
    ("1-pgd", "pgd", linf(result="x + delta"), "the adversarial images"),
    ("1-pgd", "pgd", linf(ball="delta"), "not projected back"),
    ("1-pgd", "pgd", linf(result="delta").replace("x + delta, y", "x, y"), "at the clean x"),
    ("1-pgd", "pgd_l2", l2(step="gradient / gradient.square().sum(1, keepdim=True)"), "squared norm"),
    ("1-pgd", "pgd_l2", l2(ball=BALL.replace("norm(dim=1, keepdim=True)", "square().sum(1, keepdim=True)")),
     "squared norm"),
    ("1-pgd", "pgd_l2", l2(step="gradient / gradient.norm()"), "the whole batch"),
    ("1-pgd", "pgd_l2", l2(step="gradient.sign()", ball="delta.clamp(-eps, eps)"), "the ℓ∞ attack"),
    ("1-pgd", "success_curve", function("success_curve(model, x, y, radii)",
     "return [(model(x + pgd(model, x, y, e, 10, e / 4)).argmax(1) != y).double().mean() for e in radii]"),
     "misread without any attack"),
    ("1-pgd", "success_curve", function("success_curve(model, x, y, radii)",
     "ok = model(x).argmax(1) == y\nx, y = x[ok], y[ok]\n"
     "return [(model(x + pgd(model, x, y, e, 10, e / 4)).argmax(1) == y).double().mean() for e in radii]"),
     "still read rightly"),
    ("1-pgd", "success_curve", function("success_curve(model, x, y, radii)",
     "ok = model(x).argmax(1) == y\n"
     "return [((model(x + pgd(model, x, y, e, 10, e / 4)).argmax(1) != y) & ok).double().mean() for e in radii]"),
     "divided by all images"),
    ("2-two-metrics", "alpha1",
     function("alpha1(d_ab, d_bb)", "return (d_ab.square().sum(1) / d_bb.square().sum(1)).mean()"), "squared"),
    ("2-two-metrics", "alpha1",
     function("alpha1(d_ab, d_bb)", "return d_ab.norm(dim=1).mean() / d_bb.norm(dim=1).mean()"), "ratio of the means"),
    ("2-two-metrics", "alpha1", function("alpha1(d_ab, d_bb)", "return d_ab.norm() / d_bb.norm()"), "batch"),
    ("2-two-metrics", "alpha1",
     function("alpha1(d_ab, d_bb)", "return (d_ab.norm(dim=1) / d_bb.norm(dim=1)).mean()"), "0 / 0"),
    ("2-two-metrics", "alpha2",
     function("alpha2(d_aa, d_ab)", UNITS + "return (u.T @ w / len(u)).square().sum()"), "α2², as the paper"),
    ("2-two-metrics", "alpha2",
     function("alpha2(d_aa, d_ab)", "return (d_aa.T @ d_ab / len(d_aa)).norm()"), "not made unit vectors"),
    ("2-two-metrics", "alpha2",
     function("alpha2(d_aa, d_ab)", UNITS + "return (u[:, :, None] * w[:, None]).flatten(1).norm(dim=1).mean()"),
     "before the mean"),
    ("2-two-metrics", "pairs", function("alpha2_by_pairs(d_aa, d_ab)",
     UNITS + "return ((u @ u.T) * (w @ w.T)).mean()"), "α2²"),
    ("2-two-metrics", "pairs", function("alpha2_by_pairs(d_aa, d_ab)",
     UNITS + "g = (u @ u.T) * (w @ w.T)\nreturn (g - torch.diag(g.diag())).sum() / (len(u) * (len(u) - 1))"),
     "were left out"),
    ("2-two-metrics", "pairs", function("alpha2_by_pairs(d_aa, d_ab)",
     UNITS + "return ((u @ u.T).mean() * (w @ w.T).mean()).sqrt()"), "product of the means"),
    ("2-two-metrics", "unbiased",
     function("alpha2_squared_unbiased(d_aa, d_ab)", "return alpha2(d_aa, d_ab) ** 2"), "plug-in value"),
    ("2-two-metrics", "unbiased",
     function("alpha2_squared_unbiased(d_aa, d_ab)", "return alpha2(d_aa, d_ab) ** 2 - 1 / len(d_aa)"), "N (N − 1)"),
    ("2-two-metrics", "unbiased", function("alpha2_squared_unbiased(d_aa, d_ab)",
     "n = len(d_aa)\nreturn (n * alpha2(d_aa, d_ab) - 1) / (n - 1)"), "the plain α2"),
    ("2-two-metrics", "alpha12", function("alpha12(d_aa, d_ab, d_bb)",
     "return alpha1(d_ab, d_bb) * alpha2(d_aa, d_ab)"), "product of α1 and α2"),
    ("2-two-metrics", "alpha12", function("alpha12(d_aa, d_ab, d_bb)", UNITS
     + "r = d_ab.norm(dim=1, keepdim=True) / d_bb.norm(dim=1, keepdim=True)\n"
     "return ((r * u).T @ w / len(u)).norm() ** 2"),
     "square"),
    ("2-two-metrics", "alpha12", function("alpha12(d_aa, d_ab, d_bb)", UNITS
     + "r = d_ab.square().sum(1, keepdim=True) / d_bb.square().sum(1, keepdim=True)\n"
     "return ((r * u).T @ w / len(u)).norm()"), "weights are squared"),
    ("2-two-metrics", "blind",
     function("far_but_anywhere()", "d = torch.ones(4, 1)\nreturn d, d, d"), "α2 is 1.000"),
    ("2-two-metrics", "blind",
     function("far_but_anywhere()", "d = torch.ones(4, 1)\nreturn d, 2 * d, d"), "no attack moves f_b further"),
    ("2-two-metrics", "blind",
     function("far_but_anywhere()", "d = torch.ones(4, 1)\nreturn d, 0 * d, d"), "expected every sample to move"),
    ("3-theorem", "jacobian", function("jacobian(model, x)",
     "return torch.func.vmap(torch.func.jacrev(lambda r: model(r[None])[0]))(x).mT"), "transposed"),
    ("3-theorem", "jacobian", function("jacobian(model, x)",
     "x = x.clone().requires_grad_()\nreturn torch.autograd.grad(model(x).sum(), x)[0]"), "added up before"),
    ("3-theorem", "jacobian", function("jacobian(model, x)",
     "return torch.stack([torch.autograd.grad(o, model[-1].weight, retain_graph=True)[0] for o in model(x).sum(0)])"),
     "with respect to the parameters"),
    ("3-theorem", "distance", function("gradient_distance(jac_a, jac_b)",
     PK + "return (jac_a - w @ jac_b).square().sum() / jac_a.square().sum()"), "squared distance"),
    ("3-theorem", "distance", function("gradient_distance(jac_a, jac_b)",
     "return (jac_a - jac_a @ torch.linalg.pinv(jac_b) @ jac_b).norm() / jac_a.norm()"), "a map W of its own"),
    ("3-theorem", "distance", function("gradient_distance(jac_a, jac_b)",
     "jac_a, jac_b = jac_b, jac_a\n" + PK + "return (jac_a - w @ jac_b).norm() / jac_a.norm()"), "exchanged"),
    ("3-theorem", "ratio", function("theorem_ratio(jac_a, jac_b)", SVD + K
     + "m = (u[:, :, :1] * s[:, None, :1] @ (v[:, :1] @ jac_b.mT)).mean(0)\n"
     "return (m @ torch.linalg.pinv(k) @ m.T).trace() / size"), "only the first attack"),
    ("3-theorem", "ratio", function("theorem_ratio(jac_a, jac_b)", SVD + K
     + "c = (torch.linalg.matrix_norm(jac_b, 2) / torch.linalg.matrix_norm(jac_b))[:, None, None]\n"
     "m = (c * u * s[:, None] @ (v @ jac_b.mT)).mean(0)\n"
     "return (m @ torch.linalg.pinv(k) @ m.T).trace() / size"), "trace norm"),
    ("3-theorem", "ratio", function("theorem_ratio(jac_a, jac_b)", SVD + K
     + "return (m @ k @ m.T).trace() / size"), "pseudo-inverse"),
    ("3-theorem", "broken",
     function("counterexample()", "return torch.eye(2)[None, :1], torch.eye(2)[None]"), "0.500"),
    ("3-theorem", "broken",
     function("counterexample()", "return torch.eye(2)[None, :1], torch.eye(2)[None, 1:]"), "R is 0.000"),
    ("3-theorem", "broken", function("counterexample()", "return torch.eye(2)"), "two tensors"),
    ("4-reproduction", "rank_correlation",
     function("rank_correlation(x, y)", "return np.corrcoef(x, y)[0, 1]"), "Pearson's correlation of the values"),
    ("4-reproduction", "rank_correlation",
     function("rank_correlation(x, y)", "return np.corrcoef(np.argsort(x), np.argsort(y))[0, 1]"), "apply it twice"),
    ("4-reproduction", "rank_correlation",
     function("rank_correlation(x, y)", "return np.corrcoef(*(np.argsort(np.argsort(v)) for v in (x, y)))[0, 1]"),
     "tied values"),
    ("4-reproduction", "permutation_p", function("permutation_p(x, y)",
     "o = [rank_correlation(np.array(p), y) for p in itertools.permutations(x.tolist())]\n"
     "return (np.array(o) >= rank_correlation(x, y) - 1e-9).mean()"), "one-sided"),
    ("4-reproduction", "permutation_p", function("permutation_p(x, y)",
     "o = [rank_correlation(np.array(p), y) for p in itertools.permutations(x.tolist())]\n"
     "return (np.abs(o) > abs(rank_correlation(x, y)) + 1e-9).mean()"), "count too"),
    ("4-reproduction", "permutation_p",
     function("permutation_p(x, y)", FOUND + "return spearmanr(x, y).pvalue"), "assumes a distribution"),
    ("4-reproduction", "interval", function("bootstrap_interval(x, y, picks)",
     "d = [rank_correlation(x[a], y[b]) for a, b in zip(picks, picks.flip(0))]\nreturn np.quantile(d, [.025, .975])"),
     "breaks the pairs"),
    ("4-reproduction", "interval", function("bootstrap_interval(x, y, picks)",
     "return np.quantile([rank_correlation(x[a], y[a]) for a in picks], [.05, .95])"), "hold 90 %"),
    ("4-reproduction", "interval", function("bootstrap_interval(x, y, picks)",
     "return np.quantile([rank_correlation(x[a], y[a]) for a in picks], [.975, .025])"), "exchanged"),
    ("4-reproduction", "regret",
     function("regret(alpha, accuracy)", "return accuracy[alpha.argmax()] - accuracy.max()"), "the sign"),
    ("4-reproduction", "regret", function("regret(alpha, accuracy)", "return accuracy[alpha.argmax()]"), "chosen"),
    ("4-reproduction", "regret",
     function("regret(alpha, accuracy)", "return accuracy.max() - accuracy[alpha.argmin()]"), "smallest α"),
    ("5-project", "paired_effect", function("paired_effect(rows, knob, low, high, outcome)",
     PAIRS + "return d.mean(), d.std()"), "standard deviation"),
    ("5-project", "paired_effect", function("paired_effect(rows, knob, low, high, outcome)",
     PAIRS + "a, b = (torch.tensor(list(g.values())).double() for g in (low, high))\n"
     "return d.mean(), ((a.var() + b.var()) / len(d)) ** 0.5"), "independent groups"),
    ("5-project", "paired_effect", function("paired_effect(rows, knob, low, high, outcome)",
     PAIRS + "return -d.mean(), d.std() / len(d) ** 0.5"), "the sign"),
    ("5-project", "paired_effect", function("paired_effect(rows, knob, low, high, outcome)",
     GROUPS + "d = torch.tensor([b - a for a, b in zip(low.values(), high.values())]).double()\n"
     "return d.mean(), d.std() / len(d) ** 0.5"), "in the order in which they came"),
]  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # numpy's, of tensors


def run_tests(name, names):
    """The messages of the tests of a sheet, by `grade_id`."""
    told = {}
    for exercise in sheets.exercises(original(name)):
        if exercise.written:
            continue
        try:
            exec(exercise.tests, dict(names))
        except Exception as error:  # what builds on a wrong answer may stop with anything
            told[exercise.key] = str(error)
    return told


@pytest.mark.parametrize("name", NAMES)
def test_the_solutions_pass_whatever_the_seed(name):
    names = functions(name)
    for seed in (0, 1, 2**32 - 1, names["seed"]):
        assert run_tests(name, names | {"seed": seed}) == {}


@pytest.mark.parametrize(
    ("name", "cell", "answer", "message"), WRONG, ids=[f"{w[0]}-{w[1]}-{w[3]}".replace(" ", "-") for w in WRONG]
)
def test_a_mistake_is_named_and_costs_the_same_whatever_the_seed(name, cell, answer, message):
    names, failed = functions(name, **{cell: answer}), set()
    for seed in (3, 4, 5, 2**31 + 7):
        told = run_tests(name, names | {"seed": seed})
        assert any(message in text for text in told.values()), told
        failed.add(frozenset(told))
    assert len(failed) == 1


def test_every_exercise_has_three_kept_mistakes():
    kept = {}
    for name, cell, *_ in WRONG:
        kept[name, cell] = kept.get((name, cell), 0) + 1
    cells = {
        (name, cell.metadata.nbgrader.grade_id.replace("-", "_"))
        for name in NAMES
        for cell in original(name).cells
        if cell.cell_type == "code" and sheets.role(cell) == "answer"
    }
    assert {key for key in cells if kept.get(key, 0) < 3} == set()


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
@settings(max_examples=20, deadline=None)
def test_an_answer_in_single_precision_is_right_and_one_per_mille_off_is_not(seed, scale):
    right = scale * torch.randn(4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    equal("f", right.float(), right, {})
    for wrong in (right + 1e-3 * max(1, scale), right[:, :2], right * float("nan"), "text", {}, None):
        with pytest.raises(Mistake):
            equal("f", wrong, right, {})
