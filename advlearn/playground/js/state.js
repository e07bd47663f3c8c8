// All that can be chosen, and its form as a link: what is behind the # of an address.

import { CLASSES, PIXEL_COUNT } from "./models.js";

export const ATTACKS = ["none", "noise", "fgsm", "pgd", "targeted"];
export const MOST_EPS = 0.5;
export const MOST_STEPS = 100;
export const REACHES = [1, 15]; // of the walk along the gradient's sign; the paper's is 15

export const START = Object.freeze({
  network: "maxout",
  attack: "fgsm",
  eps: 0.25,
  clip: true,
  steps: 40,
  target: 3,
  label: null, // what the digit is, if the reader says so
  seed: 1,
  digit: 0, // the number of an offline digit, or null for a drawing
  pixels: null, // of a drawing, bytes (784,)
  reach: 1,
  lesson: 0, // the step of the guided path, from 1; 0 for none
});

// Short names keep links short.
const FIELDS = {
  network: ["n", String, (text) => text],
  attack: ["a", String, (text) => ATTACKS.find((kind) => kind === text)],
  eps: ["e", String, (text) => between(Number(text), 0, MOST_EPS)],
  clip: ["c", Number, (text) => ({ 0: false, 1: true })[text]],
  steps: ["k", String, (text) => whole(text, 1, MOST_STEPS)],
  target: ["t", String, (text) => whole(text, 0, CLASSES - 1)],
  label: ["y", String, (text) => whole(text, 0, CLASSES - 1)],
  seed: ["s", String, (text) => whole(text, 0, 2 ** 32 - 1)],
  digit: ["d", String, (text) => whole(text, 0, 10_000)],
  pixels: ["p", packPixels, unpackPixels],
  reach: ["r", String, (text) => REACHES.find((reach) => String(reach) === text)],
  lesson: ["g", String, (text) => whole(text, 0, 5)],
};

function between(value, low, high) {
  return value >= low && value <= high ? value : undefined;
}

function whole(text, low, high) {
  return /^\d{1,10}$/.test(text) ? between(Number(text), low, high) : undefined;
}

// Return the text of a link for a state; what is as at the start is left out.
export function toLink(state) {
  const fields = new URLSearchParams();
  for (const [key, [short, write]] of Object.entries(FIELDS)) {
    if (state[key] !== null && state[key] !== START[key]) fields.set(short, write(state[key]));
  }
  return fields.toString();
}

// Return the state of a link. Whatever in it makes no sense is left as at the start.
export function fromLink(text) {
  const fields = new URLSearchParams(text.replace(/^#/, ""));
  const state = { ...START };
  for (const [key, [short, , read]] of Object.entries(FIELDS)) {
    if (!fields.has(short)) continue;
    const value = read(fields.get(short));
    if (value !== undefined) state[key] = value;
  }
  if (state.pixels) state.digit = null;
  return state;
}

// A drawing is mostly empty: a run of zeros is 0 and its length. The bytes are then base64, in the
// letters that a link may hold.
export function packPixels(pixels) {
  const packed = [];
  for (let i = 0; i < pixels.length; ) {
    let run = 0;
    while (run < 255 && i + run < pixels.length && pixels[i + run] === 0) run++;
    packed.push(...(run ? [0, run] : [pixels[i]]));
    i += run || 1;
  }
  return btoa(String.fromCharCode(...packed)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

export function unpackPixels(text) {
  if (text.length > 2 * PIXEL_COUNT || !/^[\w-]+$/.test(text)) return undefined;
  let packed;
  try {
    packed = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  } catch {
    return undefined;
  }
  const pixels = [];
  for (let i = 0; i < packed.length; i++) {
    const value = packed.charCodeAt(i);
    if (value) pixels.push(value);
    else for (let run = packed.charCodeAt(++i); run > 0; run--) pixels.push(0);
  }
  return pixels.length === PIXEL_COUNT ? Uint8ClampedArray.from(pixels) : undefined;
}
