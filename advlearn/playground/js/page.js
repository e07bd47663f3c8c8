// The playground on a page: what is chosen on the left, what the networks say of it on the right.
//
// `mount` puts it into any element: of the page that `advlearn playground` opens, of the book, of a
// notebook. Nothing is kept outside of it, so that several may stand on one page.

import { Chart } from "./chart.js";
import { centred } from "./centre.js";
import { make, newId } from "./dom.js";
import { Engine } from "./engine.js";
import { Guide, STEPS_OF_GUIDE } from "./guide.js";
import { CLASSES, PIXEL_COUNT, SIZE } from "./models.js";
import { Pad } from "./pad.js";
import { readPicture } from "./pictures.js";
import { Refusal, quote } from "./refusal.js";
import { ATTACKS, MOST_EPS, MOST_STEPS, REACHES, START, toLink } from "./state.js";
import { MARGIN, changeText, honest, marginText, nameOf, number, shortPercent, verdict } from "./words.js";

const REST = 150; // milliseconds without a change, before what takes long is begun
const SAY_AFTER = 500; // milliseconds, so that a screen reader is not told of every stroke
const POINTS = 121; // of the walk
const SHOWN = 10; // offline digits in a row to pick from
const MOST_FILE = 50_000_000; // bytes of weights

const isEmpty = (pixels) => pixels.every((value) => value === 0);

// Put a playground into an element.
//
// worker: the code of worker.js and what it imports, as text.
// networks: [{name, title, about, weights: () => {packed} or {bytes}, rates or null}].
// digits: {pixels: bytes (N * 784,), labels: N numbers}.
// state: what is chosen at first; onState(state, link): told of each change.
//
// Returns {state, set, open, close, seen}: set(patch) changes what is chosen, seen() gives a promise of
// {before, after, image, attacked} for what is chosen then.
export function mount(el, { worker, networks, digits, state: given = {}, onState = () => {}, withGuide = true }) {
  return new Playground(el, { worker, networks: [...networks], digits, given, onState, withGuide });
}

class Playground {
  constructor(el, { worker, networks, digits, given, onState, withGuide }) {
    Object.assign(this, { el, networks, digits, onState });
    this.engine = new Engine(worker);
    this.state = this.sound({ ...START, ...given });
    this.timers = {};
    this.turn = this.shown = 0; // of the newest request, and of the one whose result is on the page
    this.rates = Object.fromEntries(networks.filter(({ rates }) => rates).map(({ name, rates }) => [name, rates]));
    this.root = make("div", { class: "advlearn-playground" });
    this.build(withGuide);
    el.append(this.root);
    this.showPixels();
    this.showControls();
    this.guide?.open(this.state.lesson);
    this.ready = this.refresh();
  }

  // A link may name a network or a digit that this page does not have.
  sound(state) {
    const network = this.networks.find(({ name }) => name === state.network) ?? this.networks[0];
    const isDigit = state.digit !== null && state.digit < this.digits.labels.length;
    return { ...state, network: network.name, digit: isDigit || state.pixels ? state.digit : START.digit };
  }

  // --- What is on the page -------------------------------------------------------------------------

  build(withGuide) {
    this.live = make("p", { class: "unseen", role: "status" });
    this.trouble = make("p", { class: "trouble", role: "alert" });
    // On a phone the verdict is far below what it depends on.
    this.glance = make("canvas", { width: SIZE, height: SIZE });
    this.strip = make("div", { class: "strip", "aria-hidden": "true" }, this.glance, make("span", {}));
    if (withGuide) {
      this.guide = new Guide({
        rates: this.rates,
        go: (lesson) => this.goTo(lesson),
        set: (patch) => this.set(patch),
        seen: () => this.seen(),
      });
    }
    this.root.append(
      ...(this.guide ? [this.guide.el] : []),
      make("div", { class: "panels" }, this.digitPanel(), this.attackPanel(), this.answerPanel()),
      this.walkPanel(),
      this.trouble,
      this.live,
      this.strip,
    );
    for (const kind of ["dragover", "drop"]) this.root.addEventListener(kind, (event) => this.dropped(event));
    this.root.addEventListener("paste", (event) => this.take(event.clipboardData?.files?.[0]));
  }

