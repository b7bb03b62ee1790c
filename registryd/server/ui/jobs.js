// Prefetch: each job as a map of its nodes, a cell the darker the more bytes the node has.

import { arrows, byId, el, keyed, one, say } from "./dom.js";
import { brief, counted, percent, size, span } from "./words.js";

// More cells than this are small ones, without the names of nodes.
const NAMED = 96;
const HEATS = 10;
const SIGNS = { done: "✓", failed: "✕", cancelled: "–", fetching: "", waiting: "" };

function standing(job) {
  const silent = job.silent.map((node) => ({ node, state: "silent", bytes: 0, total: 0, error: "" }));
  const order = new Intl.Collator("en", { numeric: true });
  return [...job.standings, ...silent].sort((a, b) => order.compare(a.node, b.node));
}

function words(each) {
  if (each.state === "silent") return `${each.node} has not said a word`;
  const bytes = `${size(each.bytes)} of ${size(each.total)}`;
  const error = each.error ? `: ${each.error}` : "";
  return `${each.node}: ${each.state}, ${bytes} (${percent(each.bytes, each.total)}), ${span(each.seconds)}${error}`;
}

function heat(each) {
  if (!each.total) return 0;
  return Math.min(HEATS, Math.floor((each.bytes * HEATS) / each.total));
}

function makeCell() {
  return el("li", { tabindex: "-1" }, el("span", { class: "node" }), el("b"));
}

function updateCell(cell, each) {
  cell.className = `cell heat-${heat(each)} ${each.state}`;
  say(cell.querySelector(".node"), each.node);
  const sign = SIGNS[each.state] || "";
  say(cell.querySelector("b"), each.state === "silent" ? "?" : sign || percent(each.bytes, each.total));
  cell.setAttribute("aria-label", words(each));
  cell.title = words(each);
}

function make() {
  const cells = el("ul", { class: "cells" });
  arrows(cells, ".cell");
  const detail = el("p", { class: "detail", "aria-live": "polite" });
  const hint = "Point at a node, or move with the arrow keys.";
  say(detail, hint);
  const tell = (event) => say(detail, event.target.closest(".cell")?.title ?? hint);
  for (const name of ["pointerover", "focusin"]) cells.addEventListener(name, tell);
  for (const name of ["pointerleave", "focusout"]) cells.addEventListener(name, () => say(detail, hint));
  return el("article", { class: "job" }, el("h3"), el("p", { class: "caption" }), el("progress", { max: "1" }), cells, detail);
}

function update(place, job) {
  const nodes = job.nodes ?? { all: 0, done: 0, failed: 0, bytes: 0, total: 0 };
  const all = standing(job);
  const images = job.images.map((image) => brief(image.reference ?? image.name ?? String(image)));
  const rest = images.length > 2 ? ` and ${images.length - 2} more` : "";
  say(place.querySelector("h3"), images.slice(0, 2).join(", ") + rest);
  const failed = nodes.failed ? `, ${nodes.failed} failed` : "";
  const more = job.more ? `, ${counted(job.more, "node")} not shown` : "";
  say(
    place.querySelector(".caption"),
    `Job ${job.id}, ${job.state}: ${nodes.done} of ${counted(nodes.all, "node")} done${failed}, ` +
      `${size(nodes.bytes)} of ${size(nodes.total)}${more}`,
  );
  const bar = place.querySelector("progress");
  bar.max = Math.max(1, nodes.total);
  bar.value = nodes.bytes;
  bar.setAttribute("aria-label", `bytes of job ${job.id} on all nodes`);
  const cells = place.querySelector(".cells");
  cells.classList.toggle("dense", all.length > NAMED);
  keyed(cells, all, (each) => each.node, makeCell, updateCell);
  const items = [...cells.children];
  if (!items.some((item) => item.tabIndex === 0)) one(items, items[0]);
}

export function draw({ jobs }) {
  byId("jobs").hidden = !jobs.length;
  keyed(byId("prefetch"), jobs, (job) => job.id, make, update);
}
