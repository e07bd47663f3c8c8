// The guided path: five questions for a reader who knows nothing of the subject. Each is asked before
// the page shows the answer, and what is then said follows from what the networks did.

import { make } from "./dom.js";
import { percent } from "./words.js";

const READS = ["It still reads it", "It misreads it"];
const SIZES_OF_ERROR = [100, 1000, 3000];

const term = (text) => make("dfn", {}, text);
const fooled = ({ before, after }) => after.answer !== before.label;
const thousands = (count) => count.toLocaleString("en");

// Each step: what the page shows while it is asked, the question, and what `shows` changes. `answer`
// gives the number of the right choice, `because` the sentences behind it, by the live result.
export const STEPS_OF_GUIDE = [
  {
    title: "A network that reads digits",
    text: () => [
      "This network has learned from 55,000 handwritten digits. It has never seen the one below. Draw your own there, if you like.",
    ],
    asks: { network: "maxout", attack: "none" },
    question: ({ rates }) => `Of ${thousands(rates.maxout.of)} other digits that it had never seen, how many did it get wrong?`,
    choices: SIZES_OF_ERROR.map((count) => `about ${thousands(count)}`),
    shows: {},
    answer: ({ rates }) => {
      const far = SIZES_OF_ERROR.map((count) => Math.abs(Math.log(count / (rates.maxout.clean * rates.maxout.of))));
      return far.indexOf(Math.min(...far));
    },
    because: ({ rates, before }) => [
      `${thousands(Math.round(rates.maxout.clean * rates.maxout.of))}, or ${percent(rates.maxout.clean)}. `,
      `It is good at this. Your digit it reads as ${before.answer}, and is ${percent(before.probabilities[before.answer])} sure.`,
    ],
  },
  {
    title: "A change without a plan",
    text: ({ eps }) => [
      "Now each pixel changes by chance, up or down. Black is 0 and white is 1. No pixel changes by more than ",
      `${eps}: ${percent(eps)} of the way from black to white. This largest change is called `, term("eps"), ".",
    ],
    asks: { network: "maxout", attack: "none", eps: 0.25, clip: true },
    question: () => "Does the network still read the digit?",
    choices: READS,
    shows: { attack: "noise" },
    answer: (seen) => Number(fooled(seen)),
    because: (seen) => [
      fooled(seen)
        ? "This digit was a close call: even noise was enough. With most digits it is not. Try another, or another noise."
        : "The noise is plain to see, and it does little harm. Half of it pushes the answer one way, half the other way.",
    ],
  },
  {
    title: "The same size, with a plan",
    text: ({ eps }) => [
      `Again no pixel changes by more than ${eps}. But now the attacker knows the network. The slope of its error, called the gradient, `,
      "says of each pixel whether more light or less hurts the right answer, and the pixel is moved that way. This is the ",
      term("fast gradient sign method"), ", FGSM.",
    ],
    asks: { network: "maxout", attack: "noise", eps: 0.25, clip: true },
    question: () => "Does the network still read the digit?",
    choices: READS,
    shows: { attack: "fgsm" },
    answer: (seen) => Number(fooled(seen)),
    because: (seen) =>
      fooled(seen)
        ? [
            `You still read the ${seen.before.label}. The network reads ${seen.after.answer}. This image is an `,
            term("adversarial example"),
            ": an input that was changed on purpose, so that the network is wrong and you are not. All those little pushes add up, because they agree.",
          ]
        : ["Your digit withstood it, which few do. Move eps up, or take another digit."],
  },
  {
    title: "A defence",
    text: ({ rates }) => [
      "Another network was trained on such images too: at each step it was shown digits under FGSM, with the right answer. Without an attack it gets ",
      `${percent(rates["maxout-adversarial"].clean)} of digits wrong; the first network, ${percent(rates.maxout.clean)}.`,
    ],
    asks: { network: "maxout", attack: "fgsm", eps: 0.25, clip: true },
    question: () => "Does FGSM of the same size fool this network?",
    choices: ["No, it holds", "Yes, it is fooled"],
    shows: { network: "maxout-adversarial", attack: "fgsm" },
    answer: (seen) => Number(fooled(seen)),
    because: (seen) => {
      const rates = seen.rates["maxout-adversarial"];
      return [
        fooled(seen) ? "Your digit is one of those that it loses. " : "It holds, on this digit. ",
        `Of ${thousands(rates.of)} digits FGSM fools it on ${percent(rates.clipped.fgsm)}; the first network, on ${percent(seen.rates.maxout.clipped.fgsm)}. So is the problem solved?`,
      ];
    },
  },
  {
    title: "Is it safe?",
    text: ({ eps }) => [
      "FGSM takes one large step. ", term("Projected gradient descent"),
      `, PGD, takes 40 small ones and asks for the gradient anew each time. It never goes further than ${eps} from your digit.`,
    ],
    asks: { network: "maxout-adversarial", attack: "fgsm", eps: 0.25, clip: true, steps: 40 },
    question: () => "Does the defended network hold?",
    choices: ["Yes, it holds", "No, it is fooled"],
    shows: { network: "maxout-adversarial", attack: "pgd" },
    answer: (seen) => Number(fooled(seen)),
    because: (seen) => {
      const rates = seen.rates["maxout-adversarial"];
      return [
        fooled(seen) ? "It is fooled, at the same eps. " : "Your digit is one of the few that hold. ",
        `PGD fools it on ${percent(rates.clipped.pgd)} of the test digits, FGSM on ${percent(rates.clipped.fgsm)}. The training hid the weakness from the gradient of one step, and did not remove it: this is called `,
        term("gradient masking"),
        `. So a defence that was tried with one weak attack is not yet a defence. The robust network was trained on PGD itself, and PGD fools it on ${percent(seen.rates.robust.clipped.pgd)}. Choose it, and try.`,
      ];
    },
  },
];

