// The logits along a direction, as lines: the label's and its strongest rivals in colour.

import { make, makeSvg } from "./dom.js";
import { number, walkText } from "./words.js";

const HEIGHT = 300;
const LEAST_WIDTH = 280;
const EDGE = { left: 52, right: 44, top: 14, bottom: 44 };
const RIVALS = 2;
const LEAST_GAP = 15; // between the names of two lines, in units of the picture

export class Chart {
  constructor() {
    // Before the first walk it is empty, and says so.
    this.svg = makeSvg("svg", { role: "img", class: "chart", height: HEIGHT, "aria-label": "Still to come: the scores along the direction of the attack" });
    this.words = make("figcaption", {});
    this.el = make("figure", {}, this.svg, this.words);
    // Its letters are as large as those around it, however wide it is.
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.el);
  }

  // walk: {eps, logits, label}; at: the eps that the attack has, to be marked.
  show(walk, at) {
    this.shown = { ...walk, at };
    this.draw();
    const text = walkText(walk);
    this.svg.setAttribute("aria-label", text);
    this.words.textContent = text;
  }

  draw() {
    if (!this.shown) return;
    const { eps, logits, label, at } = this.shown;
    const width = Math.max(LEAST_WIDTH, this.el.clientWidth);
    const right = width - EDGE.right, bottom = HEIGHT - EDGE.bottom;
    const reach = eps[eps.length - 1];
    const all = logits.flatMap((row) => [...row]);
    const low = Math.min(...all), high = Math.max(...all);
    const x = (value) => EDGE.left + ((value + reach) / (2 * reach)) * (right - EDGE.left);
    const y = (value) => EDGE.top + ((high - value) / (high - low || 1)) * (bottom - EDGE.top);
    const rivals = strongest(logits, label);
    const others = Array.from(logits[0].keys()).filter((k) => k !== label && !rivals.includes(k));
    const kind = (k) => (k === label ? "label" : `rival${rivals.indexOf(k) + 1 || ""}`);
    const upright = (place, words) => makeSvg("line", { class: words, x1: place, x2: place, y1: EDGE.top, y2: bottom });
    const inside = at > 0 && at <= reach;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.svg.replaceChildren(
      ...ticks(low, high, 5).map((value) =>
        makeSvg("g", { class: "tick" },
          makeSvg("line", { x1: EDGE.left, x2: right, y1: y(value), y2: y(value) }),
          makeSvg("text", { x: EDGE.left - 7, y: y(value) + 4, "text-anchor": "end" }, number(value, 0)))),
      ...ticks(-reach, reach, 6).map((value) =>
        makeSvg("text", { x: x(value), y: bottom + 17, "text-anchor": "middle" }, number(value).replace(/\.?0+$/, ""))),
      upright(x(0), "zero"),
      ...(inside ? [upright(x(at), "size")] : []),
      // The coloured lines last, so that they lie on top.
      ...[...others, ...rivals, label].map((k) => {
        const points = logits.map((row, place) => `${x(eps[place]).toFixed(1)},${y(row[k]).toFixed(1)}`);
        return makeSvg("polyline", { class: `line ${kind(k)}`, points: points.join(" ") });
      }),
      ...(inside ? [makeSvg("text", { class: "size", x: x(at) + 5, y: EDGE.top + 10 }, `eps ${number(at)}`)] : []),
      ...names(Array.from(logits[logits.length - 1], y), bottom).map(({ k, place }) =>
        makeSvg("text", { class: `name ${kind(k)}`, x: right + 9, y: place + 4 }, String(k))),
      makeSvg("text", { x: (EDGE.left + right) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, "eps along the sign of the gradient"),
      makeSvg("text", { transform: `translate(13 ${bottom / 2}) rotate(-90)`, "text-anchor": "middle" }, "logit"),
    );
  }

  close() {
    this.observer.disconnect();
  }
}

// The other classes whose logits are ahead of the label's by most, or least behind, anywhere to the right.
function strongest(logits, label) {
  const gap = (k) => Math.max(...logits.slice(logits.length >> 1).map((row) => row[k] - row[label]));
  const others = Array.from(logits[0].keys()).filter((k) => k !== label);
  return others.sort((a, b) => gap(b) - gap(a)).slice(0, RIVALS);
}

// Round numbers between two ends.
function ticks(low, high, about) {
  const rough = (high - low || 1) / about, ten = 10 ** Math.floor(Math.log10(rough));
  const step = ten * [1, 2, 5, 10].find((factor) => factor * ten >= rough);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high + 1e-9; k++) found.push(k * step);
  return found;
}

// Where the names of lines stand, moved apart where they would lie on one another.
function names(ends, bottom) {
  const found = ends.map((place, k) => ({ k, place })).sort((a, b) => a.place - b.place);
  const gap = Math.min(LEAST_GAP, (bottom - EDGE.top) / (found.length - 1));
  let above = -Infinity;
  for (const name of found) above = name.place = Math.max(name.place, above + gap);
  let below = Infinity;
  for (const name of found.reverse()) below = name.place = Math.min(name.place, bottom, below - gap);
  return found;
}
