// The logits along a direction, as lines: the label's and its strongest rivals in colour.

import { make, makeSvg } from "./dom.js";
import { number, walkText } from "./words.js";

const WIDTH = 720;
const HEIGHT = 300;
const EDGE = { left: 52, right: 44, top: 14, bottom: 44 };
const RIVALS = 2;
const LEAST_GAP = 15; // between the names of two lines, in units of the picture

export class Chart {
  constructor() {
    this.svg = makeSvg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "chart" });
    this.words = make("figcaption", {});
    this.el = make("figure", {}, this.svg, this.words);
  }

  // walk: {eps, logits, label}; at: the eps that the attack has, to be marked.
  draw(walk, at) {
    const { eps, logits, label } = walk;
    const reach = eps[eps.length - 1];
    const all = logits.flatMap((row) => [...row]);
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const x = (value) => EDGE.left + ((value + reach) / (2 * reach)) * (WIDTH - EDGE.left - EDGE.right);
    const y = (value) => EDGE.top + ((high - value) / (high - low || 1)) * (HEIGHT - EDGE.top - EDGE.bottom);
    const rivals = strongest(logits, label);
    const kind = (k) => (k === label ? "label" : `rival${rivals.indexOf(k) + 1 || ""}`);
    const lines = logits[0].length;
    // The coloured lines last, so that they lie on top.
    const order = Array.from({ length: lines }, (_, k) => k).sort(
      (a, b) => rank(a, label, rivals) - rank(b, label, rivals),
    );
    this.svg.replaceChildren(
      ...ticks(low, high, 5).map((value) => mark(y(value), value)),
      ...ticks(-reach, reach, 6).map((value) => tick(x(value), value)),
      makeSvg("line", { class: "zero", x1: x(0), x2: x(0), y1: EDGE.top, y2: HEIGHT - EDGE.bottom }),
      ...(at > 0 && at <= reach ? sizeMark(x(at), at) : []),
      ...order.map((k) => {
        const points = logits.map((row, place) => `${x(eps[place]).toFixed(1)},${y(row[k]).toFixed(1)}`);
        return makeSvg("polyline", { class: `line ${kind(k)}`, points: points.join(" ") });
      }),
      ...names(logits[logits.length - 1], y, kind),
      makeSvg("text", { class: "axis", x: (EDGE.left + WIDTH - EDGE.right) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, "eps along the sign of the gradient"),
      makeSvg("text", { class: "axis", transform: `translate(13 ${(HEIGHT - EDGE.bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, "logit"),
    );
    const text = walkText(walk);
    this.svg.setAttribute("aria-label", text);
    this.words.textContent = text;
  }
}

// The other classes whose logits are ahead of the label's by most, or least behind, anywhere to the right.
function strongest(logits, label) {
  const gap = (k) => Math.max(...logits.slice(logits.length >> 1).map((row) => row[k] - row[label]));
  const others = Array.from(logits[0].keys()).filter((k) => k !== label);
  return others.sort((a, b) => gap(b) - gap(a)).slice(0, RIVALS);
}

function rank(k, label, rivals) {
  return k === label ? RIVALS + 1 : RIVALS - rivals.indexOf(k) - (rivals.includes(k) ? 0 : RIVALS + 1);
}

// Round numbers between two ends.
function ticks(low, high, about) {
  const rough = (high - low || 1) / about, ten = 10 ** Math.floor(Math.log10(rough));
  const step = ten * [1, 2, 5, 10].find((factor) => factor * ten >= rough);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high + 1e-9; k++) found.push(k * step);
  return found;
}

function mark(y, value) {
  return makeSvg(
    "g",
    { class: "tick" },
    makeSvg("line", { x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y, y2: y }),
    makeSvg("text", { x: EDGE.left - 7, y: y + 4, "text-anchor": "end" }, number(value, 0)),
  );
}

function tick(x, value) {
  const text = number(value, 2).replace(/\.?0+$/, "");
  return makeSvg("text", { class: "tick", x, y: HEIGHT - EDGE.bottom + 17, "text-anchor": "middle" }, text);
}

function sizeMark(x, value) {
  return [
    makeSvg("line", { class: "size", x1: x, x2: x, y1: EDGE.top, y2: HEIGHT - EDGE.bottom }),
    makeSvg("text", { class: "size", x: x + 4, y: EDGE.top + 9 }, `eps ${number(value)}`),
  ];
}

// The digit at the right end of each line, moved apart where they would lie on one another.
function names(last, y, kind) {
  const places = Array.from(last, (value, k) => ({ k, at: y(value) })).sort((a, b) => a.at - b.at);
  const room = (HEIGHT - EDGE.bottom - EDGE.top) / (places.length - 1);
  const gap = Math.min(LEAST_GAP, room);
  for (let i = 1; i < places.length; i++) places[i].at = Math.max(places[i].at, places[i - 1].at + gap);
  let floor = HEIGHT - EDGE.bottom;
  for (const place of [...places].reverse()) {
    place.at = Math.min(place.at, floor);
    floor = place.at - gap;
  }
  return places.map(({ k, at }) =>
    makeSvg("text", { class: `name ${kind(k)}`, x: WIDTH - EDGE.right + 9, y: at + 4 }, String(k)),
  );
}
