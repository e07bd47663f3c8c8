// The drawing grid: 28 x 28 pixels, by mouse, finger or keyboard.

import { make, newId } from "./dom.js";
import { PIXEL_COUNT, SIZE } from "./models.js";

const RADIUS = 1.15; // of the pen, in pixels: strokes about as wide as those of MNIST
const MOST_UNDO = 50;
const STEPS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };

export class Pad {
  // change(): the pixels have changed; say(text): to a screen reader.
  constructor({ change, say }) {
    this.change = change;
    this.say = say;
    this.pixels = new Uint8ClampedArray(PIXEL_COUNT);
    this.past = [];
    this.erasing = false;
    this.cursor = { x: 13, y: 13 };
    const help = newId();
    this.canvas = make("canvas", { width: SIZE, height: SIZE, "aria-hidden": "true" });
    this.mark = make("div", { class: "cursor", "aria-hidden": "true" });
    this.grid = make(
      "div",
      {
        class: "grid",
        tabindex: 0,
        role: "application",
        "aria-label": "Drawing grid, 28 by 28 pixels",
        "aria-describedby": help,
        "data-lm-suppress-shortcuts": "true", // JupyterLab takes keys from what lies in a cell
        onpointerdown: (event) => this.press(event),
        onpointermove: (event) => this.move(event),
        onpointerup: () => this.release(),
        onpointercancel: () => this.release(),
        oncontextmenu: (event) => event.preventDefault(),
        onkeydown: (event) => this.key(event),
        onfocus: () => this.showCursor(),
      },
      this.canvas,
      this.mark,
    );
    const keys = make(
      "p",
      { id: help, class: "hint" },
      "Draw with mouse or finger, or drop a picture of a digit. By keyboard: arrow keys move, Space draws, Shift and an arrow key draw a line, Delete erases, Ctrl+Z takes back.",
    );
    this.el = make("div", { class: "pad" }, this.grid, keys);
    this.draw();
  }

  set(pixels) {
    this.remember();
    this.pixels = Uint8ClampedArray.from(pixels);
    this.draw();
  }

  remember() {
    this.past.push(this.pixels.slice());
    if (this.past.length > MOST_UNDO) this.past.shift();
  }

  undo() {
    if (!this.past.length) return this.say("Nothing to take back.");
    this.pixels = this.past.pop();
    this.draw();
    this.change();
    return this.say("Taken back.");
  }

  clear() {
    this.set(new Uint8ClampedArray(PIXEL_COUNT));
    this.change();
    this.say("The grid is empty.");
  }

  draw() {
    const pen = this.canvas.getContext("2d");
    const picture = pen.createImageData(SIZE, SIZE);
    this.pixels.forEach((value, at) => picture.data.set([value, value, value, 255], 4 * at));
    pen.putImageData(picture, 0, 0);
  }

  // Ink along a line from one point to another, both in pixels; darkness where it erases.
  line(from, to, erasing) {
    const dx = to.x - from.x, dy = to.y - from.y, length = dx * dx + dy * dy;
    const low = (a, b) => Math.max(0, Math.floor(Math.min(a, b) - RADIUS - 1));
    const high = (a, b) => Math.min(SIZE - 1, Math.ceil(Math.max(a, b) + RADIUS + 1));
    for (let y = low(from.y, to.y); y <= high(from.y, to.y); y++) {
      for (let x = low(from.x, to.x); x <= high(from.x, to.x); x++) {
        const along = length ? ((x - from.x) * dx + (y - from.y) * dy) / length : 0;
        const t = Math.min(1, Math.max(0, along));
        const distance = Math.hypot(x - from.x - t * dx, y - from.y - t * dy);
        const ink = Math.round(255 * Math.min(1, Math.max(0, RADIUS + 0.5 - distance)));
        const at = y * SIZE + x;
        this.pixels[at] = erasing ? Math.min(this.pixels[at], 255 - ink) : Math.max(this.pixels[at], ink);
      }
    }
    this.draw();
    this.change();
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = SIZE / box.width;
    return { x: (event.clientX - box.left) * scale - 0.5, y: (event.clientY - box.top) * scale - 0.5 };
  }

  press(event) {
    if (event.button !== 0 && event.button !== 2) return;
    this.grid.setPointerCapture(event.pointerId);
    this.remember();
    this.last = this.place(event);
    this.rubbing = this.erasing || event.button === 2;
    this.line(this.last, this.last, this.rubbing);
  }

  move(event) {
    if (!this.last) return;
    // A fast hand moves further between two pictures on the screen than between two reports of it.
    const between = event.getCoalescedEvents?.() ?? [];
    for (const each of between.length ? between : [event]) {
      const to = this.place(each);
      this.line(this.last, to, this.rubbing);
      this.last = to;
    }
  }

  release() {
    this.last = null;
  }

  key(event) {
    const step = STEPS[event.key];
    const control = event.ctrlKey || event.metaKey;
    if (control && event.key.toLowerCase() === "z") this.undo();
    else if (control || event.altKey) return;
    else if (step) this.step(step, event.shiftKey);
    else if (event.key === " " || event.key === "Enter") this.dot(false, event.repeat);
    else if (event.key === "Delete" || event.key === "Backspace") this.dot(true, event.repeat);
    else return;
    event.preventDefault();
  }

  step([dx, dy], drawing) {
    const from = this.cursor;
    const inside = (value) => Math.min(SIZE - 1, Math.max(0, value));
    this.cursor = { x: inside(from.x + dx), y: inside(from.y + dy) };
    if (drawing) {
      this.remember();
      this.line(from, this.cursor, this.erasing);
    }
    this.showCursor();
    this.tell();
  }

  dot(erasing, again) {
    if (!again) this.remember();
    this.line(this.cursor, this.cursor, erasing || this.erasing);
    this.tell();
  }

  showCursor() {
    this.mark.style.left = `${(100 * this.cursor.x) / SIZE}%`;
    this.mark.style.top = `${(100 * this.cursor.y) / SIZE}%`;
  }

  tell() {
    const { x, y } = this.cursor;
    const ink = Math.round(this.pixels[y * SIZE + x] / 2.55);
    this.say(`Row ${y + 1}, column ${x + 1}: ${ink ? `ink ${ink} %` : "empty"}.`);
  }
}
