// The networks, as in advlearn/models.py: built from the tensors of a file, in eval mode.

import { Conv2d, Linear, Maxout, Relu } from "./layers.js";
import { Refusal, quote } from "./refusal.js";
import { aboutOf } from "./safetensors.js";

export const SIZE = 28; // height and width of an image
export const PIXEL_COUNT = SIZE * SIZE;
export const CLASSES = 10;

const MOST_LAYERS = 16;
const MOST_WIDTH = 100_000;

// A network of layers. What it gives are copies, so that nothing changes them later.
export class Network {
  constructor(layers) {
    this.layers = layers;
  }

  // Return the logits (10,) of an image (784,).
  logits(image) {
    let values = Float64Array.from(image);
    for (const layer of this.layers) values = layer.forward(values);
    return values.slice();
  }

  // Return the gradient by the pixels (784,), at the image that `logits` was last asked for.
  gradient(byLogits) {
    let values = byLogits;
    for (const layer of [...this.layers].reverse()) values = layer.backward(values);
    return values.slice();
  }
}

// The tensors of a file, each of which must be asked for once, by its name and shape.
class State {
  constructor(tensors, name) {
    this.tensors = new Map(tensors);
    this.name = name;
  }

  take(key, shape) {
    const tensor = this.tensors.get(key);
    if (!tensor || tensor.shape.join() !== shape.join()) {
      const found = tensor ? `(${tensor.shape.join(", ")})` : "nothing";
      throw new Refusal(
        `${this.name} does not fit: ${key} must have the shape (${shape.join(", ")}), and has ${found}.`,
      );
    }
    this.tensors.delete(key);
    return tensor.data;
  }

  // Return a layer with the weight (outputs, inputs) and the bias of a name.
  linear(key, inputs, outputs, order = (i) => i) {
    const weight = this.take(`${key}.weight`, [outputs, inputs]);
    const columns = new Float32Array(inputs * outputs);
    for (let j = 0; j < outputs; j++) {
      for (let i = 0; i < inputs; i++) columns[order(i) * outputs + j] = weight[j * inputs + i];
    }
    return new Linear(columns, this.take(`${key}.bias`, [outputs]));
  }

  // Return a convolution with the weight (width, channels, side, side) and the bias of a name.
  conv(key, width, { channels, side, ...rest }) {
    const weight = this.take(`${key}.weight`, [width, channels, side, side]);
    const columns = new Float32Array(weight.length);
    for (let at = 0; at < weight.length; at++) {
      const pixel = at % (side * side);
      const channel = Math.floor(at / (side * side)) % channels;
      const map = Math.floor(at / (side * side * channels));
      columns[(pixel * channels + channel) * width + map] = weight[at];
    }
    const bias = this.take(`${key}.bias`, [width]);
    return new Conv2d(columns, bias, { channels, side, ...rest });
  }

  checkUsed() {
    const [left] = this.tensors.keys();
    if (left !== undefined) {
      throw new Refusal(`${this.name} does not fit: it has a tensor ${quote(left)} too many.`);
    }
  }
}

function softmaxRegression(state) {
  return [state.linear("linear", PIXEL_COUNT, CLASSES)];
}

// The layers are numbered as in Python, where dropout has numbers too.
function maxoutNet(state, { hidden = [240, 240], pieces = 5, hidden_dropout: dropout = 0.5 }) {
  const layers = [];
  let number = 1, features = PIXEL_COUNT;
  for (const units of hidden) {
    layers.push(state.linear(`layers.${number}.linear`, features, units * pieces));
    layers.push(new Maxout(units, pieces));
    number += dropout ? 2 : 1;
    features = units;
  }
  return [...layers, state.linear(`layers.${number}`, features, CLASSES)];
}

function convNet(state, { channels = [16, 32], pixelwise = 0, dense = 100 }) {
  const layers = [];
  let number = 0, size = SIZE, colours = 1;
  const add = (width, shape) => {
    const layer = state.conv(`layers.${number}`, width, { size, channels: colours, ...shape });
    layers.push(layer, new Relu(layer.output.length));
    number += 2;
    size = layer.outputSize;
    colours = width;
  };
  if (pixelwise) add(pixelwise, { side: 1, stride: 1, padding: 0 });
  for (const width of channels) add(width, { side: 4, stride: 2, padding: 1 });
  // PyTorch flattens feature map by feature map, and here the channels of a pixel are neighbours.
  const area = size * size;
  const order = (i) => (i % area) * colours + Math.floor(i / area);
  layers.push(state.linear(`layers.${number + 1}`, area * colours, dense, order), new Relu(dense));
  return [...layers, state.linear(`layers.${number + 3}`, dense, CLASSES)];
}

const ARCHITECTURES = {
  SoftmaxRegression: { make: softmaxRegression, options: {} },
  MaxoutNet: {
    make: maxoutNet,
    options: { hidden: isWidths, pieces: isWidth, hidden_dropout: isShare, input_dropout: isShare },
  },
  ConvNet: {
    make: convNet,
    options: { channels: isWidths, pixelwise: (v) => v === 0 || isWidth(v), dense: isWidth },
  },
};

// What the playground has one value for, and a file may state.
const FIXED = { features: PIXEL_COUNT, classes: CLASSES, size: SIZE, colours: 1, top: "softmax" };

function isWidth(value) {
  return Number.isInteger(value) && value >= 1 && value <= MOST_WIDTH;
}

function isWidths(value) {
  return Array.isArray(value) && value.length <= MOST_LAYERS && value.every(isWidth);
}

function isShare(value) {
  return typeof value === "number" && value >= 0 && value < 1;
}

// Return the network that a file of weights holds, as `readSafetensors` gives it.
export function build({ tensors, text }, name = "The file") {
  const about = aboutOf(text);
  if (typeof about?.architecture !== "string" || typeof about.options !== "object" || !about.options) {
    throw new Refusal(
      `${name} does not say what network it holds. Write it with advlearn.data.reference.pack.`,
    );
  }
  const { architecture, options } = about;
  if (!Object.hasOwn(ARCHITECTURES, architecture)) {
    throw new Refusal(
      `${name} holds a network of the kind ${quote(architecture)}. The playground runs ` +
      `${Object.keys(ARCHITECTURES).join(", ")}.`,
    );
  }
  const { make, options: known } = ARCHITECTURES[architecture];
  for (const [key, value] of Object.entries(options)) {
    const fits = Object.hasOwn(known, key) ? known[key](value) : Object.hasOwn(FIXED, key) && FIXED[key] === value;
    if (!fits) {
      throw new Refusal(
        `${name} has the option ${quote(key)} = ${quote(JSON.stringify(value))}, which the playground cannot run.`,
      );
    }
  }
  const state = new State(tensors, name);
  const layers = make(state, options);
  state.checkUsed();
  return new Network(layers);
}
