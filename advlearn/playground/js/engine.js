// The page's side of serve.js: a worker, and promises of its answers.

import { Refusal } from "./refusal.js";
import { serve } from "./serve.js";

export class Engine {
  // source: the code of a worker that serves; without a worker the page computes itself.
  constructor(source) {
    this.open = new Map(); // id -> {message, resolve, reject}
    this.id = 0;
    this.loaded = new Map(); // network -> promise
    try {
      this.address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      this.port = new Worker(this.address);
      this.port.onerror = () => this.replace();
    } catch {
      this.replace();
    }
    this.port.onmessage = (event) => this.receive(event);
  }

  // Some places that show a page allow no workers.
  replace() {
    const { port1, port2 } = new MessageChannel();
    serve(port2);
    this.port = port1;
    this.port.onmessage = (event) => this.receive(event);
    for (const { message } of this.open.values()) this.port.postMessage(message);
  }

  receive({ data: { id, result, refused, error } }) {
    if (!this.open.has(id)) return;
    const { resolve, reject } = this.open.get(id);
    this.open.delete(id);
    if (error !== undefined) reject(refused ? new Refusal(error) : new Error(error));
    else resolve(result);
  }

  // Return what the engine answers; null if a newer request of the channel came first.
  ask(kind, request, channel = kind) {
    const id = ++this.id;
    return new Promise((resolve, reject) => {
      const message = { id, channel, kind, ...request };
      this.open.set(id, { message, resolve, reject });
      this.port.postMessage(message);
    });
  }

  // Have a network ready, once. weights(): {packed: text} or {bytes}, and a name to speak of it.
  load(network, weights) {
    if (!this.loaded.has(network)) {
      const loading = this.ask("load", { network, ...weights() }, `load ${network}`);
      this.loaded.set(network, loading);
      loading.catch(() => this.loaded.delete(network));
    }
    return this.loaded.get(network);
  }

  close() {
    this.port.terminate?.();
    this.port.close?.();
    if (this.address) URL.revokeObjectURL(this.address);
  }
}
