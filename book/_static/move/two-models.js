"use strict";
/* Two models near two inputs: drag the columns of their Jacobians, and see attacks, deviations and metrics move. */

(() => {
  const { html, svg, symbol, label, number } = Dom;
  const BOX = 1.6; // half the side of a panel
  const REACH = 1.2; // how far a column can be dragged, across and up
  const STEP = 0.05; // of an arrow key; with Shift five times as much
  const INPUTS = ["p", "q"], MODELS = ["a", "b"];

  const EXAMPLES = [
    ["start", "Two models with something in common", "The first attack on the one moves the other most of the way, at both samples. Drag any ringed end."],
    ["equal", "The same model twice", "All three metrics are 1 and the distance is 0."],
    ["rotated", "The same, its outputs turned", "The second model is the first with its output plane turned. An affine map turns it back: nothing changes, though the outputs look different."],
    ["pushed", "Other directions, no distance", "Here the input plane is turned. The attack carries less far, yet a linear map still undoes the turn: the distance stays 0, as for any two linear models of which the second is invertible."],
    ["far", "All metrics 1, large distance", "The second model knows nothing of direction 2, and the first attack does not ask for it. The second attack would: ρ is little more than a half."],
    ["near", "Metric near 0, distance 0", "The second model holds all of the first, but something else moves it far more."],
    ["onlyAlpha1", "Only α₁ is large", "The attack moves the second model as far as it goes, forwards at p and backwards at q. An affine map can use none of it, and α₂ says so."],
    ["onlyAlpha2", "Only α₂ is large", "The second model always answers the same way, but weakly: it is nearly all direction 2. α₁ says so."],
    ["itself", "A model and itself, α₂ below 1", "The deviations point in two directions alike, so α₂ is 1/√2 for a perfect match."],
    ["overshoot", "First attacks say too much", "R₁, from the first attacks alone, is four times R: the second attacks cancel half of what the first ones add."],
  ];

  const QUANTITIES = [
    ["alpha1", "how far", symbol("α", "1")],
    ["alpha2", "which way", symbol("α", "2")],
    ["alpha12", "both", html("span", {}, symbol("α", "1"), " ∗ ", symbol("α", "2"))],
    ["distance", "relative", html("span", {}, "distance")],
  ];

  const clamp = (value, most) => Math.max(-most, Math.min(most, value));
  const rounded = (value) => Math.round(value * 100) / 100;
  const copied = (model) => model.map((jac) => jac.map((row) => [...row]));

  class Panel {
    /* One plane: the image of the unit circle, arrows, and the ends that can be dragged. */
    constructor(title, movable) {
      this.movable = movable;
      this.picture = svg("svg", { viewBox: `${-BOX} ${-BOX} ${2 * BOX} ${2 * BOX}` });
      this.back = svg("g", { "aria-hidden": "true" });
      this.picture.append(
        svg("path", { class: "axis", d: `M${-BOX} 0H${BOX}M0 ${-BOX}V${BOX}`, "aria-hidden": "true" }), this.back);
      this.box = html("div", { class: "panel" }, title, this.picture);
    }

    draw(jac, arrows) {
      const at = (angle) => {
        const [x, y] = [Math.cos(angle), Math.sin(angle)];
        return `${jac[0][0] * x + jac[0][1] * y} ${-(jac[1][0] * x + jac[1][1] * y)}`;
      };
      const points = Array.from({ length: 73 }, (_, k) => at((k * Math.PI) / 36));
      const taken = this.movable ? [[jac[0][0], -jac[1][0]], [jac[0][1], -jac[1][1]]] : []; // places of other marks
      this.back.replaceChildren(svg("path", { class: "image", d: `M${points.join("L")}Z` }),
        ...arrows.flatMap((arrow) => drawn(arrow, taken, arrows.filter((other) => other !== arrow))));
    }
  }

  /* An arrow and, fainter, its opposite, which is as good an attack; the name at an end, where there is room. */
  function drawn({ end: [x, up], kind, below }, taken, others) {
    const y = -up, length = Math.hypot(x, y);
    if (!(length > 0)) return [];
    const [ux, uy] = [x / length, y / length], size = Math.min(0.16, length);
    const head = (sign) => {
      const back = [sign * (x - size * ux), sign * (y - size * uy)], half = [0.5 * size * uy, -0.5 * size * ux];
      return `M${sign * x} ${sign * y}L${back[0] + half[0]} ${back[1] + half[1]}L${back[0] - half[0]} ${back[1] - half[1]}Z`;
    };
    const ends = [1, -1].flatMap((sign) => [[sign * 0.24, 0], [sign * 0.05, 0.3], [sign * 0.05, -0.3]].map(([on, aside]) => {
      const far = sign * length + on;
      return [clamp(far * ux - aside * uy, BOX - 0.25), clamp(far * uy + aside * ux, BOX - 0.18)];
    }));
    const near = [...taken, ...others.flatMap(({ end }) => [[end[0], -end[1]], [-end[0], end[1]]])];
    const room = (at) => Math.min(0.36, ...near.map((other) => Math.hypot(at[0] - other[0], at[1] - other[1])));
    const place = ends.reduce((best, end) => (room(end) > room(best) ? end : best));
    taken.push(place);
    return [
      svg("path", { class: `arrow back ${kind}`, d: `M0 0L${-x} ${-y}` }),
      svg("path", { class: `arrow ${kind}`, d: `M0 0L${x} ${y}` }),
      svg("path", { class: `head ${kind}`, d: head(1) }),
      svg("path", { class: `head back ${kind}`, d: head(-1) }),
      svg("g", { class: `name ${kind}` }, label(below.length > 1 ? "Δ" : "δ", below, place[0], place[1] + 0.08)),
    ];
  }

  class TwoModels {
    constructor(figure) {
      this.handles = [];
      this.before = {}; // the attacks as last drawn: of δ and -δ the nearer one is shown, so that none jumps
      const planes = html("div", { class: "planes" });
      this.panels = INPUTS.map((input, i) => {
        const pushes = new Panel(html("p", {}, "Perturbations at ", html("i", {}, input)), false);
        const outputs = MODELS.map((model) => {
          const panel = new Panel(html("p", {}, symbol("f", model), " deviates at ", html("i", {}, input)), true);
          for (const column of [0, 1]) panel.picture.append(this.handle(panel, model, i, column));
          return panel;
        });
        planes.append(pushes.box, ...outputs.map((panel) => panel.box));
        return { pushes, a: outputs[0], b: outputs[1] };
      });
      this.told = html("p", { class: "told" });
      this.status = html("p", { class: "status", role: "status" });
      figure.replaceChildren(this.controls(), this.told, planes, this.table(), this.details(), this.status);
      this.start("start");
    }

    controls() {
      const options = EXAMPLES.map(([key, name]) => html("option", { value: key }, name));
      this.select = html("select", {}, ...options, html("option", { value: "own", disabled: "" }, "Your own"));
      this.select.addEventListener("change", () => this.start(this.select.value));
      this.linear = html("input", { type: "checkbox" });
      this.linear.addEventListener("change", () => this.moved(0));
      const swap = html("button", { type: "button" }, "Attack the other model");
      swap.addEventListener("click", () => {
        this.models = { a: this.models.b, b: this.models.a };
        this.moved(0);
      });
      return html("div", { class: "controls" },
        html("label", {}, "Example ", this.select),
        html("label", {}, this.linear, " linear: ", html("i", {}, "q"), " as ", html("i", {}, "p")), swap);
    }

    table() {
      this.bars = {};
      const rows = QUANTITIES.map(([key, hint, name]) => {
        const bar = html("span", { class: "bar", style: `background: var(--${key})` }), value = html("td", { class: "value" });
        this.bars[key] = { bar, value };
        return html("tr", {}, html("th", { scope: "row" }, name, html("small", {}, ` ${hint}`)),
          html("td", { class: "track", "aria-hidden": "true" }, html("span", {}, bar)), value);
      });
      return html("table", { class: "readout" }, html("caption", {}, "Attacked: ", symbol("f", "a")), html("tbody", {}, ...rows));
    }

    details() {
      const names = {
        alpha1p: html("span", {}, symbol("α", "1"), "(p)"), alpha1q: html("span", {}, symbol("α", "1"), "(q)"),
        thetaA: symbol("θ", "aa"), thetaB: symbol("θ", "ab"),
        rho: html("i", {}, "ρ"), ratio: html("i", {}, "R"), ratioFirst: symbol("R", "1"),
      };
      this.values = {};
      return html("dl", { class: "details" }, ...Object.entries(names).map(([key, name]) => {
        this.values[key] = html("dd");
        return html("div", {}, html("dt", {}, name), this.values[key]);
      }));
    }

    handle(panel, model, input, column) {
      const group = svg("g", {
        class: "handle", tabindex: "0", role: "slider", "aria-roledescription": "movable end",
        "aria-valuemin": -REACH, "aria-valuemax": REACH,
        "aria-label": `where f ${model} takes direction ${column + 1} at ${INPUTS[input]}`,
      }, svg("line", { class: "stem" }), svg("g", { class: "end" },
        svg("circle", { class: "reach", r: 0.28 }), svg("circle", { class: "ring", r: 0.13 }),
        svg("text", { class: "mark", y: 0.075 }, column + 1)));
      group.addEventListener("keydown", (event) => {
        const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
        if (!direction) return;
        event.preventDefault();
        const [x, y] = this.column(model, input, column), step = event.shiftKey ? 5 * STEP : STEP;
        this.put(model, input, column, x + step * direction[0], y + step * direction[1]);
      });
      group.addEventListener("pointerdown", (event) => {
        group.setPointerCapture(event.pointerId);
        group.focus({ focusVisible: false });
        event.preventDefault();
      });
      group.addEventListener("pointermove", (event) => {
        if (!group.hasPointerCapture(event.pointerId)) return;
        const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(panel.picture.getScreenCTM().inverse());
        this.put(model, input, column, at.x, -at.y);
      });
      this.handles.push({ group, model, input, column });
      return group;
    }

    column(model, input, column) {
      return [0, 1].map((row) => this.models[model][input][row][column]);
    }

    put(model, input, column, ...to) {
      to.forEach((value, row) => { this.models[model][input][row][column] = rounded(clamp(value, REACH)); });
      this.moved(input);
    }

    start(key) {
      const { a, b } = Jacobians.PRESETS[key];
      this.models = { a: copied(a), b: copied(b) };
      this.linear.checked = MODELS.every((m) => JSON.stringify(this.models[m][0]) === JSON.stringify(this.models[m][1]));
      this.before = {};
      this.about = EXAMPLES.find(([name]) => name === key)[2];
      this.draw();
    }

    /* After a change by hand: a linear model has one Jacobian, that of the input just changed. */
    moved(input) {
      if (this.linear.checked) for (const model of MODELS) {
        this.models[model][1 - input] = copied(this.models[model])[input];
      }
      this.select.value = "own";
      this.about = "Your own pair of models.";
      this.draw();
    }

    draw() {
      const found = Jacobians.compare(this.models.a, this.models.b);
      found.sites.forEach((site, i) => this.drawSite(site, i));
      this.handles.forEach(({ group, model, input, column }) => {
        const [x, y] = this.column(model, input, column), [stem, end] = group.children;
        stem.setAttribute("x2", x);
        stem.setAttribute("y2", -y);
        end.setAttribute("transform", `translate(${x} ${-y})`);
        group.setAttribute("aria-valuenow", x);
        group.setAttribute("aria-valuetext", `${x} across, ${y} up`);
      });
      for (const [key] of QUANTITIES) {
        this.bars[key].value.textContent = number(found[key]);
        this.bars[key].bar.style.width = `${100 * Math.min(1, found[key] || 0)}%`;
      }
      const [p, q] = found.sites, tied = p.tiedA || q.tiedA;
      const values = {
        alpha1p: p.tiedA ? NaN : p.alpha1, alpha1q: q.tiedA ? NaN : q.alpha1,
        thetaA: tied ? NaN : Jacobians.cosine(p.aa, q.aa), thetaB: tied ? NaN : Jacobians.cosine(p.ab, q.ab),
        rho: found.rho, ratio: found.ratio, ratioFirst: found.ratioFirst,
      };
      for (const [key, value] of Object.entries(values)) this.values[key].textContent = number(value);
      this.told.textContent = this.about +
        (tied ? " At one sample all perturbations of length 1 move the attacked model equally far: there is no first attack, and the metrics are not defined. The distance is." : "");
      this.status.textContent = `α₁ ${number(found.alpha1, 2)}, α₂ ${number(found.alpha2, 2)}, α₁∗α₂ ${number(found.alpha12, 2)}, distance ${number(found.distance, 2)}.`;
    }

    drawSite(site, i) {
      const steady = (key, push) => {
        const last = this.before[key + i] ?? [1, 1e-3];
        const sign = last[0] * push[0] + last[1] * push[1] < 0 ? -1 : 1;
        const shown = push.map((value) => sign * value);
        if (Jacobians.norm(push) > 0) this.before[key + i] = shown;
        return sign;
      };
      const arrow = (sign, end, kind, below) => ({ end: end.map((value) => sign * value), kind, below });
      const own = steady("a", site.deltaA), other = steady("b", site.deltaB);
      const a = site.tiedA ? [] : [site.deltaA, site.aa, site.ab], b = site.tiedB ? [] : [site.deltaB, site.bb];
      const { pushes, a: left, b: right } = this.panels[i];
      pushes.draw([[1, 0], [0, 1]], [
        ...b.slice(0, 1).map((end) => arrow(other, end, "other", "b")),
        ...a.slice(0, 1).map((end) => arrow(own, end, "own", "a")),
      ]);
      left.draw(this.models.a[i], a.slice(1, 2).map((end) => arrow(own, end, "own", "aa")));
      right.draw(this.models.b[i], [
        ...b.slice(1).map((end) => arrow(other, end, "other", "bb")),
        ...a.slice(2).map((end) => arrow(own, end, "own", "ab")),
      ]);
    }
  }

  for (const figure of document.querySelectorAll('[data-figure="two-models"]')) new TwoModels(figure);
})();
