// Elements. Text is set as text, always: names of images are what anybody has pushed.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") node.setAttribute("class", value);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

export function byId(id) {
  return document.getElementById(id);
}

// Change a text only when it is another one: what is selected or read aloud stays.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// One element for each item, kept from look to look: focus and what is hovered stay where they are.
export function keyed(parent, items, keyOf, make, update) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let node = before.get(key);
    if (node) before.delete(key);
    else {
      node = make(item);
      node.dataset.key = key;
    }
    update(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const node of before.values()) node.remove();
}

// A list whose items are reached by the arrow keys, and by one stop of Tab.
export function arrows(parent, selector) {
  parent.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const items = [...parent.querySelectorAll(selector)];
    const ends = { Home: 0, End: items.length - 1 };
    if (!items.length || (step === undefined && ends[event.key] === undefined)) return;
    event.preventDefault();
    const at = items.indexOf(document.activeElement);
    const to = step === undefined ? ends[event.key] : Math.min(items.length - 1, Math.max(0, at + step));
    one(items, items[to]);
    items[to].focus();
  });
}

// Let Tab reach one of these only.
export function one(items, chosen) {
  for (const item of items) item.setAttribute("tabindex", item === chosen ? "0" : "-1");
}
