// What is arriving: one row a fetch, with how far it is, how fast it comes and when it is here.

import { byId, el, keyed, say } from "./dom.js";
import { brief, counted, percent, rate, short, size, span } from "./words.js";

// How much the newest look weighs in a rate.
const WEIGHT = 0.4;
// As many as the daemon lists.
const SHOWN = 50;
const paces = new Map();

// Bytes a second of a fetch: since it began at first, then as it goes now.
export function pace(flight) {
  const before = paces.get(flight.digest);
  const known = before && before.seconds <= flight.seconds && before.offset <= flight.offset;
  if (known && flight.seconds === before.seconds) return before.pace;
  const seconds = known ? flight.seconds - before.seconds : flight.seconds;
  const bytes = known ? flight.offset - before.offset : flight.received || flight.offset;
  const now = seconds > 0 ? bytes / seconds : 0;
  const smooth = known ? before.pace * (1 - WEIGHT) + now * WEIGHT : now;
  paces.set(flight.digest, { seconds: flight.seconds, offset: flight.offset, pace: smooth });
  return smooth;
}

function make() {
  const part = (name) => el("span", { class: name });
  return el(
    "li",
    { class: "flight" },
    el("span", { class: "name" }, el("b"), " ", el("code")),
    el("progress", { max: "1" }),
    part("done"),
    part("bytes"),
    part("rate"),
    part("left"),
    part("from"),
  );
}

function update(row, flight) {
  const find = (name) => row.querySelector(name);
  const { offset, total } = flight;
  const speed = pace(flight);
  say(find("b"), brief(flight.repository));
  say(find("code"), short(flight.digest));
  find("code").title = flight.digest;
  const bar = find("progress");
  if (total) {
    bar.max = total;
    bar.value = offset;
  } else bar.removeAttribute("value");
  bar.setAttribute("aria-label", `${flight.repository} ${short(flight.digest)}`);
  say(find(".done"), total ? percent(offset, total) : "");
  say(find(".bytes"), total ? `${size(offset)} of ${size(total)}` : size(offset));
  say(find(".rate"), rate(speed, 1));
  say(find(".left"), total && speed > 0 ? `${span((total - offset) / speed)} left` : "");
  const readers = flight.waiters ? `, ${counted(flight.waiters, "reader")}` : "";
  say(find(".from"), `from ${flight.source}${readers}`);
}

// What is said of fetches that are not in the list.
function beyond(shown, more) {
  const others = `${more.toLocaleString("en")} ${shown ? "more " : ""}${more === 1 ? "fetch" : "fetches"}`;
  if (!more) return shown ? "" : "Nothing is arriving.";
  return shown < SHOWN ? `${others} of what you may not see.` : `and ${others}.`;
}

export function draw(look) {
  const place = byId("flights");
  const { flights, more_flights: more } = look;
  for (const digest of [...paces.keys()]) {
    if (!flights.some((flight) => flight.digest === digest)) paces.delete(digest);
  }
  let list = place.querySelector("ul");
  if (!list) {
    list = el("ul", { class: "flights" });
    place.replaceChildren(list, el("p", { class: "empty" }));
  }
  keyed(list, flights, (flight) => flight.digest, make, update);
  say(place.querySelector(".empty"), beyond(flights.length, more));
  const speed = flights.reduce((sum, flight) => sum + pace(flight), 0);
  say(byId("total-flights"), (flights.length + more).toLocaleString("en"));
  say(byId("total-arriving"), flights.length ? rate(speed, 1) : "");
}
