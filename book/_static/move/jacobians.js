"use strict";
/* The metrics and distances of advtransfer.metrics and advtransfer.matching for models from the plane to the plane.

   A model is a list of 2×2 Jacobians, one an input, each a list of rows; all inputs weigh the same. "a" is the
   attacked model, "b" the other one. */

const Jacobians = (() => {
  const PINV_CUTOFF = 1e-12; // as in advtransfer.matching
  const TIE = 1e-9; // eigenvalues this near, relatively, leave the first attack open

  const dot = (u, v) => u[0] * v[0] + u[1] * v[1];
  const norm = (u) => Math.hypot(u[0], u[1]);
  const scaled = (u, by) => [u[0] * by, u[1] * by];
  const unit = (u) => (norm(u) > 0 ? scaled(u, 1 / norm(u)) : [0, 0]);
  const apply = (m, v) => [dot(m[0], v), dot(m[1], v)];
  const outer = (u, v) => [scaled(v, u[0]), scaled(v, u[1])];
  const transposed = (m) => [[m[0][0], m[1][0]], [m[0][1], m[1][1]]];
  const product = (a, b) => { const columns = transposed(b); return a.map((row) => apply(columns, row)); };
  const sum = (a, b) => a.map((row, i) => row.map((entry, j) => entry + b[i][j]));
  const mean = (matrices) => matrices.reduce(sum, [[0, 0], [0, 0]]).map((row) => scaled(row, 1 / matrices.length));
  const square = (m) => dot(m[0], m[0]) + dot(m[1], m[1]); // of the Frobenius norm
  const average = (numbers) => numbers.reduce((total, one) => total + one, 0) / numbers.length;

  /* Eigenvalues of a symmetric matrix, descending, and unit eigenvectors. */
  function eigen([[p, q], [, r]]) {
    const half = (p - r) / 2, gap = Math.hypot(half, q), angle = Math.atan2(q, half) / 2;
    const c = Math.cos(angle), s = Math.sin(angle);
    return { values: [(p + r) / 2 + gap, (p + r) / 2 - gap], vectors: [[c, s], [-s, c]] };
  }

  /* The first attack at one input: singular value and unit perturbation, zero where nothing moves; tied or not. */
  function firstAttack(jac) {
    const { values: [first, second], vectors } = eigen(product(transposed(jac), jac));
    return {
      sigma: Math.sqrt(first),
      delta: first > 0 ? vectors[0] : [0, 0],
      tied: first > 0 && first - second <= TIE * first,
    };
  }

  function pseudoInverse(gram) {
    const { values, vectors } = eigen(gram);
    const parts = values.map((value, i) =>
      outer(vectors[i], scaled(vectors[i], value > PINV_CUTOFF * values[0] ? 1 / value : 0)));
    return sum(parts[0], parts[1]);
  }

  /* One input: the first attacks on a and b, what they do to the outputs, and α1(x), NaN where b cannot be moved. */
  function site(a, b) {
    const own = firstAttack(a), other = firstAttack(b);
    const aa = apply(a, own.delta), ab = apply(b, own.delta), bb = apply(b, other.delta);
    return {
      deltaA: own.delta, deltaB: other.delta, aa, ab, bb,
      sigmaA: own.sigma, tiedA: own.tied, tiedB: other.tied,
      alpha1: norm(bb) > 0 ? norm(ab) / norm(bb) : NaN,
    };
  }

  function metrics(sites) {
    if (sites.some((s) => s.tiedA)) return { alpha1: NaN, alpha2: NaN, alpha12: NaN };
    const kept = sites.filter((s) => !Number.isNaN(s.alpha1));
    if (!kept.length) return { alpha1: NaN, alpha2: NaN, alpha12: NaN };
    const turned = kept.map((s) => outer(unit(s.aa), unit(s.ab)));
    const weighted = turned.map((g, i) => g.map((row) => scaled(row, kept[i].alpha1)));
    return {
      alpha1: average(kept.map((s) => s.alpha1)),
      alpha2: Math.sqrt(square(mean(turned))),
      alpha12: Math.sqrt(square(mean(weighted))),
    };
  }

  /* R, R1, ρ and the relative gradient matching distance; NaN where a has no gradient to match. */
  function matching(a, b, sites) {
    const total = average(a.map(square));
    if (!(total > 0)) return { ratio: NaN, ratioFirst: NaN, rho: NaN, distance: NaN };
    const inverse = pseudoInverse(mean(b.map((jac) => product(jac, transposed(jac)))));
    const share = (p) => { const w = product(p, inverse); return (dot(w[0], p[0]) + dot(w[1], p[1])) / total; };
    const p = mean(a.map((jac, i) => product(jac, transposed(b[i]))));
    const ratio = share(p), weight = product(p, inverse);
    // 1 - R cancels when little is left: then the residual itself is summed.
    const left = average(a.map((jac, i) => square(sum(jac, product(weight, b[i]).map((row) => scaled(row, -1))))));
    return {
      ratio,
      ratioFirst: sites.some((s) => s.tiedA) ? NaN : share(mean(sites.map((s) => outer(s.aa, s.ab)))),
      rho: average(sites.map((s) => s.sigmaA ** 2)) / total,
      distance: Math.sqrt(ratio < 0.99 ? 1 - ratio : left / total),
    };
  }

  /* All that the figure shows, from the Jacobians of both models at the same inputs. */
  function compare(a, b) {
    const sites = a.map((jac, i) => site(jac, b[i]));
    return { sites, ...metrics(sites), ...matching(a, b, sites) };
  }

  /* The angle between the deviations at two inputs, as its cosine. */
  const cosine = (u, v) => (norm(u) > 0 && norm(v) > 0 ? dot(unit(u), unit(v)) : NaN);

  /* Examples of the derivations and the errata, scaled to fit the picture: Jacobians at p and q. */
  const diagonal = (first, second) => [[first, 0], [0, second]];
  const both = (jac) => [jac, jac];
  const c = Math.cos(0.7), s = Math.sin(0.7);
  const PRESETS = {
    start: { a: [[[1, 0.3], [-0.2, 0.5]], [[0.8, -0.4], [0.4, 0.6]]], b: [[[0.7, 0.6], [0.3, -0.5]], [[0.9, 0.2], [-0.3, 0.7]]] },
    equal: { a: both([[1, 0.4], [0, 0.6]]), b: both([[1, 0.4], [0, 0.6]]) },
    rotated: { a: both([[1, 0.4], [0, 0.6]]), b: both([[c, 0.4 * c - 0.6 * s], [s, 0.4 * s + 0.6 * c]]) },
    pushed: { a: both(diagonal(1, 0.5)), b: both([[c, s], [-0.5 * s, 0.5 * c]]) },
    far: { a: both(diagonal(1, 0.99)), b: both(diagonal(1, 0)) },
    near: { a: both(diagonal(0, 1)), b: both(diagonal(1.2, 0.1)) },
    onlyAlpha1: { a: both(diagonal(1, 0)), b: [diagonal(1, 0), diagonal(-1, 0)] },
    onlyAlpha2: { a: both(diagonal(1, 0)), b: both([[0.1, 1], [0, 0]]) },
    itself: { a: [diagonal(1, 0.5), diagonal(0.5, 1)], b: [diagonal(1, 0.5), diagonal(0.5, 1)] },
    overshoot: { a: [diagonal(1, 0.5), diagonal(0.5, 1)], b: [[[1, -1], [0, 0]], [[-1, 1], [0, 0]]] },
  };

  return { PRESETS, compare, cosine, norm };
})();

if (typeof module !== "undefined") module.exports = Jacobians; // the tests run it without a page