  panel(kind, title, ...children) {
    const id = newId();
    return make("section", { class: `panel ${kind}`, "aria-labelledby": id }, make("h2", { id }, title), ...children);
  }

  digitPanel() {
    this.pad = new Pad({ change: () => this.drawn(), say: (text) => this.sayNow(text) });
    this.erase = make("button", { "aria-pressed": "false", onclick: () => this.toggleEraser() }, "Eraser");
    this.chooser = make("input", { type: "file", class: "unseen", tabindex: -1, "aria-label": "A picture, or a file of weights",
      accept: "image/png,image/jpeg,image/gif,image/bmp,image/webp,.safetensors",
      onchange: () => {
        this.take(this.chooser.files[0]);
        this.chooser.value = "";
      } });
    this.picks = make("div", { class: "picks", role: "group", "aria-label": "Handwritten digits to pick from" });
    this.first = 0;
    this.labelled = this.select("The digit is", [["", "what the network reads"], ...digitsOf().map((k) => [k, `a ${k}`])],
      (value) => this.set({ label: value === "" ? null : Number(value) }));
    return this.panel("digit", "Your digit",
      this.pad.el,
      make("div", { class: "tools" },
        make("button", { onclick: () => this.pad.clear() }, "Clear"),
        make("button", { onclick: () => this.pad.undo() }, "Undo"),
        this.erase,
        make("button", { onclick: () => this.centre(), title: "Scale and place it as the digits that the networks learned from" }, "Centre"),
        make("button", { onclick: () => this.chooser.click(), title: "A picture of a digit, or a file of weights. It stays on this machine. You can also drop it here." }, "Open a file"),
        this.chooser),
      make("p", { class: "caption" }, "Or pick one that no network was trained on:"),
      this.picks,
      make("button", { class: "plain", onclick: () => this.more() }, "Show others"),
      this.labelled.row);
  }

  attackPanel() {
    this.networkBox = make("div", { class: "choices" });
    this.attackBox = this.radios("Attack", ATTACKS.map((kind) => [kind, capital(nameOf(kind))]), "attack", "segments");
    this.eps = this.slider(["eps", "the largest change of a pixel"], { min: 0, max: MOST_EPS, step: 0.01 }, (value) => this.set({ eps: value }), (value) => number(value));
    this.steps = this.slider(["Steps", "each takes a new gradient"], { min: 1, max: MOST_STEPS, step: 1 }, (value) => this.set({ steps: value }), String);
    this.target = this.select("Target", digitsOf().map((k) => [k, String(k)]), (value) => this.set({ target: Number(value) }));
    const id = newId();
    this.clip = make("input", { type: "checkbox", id, onchange: () => this.set({ clip: this.clip.checked }) });
    this.again = make("button", { class: "plain", onclick: () => this.set({ seed: (this.state.seed + 1) % 2 ** 32 }) }, "Draw the random numbers anew");
    this.showNetworks();
    return this.panel("attack", "Network and attack",
      make("fieldset", {}, make("legend", {}, "Network"), this.networkBox),
      this.attackBox,
      this.eps.row, this.steps.row, this.target.row,
      make("p", { class: "check" }, this.clip, make("label", { for: id }, "Clip: pixels stay between black and white")),
      this.again);
  }

