// Layers of a network, for one image at a time: `forward` keeps what `backward` needs.
//
// Weights lie in memory as float32, input by input: all that one pixel adds to the outputs is one
// stretch of numbers. So a pixel that is 0, as most of a drawn digit's are, costs nothing, and the
// way back is a sum over the same stretch. Sums are kept in float64: where PyTorch's float32 differs
// from this in a sign, the gradient is smaller than float32's rounding.
//
// Images and feature maps lie pixel by pixel, with the channels of a pixel side by side.

const AT_ONCE = 4; // inputs in one pass over the outputs, so that these are loaded and stored less

// output[o + j] += sum over i of input[i] * columns[i * width + j], for j < width
function addProducts(output, o, width, input, columns, active) {
  let count = 0;
  for (let i = 0; i < input.length; i++) if (input[i] !== 0) active[count++] = i;
  let k = 0;
  for (; k + AT_ONCE <= count; k += AT_ONCE) {
    const a = active[k], b = active[k + 1], c = active[k + 2], d = active[k + 3];
    const p = input[a], q = input[b], r = input[c], s = input[d];
    let ia = a * width, ib = b * width, ic = c * width, id = d * width;
    for (let j = o; j < o + width; j++) {
      output[j] += p * columns[ia++] + q * columns[ib++] + r * columns[ic++] + s * columns[id++];
    }
  }
  for (; k < count; k++) {
    const p = input[active[k]];
    let ia = active[k] * width;
    for (let j = o; j < o + width; j++) output[j] += p * columns[ia++];
  }
}

// gradient[i] = sum over j < width of byOutput[o + j] * columns[i * width + j]
function transposedProducts(gradient, byOutput, o, width, columns, active) {
  let count = 0;
  for (let j = 0; j < width; j++) if (byOutput[o + j] !== 0) active[count++] = j;
  for (let i = 0, row = 0; i < gradient.length; i++, row += width) {
    let sum = 0;
    for (let k = 0; k < count; k++) sum += byOutput[o + active[k]] * columns[row + active[k]];
    gradient[i] = sum;
  }
}

// W x + b
export class Linear {
  // columns: (inputs, outputs), bias: (outputs,)
  constructor(columns, bias) {
    this.columns = columns;
    this.bias = bias;
    const outputs = bias.length, inputs = columns.length / outputs;
    this.output = new Float64Array(outputs);
    this.gradient = new Float64Array(inputs);
    this.active = new Int32Array(Math.max(inputs, outputs));
  }

  forward(input) {
    this.output.set(this.bias);
    addProducts(this.output, 0, this.bias.length, input, this.columns, this.active);
    return this.output;
  }

  backward(byOutput) {
    transposedProducts(this.gradient, byOutput, 0, this.bias.length, this.columns, this.active);
    return this.gradient;
  }
}

// The maximum of each group of linear pieces; piece p of unit j is entry p * units + j.
export class Maxout {
  constructor(units, pieces) {
    this.units = units;
    this.pieces = pieces;
    this.output = new Float64Array(units);
    this.gradient = new Float64Array(units * pieces);
  }

  forward(input) {
    this.input = input;
    const { units, pieces, output } = this;
    for (let j = 0; j < units; j++) {
      let most = input[j];
      for (let p = 1; p < pieces; p++) most = Math.max(most, input[p * units + j]);
      output[j] = most;
    }
    return output;
  }

  // Pieces that tie share the gradient equally, as `torch.amax` has it.
  backward(byOutput) {
    const { units, pieces, input, output, gradient } = this;
    for (let j = 0; j < units; j++) {
      let ties = 0;
      for (let p = 0; p < pieces; p++) if (input[p * units + j] === output[j]) ties++;
      for (let p = 0; p < pieces; p++) {
        const at = p * units + j;
        gradient[at] = input[at] === output[j] ? byOutput[j] / ties : 0;
      }
    }
    return gradient;
  }
}

// max(v, 0)
export class Relu {
  constructor(size) {
    this.output = new Float64Array(size);
    this.gradient = new Float64Array(size);
  }

  forward(input) {
    for (let i = 0; i < input.length; i++) this.output[i] = input[i] > 0 ? input[i] : 0;
    return this.output;
  }

  backward(byOutput) {
    const { output, gradient } = this;
    for (let i = 0; i < gradient.length; i++) gradient[i] = output[i] > 0 ? byOutput[i] : 0;
    return gradient;
  }
}

// A convolution of square patches over a square image. Each patch is copied into a row of its own,
// and is then an input of a linear function.
export class Conv2d {
  // columns: (side * side * channels, width), patch by row, column and channel; bias: (width,)
  constructor(columns, bias, { size, channels, side, stride, padding }) {
    this.columns = columns;
    this.bias = bias;
    this.outputSize = Math.floor((size + 2 * padding - side) / stride) + 1;
    this.output = new Float64Array(this.outputSize ** 2 * bias.length);
    this.gradient = new Float64Array(size * size * channels);
    this.patch = new Float64Array(side * side * channels);
    this.active = new Int32Array(Math.max(this.patch.length, bias.length));
    this.stretches = stretches({ size, channels, side, stride, padding }, this.outputSize);
  }

  forward(input) {
    const { output, bias, patch, columns, active } = this;
    this.stretches.forEach((rows, place) => {
      if (rows.padded) patch.fill(0);
      for (const { image, own, length } of rows.parts) {
        for (let i = 0; i < length; i++) patch[own + i] = input[image + i];
      }
      const at = place * bias.length;
      output.set(bias, at);
      addProducts(output, at, bias.length, patch, columns, active);
    });
    return output;
  }

  backward(byOutput) {
    const { gradient, bias, patch, columns, active } = this;
    gradient.fill(0);
    this.stretches.forEach((rows, place) => {
      transposedProducts(patch, byOutput, place * bias.length, bias.length, columns, active);
      for (const { image, own, length } of rows.parts) {
        for (let i = 0; i < length; i++) gradient[image + i] += patch[own + i];
      }
    });
    return gradient;
  }
}

// For each patch, the stretches of the image that lie in it: where they begin in the image and in
// the patch, and how long they are. What is not among them is padding.
function stretches({ size, channels, side, stride, padding }, outputSize) {
  return Array.from({ length: outputSize ** 2 }, (_, place) => {
    const top = Math.floor(place / outputSize) * stride - padding;
    const left = (place % outputSize) * stride - padding;
    const first = Math.max(left, 0), last = Math.min(left + side, size);
    const parts = [];
    for (let row = Math.max(top, 0); row < Math.min(top + side, size); row++) {
      parts.push({
        image: (row * size + first) * channels,
        own: ((row - top) * side + first - left) * channels,
        length: (last - first) * channels,
      });
    }
    return { parts, padded: parts.length < side || last - first < side };
  });
}
