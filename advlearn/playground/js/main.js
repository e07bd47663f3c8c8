// The page that is one file: it reads what the file carries, and keeps the state in the address.

import { make } from "./dom.js";
import { unpack } from "./packed.js";
import { mount } from "./page.js";
import { fromLink } from "./state.js";

async function start() {
  const { worker, networks, digits, small } = JSON.parse(document.getElementById("facts").textContent);
  const el = document.getElementById("playground");
  const pixels = await unpack(digits.packed, { planes: 1 });
  const keep = (state, link) => {
    try {
      history.replaceState(null, "", `#${link}`);
    } catch {
      // Some places that show a page let it keep no address.
    }
  };
  const playground = mount(el, {
    worker,
    digits: { pixels, labels: digits.labels },
    networks: networks.map((network) => ({
      ...network,
      weights: () => ({ packed: document.getElementById(`weights-${network.name}`).textContent }),
    })),
    state: fromLink(location.hash),
    onState: keep,
    withGuide: !small,
  });
  if (small) stand(playground.root);
  else document.querySelector("header.page").append(share());
  addEventListener("hashchange", () => playground.open(fromLink(location.hash)));
}

// The address holds the digit, the network and the attack: who opens it sees the same.
function share() {
  const said = make("output", {});
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      said.textContent = "Copied. Who opens it sees what you see.";
    } catch {
      said.textContent = "Please copy the address of this page: it holds all of this.";
    }
  };
  return make("p", { class: "share" }, make("button", { onclick: copy }, "Copy a link to this"), said);
}

// In a frame of another page it is small, and tells that page how high it is.
function stand(root) {
  root.classList.add("compact");
  const tell = () => parent.postMessage({ advlearnHeight: Math.ceil(root.getBoundingClientRect().height) }, "*");
  new ResizeObserver(tell).observe(root);
}

start();
