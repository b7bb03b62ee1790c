// The page: asks for a look every second, and gives each part what it draws.

import * as cluster from "./cluster.js";
import * as course from "./course.js";
import * as disk from "./disk.js";
import { byId, say } from "./dom.js";
import * as flights from "./flights.js";
import * as jobs from "./jobs.js";
import * as sharing from "./sharing.js";
import { watch } from "./watch.js";
import { clock, counted, percent, rate, size, span } from "./words.js";

// Milliseconds between two looks at what moves, and at what hardly does.
const OFTEN = 1000;
const SELDOM = 8000;
const SEEN = {
  owner: "",
  user: "You see the images and fetches that you have proven access to; totals are those of all.",
  anybody:
    "You see what everybody on this node may see: public images, and totals. To see your own, reach the" +
    " daemon's socket: ssh -L 8080:/run/registryd/registryd.sock NODE, then http://localhost:8080/ui",
};

let away = 0;
let before = null;
let names = [];

function state(text, well) {
  say(byId("state"), text);
  byId("state").className = well ? "well" : "ill";
  document.body.classList.toggle("stale", !well);
}

function totals(look, latest, hour) {
  const { cache } = look;
  say(byId("total-images"), cache.images.toLocaleString("en"));
  say(byId("total-size"), size(cache.size));
  say(byId("total-blobs"), counted(cache.blobs, "blob"));
  if (before && latest.at > before.at) {
    const seconds = latest.at - before.at;
    const taken = latest.registries + latest.nodes - before.registries - before.nodes;
    say(byId("rate-given"), rate(latest.cache + latest.passing - before.cache - before.passing, seconds));
    say(byId("rate-taken"), `${rate(taken, seconds)} taken`);
  }
  if (!before || latest.at - before.at > 0.5) before = latest;
  const asked = hour.hits + hour.misses;
  say(byId("total-hits"), asked ? percent(hour.hits, asked) : "–");
  say(byId("total-lookups"), asked ? `of ${counted(asked, "blob")}` : "none asked for");
  say(byId("total-nodes"), (look.cluster.nodes.length + look.cluster.more || 1).toLocaleString("en"));
  say(byId("total-cluster"), look.cluster.kind === "none" ? "no cluster" : look.cluster.connected ? "connected" : "NATS is away");
}

function about(look) {
  const { node, viewer } = look;
  say(byId("node"), node.name || "this node");
  say(byId("about"), `${node.version}, up for ${span(node.uptime_seconds)}`);
  say(byId("notice"), SEEN[viewer] ?? "");
  byId("notice").hidden = !SEEN[viewer];
}

function seen(look) {
  away = 0;
  names = look.cluster.nodes.map((node) => node.name);
  const latest = course.take(look);
  about(look);
  flights.draw(look);
  disk.draw(look);
  totals(look, latest, course.draw(latest));
  cluster.draw(look);
  jobs.draw(look);
  state(`live, ${clock(latest.at)}`, true);
}

function failed(error) {
  away = away || Date.now() / 1000;
  const why = error.message.startsWith("status ") ? `answers with ${error.message}` : "does not answer";
  state(`The daemon ${why} since ${clock(away)}; what you see is older.`, false);
}

function shared(look) {
  sharing.draw(look);
  cluster.drawHolders(look, names);
}

watch(() => `/api/v1/overview?since=${course.newest()}`, OFTEN, seen, failed);
watch(() => "/api/v1/sharing", SELDOM, shared, () => {});
