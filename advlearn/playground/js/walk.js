// The logits along the direction of an attack: z(x + eps sign(gradient)), as in figure 4 of the paper.

import { gradientAt } from "./attacks.js";

// Yields nothing of use, so that a caller may pause; returns {eps, logits: one (10,) for each}.
export function* logitsAlong(model, image, label, { reach, points }) {
  const direction = gradientAt(model, image, label).gradient.map(Math.sign);
  const eps = Float64Array.from({ length: points }, (_, k) => reach * ((2 * k) / (points - 1) - 1));
  const logits = [];
  for (const step of eps) {
    logits.push(model.logits(image.map((pixel, i) => pixel + step * direction[i])));
    yield logits.length;
  }
  return { eps, logits };
}
