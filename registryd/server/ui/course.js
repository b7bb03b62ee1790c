// The last hour: where bytes came from, and how often content was here, from the daemon's samples.

import { byId, el, say, svg } from "./dom.js";
import { clock, counted, percent, rate, size } from "./words.js";

const HOUR = 3600;
const HEIGHT = 120;
const BAND = 56;
const SOURCES = [
  ["cache", "given from the cache"],
  ["registries", "taken from registries"],
  ["nodes", "taken from other nodes"],
];
const PARTS = ["cache", "registries", "nodes", "hits", "misses"];
let samples = [];
let cursor = null;

// The time of the newest sample that is known, for the next question.
export function newest() {
  return samples.length ? samples[samples.length - 1].at : 0;
}

function named(columns, row) {
  return Object.fromEntries(columns.map((column, at) => [column, row[at]]));
}

export function take({ history, now }) {
  const fresh = history.samples.map((row) => named(history.columns, row));
  const latest = named(history.columns, now);
  // Sums that became smaller are those of a daemon that began anew.
  if (samples.length && latest.cache + latest.hits < newestSums()) samples = [];
  samples = [...samples, ...fresh].filter((sample) => sample.at > latest.at - HOUR - 2 * history.every);
  return latest;
}

function newestSums() {
  const last = samples[samples.length - 1];
  return last.cache + last.hits;
}

// The difference of two samples, nothing below zero.
function between(before, after) {
  const parts = PARTS.map((part) => [part, Math.max(0, after[part] - before[part])]);
  return { from: before.at, until: after.at, ...Object.fromEntries(parts) };
}

// What passed in each of ``count`` spans of the hour that ends at ``end``.
function spans(end, count, latest) {
  const all = [...samples, latest];
  const width = HOUR / count;
  const found = Array.from({ length: count }, (_, at) => ({
    from: end - HOUR + at * width, until: end - HOUR + (at + 1) * width, known: false,
    ...Object.fromEntries(PARTS.map((part) => [part, 0])),
  }));
  for (let at = 1; at < all.length; at += 1) {
    const step = between(all[at - 1], all[at]);
    const place = Math.min(count - 1, Math.floor((step.until - (end - HOUR) - 1e-6) / width));
    if (place < 0) continue;
    found[place].known = true;
    for (const part of PARTS) found[place][part] += step[part];
  }
  return found;
}

function bars(found, width, top) {
  const step = width / found.length;
  return found.map((each, at) => {
    let y = HEIGHT;
    return SOURCES.map(([part]) => {
      const height = top ? (each[part] / top) * (HEIGHT - 14) : 0;
      y -= height;
      const bar = { class: `bar ${part}`, x: at * step, y, width: Math.max(0.5, step - 1), height };
      return height > 0 ? svg("rect", bar) : null;
    });
  });
}

function hits(found, width) {
  const step = width / found.length;
  const asked = found.map((each, at) => [at, each.hits + each.misses ? each.hits / (each.hits + each.misses) : null]);
  return asked.map(([at, part]) =>
    part === null
      ? null
      : svg("rect", { class: "bar hits", x: at * step, y: BAND - 1 - part * (BAND - 10), width: Math.max(0.5, step - 1), height: Math.max(2, part * (BAND - 10)) }),
  );
}

function words(each) {
  const seconds = Math.max(1, each.until - each.from);
  const parts = SOURCES.map(([part, name]) => `${size(each[part])} ${name}`);
  const asked = each.hits + each.misses;
  const hit = asked ? `${percent(each.hits, asked)} of ${counted(asked, "blob")} were here` : "no blob was asked for";
  const given = each.cache ? ` (${rate(each.cache, seconds)})` : "";
  return `${clock(each.from)}: ${parts[0]}${given}, ${parts.slice(1).join(", ")}; ${hit}`;
}

function legend(total) {
  return el("ul", { class: "legend" }, SOURCES.map(([part, name]) =>
    el("li", {}, el("span", { class: `swatch ${part}` }), `${name} `, el("b", {}, size(total[part])))));
}

function frame(figure, width) {
  const lines = [0.25, 0.5, 0.75].map((part) => svg("line", { class: "grid", x1: width * part, x2: width * part, y1: 0, y2: figure }));
  return [...lines, svg("line", { class: "axis", x1: 0, x2: width, y1: figure - 0.5, y2: figure - 0.5 })];
}

function axis() {
  return el("p", { class: "axis-words", "aria-hidden": "true" }, ["60 min ago", "45", "30", "15", "now"].map((word) => el("span", {}, word)));
}

function chart(width, height, label, ...children) {
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label }, frame(height, width), children);
}

// A line under the pointer, or where the arrow keys have moved it.
function follow(place, found, width) {
  const line = place.querySelector(".detail");
  const tops = place.querySelectorAll("svg");
  const shown = () => {
    for (const old of place.querySelectorAll(".cursor")) old.remove();
    if (cursor === null) return say(line, "Point at the chart, or move with the arrow keys, to read a moment.");
    const x = ((cursor + 0.5) * width) / found.length;
    for (const figure of tops) figure.append(svg("line", { class: "cursor", x1: x, x2: x, y1: 0, y2: HEIGHT }));
    return say(line, words(found[cursor]));
  };
  const area = place.querySelector(".charts");
  area.onpointermove = (event) => {
    const box = area.getBoundingClientRect();
    cursor = Math.min(found.length - 1, Math.max(0, Math.floor(((event.clientX - box.left) * found.length) / box.width)));
    shown();
  };
  area.onpointerleave = () => { cursor = null; shown(); };
  area.onblur = area.onpointerleave;
  area.onkeydown = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    cursor = Math.min(found.length - 1, Math.max(0, (cursor ?? found.length - (step > 0 ? 1 : 0)) + step));
    shown();
  };
  shown();
}

function build(place) {
  place.replaceChildren(
    el("div", { class: "legend-place" }),
    el("div", { class: "charts", tabindex: "0", role: "group", "aria-label": "The last hour; arrow keys move through it" }),
    axis(),
    el("p", { class: "detail", "aria-live": "polite" }),
  );
}

export function draw(latest) {
  const place = byId("course");
  if (!place.querySelector(".charts")) build(place);
  const area = place.querySelector(".charts");
  const width = Math.max(200, Math.round(area.clientWidth || 600));
  const found = spans(latest.at, width < 500 ? 60 : 120, latest);
  if (cursor !== null) cursor = Math.min(cursor, found.length - 1);
  const total = between(samples[0] ?? latest, latest);
  const top = Math.max(...found.map((each) => each.cache + each.registries + each.nodes));
  const asked = total.hits + total.misses;
  const most = top ? `at most ${rate(top, HOUR / found.length)}` : "no bytes in this hour";
  const hitWords = asked ? `blobs that were here when they were asked for: ${percent(total.hits, asked)} of ${asked.toLocaleString("en")}` : "no blob was asked for in this hour";
  area.replaceChildren(
    el("p", { class: "caption" }, `Bytes, ${most}`),
    chart(width, HEIGHT, `Bytes in the last hour, ${most}`, bars(found, width, top)),
    el("p", { class: "caption" }, `Hit rate: ${hitWords}`),
    chart(width, BAND, hitWords, hits(found, width)),
  );
  place.querySelector(".legend-place").replaceChildren(legend(total));
  follow(place, found, width);
  return total;
}
