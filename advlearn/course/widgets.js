// The page's half of advlearn/course/widgets.py: controls above a picture, and the pictures kept here.
// A picture that the page has is shown without a word to the kernel.

const AFTER = 120; // milliseconds of rest before the page asks for pictures ahead of the learner
const LATE = 500; // milliseconds before it says that a picture is being drawn

function make(kind, attributes = {}, ...children) {
  const element = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function withStop(place, number, stop) {
  return place.map((old, index) => (index === number ? stop : old));
}

// All places that one move of one control reaches: the nearest first, and of these the one that goes
// on as the last move did.
function around(place, before, controls) {
  const found = [];
  controls.forEach(({ stops }, number) => {
    for (let stop = 0; stop < stops.length; stop++) {
      if (stop === place[number]) continue;
      const onward = (stop - place[number]) * (place[number] - before[number]) > 0;
      const distance = Math.abs(stop - place[number]) - (onward ? 0.5 : 0);
      found.push([distance, withStop(place, number, stop)]);
    }
  });
  return found.sort((a, b) => a[0] - b[0]).map(([, there]) => there);
}

function render({ model, el }) {
  const controls = model.get("controls");
  const frames = new Map(); // place -> {alt, url}
  const asked = new Set();
  let place = [...model.get("place")], before = place;
  let timer = 0, late = 0;

  const image = make("img", { alt: "" });
  // A reader who sees the picture gets its caption, a screen reader all of its alt text.
  const words = make("p", { class: "advlearn-words", "aria-hidden": "true" });
  const status = make("p", { class: "advlearn-status", role: "status" });
  const screen = make("div", { class: "advlearn-screen" }, image);
  const inputs = controls.map(({ name, kind, stops }, number) => {
    // JupyterLab takes the up and down keys, and letters, from what lies in a cell.
    const ours = { "data-lm-suppress-shortcuts": "true" };
    const input = kind === "list"
      ? make("select", ours, ...stops.map((said, stop) => make("option", { value: stop }, said)))
      : make("input", { type: "range", min: 0, max: stops.length - 1, step: 1, ...ours });
    input.addEventListener("input", () => go(withStop(place, number, Number(input.value))));
    // A list shows its value itself.
    const output = kind === "list" ? "" : make("output", { "aria-hidden": "true" });
    return { name, stops, input, output };
  });
  const rows = inputs.map(({ name, input, output }) =>
    make("div", { class: "advlearn-control" },
      make("label", {}, make("span", {}, name), input), output));
  const names = controls.map(({ name }) => name).join(", ");
  const box = make("div", { class: "advlearn-explorer", role: "group" }, ...rows, screen, words, status);
  box.setAttribute("aria-label", `Interactive picture: ${names}`);
  el.append(box);
  // The picture for a notebook without its kernel has done its part. JupyterLab hides it by style.
  for (const still of document.querySelectorAll(`[data-still="${model.get("still")}"]`)) still.hidden = true;

  function say(caption, alt) {
    words.textContent = caption;
    status.textContent = alt;
  }

  function keep(where, alt, caption, png) {
    const key = where.join();
    asked.delete(key);
    if (frames.has(key)) return;
    const url = png.byteLength ? URL.createObjectURL(new Blob([png], { type: "image/png" })) : "";
    frames.set(key, { alt, caption, url });
    box.dataset.pictures = frames.size;
  }

  function ask(where) {
    if (frames.has(where.join()) || asked.has(where.join())) return;
    asked.add(where.join());
    model.send({ place: where });
  }

  function go(where) {
    before = place;
    place = where;
    model.set("place", place);
    model.save_changes();
    draw();
  }

  function draw() {
    inputs.forEach(({ stops, input, output }, number) => {
      input.value = place[number];
      if (!output) return;
      input.setAttribute("aria-valuetext", stops[place[number]]);
      output.textContent = stops[place[number]];
    });
    const frame = frames.get(place.join());
    screen.toggleAttribute("data-waiting", !frame);
    clearTimeout(late);
    if (!frame) {
      const wait = "Drawing. This takes a running kernel.";
      late = setTimeout(() => say(wait, wait), LATE);
      return ask(place);
    }
    image.hidden = !frame.url;
    if (frame.url) image.src = frame.url;
    image.alt = frame.alt;
    say(frame.caption, frame.alt);
    ahead();
  }

  // At rest, ask for the pictures that the next key press may need: one at a time, so that the
  // kernel is never busy with more than one when a cell is run.
  function ahead() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const next = around(place, before, controls).find((there) => !frames.has(there.join()));
      if (next && asked.size === 0) ask(next);
    }, AFTER);
  }

  // Pictures differ a little in size. What is below must not jump up and down with them.
  image.addEventListener("load", () => {
    const tallest = Math.max(parseFloat(screen.style.minHeight) || 0, image.offsetHeight);
    screen.style.minHeight = `${tallest}px`;
  });
  const onResize = () => { screen.style.minHeight = ""; };
  window.addEventListener("resize", onResize);

  function onAnswer(message, [png]) {
    keep(message.place, message.alt, message.words, png);
    if (message.place.join() === place.join()) draw();
    else ahead();
  }
  function onPlace() {
    if (model.get("place").join() === place.join()) return;
    place = [...model.get("place")];
    draw();
  }
  model.on("msg:custom", onAnswer);
  model.on("change:place", onPlace);
  for (const { place: where, alt, words: caption, png } of model.get("frames")) keep(where, alt, caption, png);
  draw();
  return () => {
    clearTimeout(timer);
    clearTimeout(late);
    window.removeEventListener("resize", onResize);
    model.off("msg:custom", onAnswer);
    model.off("change:place", onPlace);
    for (const { url } of frames.values()) URL.revokeObjectURL(url);
  };
}

export default { render };