  answerPanel() {
    this.before = picture("Your digit");
    this.change = picture("The change");
    this.after = picture("What the network sees");
    this.verdict = make("div", { class: "verdict" }, make("p", { class: "title" }), make("p", { class: "text" }));
    this.margin = make("p", { class: "margin" });
    this.honest = make("p", { class: "honest" });
    this.bars = digitsOf().map((k) => ({
      row: make("tr", {}),
      before: make("td", {}), after: make("td", {}),
      thin: make("span", { class: "bar before" }), thick: make("span", { class: "bar after" }), digit: k,
    }));
    for (const bar of this.bars) {
      const track = make("td", { class: "track", "aria-hidden": "true" }, bar.thin, bar.thick);
      bar.row.append(make("th", { scope: "row" }, String(bar.digit)), track, bar.before, bar.after);
    }
    const heads = ["Digit", "", "before", "after"];
    const table = make("table", { class: "bars" },
      make("caption", {}, "Probability of each digit"),
      make("thead", {}, make("tr", {}, ...heads.map((head, k) => (k === 1 ? make("td", { "aria-hidden": "true" }) : make("th", { scope: "col" }, head))))),
      make("tbody", {}, ...this.bars.map(({ row }) => row)));
    const sign = (text) => make("span", { class: "sign", "aria-hidden": "true" }, text);
    return this.panel("answer", "What the network says",
      this.verdict,
      make("div", { class: "equation" }, this.before.el, sign("+"), this.change.el, sign("="), this.after.el),
      table,
      make("details", { class: "more" }, make("summary", {}, this.margin), make("p", {}, MARGIN)),
      this.honest);
  }

  walkPanel() {
    this.chart = new Chart();
    this.reach = this.radios("Range of eps", REACHES.map((reach) => [reach, `\u{2212}${reach} … ${reach}`]), "reach", "segments");
    return this.panel("walk", "Along the direction of FGSM",
      make("p", {}, "FGSM takes one step along a straight line. Here is where the line leads, further than any eps above, and backwards too. The highest curve is the answer."),
      this.reach, this.chart.el);
  }

  // --- Controls ------------------------------------------------------------------------------------

  radios(legend, options, key, kind) {
    const name = newId();
    return make("fieldset", { class: kind }, make("legend", {}, legend),
      ...options.map(([value, text, more]) => {
        const input = make("input", { type: "radio", name, value, "data-key": key,
          onchange: () => this.set({ [key]: typeof START[key] === "number" ? Number(value) : value }) });
        return make("label", {}, input, make("span", {}, text, ...(more ? [make("small", {}, more)] : [])));
      }));
  }

  slider([text, more], limits, change, say) {
    const id = newId();
    const output = make("output", { for: id, "aria-hidden": "true" });
    const input = make("input", { type: "range", id, ...limits, oninput: () => change(Number(input.value)) });
    const show = (value) => {
      input.value = value;
      input.setAttribute("aria-valuetext", say(value));
      output.textContent = say(value);
    };
    return { row: make("p", { class: "slider" }, make("label", { for: id }, text, make("small", {}, ` ${more}`)), output, input), show };
  }

  select(text, options, change) {
    const id = newId();
    const select = make("select", { id, onchange: () => change(select.value) },
      ...options.map(([value, words]) => make("option", { value }, words)));
    return { row: make("p", { class: "select" }, make("label", { for: id }, text), select), select };
  }

  showNetworks() {
    const made = this.radios("", this.networks.map(({ name, title, about }) => [name, title, about]), "network", "choices");
    this.networkBox.replaceChildren(...[...made.children].slice(1));
  }

  showControls() {
    const { state } = this;
    for (const input of this.root.querySelectorAll("input[type=radio]")) {
      input.checked = input.value === String(state[input.dataset.key]);
    }
    this.eps.show(state.eps);
    this.steps.show(state.steps);
    this.target.select.value = state.target;
    this.clip.checked = state.clip;
    const many = state.attack === "pgd" || state.attack === "targeted";
    this.eps.row.hidden = this.clip.parentElement.hidden = state.attack === "none";
    this.steps.row.hidden = !many;
    this.target.row.hidden = state.attack !== "targeted";
    this.again.hidden = !many && state.attack !== "noise";
    this.labelled.row.hidden = state.digit !== null;
    this.labelled.select.value = state.label ?? "";
    this.showPicks();
  }

