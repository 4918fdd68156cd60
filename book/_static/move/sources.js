"use strict";
/* Every published source model: accuracy after transfer against what may forecast it. */

(() => {
  const { html, svg, symbol, number } = Dom;
  const NAMES = {
    source_accuracy: ["own accuracy", () => html("span", {}, "own accuracy")],
    alpha1: ["α₁", () => symbol("α", "1")],
    alpha2: ["α₂", () => symbol("α", "2")],
    alpha12: ["α₁∗α₂", () => html("span", {}, symbol("α", "1"), " ∗ ", symbol("α", "2"))],
    distance: ["gradient matching distance", () => html("span", {}, "distance")],
  };
  const OUTCOME = "transfer_accuracy", OWN = "source_accuracy";
  const PERCENT = new Set([OUTCOME, OWN]);
  const EDGE = { left: 46, right: 14, top: 12, bottom: 44 };

  /* The outline of a marker around (0, 0), by matplotlib's letters. */
  const OUTLINES = {
    o: "M5 0A5 5 0 1 1 -5 0A5 5 0 1 1 5 0Z",
    s: "M-4.6 -4.6H4.6V4.6H-4.6Z",
    D: "M0 -6.2L6.2 0L0 6.2L-6.2 0Z",
    "^": "M0 -6L5.6 4.4H-5.6Z",
    v: "M0 6L5.6 -4.4H-5.6Z",
    P: "M-2 -5.6H2V-2H5.6V2H2V5.6H-2V2H-5.6V-2H-2Z",
    X: "M-5.4 -2.6L-2.6 -5.4L0 -2.8L2.6 -5.4L5.4 -2.6L2.8 0L5.4 2.6L2.6 5.4L0 2.8L-2.6 5.4L-5.4 2.6L-2.8 0Z",
  };
  const percent = (value) => `${number(100 * value, 1)}%`;

  /* Round values in a range, about `wanted` of them. */
  function ticks(low, high, wanted) {
    const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
    const found = [];
    for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(k * step);
    return { found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  }

  function scale(values, from, to) {
    const low = Math.min(...values), high = Math.max(...values), margin = 0.06 * (high - low || 1);
    const [first, last] = [low - margin, high + margin];
    return { low: first, high: last, at: (value) => from + ((value - first) / (last - first)) * (to - from) };
  }

  class Sources {
    constructor(figure, { rows, markers, predictors, target }) {
      Object.assign(this, { rows, markers, target, current: 0 });
      this.radios = predictors.map((key) => {
        const radio = html("input", { type: "radio", name: "predictor", value: key });
        radio.checked = key === "alpha1";
        return html("label", {}, radio, " ", NAMES[key][1]());
      });
      this.held = html("input", { type: "checkbox" });
      this.score = html("p", { class: "score", role: "status" });
      this.picture = svg("svg", { role: "group" });
      this.plot = html("div", { class: "plot" }, this.picture);
      this.told = html("p", { class: "told" });
      const form = html("div", { class: "controls" },
        html("fieldset", {}, html("legend", {}, "Forecast transfer from"), ...this.radios),
        html("label", {}, this.held, " hold own accuracy fixed"));
      form.addEventListener("change", () => this.draw());
      figure.replaceChildren(form, this.score, this.plot, this.legend(), this.told);
      new ResizeObserver(() => this.draw()).observe(this.plot);
    }

    legend() {
      return html("ul", { class: "legend" }, ...Object.entries(this.markers).map(([name, marker]) =>
        html("li", {}, svg("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" }, svg("path", { d: OUTLINES[marker] })), name)));
    }

    get predictor() {
      return this.radios.map((label) => label.firstChild).find((radio) => radio.checked).value;
    }

    /* What is drawn: the values, or what the ranks of own accuracy leave of their ranks. */
    values(key) {
      const plain = this.rows.map((row) => row[key]);
      if (this.held.checked) return Ranks.beyond(plain, this.rows.map((row) => row[OWN]));
      return PERCENT.has(key) ? plain.map((value) => 100 * value) : plain;
    }

    draw() {
      const key = this.predictor, name = NAMES[key][0];
      this.held.disabled = key === OWN;
      if (this.held.disabled) this.held.checked = false;
      const held = this.held.checked;
      const column = (of) => this.rows.map((row) => row[of]);
      const r = held ? Ranks.partial(column(key), column(OUTCOME), column(OWN)) : Ranks.spearman(column(key), column(OUTCOME));
      this.score.textContent =
        `Spearman’s correlation of ${name} with accuracy after transfer${held ? ", own accuracy held fixed" : ""}: ${number(r, 2)} (target: ${this.target}; n = ${this.rows.length} source models of one run).`;
      this.picture.setAttribute("aria-label", `Accuracy after transfer against ${name}. Arrow keys go from point to point.`);
      this.place(key, name, held);
    }

    place(key, name, held) {
      const width = Math.max(260, this.plot.clientWidth), height = Math.round(Math.min(420, 0.5 * width + 120));
      this.picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
      const [xs, ys] = [this.values(key), this.values(OUTCOME)];
      const x = scale(xs, EDGE.left, width - EDGE.right), y = scale(ys, height - EDGE.bottom, EDGE.top);
      const across = ticks(x.low, x.high, Math.min(7, width / 80)), up = ticks(y.low, y.high, 5);
      const unit = (of, said) => (held ? `rank of ${said}, less what own accuracy gives` : `${said}${PERCENT.has(of) ? " (%)" : ""}`);
      const focused = this.picture.contains(document.activeElement);
      this.order = xs.map((_, i) => i).sort((i, j) => xs[i] - xs[j] || ys[i] - ys[j]);
      this.points = this.rows.map((row, i) => this.point(row, i, x.at(xs[i]), y.at(ys[i]), key));
      this.picture.replaceChildren(
        svg("g", { class: "grid", "aria-hidden": "true" },
          ...across.found.map((v) => svg("path", { d: `M${x.at(v)} ${EDGE.top}V${height - EDGE.bottom}` })),
          ...up.found.map((v) => svg("path", { d: `M${EDGE.left} ${y.at(v)}H${width - EDGE.right}` })),
          ...across.found.map((v) => svg("text", { x: x.at(v), y: height - EDGE.bottom + 17, "text-anchor": "middle" }, number(v, across.digits))),
          ...up.found.map((v) => svg("text", { x: EDGE.left - 7, y: y.at(v) + 4, "text-anchor": "end" }, number(v, up.digits))),
          svg("text", { x: (EDGE.left + width - EDGE.right) / 2, y: height - 7, "text-anchor": "middle" }, unit(key, name)),
          svg("text", { transform: `translate(12 ${(EDGE.top + height - EDGE.bottom) / 2}) rotate(-90)`, "text-anchor": "middle" },
            held ? "rank of transfer, less the same" : "accuracy after transfer (%)")),
        ...this.order.map((i) => this.points[i]));
      this.choose(this.current, focused);
    }

    point(row, i, x, y, key) {
      const said = this.sentence(row);
      const point = svg("path", {
        class: "point", d: OUTLINES[this.markers[row.label]], transform: `translate(${x} ${y})`,
        style: `fill: var(--${key}, var(--other))`, role: "img", tabindex: "-1", "aria-label": said,
      });
      point.addEventListener("pointerenter", () => this.choose(i, false));
      point.addEventListener("focus", () => this.choose(i, false));
      point.addEventListener("keydown", (event) => {
        const place = this.order.indexOf(i), last = this.order.length - 1;
        const to = { ArrowLeft: place - 1, ArrowDown: place - 1, ArrowRight: place + 1, ArrowUp: place + 1, Home: 0, End: last }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        this.choose(this.order[Math.max(0, Math.min(last, to))], true);
      });
      return point;
    }

    /* One point is the plot's stop for the Tab key; its run is told below. */
    choose(i, focus) {
      this.current = i;
      this.points.forEach((point, j) => {
        point.setAttribute("tabindex", i === j ? "0" : "-1");
        point.classList.toggle("chosen", i === j);
      });
      this.told.textContent = this.sentence(this.rows[i]);
      if (focus) this.points[i].focus();
    }

    sentence(row) {
      return `${row.label}, width ${row.width}, ${row.epochs} ${row.epochs === 1 ? "epoch" : "epochs"}, seed ${row.seed}: ` +
        `${percent(row.source_accuracy)} of its own images right, ${percent(row.transfer_accuracy)} after transfer; ` +
        `α₁ ${number(row.alpha1)}, α₂ ${number(row.alpha2)}, α₁∗α₂ ${number(row.alpha12)}, distance ${number(row.distance)}.`;
    }
  }

  for (const figure of document.querySelectorAll('[data-figure="sources"]')) {
    new Sources(figure, JSON.parse(figure.querySelector("script").textContent));
  }
})();
