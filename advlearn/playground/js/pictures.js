// Reads a picture that was dropped on the page. It is decoded here and goes nowhere.

import { centred, inkOf } from "./centre.js";
import { Refusal, quote } from "./refusal.js";

const MOST_PICTURE = 50_000_000;
const MOST_PIXELS = 36_000_000; // as in advlearn/data/pictures.py: a small file may unpack to gigabytes
const SIDE = 400; // pixels: to this it is scaled before its ink is looked for

// Return the bytes (784,) of a picture in a file, centred as MNIST's digits are.
export async function readPicture(file) {
  const name = quote(file.name || "the picture");
  const refuse = (why) => {
    throw new Refusal(`${name} cannot be used: ${why}.`);
  };
  if (file.size > MOST_PICTURE) refuse(`it has over ${MOST_PICTURE / 1e6} million bytes`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  const size = sizeOf(bytes);
  if (!size) refuse("it is no PNG, JPEG, GIF, BMP or WebP picture");
  const [width, height] = size;
  if (!(width * height > 0)) refuse("it is damaged");
  if (width * height > MOST_PIXELS) {
    refuse(`it has ${width} x ${height} pixels, and at most ${MOST_PIXELS / 1e6} million are read`);
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([bytes]));
  } catch {
    refuse("it is damaged");
  }
  const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
  const columns = Math.max(1, Math.round(bitmap.width * scale));
  const rows = Math.max(1, Math.round(bitmap.height * scale));
  const canvas = Object.assign(document.createElement("canvas"), { width: columns, height: rows });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.fillStyle = "white"; // behind what is transparent
  pen.fillRect(0, 0, columns, rows);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, columns, rows);
  bitmap.close();
  const { data } = pen.getImageData(0, 0, columns, rows);
  const grey = new Float64Array(columns * rows);
  for (let at = 0; at < grey.length; at++) {
    grey[at] = 0.299 * data[4 * at] + 0.587 * data[4 * at + 1] + 0.114 * data[4 * at + 2];
  }
  try {
    return centred(inkOf(grey, columns, rows), columns, rows);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    throw new Refusal(`${name} cannot be used. ${error.message}`);
  }
}

// Return the width and the height that a picture states at its head, or null if it is none.
export function sizeOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const starts = (text, at = 0) => [...text].every((letter, k) => bytes[at + k] === letter.charCodeAt(0));
  try {
    if (starts("\x89PNG\r\n\x1a\n")) return [view.getUint32(16), view.getUint32(20)];
    if (starts("GIF8")) return [view.getUint16(6, true), view.getUint16(8, true)];
    if (starts("BM")) return [Math.abs(view.getInt32(18, true)), Math.abs(view.getInt32(22, true))];
    if (starts("RIFF") && starts("WEBP", 8)) return sizeOfWebp(view, starts);
    if (starts("\xff\xd8\xff")) return sizeOfJpeg(view);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return [0, 0]; // it ends before its size is told
  }
  return null;
}

function sizeOfWebp(view, starts) {
  if (starts("VP8X", 12)) {
    const three = (at) => view.getUint16(at, true) + (view.getUint8(at + 2) << 16) + 1;
    return [three(24), three(27)];
  }
  if (starts("VP8L", 12)) {
    const both = view.getUint32(21, true);
    return [(both & 0x3fff) + 1, ((both >> 14) & 0x3fff) + 1];
  }
  if (starts("VP8 ", 12)) return [view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff];
  return [0, 0];
}

// A JPEG is a row of segments, each with its length; that of a frame holds the size.
function sizeOfJpeg(view) {
  for (let at = 2; ; ) {
    if (view.getUint8(at) !== 0xff) return [0, 0];
    const kind = view.getUint8(at + 1);
    const isFrame = kind >= 0xc0 && kind <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(kind);
    if (isFrame) return [view.getUint16(at + 7), view.getUint16(at + 5)];
    at += kind === 0xff ? 1 : 2 + view.getUint16(at + 2);
  }
}
