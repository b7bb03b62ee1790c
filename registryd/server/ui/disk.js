// How full the cache is: one bar with the marks at which content goes, and what else is free.

import { byId, el } from "./dom.js";
import { percent, size } from "./words.js";

function mark(at, whole, words) {
  const line = el("span", { class: "mark" }, el("i"), el("small", {}, words));
  line.style.left = `${(at * 100) / whole}%`;
  if (at * 2 > whole) line.classList.add("late");
  return line;
}

function meter(used, whole, high) {
  const full = el("span", { class: high && used > high ? "full over" : "full" });
  full.style.width = `${Math.min(100, (used * 100) / whole)}%`;
  return el("div", { class: "meter" }, full);
}

export function draw({ cache }) {
  const { used, size: held, max_size: bound, high, low, free, min_free: least } = cache;
  const whole = bound || used + free;
  const bar = meter(used, whole, high);
  bar.setAttribute("role", "img");
  bar.setAttribute("aria-label", `${size(used)} of ${size(whole)} are used, ${percent(used, whole)}`);
  const facts = [
    ["Used", `${size(used)} of ${size(whole)}`, percent(used, whole)],
    ["Arriving", size(Math.max(0, used - held)), ""],
  ];
  if (bound) {
    bar.append(mark(low, whole, "low"), mark(high, whole, "high"));
    facts.push(["Content goes at", size(high), percent(high, whole)], ["until", size(low), percent(low, whole)]);
  }
  facts.push(["Free on the disk", size(free), least ? `at least ${size(least)}` : ""]);
  const rows = facts.map(([name, value, part]) =>
    el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value), el("td", {}, part)),
  );
  const note = bound ? null : el("p", { class: "note" }, "The cache has no bound (max_size): it may fill the disk.");
  byId("room").replaceChildren(...[bar, el("table", { class: "facts" }, el("tbody", {}, rows)), note].filter(Boolean));
}
