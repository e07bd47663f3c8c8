// What is said of a result. Every number in a sentence is computed or measured, none is typed.

const NAMES = { none: "no attack", noise: "noise", fgsm: "FGSM", pgd: "PGD", targeted: "targeted PGD" };

export function nameOf(attack) {
  return NAMES[attack];
}

// A probability or a rate. Never 100 % or 0 % of what is only close to it.
export function percent(share) {
  if (share > 0.999 && share < 1) return "over 99.9 %";
  if (share > 0 && share < 0.001) return "under 0.1 %";
  return `${(100 * share).toFixed(share >= 0.0995 && share <= 0.99 ? 0 : 1)} %`;
}

export function number(value, digits = 2) {
  return value.toFixed(digits).replace("-", "\u{2212}");
}

// The same where there is little room.
export function shortPercent(share) {
  return percent(share).replace("over ", "> ").replace("under ", "< ");
}

// What became of the digit. known: the label is the digit's own, and not only the answer before.
// empty: nothing is drawn.
export function verdict({ before, after, attack, target, known, empty }) {
  if (empty) {
    const sure = percent(before.probabilities[before.answer]);
    return { kind: "held", title: "Nothing drawn yet", text: `Draw a digit, or pick one. A network has no answer for "nothing": it reads ${before.answer} and is ${sure} sure.` };
  }
  if (known && before.answer !== before.label) {
    const sure = percent(before.probabilities[before.answer]);
    const text = `It reads ${before.answer} and is ${sure} sure, but this is a ${before.label}.`;
    return { kind: "wrong", title: "Wrong before any attack", text };
  }
  if (!after) return { kind: "held", title: `It reads ${before.answer}`, text: `It is ${percent(before.probabilities[before.answer])} sure.` };
  const was = `Before, it read ${before.answer} and was ${percent(before.probabilities[before.answer])} sure.`;
  if (attack === "targeted" && after.answer === target) {
    if (before.answer === target) return { kind: "held", title: `It reads ${target}`, text: "The target was its answer already. Choose another." };
    return { kind: "fooled", title: `Fooled: it reads the target, ${target}`, text: `It is ${percent(after.probabilities[target])} sure. ${was}` };
  }
  if (after.answer !== before.label) {
    const title = `Fooled: it reads ${after.answer}`;
    const missed = attack === "targeted" ? ` The target was ${target}.` : "";
    return { kind: "fooled", title, text: `It is ${percent(after.probabilities[after.answer])} sure.${missed} ${was}` };
  }
  const title = `Not fooled: still ${after.answer}`;
  return { kind: "held", title, text: `It is ${percent(after.probabilities[after.answer])} sure. ${was}` };
}

export function marginText({ before, after }) {
  const moves = after ? `${number(before.margin, 1)} → ${number(after.margin, 1)}` : number(before.margin, 1);
  return `Margin of the ${before.label}: ${moves}`;
}

export const MARGIN = "The margin is the logarithm of the odds for the right digit against all others together. Below 0, these are ahead.";

const MASKED = 0.5; // by which PGD's rate is above FGSM's where the gradient of one step misleads

// Compare one step with many. rates: {fgsm, pgd, eps} of the network on MNIST's test images, or null.
export function honest({ before, fgsm, pgd }, rates, known) {
  const fooled = (after) => after.answer !== before.label;
  if (known && before.answer !== before.label) return "The network is wrong without an attack: this digit shows nothing about attacks.";
  if (fooled(fgsm) && fooled(pgd)) return "FGSM and PGD both fool the network at this eps.";
  if (fooled(pgd)) {
    const alone = "FGSM fails and PGD succeeds, at the same eps: whoever tests with FGSM alone would call this digit safe.";
    if (!rates || rates.pgd - rates.fgsm < MASKED) return alone;
    return `${alone} Of many test digits, at eps ${number(rates.eps)}, FGSM fools this network in ${percent(rates.fgsm)} ` +
      `and PGD in ${percent(rates.pgd)}. The weakness is hidden from one step and not removed: this is gradient masking.`;
  }
  if (fooled(fgsm)) return "FGSM fools the network, and this run of PGD does not: no attack finds everything.";
  return "FGSM and PGD both fail at this eps. That is no proof: a stronger attack might succeed.";
}

// What a picture shows, for readers who do not see it.
export function changeText(original, attacked, eps) {
  let up = 0, down = 0;
  original.forEach((pixel, i) => {
    if (attacked[i] > pixel) up++;
    if (attacked[i] < pixel) down++;
  });
  return `The change: ${up} pixels are lighter and ${down} darker, by at most ${number(eps)}; ${original.length - up - down} are as they were.`;
}

// Where along the walk the answer is the label, as text for a chart.
export function walkText({ eps, logits, label }) {
  const best = logits.map((row) => row.indexOf(Math.max(...row)));
  const zero = eps.reduce((nearest, value, k) => (Math.abs(value) < Math.abs(eps[nearest]) ? k : nearest), 0);
  const reach = `from ${number(eps[0], 0)} to ${number(eps[eps.length - 1], 0)}`;
  const intro = `The ten logits for eps ${reach} along the sign of the gradient.`;
  if (best[zero] !== label) return `${intro} At 0 the answer is ${best[zero]} and not ${label}.`;
  let from = zero, to = zero;
  while (from > 0 && best[from - 1] === label) from--;
  while (to < best.length - 1 && best[to + 1] === label) to++;
  const low = from === 0 ? "the left end" : number(eps[from]);
  const high = to === best.length - 1 ? "the right end" : number(eps[to]);
  const after = to < best.length - 1 ? ` Just behind it the answer is ${best[to + 1]}.` : "";
  return `${intro} The answer is ${label} from ${low} to ${high}.${after}`;
}
