// Losses of one example, as in advlearn/losses.py. Attacks follow the margin: its gradient does not
// vanish where the network is confident, as that of cross-entropy in float32 does.

import { logSumExp, softmax, softplus } from "./functional.js";

function others(logits, label) {
  return Float64Array.from(logits, (z, k) => (k === label ? -Infinity : z));
}

// How far the other classes are ahead: log(sum over k != y of exp(z_k)) - z_y.
export function marginLoss(logits, label) {
  return logSumExp(others(logits, label)) - logits[label];
}

// -log softmax(z)_y, in nats.
export function crossEntropy(logits, label) {
  return softplus(marginLoss(logits, label));
}

// The gradient of `marginLoss` by the logits: the softmax over the other classes, and -1.
export function logitGradient(logits, label) {
  const gradient = softmax(others(logits, label));
  gradient[label] = -1;
  return gradient;
}
