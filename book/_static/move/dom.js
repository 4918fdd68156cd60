"use strict";
/* Elements, HTML and SVG, in one line each; shared by the figures of "Look and move". */

const Dom = (() => {
  const SVG = "http://www.w3.org/2000/svg";

  function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  const html = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
  const svg = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

  /* A letter with a subscript: in SVG a smaller text lowered by hand, since Unicode has no subscript b. */
  const symbol = (letter, below) => html("span", {}, html("i", {}, letter), html("sub", {}, below));
  const label = (letter, below, x, y) =>
    svg("text", { x, y }, letter, svg("tspan", { dy: "0.28em", "font-size": "72%" }, below));

  /* A number as it is read: with a true minus, and a dash where it is not defined. */
  const number = (value, digits = 3) => (Number.isFinite(value) ? (value + 0 || 0).toFixed(digits).replace("-", "−") : "–");

  return { html, svg, symbol, label, number };
})();
