// Bytes that travel as text in a page, deflated and in base 85: see advlearn/playground/packing.py.

import { Refusal } from "./refusal.js";

const DAMAGED = "This page is damaged. Make it anew.";

// Return the bytes of a text. `planes` bytes make a number: all first bytes come first in the text,
// then all second ones.
export async function unpack(text, { planes = 2 } = {}) {
  const stream = new Blob([fromBase85(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  let apart;
  try {
    apart = new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw new Refusal(DAMAGED);
  }
  const bytes = new Uint8Array(apart.length);
  let from = 0;
  for (let plane = 0; plane < planes; plane++) {
    for (let at = plane; at < bytes.length; at += planes) bytes[at] = apart[from++];
  }
  return bytes;
}

// The letters of Python's `base64.b85encode`: five of them are four bytes.
const LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";
const VALUES = new Uint8Array(128).fill(LETTERS.length);
[...LETTERS].forEach((letter, value) => (VALUES[letter.charCodeAt(0)] = value));

function fromBase85(text) {
  const groups = Math.ceil(text.length / 5);
  const view = new DataView(new ArrayBuffer(4 * groups));
  for (let group = 0, at = 0; group < groups; group++) {
    let value = 0;
    for (let k = 0; k < 5; k++, at++) {
      const letter = at < text.length ? (VALUES[text.charCodeAt(at)] ?? LETTERS.length) : LETTERS.length - 1;
      if (letter === LETTERS.length) throw new Refusal(DAMAGED);
      value = value * 85 + letter;
    }
    view.setUint32(4 * group, value);
  }
  return new Uint8Array(view.buffer, 0, Math.floor((text.length * 4) / 5));
}
