// Elements, made by their name, attributes and content. Text is always text, never markup.

export function make(kind, attributes = {}, ...children) {
  return filled(document.createElement(kind), attributes, children);
}

export function makeSvg(kind, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", kind), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

let count = 0;

// An id that no other element of the page has.
export function newId() {
  count += 1;
  return `advlearn-playground-${count}`;
}
