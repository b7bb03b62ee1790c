// The other nodes, and who holds the largest blobs.

import { byId, el } from "./dom.js";
import { counted, short, size, span } from "./words.js";

// Nodes that are shown in the map of holders.
const ROWS = 64;

function cells(node, look) {
  const me = node.name === look.me ? " (this node)" : "";
  const lies = look.liars.includes(node.name) ? " sent what was wrong, and is not asked any more" : "";
  return el(
    "tr",
    { class: lies ? "bad" : null },
    el("th", { scope: "row" }, node.name, el("small", {}, me + lies)),
    el("td", {}, node.zone || "–"),
    el("td", { class: "number" }, node.load === null ? "–" : String(node.load)),
    el("td", { class: "number" }, node.free === null ? "–" : size(node.free)),
    el("td", { class: "number" }, node.heard_seconds === null ? "–" : `${span(node.heard_seconds)} ago`),
  );
}

function head(...words) {
  return el("thead", {}, el("tr", {}, words.map((word, at) => el("th", { scope: "col", class: at > 1 ? "number" : null }, word))));
}

function scroll(label, table) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table);
}

let last = "";

export function draw({ cluster }) {
  const text = JSON.stringify(cluster);
  byId("cluster").hidden = cluster.kind === "none";
  if (cluster.kind === "none" || text === last) return;
  last = text;
  const away = cluster.connected ? null : el("p", { class: "warning" }, "NATS does not answer: these are the nodes that were known before.");
  const more = cluster.more ? el("p", { class: "note" }, `and ${counted(cluster.more, "node")} more`) : null;
  const table = el(
    "table",
    { class: "members" },
    head("Node", "Zone", "Sending", "Free", "Heard"),
    el("tbody", {}, cluster.nodes.map((node) => cells(node, cluster))),
  );
  const place = byId("members");
  const top = place.querySelector(".scroll")?.scrollTop ?? 0;
  const focused = document.activeElement?.closest("#members .scroll");
  place.replaceChildren(...[away, scroll("Nodes of the cluster", table), more].filter(Boolean));
  place.querySelector(".scroll").scrollTop = top;
  if (focused) place.querySelector(".scroll").focus();
}

// ● holds it whole, ◐ has a part of it; nobody said a word: ·
function held(blob, name) {
  const word = blob.holders.find((holder) => holder.name === name);
  const [sign, means] = !word ? ["·", "does not say"] : word.whole ? ["●", "holds it"] : ["◐", "is receiving it"];
  return el("td", { class: word ? (word.whole ? "whole" : "part") : "none", title: `${name} ${means}` }, el("span", { "aria-hidden": "true" }, sign), el("span", { class: "aside" }, means));
}

export function drawHolders(look, names) {
  const place = byId("holders");
  const blobs = look.held.filter((blob) => blob.digest);
  if (!blobs.length) return place.replaceChildren();
  const known = new Set(blobs.flatMap((blob) => blob.holders.map((holder) => holder.name)));
  const rows = names.length <= ROWS ? names : names.filter((name) => known.has(name)).slice(0, ROWS);
  const heads = blobs.map((blob) => el("th", { scope: "col", title: blob.digest }, el("code", {}, short(blob.digest).slice(0, 8)), el("small", {}, size(blob.size))));
  const body = rows.map((name) => el("tr", {}, el("th", { scope: "row" }, name), blobs.map((blob) => held(blob, name))));
  return place.replaceChildren(
    el("h3", {}, "Who holds the largest blobs"),
    scroll("Who holds the largest blobs", el("table", { class: "holders" }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Node"), heads)), el("tbody", {}, body))),
    el("p", { class: "note" }, "● holds it   ◐ is receiving it   · does not say (only some of many holders answer)"),
  );
}
