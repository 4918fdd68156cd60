"""Wrong answers to the exercises, each with a part of the message that it must get, and right ones of other styles."""

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

DRAWS = "d = [rank_correlation(x[a], y[a]) for a in picks if varied(x[a], y[a])]\n"
VARIED = "\n\n\ndef varied(*values):\n    return all(len(v.unique()) > 1 for v in values)\n"
ORDERS = "o = [rank_correlation(np.array(p), y) for p in itertools.permutations(x.tolist())]\n"
INTERVAL, PROJECT = "bootstrap_interval(x, y, picks)", "paired_effect(rows, knob, low, high, outcome)"
CURVE = "success_curve(model, x, y, radii)"
SHARES = "[(model(x + pgd(model, x, y, e, 10, e / 4)).argmax(1) != y).double().mean() for e in radii]"
RIGHTLY = "ok = model(x).argmax(1) == y\nx, y = x[ok], y[ok]\n"

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
    ("3-theorem", "ratio", function("theorem_ratio(jac_a, jac_b)", SVD + K
     + "m = (u @ (v @ jac_b.mT)).mean(0)\n"
     "return (m @ torch.linalg.pinv(k) @ m.T).trace() / size"), "lacks the factor σ_a"),
    ("3-theorem", "ratio", function("theorem_ratio(jac_a, jac_b)", SVD + K
     + "m = (u * s[:, None] @ (v @ jac_b.mT) / torch.linalg.matrix_norm(jac_b, 2)[:, None, None]).mean(0)\n"
     "return (m @ torch.linalg.pinv(k) @ m.T).trace() / size"), "lacks the factor σ_b"),
    ("3-theorem", "ratio", function("theorem_ratio(jac_a, jac_b)", SVD + K
     + "m = (u * s[:, None] @ (v @ jac_b.mT)).sum(0)\n"
     "return (m @ torch.linalg.pinv(k) @ m.T).trace() / size"), "added up over the samples"),
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
     "d = [rank_correlation(x[a], y[b]) for a, b in zip(picks, picks.flip(0)) if varied(x[a], y[b])]\n"
     "return np.quantile(d, [.025, .975])") + VARIED,
     "breaks the pairs"),
    ("4-reproduction", "interval", function("bootstrap_interval(x, y, picks)",
     DRAWS + "return np.quantile(d, [.05, .95])") + VARIED, "hold 90 %"),
    ("4-reproduction", "interval", function("bootstrap_interval(x, y, picks)",
     DRAWS + "return np.quantile(d, [.975, .025])") + VARIED, "exchanged"),
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
    # six for each, and those that once had full marks
    ("1-pgd", "project", function("project(x, delta, eps)", "return (x + delta.clamp(-eps, eps)).clamp(0, 1)"),
     "take x away"),
    ("1-pgd", "project", function("project(x, delta, eps)", "return delta.clamp(-eps, eps).clamp(0, 1)"),
     "it is x + δ that must be an image"),
    ("1-pgd", "project", function("project(x, delta, eps)",
     "d = delta * (eps / delta.norm(dim=1, keepdim=True)).clamp(max=1)\nreturn (x + d).clamp(0, 1) - x"),
     "each coordinate has its own limit"),
    ("1-pgd", "project", function("project(x, delta, eps)", "return delta"), "neither the ball nor the box"),
    ("1-pgd", "input_gradient",
     gradient("return -torch.autograd.grad(F.cross_entropy(model(x), y, reduction='sum'), x)[0]"), "climbs down"),
    ("1-pgd", "input_gradient",
     gradient("return torch.autograd.grad(F.cross_entropy(model(x), y, reduction='sum'), x)[0].sign()"),
     "only the sign"),
    ("1-pgd", "input_gradient",
     gradient("p = model(x)\n    return torch.autograd.grad(F.cross_entropy(p, p.argmax(1), reduction='sum'), x)[0]"),
     "the predicted class"),
    ("1-pgd", "input_gradient", gradient("F.cross_entropy(model(x), y, reduction='sum').backward()"),
     "`return` missing"),
    ("1-pgd", "pgd", linf(step="gradient.sign() * eps / step_size"), "it is step_size"),
    ("1-pgd", "pgd", linf(result="delta").replace("range(steps)", "range(1)"), "only one step"),
    ("1-pgd", "pgd", linf(ball="delta", box="delta", result="(x + delta.clamp(-eps, eps)).clamp(0, 1) - x"),
     "at the end"),
    ("1-pgd", "pgd_l2", l2(ball="delta * eps / delta.norm(dim=1, keepdim=True)"), "always has the length ε"),
    ("1-pgd", "pgd_l2", l2(box="delta"), "a missing clamp"),
    ("1-pgd", "pgd_l2", l2(step="gradient"), "the raw gradient"),
    ("1-pgd", "success_curve", function(CURVE, RIGHTLY + f"return [100 * s for s in {SHARES}]"), "percent"),
    ("1-pgd", "success_curve", function(CURVE, RIGHTLY + f"return {SHARES}".replace("mean()", "sum()")),
     "numbers of images"),
    ("1-pgd", "success_curve", function(CURVE, f"y = model(x).argmax(1)\nreturn {SHARES}"), "whose class has changed"),
    ("1-pgd", "success_curve", function(CURVE, f"return [1 - s for s in {SHARES}]"), "the accuracy on all images"),
    ("2-two-metrics", "alpha1", function("alpha1(d_ab, d_bb)",
     "r, p = d_ab.norm(dim=1), d_bb.norm(dim=1)\nreturn (r[r > 0] / p[r > 0]).mean()"), "samples with Δ_ab = 0"),
    ("2-two-metrics", "alpha1", function("alpha1(d_ab, d_bb)",
     "return (d_ab.norm(dim=1) / d_bb.norm(dim=1)).nan_to_num(0).mean()"), "counted as zero"),
    ("2-two-metrics", "alpha1", function("alpha1(d_ab, d_bb)",
     "m = d_ab.norm(dim=1) > 0\nreturn (d_bb[m].norm(dim=1) / d_ab[m].norm(dim=1)).mean()"), "upside down"),
    ("2-two-metrics", "alpha2", function("alpha2(d_aa, d_ab)",
     "m = d_ab.norm(dim=1) > 0\nu, w = (d[m] / d[m].norm(dim=1, keepdim=True) for d in (d_aa, d_ab))\n"
     "return (u.T @ w / len(u)).norm()"), "no direction"),
    ("2-two-metrics", "alpha2", function("alpha2(d_aa, d_ab)",
     "m = (d_aa.norm(dim=1) > 0) & (d_ab.norm(dim=1) > 0)\n"
     "u, w = (torch.nn.functional.normalize(d[m]) for d in (d_aa, d_ab))\nreturn (u.T @ w / len(u)).norm()"),
     "were left out"),
    ("2-two-metrics", "alpha2",
     function("alpha2(d_aa, d_ab)", UNITS + "return torch.linalg.matrix_norm(u.T @ w / len(u), 2)"), "singular value"),
    ("2-two-metrics", "alpha2", function("alpha2(d_aa, d_ab)", UNITS + "return (u.T @ w).norm()"), "not averaged"),
    ("2-two-metrics", "pairs", "alpha2_by_pairs = alpha2", "fits into memory"),
    ("2-two-metrics", "pairs", function("alpha2_by_pairs(d_aa, d_ab)", UNITS + "return (u.T @ w / len(u)).norm()"),
     "fits into memory"),
    ("2-two-metrics", "pairs", function("alpha2_by_pairs(d_aa, d_ab)",
     UNITS + "return ((u @ u.T) @ (w @ w.T)).mean().abs().sqrt()"), "entry by entry"),
    ("2-two-metrics", "pairs", function("alpha2_by_pairs(d_aa, d_ab)",
     "return ((d_aa @ d_aa.T) * (d_ab @ d_ab.T)).mean().sqrt()"), "not made unit vectors"),
    ("2-two-metrics", "unbiased", function("alpha2_squared_unbiased(d_aa, d_ab)",
     "n = len(d_aa)\nreturn max(0, (n * alpha2(d_aa, d_ab) ** 2 - 1) / (n - 1))"), "cut off at 0"),
    ("2-two-metrics", "unbiased", function("alpha2_squared_unbiased(d_aa, d_ab)",
     "n = len(d_aa)\nreturn abs((n * alpha2(d_aa, d_ab) ** 2 - 1) / (n - 1))"), "lost its sign"),
    ("2-two-metrics", "unbiased", function("alpha2_squared_unbiased(d_aa, d_ab)",
     "n = len(d_aa)\nreturn abs((n * alpha2(d_aa, d_ab) ** 2 - 1) / (n - 1)) ** 0.5"), "this is the root"),
    ("2-two-metrics", "alpha12", function("alpha12(d_aa, d_ab, d_bb)", "return alpha2(d_aa, d_ab)"), "this is α2"),
    ("2-two-metrics", "alpha12", function("alpha12(d_aa, d_ab, d_bb)", UNITS
     + "r = d_bb.norm(dim=1, keepdim=True) / d_ab.norm(dim=1, keepdim=True)\n"
     "return ((r * u).T @ w / len(u)).norm()"), "upside down"),
    ("2-two-metrics", "alpha12", function("alpha12(d_aa, d_ab, d_bb)", UNITS
     + "return (u.T @ d_ab / len(u)).norm()"), "divide them by those of Δ_bb"),
    ("2-two-metrics", "blind",
     function("far_but_anywhere()", "d = 1e200 * torch.ones(2, 2).double()\nreturn d, d, d"), "α2 is 1.000"),
    ("2-two-metrics", "blind",
     function("far_but_anywhere()", "d = torch.full((2, 2), torch.nan)\nreturn d, d, d"), "NaN or infinite"),
    ("2-two-metrics", "blind",
     function("same_way_but_short()", "d = torch.full((2, 2), torch.inf)\nreturn d, d, d"), "NaN or infinite"),
    ("2-two-metrics", "blind",
     function("same_way_but_short()", "d = torch.ones(4, 2)\nreturn d, d[:, :1], d"), "twice (N, d_b)"),
    ("3-theorem", "jacobian", function("jacobian(model, x)",
     "x = x.clone().requires_grad_()\nreturn torch.autograd.grad(model(x)[:, 0].sum(), x)[0][:, None]"),
     "only the first output"),
    ("3-theorem", "jacobian", function("jacobian(model, x)",
     "return torch.func.vmap(torch.func.jacrev(lambda r: model(r[None])[0]))(x).mean(0)"), "averaged over the samples"),
    ("3-theorem", "jacobian", function("jacobian(model, x)",
     "return torch.func.vmap(torch.func.jacrev(lambda r: model(r[None])[0]))(x).transpose(0, 1)"), "comes first"),
    ("3-theorem", "distance", function("gradient_distance(jac_a, jac_b)",
     PK.replace("pinv", "inv") + "return (jac_a - w @ jac_b).norm() / jac_a.norm()"), "the pseudo-inverse"),
    ("3-theorem", "distance", function("gradient_distance(jac_a, jac_b)",
     PK.replace("p @ torch.linalg.pinv(k)", "torch.linalg.solve(k, p.T).T")
     + "return (jac_a - w @ jac_b).norm() / jac_a.norm()"), "the pseudo-inverse"),
    ("3-theorem", "distance", function("gradient_distance(jac_a, jac_b)",
     PK + "return (jac_a - w @ jac_b).norm()"), "not relative"),
    ("3-theorem", "distance", function("gradient_distance(jac_a, jac_b)",
     PK + "return 1 - (jac_a - w @ jac_b).square().sum() / jac_a.square().sum()"), "this is the share"),
    ("3-theorem", "ratio", function("theorem_ratio(jac_a, jac_b)",
     "return 1 - gradient_distance(jac_a, jac_b) ** 2"), "1 − distance² keeps no digit"),
    ("3-theorem", "ratio", function("theorem_ratio(jac_a, jac_b)", PK
     + "r = (jac_a - w @ jac_b).square().sum() / jac_a.square().sum()\nreturn 1 - r"), "1 − distance² keeps no digit"),
    ("3-theorem", "ratio", function("theorem_ratio(jac_a, jac_b)", SVD + K
     + "return (m @ torch.linalg.inv(k) @ m.T).trace() / size"), "the pseudo-inverse"),
    ("3-theorem", "ratio", function("theorem_ratio(jac_a, jac_b)", SVD + K
     + "d = v @ jac_b.mT\nl = d.norm(dim=2, keepdim=True)\nm = (u * s[:, None] @ (d / l * l)).mean(0)\n"
     "return (m @ torch.linalg.pinv(k) @ m.T).trace() / size"), "0 / 0"),
    ("3-theorem", "ratio", function("theorem_ratio(jac_a, jac_b)", SVD + K
     + "return ((m @ torch.linalg.pinv(k) @ m.T).trace() / size) ** 0.5"), "the root of R"),
    ("3-theorem", "broken", function("counterexample()",
     "j = 1e200 * torch.ones(1, 1, 2).double()\nreturn j, j"), "the printed form gives 1.000"),
    ("3-theorem", "broken", function("counterexample()",
     "j = torch.full((1, 2, 2), torch.nan)\nreturn j, j"), "not finite"),
    ("3-theorem", "broken", function("counterexample()",
     "return torch.ones(1, 1, 1), torch.ones(1, 3000, 1)"), "at most 300 outputs"),
    ("4-reproduction", "rank_correlation", function("rank_correlation(x, y)",
     FOUND + "d = torch.tensor(rankdata(x) - rankdata(y))\nn = len(d)\n"
     "return 1 - 6 * d.square().sum() / (n * (n**2 - 1))"), "only without ties"),
    ("4-reproduction", "rank_correlation", function("rank_correlation(x, y)",
     FOUND + "return np.corrcoef(rankdata(x, 'min'), rankdata(y, 'min'))[0, 1]"), "the mean of their ranks"),
    ("4-reproduction", "rank_correlation", function("rank_correlation(x, y)",
     FOUND + "return np.corrcoef(rankdata(-x), rankdata(y))[0, 1]"), "the other way round"),
    ("4-reproduction", "rank_correlation", function("rank_correlation(x, y)",
     "from scipy.stats import kendalltau\nreturn kendalltau(x, y)[0]"), "Kendall"),
    ("4-reproduction", "permutation_p", function("permutation_p(x, y)", FOUND
     + "def rho(a, b):\n    a, b = (rankdata(v) - (len(v) + 1) / 2 for v in (a, b))\n"
     "    return a / np.linalg.norm(a) @ (b / np.linalg.norm(b))\n"
     "o = [rho(np.array(p), y) for p in itertools.permutations(x.tolist())]\n"
     "return (np.abs(o) >= abs(rho(x, y))).mean()"), "with a tolerance"),
    ("4-reproduction", "permutation_p", function("permutation_p(x, y)", ORDERS
     + "return ((np.abs(o) >= abs(rank_correlation(x, y)) - 1e-9).sum() - 1) / len(o)"), "counts too"),
    ("4-reproduction", "permutation_p", function("permutation_p(x, y)", ORDERS
     + "return 1 - (np.abs(o) >= abs(rank_correlation(x, y)) - 1e-9).mean()"), "this is 1 − p"),
    ("4-reproduction", "interval", function(INTERVAL,
     "return np.quantile([rank_correlation(x[a], y[a]) for a in picks], [.025, .975])"), "x or y is constant"),
    ("4-reproduction", "interval", function(INTERVAL,
     "return np.quantile(np.nan_to_num([rank_correlation(x[a], y[a]) for a in picks]), [.025, .975])"),
     "x or y is constant"),
    ("4-reproduction", "interval", function(INTERVAL, DRAWS + "return min(d), max(d)") + VARIED, "the extremes"),
    ("4-reproduction", "interval", function(INTERVAL, DRAWS
     + "d = sorted(d)\nreturn d[int(.025 * len(d))], d[int(.975 * len(d))]") + VARIED, "another definition"),
    ("4-reproduction", "regret",
     function("regret(alpha, accuracy)", "return 1 - accuracy[alpha.argmax()] / accuracy.max()"), "this is relative"),
    ("4-reproduction", "regret",
     function("regret(alpha, accuracy)", "return alpha.max() - alpha[accuracy.argmax()]"), "not in α"),
    ("4-reproduction", "regret",
     function("regret(alpha, accuracy)", "return 100 * (accuracy.max() - accuracy[alpha.argmax()])"), "percent"),
    ("5-project", "paired_effect", function(PROJECT,
     "at = {v: {r['seed']: r['alpha1'] for r in rows if r['eps'] == v} for v in (low, high)}\n"
     "d = torch.tensor([at[high][s] - at[low][s] for s in range(6)]).double()\nreturn d.mean(), d.std() / 6 ** .5"),
     "only some of the seeds"),
    ("1-pgd", "success_curve", function(CURVE, RIGHTLY + f"return sorted({SHARES})"), "sorted, or add up"),
    ("2-two-metrics", "alpha1",
     function("alpha1(d_ab, d_bb)", "a, b = d_ab.norm(dim=1), d_bb.norm(dim=1)\n"
              "return min(torch.ones(()).double(), (a[b > 0] / b[b > 0]).mean())"), "cut off"),
    ("4-reproduction", "rank_correlation",
     function("rank_correlation(x, y)", FOUND + "return max(0.0, spearmanr(x, y).statistic)"), "cut off at 0"),
    ("4-reproduction", "regret", function("regret(alpha, accuracy)", "k = alpha.argmax()\n"
     "return accuracy[torch.arange(len(alpha)) != k].max() - accuracy[k]"), "the regret of the best choice is 0"),
    ("5-project", "paired_effect",
     function(PROJECT, PAIRS + "return d.abs().mean(), d.std() / len(d) ** 0.5"), "lost their signs"),
    ("5-project", "paired_effect", function(PROJECT, PAIRS + "d = d[d > 0]\nreturn d.mean(), d.std() / len(d) ** 0.5"),
     "only the differences of one sign"),
    ("5-project", "paired_effect", function(PROJECT, PAIRS.replace("outcome", "'alpha1'")
     + "return d.mean(), d.std() / len(d) ** 0.5"), "the column alpha1 was used"),
    ("5-project", "paired_effect", function(PROJECT, PAIRS.replace("knob", "'eps'")
     + "return d.mean(), d.std() / len(d) ** 0.5"), "of your own table were expected"),
    ("5-project", "paired_effect", function(PROJECT, PAIRS + "return d.mean(), d.std() / len(rows) ** 0.5"),
     "over the number of seeds"),
    ("5-project", "paired_effect", function(PROJECT, PAIRS + "return d.mean()"), "only the mean"),
    ("5-project", "paired_effect", function(PROJECT, "low, high = (f(r[knob] for r in rows) for f in (min, max))\n"
     + PAIRS + "return d.mean(), d.std() / len(d) ** 0.5"), "use `low` and `high`"),
]  # fmt: skip

