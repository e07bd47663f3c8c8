// Random numbers from a seed: the same in every browser, so that a link shows what was seen.

// xoshiro128** of Blackman and Vigna ("Scrambled linear pseudorandom number generators", 2021), its
// state filled by a multiplicative hash of the seed.
export class Generator {
  constructor(seed) {
    let hash = seed >>> 0;
    this.state = Uint32Array.from({ length: 4 }, () => {
      hash = (hash + 0x9e3779b9) >>> 0;
      let mixed = Math.imul(hash ^ (hash >>> 16), 0x21f0aaad);
      mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
      return mixed ^ (mixed >>> 15);
    });
  }

  bits() {
    const s = this.state;
    const turned = rotate(Math.imul(s[1], 5), 7);
    const shifted = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate(s[3], 11);
    return Math.imul(turned, 9) >>> 0;
  }

  // Uniform in [0, 1), with the 24 bits of a float32.
  uniform() {
    return (this.bits() >>> 8) / 2 ** 24;
  }
}

function rotate(value, by) {
  return (value << by) | (value >>> (32 - by));
}
