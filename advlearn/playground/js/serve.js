// The half that computes: it answers requests, in a worker of its own where there is one.
//
// A request is {id, channel, kind, ...}. Long ones pause every few milliseconds, so that a stroke is
// answered while PGD is still at work; and a new request ends an unfinished one of its channel.

import { fgsm, gradientAt, noise, pgd } from "./attacks.js";
import { argmax, softmax } from "./functional.js";
import { crossEntropy, marginLoss } from "./losses.js";
import { build } from "./models.js";
import { unpack } from "./packed.js";
import { Generator } from "./random.js";
import { Refusal } from "./refusal.js";
import { readSafetensors } from "./safetensors.js";
import { logitsAlong } from "./walk.js";

const PAUSE_AFTER = 8; // milliseconds of work, half of a picture on the screen

// What a network says of an image, beside the label that it should say.
export function answerOf(model, image, label) {
  const logits = model.logits(image);
  const answer = argmax(logits);
  const truth = label ?? answer;
  return {
    logits,
    probabilities: softmax(logits),
    answer,
    label: truth,
    margin: -marginLoss(logits, truth), // log-odds of the label: positive where it is more likely than not
    loss: crossEntropy(logits, truth),
  };
}

// Yields now and then; returns the attacked image.
export function* attacked(model, image, label, { kind, eps, steps, target, clip, seed, randomStart = true }) {
  const bounds = clip ? undefined : null;
  const generator = new Generator(seed);
  if (kind === "noise") return noise(image, eps, generator, { bounds });
  if (kind === "fgsm") return fgsm(model, image, label, eps, { bounds });
  if (kind === "pgd") return yield* pgd(model, image, label, eps, { steps, generator, bounds, randomStart });
  if (kind === "targeted") {
    return yield* pgd(model, image, target, eps, { steps, generator, bounds, randomStart, targeted: true });
  }
  return image;
}

const KINDS = {
  // Read a network once; afterwards requests name it.
  async load(networks, { network, packed, bytes, name }) {
    if (!networks.has(network)) {
      const content = bytes ?? await unpack(packed);
      networks.set(network, build(readSafetensors(content, name), name));
    }
    return {};
  },

  *answer(networks, { network, image, label }) {
    return answerOf(networks.get(network), image, label);
  },

  *attack(networks, { network, image, label, attack }) {
    const model = networks.get(network);
    const before = answerOf(model, image, label);
    const changed = yield* attacked(model, image, before.label, attack);
    return { image: changed, before, after: answerOf(model, changed, before.label) };
  },

  // FGSM and PGD of one size, side by side.
  *compare(networks, { network, image, label, attack }) {
    const model = networks.get(network);
    const before = answerOf(model, image, label);
    const after = {};
    for (const kind of ["fgsm", "pgd"]) {
      const changed = yield* attacked(model, image, before.label, { ...attack, kind });
      after[kind] = answerOf(model, changed, before.label);
    }
    return { before, ...after };
  },

  *walk(networks, { network, image, label, reach, points }) {
    const model = networks.get(network);
    const { label: truth } = answerOf(model, image, label);
    return { label: truth, ...(yield* logitsAlong(model, image, truth, { reach, points })) };
  },

  *gradient(networks, { network, image, label }) {
    return gradientAt(networks.get(network), image, label);
  },
};

// Answer the requests that arrive at a port: that of a worker, or one end of a channel.
export function serve(port) {
  const networks = new Map();
  const latest = new Map(); // channel -> id of its newest request

  async function run(work, isWanted) {
    let since = performance.now();
    for (;;) {
      const { done, value } = work.next();
      if (done) return value;
      if (performance.now() - since < PAUSE_AFTER) continue;
      await pause();
      if (!isWanted()) return null;
      since = performance.now();
    }
  }

  port.onmessage = async ({ data: { id, channel, kind, ...request } }) => {
    latest.set(channel, id);
    try {
      // Of requests that arrived while something else was computed, only the newest counts.
      await pause();
      if (latest.get(channel) !== id) return port.postMessage({ id, result: null });
      const work = KINDS[kind](networks, request);
      const started = performance.now();
      const result = kind === "load" ? await work : await run(work, () => latest.get(channel) === id);
      return port.postMessage({ id, result, took: performance.now() - started });
    } catch (error) {
      return port.postMessage({ id, refused: error instanceof Refusal, error: error.message });
    }
  };
}

// Let what has arrived in the meantime be answered. A timer would wait four milliseconds.
const waiting = [];
const turn = new MessageChannel();
turn.port1.onmessage = () => waiting.shift()();
function pause() {
  return new Promise((resolve) => {
    waiting.push(resolve);
    turn.port2.postMessage(null);
  });
}