RIGHT = [  # assignment, answers in another style than the solution's
    ("1-pgd", {"project": function("project(x, delta, eps)",
     "return torch.maximum(torch.minimum(delta, (1 - x).clamp(max=eps)), (-x).clamp(min=-eps))")}),
    ("1-pgd", {"input_gradient": function("input_gradient(model, x, y)",
     "def loss(row, label):\n    return F.cross_entropy(model(row[None]), label[None])\n"
     "return torch.stack([torch.func.grad(loss)(row, label) for row, label in zip(x, y)])"
     )}),
    ("1-pgd", {"pgd_l2": l2(ball="delta.renorm(2, 0, eps)", step="F.normalize(gradient)")}),
    ("1-pgd", {"success_curve": function(CURVE,
     RIGHTLY + f"return torch.stack({SHARES}).float().numpy()")}),
    ("2-two-metrics", {"alpha1": function("alpha1(d_ab, d_bb)",
     "import numpy as np\na, b = (np.linalg.norm(d.numpy(), axis=1) for d in (d_ab, d_bb))\n"
     "return float(np.mean([p / q for p, q in zip(a, b) if q != 0]))")}),
    ("2-two-metrics", {"alpha2": function("alpha2(d_aa, d_ab)",
     "keep = d_aa.any(1) & d_ab.any(1)\nu, w = (d[keep].float() / d[keep].float().norm(dim=1, keepdim=True)"
     " for d in (d_aa, d_ab))\nreturn sum(torch.outer(a, b) for a, b in zip(u, w)).div(len(keep)).norm()")}),
    ("2-two-metrics", {"pairs": function("alpha2_by_pairs(d_aa, d_ab)", UNITS + "total = 0.0\nfor i in range(len(u)):\n"
     "    for j in range(len(u)):\n        total += (u[i] @ u[j]) * (w[i] @ w[j])\n"
     "return (total / len(u) ** 2) ** 0.5")}),
    ("2-two-metrics", {"unbiased": function("alpha2_squared_unbiased(d_aa, d_ab)", UNITS
     + "g = (u @ u.T) * (w @ w.T)\ng.fill_diagonal_(0)\nreturn g.sum() / (len(u) * (len(u) - 1))")}),
    ("2-two-metrics", {"alpha12": function("alpha12(d_aa, d_ab, d_bb)",
     "u = d_aa / d_aa.norm(dim=1, keepdim=True)\n"
     "return (u.T @ (d_ab / d_bb.norm(dim=1, keepdim=True)) / len(u)).norm()")}),
    ("2-two-metrics", {"blind": function("far_but_anywhere()",
     "d = torch.eye(10).repeat(100, 1)\nreturn torch.ones(1000, 1), d, d").replace("eye(10)", "cat([torch.eye(5), "
     "-torch.eye(5)])") + "\n\n" + function("same_way_but_short()",
     "d = torch.full((3, 2), 1e-8)\nreturn d.tolist(), (d * 1e-3).tolist(), d.tolist()")}),
    ("3-theorem", {"jacobian": function("jacobian(model, x)",
     "return torch.autograd.functional.jacobian(lambda v: model(v).sum(0), x).transpose(0, 1)")}),
    ("3-theorem", {"distance": function("gradient_distance(jac_a, jac_b)",
     "a, b = (j.transpose(0, 1).flatten(1) for j in (jac_a, jac_b))\n"
     "w = torch.linalg.lstsq(b.T, a.T, driver='gelsd').solution\nreturn (a.T - b.T @ w).norm() / a.norm()")}),
    ("3-theorem", {"ratio": function("theorem_ratio(jac_a, jac_b)", SVD + K
     + "d = v @ jac_b.mT\nl = d.norm(dim=2, keepdim=True)\nm = (u * s[:, None] @ ((d / l).nan_to_num(0) * l)).mean(0)\n"
     "return (m @ torch.linalg.pinv(k) @ m.T).trace() / size")}),
    ("3-theorem", {"ratio": function("theorem_ratio(jac_a, jac_b)", SVD + K
     + "return ((m @ torch.linalg.pinv(k.float()).double() @ m.T).trace() / size).item()")}),
    ("3-theorem", {"broken": function("counterexample()", "return torch.eye(200)[None, :1], torch.eye(200)[None]")}),
    ("3-theorem", {"broken": function("counterexample()",
     "j = 1e200 * torch.eye(6).double().expand(5, 6, 6)\nreturn j[:, :1], j")}),
    ("4-reproduction", {"rank_correlation": function("rank_correlation(x, y)",
     "import pandas\nreturn pandas.Series(x.numpy() if hasattr(x, 'numpy') else x).corr("
     "pandas.Series(y.numpy()), method='spearman')")}),
    ("4-reproduction", {"permutation_p": function("permutation_p(x, y)", ORDERS
     + "r = abs(rank_correlation(x, y))\nreturn sum(abs(v) > r or np.isclose(abs(v), r) for v in o) / len(o)")}),
    ("4-reproduction", {"permutation_p": function("permutation_p(x, y)", ORDERS  # whole ranks: nothing is rounded
     + "return (np.abs(o) >= abs(rank_correlation(x, y))).mean()")}),
    ("4-reproduction", {"interval": function(INTERVAL, DRAWS
     + "return torch.quantile(torch.tensor(d), torch.tensor([0.025, 0.975]).double())") + VARIED}),
    ("4-reproduction", {"interval": function(INTERVAL,
     "return np.nanquantile([rank_correlation(x[a], y[a]) for a in picks], [0.025, 0.975])")}),
    ("4-reproduction", {"regret": function("regret(alpha, accuracy)",
     "best = sorted(zip(alpha.tolist(), accuracy.tolist()))[-1][1]\nreturn max(accuracy.tolist()) - best")}),
    ("5-project", {"paired_effect": function(PROJECT,
     "import pandas as pd\nt = pd.DataFrame(rows).pivot_table(index='seed', columns=knob, values=outcome)\n"
     "d = t[high] - t[low]\nreturn float(d.mean()), float(d.sem())")}),
]  # fmt: skip
