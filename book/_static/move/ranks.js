"use strict";
/* Spearman's correlation, plain and with a third variable held fixed, as in advtransfer.statistics. */

const Ranks = (() => {
  const average = (numbers) => numbers.reduce((total, one) => total + one, 0) / numbers.length;

  /* 1 for the smallest; equal values share their mean rank. */
  function ranks(values) {
    return values.map((value) => {
      const below = values.filter((other) => other < value).length;
      const equal = values.filter((other) => other === value).length;
      return below + (equal + 1) / 2;
    });
  }

  /* What a straight line through z leaves of x. */
  function residuals(x, z) {
    const [mx, mz] = [average(x), average(z)];
    const spread = z.reduce((total, value) => total + (value - mz) ** 2, 0);
    const slope = spread > 0 ? z.reduce((total, value, i) => total + (value - mz) * (x[i] - mx), 0) / spread : 0;
    return x.map((value, i) => value - mx - slope * (z[i] - mz));
  }

  function pearson(x, y) {
    const [u, v] = [x, y].map((values) => { const m = average(values); return values.map((value) => value - m); });
    const dot = (s, t) => s.reduce((total, value, i) => total + value * t[i], 0);
    return dot(u, v) / Math.sqrt(dot(u, u) * dot(v, v));
  }

  const spearman = (x, y) => pearson(ranks(x), ranks(y));

  /* The partial coefficient is the plain one of what the ranks of z leave of the other ranks. */
  const beyond = (x, z) => residuals(ranks(x), ranks(z));
  const partial = (x, y, z) => pearson(beyond(x, z), beyond(y, z));

  return { spearman, partial, beyond };
})();

if (typeof module !== "undefined") module.exports = Ranks; // the tests run it without a page
