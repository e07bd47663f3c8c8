// The functions that the course is built from, as in advlearn/functional.py, for one example.

// The number of the largest entry; the first of equal ones.
export function argmax(values) {
  let best = 0;
  for (let k = 1; k < values.length; k++) if (values[k] > values[best]) best = k;
  return best;
}

// log(sum of exp(v)), without overflow.
export function logSumExp(values) {
  let largest = -Infinity;
  for (const value of values) largest = Math.max(largest, value);
  let sum = 0;
  for (const value of values) sum += Math.exp(value - largest);
  return largest + Math.log(sum);
}

export function softmax(logits) {
  const log = logSumExp(logits);
  return Float64Array.from(logits, (z) => Math.exp(z - log));
}

// log(1 + exp(v)), a smooth max(v, 0).
export function softplus(v) {
  return v > 50 ? v : Math.log1p(Math.exp(v));
}