  showPicks() {
    const { pixels, labels } = this.digits;
    if (this.shownFirst !== this.first) {
      this.shownFirst = this.first;
      this.picks.replaceChildren(...digitsOf(Math.min(SHOWN, labels.length)).map((k) => {
        const index = (this.first + k) % labels.length;
        const canvas = make("canvas", { width: SIZE, height: SIZE, "aria-hidden": "true" });
        paint(canvas, pixels.subarray(index * PIXEL_COUNT, (index + 1) * PIXEL_COUNT), grey);
        return make("button", { "data-digit": index, "aria-label": `A ${labels[index]}`,
          onclick: () => this.set({ digit: index, pixels: null, label: null }) }, canvas);
      }));
    }
    for (const button of this.picks.children) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.digit) === this.state.digit));
    }
  }

  more() {
    this.first = (this.first + SHOWN) % this.digits.labels.length;
    this.showPicks();
  }

  toggleEraser() {
    this.pad.erasing = !this.pad.erasing;
    this.erase.setAttribute("aria-pressed", String(this.pad.erasing));
  }

  // --- What is chosen ------------------------------------------------------------------------------

  // The pixels, as bytes and as the networks see them.
  get pixels() {
    const { digit, pixels } = this.state;
    if (digit === null) return pixels ?? new Uint8ClampedArray(PIXEL_COUNT);
    return this.digits.pixels.subarray(digit * PIXEL_COUNT, (digit + 1) * PIXEL_COUNT);
  }

  get image() {
    return Float32Array.from(this.pixels, (value) => value / 255);
  }

  get label() {
    return this.state.digit === null ? this.state.label : this.digits.labels[this.state.digit];
  }

  set(patch) {
    const pixels = "pixels" in patch || "digit" in patch;
    this.state = this.sound({ ...this.state, ...patch });
    if (pixels) this.showPixels();
    this.showControls();
    this.onState(this.state, toLink(this.state));
    this.ready = this.refresh();
    return this.ready;
  }

  showPixels() {
    if (this.pixels.some((value, at) => value !== this.pad.pixels[at])) this.pad.set(this.pixels);
  }

  drawn() {
    // What was said of another drawing does not hold for the next one.
    const changed = this.state.digit !== null || (this.state.label !== null && isEmpty(this.pad.pixels));
    this.state = { ...this.state, digit: null, pixels: this.pad.pixels.slice(), label: changed ? null : this.state.label };
    if (changed) this.showControls();
    this.ready = this.refresh();
    this.later("link", REST, () => this.onState(this.state, toLink(this.state)));
  }

  centre() {
    this.attempt(() => {
      this.set({ pixels: centred(Float64Array.from(this.pixels), SIZE, SIZE), digit: null });
      this.sayNow("Centred.");
    });
  }

  goTo(lesson) {
    this.set({ ...(lesson ? STEPS_OF_GUIDE[lesson - 1].asks : {}), lesson });
    this.guide.open(lesson);
    this.guide.first.focus();
  }

  // --- What is dropped -----------------------------------------------------------------------------

  dropped(event) {
    if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
    event.preventDefault();
    this.root.classList.toggle("over", event.type === "dragover");
    if (event.type === "drop") this.take(event.dataTransfer.files[0]);
  }

  async take(file) {
    if (!file) return;
    await this.attempt(async () => {
      if (/\.safetensors$/i.test(file.name)) await this.takeWeights(file);
      else {
        this.set({ pixels: await readPicture(file), digit: null, label: null });
        this.sayNow(`${quote(file.name)} is on the grid.`);
      }
    });
  }

  async takeWeights(file) {
    if (file.size > MOST_FILE) throw new Refusal(`${quote(file.name)} cannot be used: it has over ${MOST_FILE / 1e6} million bytes.`);
    const bytes = new Uint8Array(await file.arrayBuffer());
    const name = `file ${newId()}`;
    await this.engine.load(name, () => ({ bytes, name: quote(file.name) }));
    this.networks.push({ name, title: file.name, about: "from your file", weights: () => ({ bytes, name: quote(file.name) }), rates: null });
    this.showNetworks();
    this.set({ network: name });
    this.sayNow(`${quote(file.name)} is the network now.`);
  }

  // Do something that may be refused, and say so in words.
  async attempt(action) {
    this.trouble.textContent = "";
    try {
      await action();
    } catch (error) {
      this.fail(error);
    }
  }

  fail(error) {
    if (!(error instanceof Refusal)) console.error(error);
    this.trouble.textContent = error instanceof Refusal ? error.message : `Something is wrong with this page: ${error.message}`;
  }

  // --- What the networks say -----------------------------------------------------------------------

  // Ask for all that depends on what is chosen. Returns a promise of the result, or of null if
  // something else was chosen in the meantime.
  async refresh() {
    const { state, image, label } = this;
    const begun = performance.now(), turn = ++this.turn;
    const about = { network: state.network, image, label };
    const attack = { kind: state.attack, eps: state.eps, steps: state.steps, target: state.target, clip: state.clip, seed: state.seed };
    const isLong = state.attack === "pgd" || state.attack === "targeted";
    // A moving hand is ahead of the answers: each is shown that is newer than the last one.
    const show = (result) => {
      if (!result || turn < this.shown) return;
      this.shown = turn;
      this.show(result, { state, image, known: label !== null });
    };
    this.root.toggleAttribute("data-waiting", true);
    try {
      const network = this.networks.find(({ name }) => name === state.network);
      await this.engine.load(network.name, () => ({ name: network.title, ...network.weights() }));
      if (isLong) {
        const before = await this.engine.ask("answer", about, "attack");
        show(before && { before, image: null, after: null });
        this.measure(begun);
        // Let a drawing hand rest before forty steps are begun.
        if (state.digit === null) await rest(REST);
        if (state !== this.state) return null;
      }
      const result = await this.engine.ask("attack", { ...about, attack }, "attack");
      show(result);
      if (!isLong) this.measure(begun);
      if (!result || state !== this.state) return null;
      this.root.toggleAttribute("data-waiting", false);
      this.later("rest", REST, () => this.showRest(about, attack, state));
      return { before: result.before, after: result.after, image, attacked: result.image };
    } catch (error) {
      this.root.toggleAttribute("data-waiting", false);
      this.fail(error);
      return null;
    }
  }

  async showRest(about, attack, state) {
    try {
      const walk = await this.engine.ask("walk", { ...about, reach: state.reach, points: POINTS });
      if (walk && state === this.state) this.chart.show(walk, state.attack === "none" ? 0 : state.eps);
      const both = await this.engine.ask("compare", { ...about, attack });
      if (!both || state !== this.state) return;
      const { rates } = this.networks.find(({ name }) => name === state.network);
      const applies = !isEmpty(about.image) && (state.attack === "fgsm" || state.attack === "pgd");
      this.honest.hidden = !applies;
      this.honest.textContent = applies
        ? honest(both, rates && { ...(state.clip ? rates.clipped : rates.unclipped), eps: rates.eps }, about.label !== null)
        : "";
    } catch (error) {
      this.fail(error);
    }
  }

  show({ before, after, image: changed }, { state, image, known }) {
    const { attack, eps, target } = state;
    const isAttack = attack !== "none" && after;
    const empty = isEmpty(image);
    const said = verdict({ before, after: isAttack ? after : null, attack, target, known, empty });
    this.verdict.className = `verdict ${said.kind}`;
    this.verdict.children[0].textContent = said.title;
    this.verdict.children[1].textContent = said.text;
    this.strip.className = `strip ${said.kind}`;
    this.strip.lastChild.textContent = said.title;
    this.margin.textContent = marginText({ before, after: isAttack ? after : null });
    this.showPictures(image, isAttack ? changed : image, eps, Boolean(isAttack));
    this.showBars(before, isAttack ? after : null);
    this.honest.hidden = empty || (attack !== "fgsm" && attack !== "pgd");
    this.later("say", SAY_AFTER, () => this.sayNow(`${said.title}. ${said.text}`));
  }

  showPictures(image, changed, eps, isAttack) {
    paint(this.before.canvas, image, light);
    paint(this.after.canvas, changed, light);
    paint(this.glance, changed, light);
    const difference = changed.map((pixel, at) => pixel - image[at]);
    const most = isAttack ? eps : 0;
    paint(this.change.canvas, difference, (value) => diverging(most ? value / most : 0));
    this.before.canvas.setAttribute("aria-label", "Your digit, as it is");
    this.change.canvas.setAttribute("aria-label", isAttack ? changeText(image, changed, eps) : "No change");
    this.after.canvas.setAttribute("aria-label", isAttack ? "The changed image" : "The same image");
    this.change.note.textContent = most ? `shown ${number(1 / most, 0)} times as strong` : "none";
    const outside = changed.some((pixel) => pixel < 0 || pixel > 1);
    this.after.note.textContent = outside ? "with pixels that no screen can show" : "";
  }

  showBars(before, after) {
    const now = after ?? before;
    for (const bar of this.bars) {
      const old = before.probabilities[bar.digit], fresh = now.probabilities[bar.digit];
      bar.thin.style.width = `${100 * old}%`;
      bar.thick.style.width = `${100 * fresh}%`;
      bar.thin.hidden = !after;
      bar.before.textContent = shortPercent(old);
      bar.after.textContent = after ? shortPercent(fresh) : "";
      const kind = bar.digit === now.label ? "label" : bar.digit === now.answer ? "answer" : "";
      bar.row.className = `${kind} ${bar.digit === now.answer ? "top" : ""}`;
    }
  }

  // --- Time ----------------------------------------------------------------------------------------

  later(name, milliseconds, action) {
    clearTimeout(this.timers[name]);
    this.timers[name] = setTimeout(action, milliseconds);
  }

  measure(begun) {
    performance.measure("advlearn: to new probabilities", { start: begun, end: performance.now() });
  }

  sayNow(text) {
    this.live.textContent = text;
  }

  // Show a state as a whole, as that of a link.
  open(state) {
    this.set(state);
    this.guide?.open(this.state.lesson);
  }

  // A promise of the result of what is chosen when it comes.
  async seen() {
    for (;;) {
      const { ready } = this;
      const result = await ready;
      if (ready === this.ready) return result;
    }
  }

  close() {
    for (const timer of Object.values(this.timers)) clearTimeout(timer);
    this.engine.close();
    this.chart.close();
    this.root.remove();
  }
}

function rest(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function digitsOf(count = CLASSES) {
  return Array.from({ length: count }, (_, k) => k);
}

function capital(text) {
  return text[0].toUpperCase() + text.slice(1);
}

function picture(title) {
  const canvas = make("canvas", { width: SIZE, height: SIZE, role: "img", "aria-label": title });
  const note = make("small", {});
  return { el: make("figure", {}, canvas, make("figcaption", {}, title, note)), canvas, note };
}

// Paint values (784,) on a canvas, by a function from a value to [red, green, blue].
function paint(canvas, values, colour) {
  const pen = canvas.getContext("2d");
  const data = pen.createImageData(SIZE, SIZE);
  values.forEach((value, at) => data.data.set([...colour(value), 255], 4 * at));
  pen.putImageData(data, 0, 0);
}

function grey(byte) {
  return [byte, byte, byte];
}

function light(value) {
  return grey(255 * value);
}

// White for no change; vermilion for lighter, blue for darker: told apart by every kind of sight.
const LIGHTER = [213, 94, 0];
const DARKER = [0, 114, 178];
function diverging(value) {
  const share = Math.min(1, Math.abs(value));
  return (value > 0 ? LIGHTER : DARKER).map((channel) => 255 + share * (channel - 255));
}
