// Reads safetensors: eight bytes with the length of the header, the header as JSON, the tensors.
// Nothing in a file is executed, and no memory is spent on what it claims before that is checked.

import { Refusal, quote } from "./refusal.js";

const MOST_HEADER = 1_000_000; // bytes, as in advlearn/data/reference.py
const MOST_BYTES = 100_000_000; // of a file
const SIZES = { F16: 2, BF16: 2, F32: 4, F64: 8, I16: 2 }; // bytes of one number

// Return {tensors: name -> {shape, data: Float32Array}, text: the header's texts}.
export function readSafetensors(bytes, name = "The file") {
  const refuse = (why) => {
    throw new Refusal(`${name} is not a file of weights that can be used: ${why}.`);
  };
  if (bytes.length > MOST_BYTES) refuse(`it has over ${MOST_BYTES / 1e6} million bytes`);
  if (bytes.length < 10 || bytes[8] !== 0x7b) refuse("it is not a safetensors file");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = view.getUint32(0, true);
  if (view.getUint32(4, true) !== 0 || size < 2 || size > bytes.length - 8) {
    refuse("its header would be longer than the file");
  }
  if (size > MOST_HEADER) refuse(`its header has ${size} bytes, and at most ${MOST_HEADER} are read`);
  let header;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(8, 8 + size)));
  } catch {
    refuse("its header cannot be read");
  }
  const content = bytes.subarray(8 + size);
  const text = isRecord(header.__metadata__) ? header.__metadata__ : {};
  // Whole numbers are multiples of a step, which the file must then state.
  const step = aboutOf(text)?.about?.step;
  const entries = Object.entries(header).filter(([key]) => key !== "__metadata__");
  const places = entries.map(([key, entry]) => {
    const problem = problemOf(entry, content.length);
    if (problem) refuse(`its tensor ${quote(key)} ${problem}`);
    return { key, ...entry, start: entry.data_offsets[0], end: entry.data_offsets[1] };
  });
  // Each byte belongs to one tensor: what is shared or left over was not written by safetensors.
  let end = 0;
  for (const place of [...places].sort((a, b) => a.start - b.start || a.end - b.end)) {
    if (place.start !== end) refuse(`its tensor ${quote(place.key)} overlaps another, or leaves a gap`);
    end = place.end;
  }
  if (end !== content.length) refuse(`it has ${content.length - end} bytes that belong to no tensor`);
  const tensors = new Map();
  for (const { key, dtype, shape, start, end: stop } of places) {
    if (dtype === "I16" && !(step > 0 && step < 1)) refuse(`its tensor ${quote(key)} has whole numbers without a step`);
    const data = numbers(content.slice(start, stop), dtype, step);

    if (!data.every(Number.isFinite)) refuse(`its tensor ${quote(key)} holds NaN or infinity`);
    tensors.set(key, { shape, data });
  }
  return { tensors, text };
}

// Return what `advlearn.data.reference.pack` writes beside the tensors: {architecture, options, about}.
export function aboutOf(text) {
  try {
    return JSON.parse(text.advlearn);
  } catch {
    return null;
  }
}

function isRecord(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

// What is wrong with a tensor's entry in the header, as the end of a sentence; or "".
function problemOf(entry, length) {
  if (!isRecord(entry)) return "is not described";
  const { dtype, shape, data_offsets: offsets } = entry;
  if (!Object.hasOwn(SIZES, dtype)) {
    return `is of type ${quote(dtype)}, not ${Object.keys(SIZES).join(", ")}`;
  }
  if (!Array.isArray(shape) || shape.length > 8 || !shape.every(isCount)) return "has no proper shape";
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) return "has no proper place";
  const [start, end] = offsets;
  if (start > end || end > length) return "lies outside the file";
  const count = shape.reduce((product, side) => product * side, 1);
  return count * SIZES[dtype] === end - start ? "" : "has another size than its shape says";
}

function isCount(value) {
  return Number.isSafeInteger(value) && value >= 0;
}

// The bytes of a file are little-endian, and so is every processor that runs a browser.
function numbers(bytes, dtype, step) {
  if (dtype === "F32") return new Float32Array(bytes.buffer);
  if (dtype === "F64") return Float32Array.from(new Float64Array(bytes.buffer));
  if (dtype === "I16") return Float32Array.from(new Int16Array(bytes.buffer), (count) => count * step);
  const halves = new Uint16Array(bytes.buffer);
  if (dtype === "F16") return Float32Array.from(halves, (bits) => HALVES[bits]);
  return new Float32Array(Uint32Array.from(halves, (bits) => bits << 16).buffer);
}

// All 65,536 numbers of float16: one sign bit, five of the exponent, ten of the fraction.
const HALVES = Float32Array.from({ length: 1 << 16 }, (_, bits) => {
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
});
