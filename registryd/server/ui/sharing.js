// Images and the layers they share: a bar for each image, as long as it is large, made of its
// blobs. A shared blob has the same colour and letter in every bar; what one image has alone is
// grey. Point at one, or move with the arrow keys, and it stands out wherever it is.

import { arrows, byId, el, one, say } from "./dom.js";
import { brief, counted, percent, short, size } from "./words.js";

// Colours of blobs; those that save less are dark grey, and have letters too.
const COLOURS = 8;
// A blob that is a smaller part of its image (a configuration, a manifest) is not drawn.
const SLIVER = 300;
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const HINT = "Point at a layer, or move with the arrow keys, to see where else it is.";
let last = "";
let looks = { layers: [], images: [] };

function letter(number) {
  const round = Math.floor(number / LETTERS.length);
  return LETTERS[number % LETTERS.length] + (round ? String(round) : "");
}

function kind(layer, number) {
  if (layer.images < 2) return "unshared";
  return number < COLOURS ? `shared shared-${number}` : "shared shared-more";
}

function named(layer, number) {
  return layer.images < 2 ? "its own" : letter(number);
}

function segment(number) {
  const layer = looks.layers[number];
  const text = layer.images < 2 ? "" : letter(number);
  const block = el(
    "span",
    { class: `layer ${kind(layer, number)}`, "data-layer": number, tabindex: "-1", role: "listitem",
      "aria-label": `layer ${named(layer, number)}, ${size(layer.size)}, in ${counted(layer.images, "image")}` },
    el("small", { "aria-hidden": "true" }, text),
  );
  block.style.flexGrow = String(layer.size);
  return block;
}

function row(image, largest) {
  const drawn = image.layers.reduce((sum, number) => sum + looks.layers[number].size, 0);
  const seen = image.layers.filter((number) => looks.layers[number].size >= drawn / SLIVER);
  const bar = el("span", { class: "blobs", role: "list" }, seen.map((number) => segment(number)));
  bar.style.width = `${Math.max(2, (image.size * 100) / largest)}%`;
  const own = image.size === image.own_size ? "nothing shared" : `${size(image.own_size)} its own`;
  return el(
    "li",
    { class: "image" },
    el("span", { class: "name", title: `${image.reference}\n${image.digest}` }, el("bdi", {}, brief(image.reference))),
    el("span", { class: "bytes" }, size(image.size)),
    el("span", { class: "alone" }, own),
    el("span", { class: "track" }, bar),
  );
}

function light(number) {
  const list = byId("layers").querySelector(".images");
  const line = byId("layers").querySelector(".detail");
  if (!list) return;
  list.classList.toggle("choosing", number !== null);
  for (const block of list.querySelectorAll(".layer")) {
    block.classList.toggle("lit", block.dataset.layer === String(number));
  }
  const layer = number === null ? null : looks.layers[number];
  line.replaceChildren(...(layer ? described(layer, number) : [HINT]));
}

function described(layer, number) {
  const who = looks.images.filter((image) => image.layers.includes(number)).map((image) => brief(image.reference));
  const some = who.slice(0, 3).join(", ") + (who.length > 3 ? ` and ${who.length - 3} more` : "");
  const shared = layer.images < 2 ? "of one image: " : `${letter(number)}, in ${counted(layer.images, "image")}: `;
  return [`${size(layer.size)}, ${shared}${some} `, el("code", {}, layer.digest)];
}

function listen(list) {
  const of = (event) => event.target.closest(".layer");
  const choose = (event) => light(of(event) ? Number(of(event).dataset.layer) : null);
  list.addEventListener("pointerover", choose);
  list.addEventListener("pointerleave", () => light(null));
  list.addEventListener("focusin", choose);
  list.addEventListener("focusout", () => light(null));
  arrows(list, ".layer");
}

function summary(look) {
  const saved = look.apart - look.together;
  if (!look.images.length) return "No image that you may see is held.";
  if (saved <= 0) return `${counted(look.images.length + look.more, "image")}, which share nothing.`;
  return `Apart they would take ${size(look.apart)}; together they take ${size(look.together)}, ${percent(saved, look.apart)} less.`;
}

export function draw(look) {
  const text = JSON.stringify([look.images, look.layers, look.more]);
  if (text === last) return;
  last = text;
  looks = look;
  const largest = Math.max(1, ...look.images.map((image) => image.size));
  const list = el("ul", { class: "images" }, look.images.map((image) => row(image, largest)));
  listen(list);
  const more = look.more ? el("p", { class: "note" }, `and ${counted(look.more, "smaller image")} more`) : null;
  const detail = look.images.length ? el("p", { class: "detail", "aria-live": "polite" }, HINT) : null;
  const caption = el("p", { class: look.images.length ? "caption" : "empty" }, summary(look));
  byId("layers").replaceChildren(...[caption, detail, list, more].filter(Boolean));
  const blocks = [...list.querySelectorAll(".layer")];
  one(blocks, blocks[0]);
}
