// What is said, in words for people, of something that cannot be used.

export class Refusal extends Error {
  constructor(message) {
    super(message);
    this.name = "Refusal";
  }
}

// Text that others wrote, short enough for a sentence and without control characters.
export function quote(text, most = 60) {
  const plain = String(text).replace(/[\p{C}\p{Zl}\p{Zp}]+/gu, "\u{FFFD}");
  const letters = [...plain];
  return `“${letters.length > most ? `${letters.slice(0, most).join("")}…` : plain}”`;
}
