// Attacks on one image, as in advlearn/attacks.py: eps is the largest change of one pixel, on a
// scale from 0 to 1. Images are float32 and steps are rounded as PyTorch rounds them, so that the
// same gradient gives the same image, bit by bit.

import { argmax } from "./functional.js";
import { logitGradient, marginLoss } from "./losses.js";

export const PIXELS = { low: 0, high: 1 };

// Return the gradient of the margin at an image, and the logits there.
export function gradientAt(model, image, label) {
  const logits = model.logits(image);
  return { logits, gradient: model.gradient(logitGradient(logits, label)) };
}

// clamp(x + eps sign(gradient)): the best step in the box for a linear loss.
export function linearStep(image, gradient, eps, { targeted = false, bounds = PIXELS } = {}) {
  const step = Math.fround(targeted ? -eps : eps);
  const moved = image.map((pixel, i) => pixel + step * Math.sign(gradient[i]));
  return bounds ? moved.map((pixel) => clamp(pixel, bounds.low, bounds.high)) : moved;
}

// Random changes of the same size as an attack's: uniform in [-eps, eps].
export function noise(image, eps, generator, { bounds = PIXELS } = {}) {
  const moved = image.map((pixel) => pixel + eps * (2 * generator.uniform() - 1));
  return bounds ? moved.map((pixel) => clamp(pixel, bounds.low, bounds.high)) : moved;
}

// The fast gradient sign method: one gradient, one step of eps in every pixel.
export function fgsm(model, image, label, eps, options = {}) {
  return linearStep(image, gradientAt(model, image, label).gradient, eps, options);
}

// Projected gradient descent: many small steps within eps, of which the best image is kept. One
// that fools the network comes before one that does not; then the higher loss counts (the lower, if
// targeted). Yields the number of steps done after each, so that a caller may pause or give up.
export function* pgd(model, image, label, eps, options = {}) {
  const { steps = 40, stepSize = (2.5 * eps) / steps, randomStart = true, generator = null } = options;
  const { targeted = false, bounds = PIXELS } = options;
  const radius = Math.fround(eps);
  const low = image.map((pixel) => Math.max(pixel - radius, bounds ? bounds.low : -Infinity));
  const high = image.map((pixel) => Math.min(pixel + radius, bounds ? bounds.high : Infinity));
  const within = (moved) => moved.map((pixel, i) => clamp(pixel, low[i], high[i]));
  let moved = within(randomStart ? noise(image, eps, generator, { bounds: null }) : image);
  let best = null;
  for (let step = 0; step <= steps; step++) {
    const { logits, gradient } =
      step < steps ? gradientAt(model, moved, label) : { logits: model.logits(moved), gradient: null };
    const fooled = (argmax(logits) === label) === targeted;
    const damage = targeted ? -marginLoss(logits, label) : marginLoss(logits, label);
    if (!best || isBetter(fooled, damage, best)) best = { image: moved, fooled, damage, step };
    if (step < steps) {
      moved = within(linearStep(moved, gradient, stepSize, { targeted, bounds: null }));
      yield step + 1;
    }
  }
  return best.image;
}

function isBetter(fooled, damage, best) {
  return (fooled && !best.fooled) || (fooled === best.fooled && damage >= best.damage);
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}
