// Puts ink where MNIST has it: scaled into 20 x 20, its centre of mass in the middle of 28 x 28.

import { PIXEL_COUNT, SIZE } from "./models.js";
import { Refusal } from "./refusal.js";

const BOX = 20; // pixels: the longer side of a digit in MNIST
const FAINT = 0.2; // of the darkest ink: anything below is paper, or the noise of a camera
const LEAST_CONTRAST = 24; // of 255, between ink and paper

// Return the bytes (784,) of a picture (width * height,) of ink, 0 for none.
export function centred(ink, width, height) {
  const box = boxOf(ink, width, height);
  if (!box) throw new Refusal("There is nothing on it: no ink that stands out from the paper.");
  const scale = Math.max(box.right - box.left, box.bottom - box.top) / BOX;
  const columns = Math.max(1, Math.round((box.right - box.left) / scale));
  const rows = Math.max(1, Math.round((box.bottom - box.top) / scale));
  const small = shrunk(ink, width, box, columns, rows);
  const largest = Math.max(...small);
  let mass = 0, x = 0, y = 0;
  small.forEach((value, at) => {
    mass += value;
    x += value * (at % columns);
    y += value * Math.floor(at / columns);
  });
  // Whole pixels: a shift by a part of one would blur the strokes.
  const left = Math.round((SIZE - 1) / 2 - x / mass), top = Math.round((SIZE - 1) / 2 - y / mass);
  const pixels = new Uint8ClampedArray(PIXEL_COUNT);
  small.forEach((value, at) => {
    const column = left + (at % columns), row = top + Math.floor(at / columns);
    if (column < 0 || column >= SIZE || row < 0 || row >= SIZE) return;
    pixels[row * SIZE + column] = Math.round((255 * value) / largest);
  });
  return pixels;
}

// Return how much ink is at each place of a photograph or a scan (width * height,) in grey, 0 to 255.
// The edge is paper: dark ink on light paper and light on dark are told apart by it.
export function inkOf(grey, width, height) {
  const edge = [];
  for (let column = 0; column < width; column++) edge.push(grey[column], grey[(height - 1) * width + column]);
  for (let row = 0; row < height; row++) edge.push(grey[row * width], grey[row * width + width - 1]);
  const paper = edge.sort((a, b) => a - b)[edge.length >> 1];
  let darker = 0, lighter = 0;
  for (const value of grey) {
    darker = Math.max(darker, paper - value);
    lighter = Math.max(lighter, value - paper);
  }
  const sign = darker >= lighter ? -1 : 1, most = Math.max(darker, lighter);
  if (most < LEAST_CONTRAST) throw new Refusal("There is nothing on it: it is of one brightness all over.");
  return Float64Array.from(grey, (value) => {
    const ink = (sign * (value - paper)) / most;
    return ink < FAINT ? 0 : (ink - FAINT) / (1 - FAINT);
  });
}

function boxOf(ink, width, height) {
  let left = width, right = 0, top = height, bottom = 0;
  for (let row = 0, at = 0; row < height; row++) {
    for (let column = 0; column < width; column++, at++) {
      if (!(ink[at] > 0)) continue;
      left = Math.min(left, column);
      right = Math.max(right, column + 1);
      top = Math.min(top, row);
      bottom = Math.max(bottom, row + 1);
    }
  }
  return right > left ? { left, right, top, bottom } : null;
}

// Each pixel of the result is the mean of the area of the box that it covers.
function shrunk(ink, width, { left, right, top, bottom }, columns, rows) {
  const across = overlaps(left, right, columns), down = overlaps(top, bottom, rows);
  const small = new Float64Array(columns * rows);
  down.forEach((ofRow, row) => {
    across.forEach((ofColumn, column) => {
      let sum = 0;
      for (const [y, height] of ofRow) {
        for (const [x, share] of ofColumn) sum += height * share * ink[y * width + x];
      }
      small[row * columns + column] = sum;
    });
  });
  return small;
}

// For each of `count` equal parts of [start, end]: which whole numbers it covers, and by what share.
function overlaps(start, end, count) {
  const length = (end - start) / count;
  return Array.from({ length: count }, (_, part) => {
    const from = start + part * length, to = from + length;
    const found = [];
    for (let at = Math.floor(from); at < Math.min(Math.ceil(to), end); at++) {
      found.push([at, (Math.min(at + 1, to) - Math.max(at, from)) / length]);
    }
    return found;
  });
}