// The card on the page. go(step): open a step, 0 closes; set(patch): change the state; seen(): a
// promise of the live result.
export class Guide {
  constructor({ go, set, seen, rates }) {
    Object.assign(this, { go, set, seen, rates });
    this.el = make("section", { class: "guide", "aria-label": "Guided path" });
  }

  // Show a step, or for 0 the invitation. `first` is then what comes first in it.
  open(number) {
    this.el.replaceChildren(...(number ? this.card(number) : this.invitation()));
  }

  invitation() {
    this.first = make("button", { class: "main", onclick: () => this.go(1) }, "Start with five questions");
    return [make("p", {}, "New to this? ", this.first, " They take three minutes.")];
  }

  card(number) {
    const step = STEPS_OF_GUIDE[number - 1];
    const facts = { rates: this.rates, eps: step.asks.eps };
    const result = make("div", { class: "because", role: "status" });
    const choices = step.choices.map((text, k) =>
      make("button", { class: "choice", "data-choice": k, onclick: () => this.check(step, k, choices, result) }, text),
    );
    this.first = make("h2", { tabindex: -1 }, make("span", { class: "count" }, `${number} of ${STEPS_OF_GUIDE.length}`), ` ${step.title}`);
    const turn = (to, text, kind = "") => make("button", { class: kind, onclick: () => this.go(to) }, text);
    this.next = number < STEPS_OF_GUIDE.length ? turn(number + 1, "Next question") : turn(0, "Now try your own");
    return [
      this.first,
      make("p", {}, ...step.text(facts)),
      make("div", { class: "question", role: "group", "aria-label": step.question(facts) },
        make("p", { class: "asks", "aria-hidden": "true" }, step.question(facts)), ...choices),
      result,
      make("p", { class: "turns" }, ...(number > 1 ? [turn(number - 1, "Back")] : []), this.next, turn(0, "Close", "plain")),
    ];
  }

  async check(step, chosen, choices, result) {
    this.set(step.shows);
    const live = await this.seen();
    if (!live || !result.isConnected) return;
    const seen = { ...live, rates: this.rates };
    const right = step.answer(seen);
    choices.forEach((choice, k) => {
      choice.classList.toggle("right", k === right);
      choice.classList.toggle("chosen", k === chosen);
      choice.setAttribute("aria-pressed", String(k === chosen));
    });
    const lead = chosen === right ? "Right. " : "Not so. ";
    result.replaceChildren(make("p", {}, make("strong", {}, lead), ...step.because(seen)));
    this.next.classList.add("main");
  }
}
