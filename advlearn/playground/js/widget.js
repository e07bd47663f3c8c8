// The page's half of advlearn/playground/widget.py: a playground in a notebook. What its reader
// draws, and what becomes of it, goes to the kernel.

import { mount } from "./page.js";
import { fromLink } from "./state.js";

function bytesOf(view) {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

export function render({ model, el }) {
  const { pixels, labels } = model.get("digits");
  let mine = model.get("link"); // so that a second view begins where the first one stands
  const playground = mount(el, {
    worker: model.get("worker"),
    digits: { pixels: bytesOf(pixels), labels },
    networks: model.get("networks").map(({ weights, ...network }) => ({
      ...network,
      weights: () => ({ bytes: bytesOf(weights).slice() }),
    })),
    state: fromLink(mine),
    onState: (_, link) => {
      mine = link;
      model.set("link", link);
      model.save_changes();
      tell();
    },
    withGuide: false,
  });
  playground.root.classList.add("compact");
  playground.root.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab's keys are not for it
  showTheme(playground.root);
  // The picture for a notebook without its kernel has done its part. JupyterLab hides it by style.
  for (const still of document.querySelectorAll(`[data-still="${model.get("still")}"]`)) still.hidden = true;

  // The digit and what became of it travel together, so that they always belong to each other.
  async function tell() {
    await null; // what was chosen is on its way now
    const seen = await playground.seen();
    if (!seen) return;
    const { image, attacked, before } = seen;
    const about = { label: before.label, network: playground.state.network };
    model.send(about, undefined, [image.slice().buffer, attacked.slice().buffer]);
  }
  function onLink() {
    if (model.get("link") === mine) return;
    mine = model.get("link");
    playground.open(fromLink(mine));
    tell();
  }
  model.on("change:link", onLink);
  tell();
  return () => {
    model.off("change:link", onLink);
    playground.close();
  };
}

// JupyterLab and VS Code have a theme of their own, whatever the system's is.
function showTheme(root) {
  const { jpThemeLight, vscodeThemeKind } = document.body.dataset;
  const dark = jpThemeLight === "false" || /dark|black/.test(vscodeThemeKind ?? "");
  const light = jpThemeLight === "true" || /light/.test(vscodeThemeKind ?? "");
  if (dark || light) root.dataset.theme = dark ? "dark" : "light";
}
