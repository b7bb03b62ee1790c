"""/metrics: every family by its name, type and help; every figure after known traffic."""

import asyncio
import re
from pathlib import Path

import aiohttp
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from registryd.counts import NAMED, OTHER, Counts
from registryd.server.metrics import Times
from tests.fakes.node import RunningNode, plain, running_node
from tests.fakes.registry import FakeRegistry, digest_of, make_image
from tests.fakes.waiting import until
from tests.server.content import BLOBS, CONTENT, DIGEST, SIZE, fetch

Sample = tuple[str, frozenset[tuple[str, str]]]

#: Name (as the parser gives it, without _total), type, labels.
FAMILIES = {
    ("registryd_requests", "counter", ("method", "route", "status")),
    ("registryd_request_seconds", "histogram", ("le", "route")),
    ("registryd_first_byte_seconds", "histogram", ("le", "source")),
    ("registryd_served_bytes", "counter", ("source",)),
    ("registryd_pushed_bytes", "counter", ()),
    ("registryd_cache_lookups", "counter", ("kind", "outcome")),
    ("registryd_stale_answers", "counter", ("cause",)),
    ("registryd_cache_blobs", "gauge", ()),
    ("registryd_cache_bytes", "gauge", ()),
    ("registryd_removed_blobs", "counter", ()),
    ("registryd_scrub_blobs", "counter", ()),
    ("registryd_scrub_bytes", "counter", ()),
    ("registryd_scrub_bad", "counter", ()),
    ("registryd_scrub_mended", "counter", ("outcome",)),
    ("registryd_scrub_all_proven_since_timestamp_seconds", "gauge", ()),
    ("registryd_removed_bytes", "counter", ()),
    ("registryd_grants", "gauge", ()),
    ("registryd_access_proofs", "counter", ("outcome",)),
    ("registryd_flights", "gauge", ()),
    ("registryd_flights_started", "counter", ()),
    ("registryd_flights_failed", "counter", ("reason",)),
    ("registryd_streamed_blobs", "counter", ()),
    ("registryd_streamed_bytes", "counter", ()),
    ("registryd_conversions", "counter", ("outcome",)),
    ("registryd_waiters", "gauge", ()),
    ("registryd_upstream_bytes", "counter", ("registry",)),
    ("registryd_upstream_answers", "counter", ("registry", "status")),
    ("registryd_tasks", "gauge", ()),
    ("registryd_build_info", "gauge", ("version",)),
}
#: Those of a node with shared stores (tests/real/test_shared_stores.py).
OF_LOWER = {f"registryd_lower_{what}" for what in ("blobs", "bytes", "errors")}
#: Those of a node among others (tests/server/test_metrics_cluster.py).
OF_CLUSTER = {
    ("registryd_cluster_nodes", "gauge", ()),
    ("registryd_cluster_connected", "gauge", ()),
    ("registryd_cluster_uploads", "gauge", ()),
    ("registryd_cluster_received_bytes", "counter", ("zone",)),
    ("registryd_cluster_sent_bytes", "counter", ()),
    ("registryd_cluster_registry_chunks", "counter", ()),
    ("registryd_cluster_double_fetches", "counter", ("reason",)),
    ("registryd_cluster_hedges", "counter", ()),
    ("registryd_cluster_redirects", "counter", ()),
    ("registryd_cluster_refusals", "counter", ()),
    ("registryd_cluster_failures", "counter", ("kind",)),
    ("registryd_cluster_answers", "counter", ("answer",)),
    ("registryd_cluster_checks", "counter", ("verdict",)),
    ("registryd_cluster_liars", "gauge", ()),
}
#: What the client library tells of a process.
PROCESS = {"process_open_fds", "process_resident_memory_bytes", "process_start_time_seconds"}


class Scrape:
    """What one scrape gave."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = list(text_string_to_metric_families(text))
        self.values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def get(self, name: str, **labels: str) -> float | None:
        """The value of a sample, None where there is none."""
        return self.values.get((f"registryd_{name}", frozenset(labels.items())))


async def scrape(client: aiohttp.ClientSession) -> Scrape:
    """Ask for the metrics."""
    async with client.get("/metrics") as answer:
        assert answer.status == 200
        return Scrape(await answer.text())


async def settled(client: aiohttp.ClientSession, count: int) -> Scrape:
    """The metrics once so many requests to /v2 are counted: a count comes after its answer."""
    async with asyncio.timeout(20):
        while True:
            seen = await scrape(client)
            done = [
                value
                for (name, labels), value in seen.values.items()
                if name == "registryd_requests_total" and ("route", "metrics") not in labels
            ]
            if sum(done) >= count:
                return seen


async def test_names_types_and_words(
    owner: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """The families are these; counters end in _total, every one has a help of its own."""
    upstream.answer("blobs", 503, times=1)
    for _ in range(2):
        await fetch(owner, path)
    seen = await settled(owner, 2)
    ours = [family for family in seen.families if family.name.startswith("registryd_")]

    shown = set()
    for family in ours:
        labels = {label for sample in family.samples for label in sample.labels}
        shown.add((family.name, family.type, tuple(sorted(labels))))
    # Nothing stale was given here, so that this family has no sample to have a label.
    assert {(n, t, () if n == "registryd_stale_answers" else lb) for n, t, lb in FAMILIES} == shown
    assert len(ours) == len({family.documentation for family in ours})
    assert all(family.documentation.endswith(".") for family in ours)
    assert PROCESS <= {family.name for family in seen.families}
    counted = re.findall(r"^# TYPE (\S+) counter$", seen.text, re.MULTILINE)
    assert [] == [name for name in counted if not name.endswith("_total")]


async def test_cold_and_warm(
    owner: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """One fetch serves two requests: a miss and a hit, and as many bytes by each."""
    await fetch(owner, path)
    await fetch(owner, path)
    seen = await settled(owner, 2)

    assert (1, 1, 0) == outcomes(seen, "blob")
    assert (SIZE, SIZE) == served(seen)
    assert SIZE == seen.get("upstream_bytes_total", registry=upstream.name)
    assert (1, 0, 0) == flights(seen)
    assert (1, SIZE) == (seen.get("cache_blobs"), seen.get("cache_bytes"))
    assert 2 == seen.get("requests_total", method="GET", route="blob", status="200")
    assert 2 == seen.get("request_seconds_count", route="blob")
    for source in ("cache", "upstream"):
        assert 1 == seen.get("first_byte_seconds_count", source=source)
        assert 1 == seen.get("first_byte_seconds_bucket", source=source, le="+Inf")


async def test_ranges_and_heads(
    owner: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """A part counts its own bytes; a HEAD gives no content and is no lookup."""
    await fetch(owner, path)
    await fetch(owner, path, Range="bytes=10-19")
    async with owner.head(path) as answer:
        assert answer.status == 200
    seen = await settled(owner, 3)

    assert (1, 1, 0) == outcomes(seen, "blob")
    assert (10, SIZE) == served(seen)


async def test_two_waiters(
    owner: aiohttp.ClientSession, node: RunningNode, upstream: FakeRegistry, path: str
) -> None:
    """Who comes while a blob arrives waits for that fetch: one miss, two waits, three readers."""
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate, at=500_000)
    first = asyncio.create_task(fetch(owner, path))
    await until(lambda: node.node.flights.find(DIGEST))
    others = [asyncio.create_task(fetch(owner, path)) for _ in range(2)]
    arriving = node.node.store.arriving
    await until(lambda: [ingest.followers for ingest in arriving()] == [3])
    await until(lambda: [f.received for f in node.node.flights.under_way()] == [500_000])
    during = await scrape(owner)
    gate.set()
    answers = await asyncio.gather(first, *others)
    seen = await settled(owner, 3)

    assert [(200, CONTENT)] * 3 == answers
    assert (1, 3) == (during.get("flights"), during.get("waiters"))
    assert 500_000 == during.get("upstream_bytes_total", registry=upstream.name)
    assert (0, 1, 2) == outcomes(seen, "blob")
    assert (0, 3 * SIZE) == served(seen)
    assert SIZE == seen.get("upstream_bytes_total", registry=upstream.name)
    assert (0, 0) == (seen.get("flights"), seen.get("waiters"))


async def test_failures(owner: aiohttp.ClientSession, upstream: FakeRegistry, path: str) -> None:
    """A fetch that fails is counted by why, an answer of the registry by its class."""
    upstream.answer(BLOBS, 404)
    statuses = [(await fetch(owner, path))[0]]
    upstream.drop(BLOBS, times=None)
    statuses.append((await fetch(owner, path))[0])
    seen = await settled(owner, 2)

    assert [404, 503] == statuses
    assert (2, 0, 2) == flights(seen)
    assert 1 == seen.get("flights_failed_total", reason="blob_unknown")
    assert 1 == seen.get("flights_failed_total", reason="transport_error")
    assert 1 == seen.get("upstream_answers_total", registry=upstream.name, status="4xx")
    assert 1 == seen.get("upstream_answers_total", registry=upstream.name, status="none")
    assert (0, 0, 0) == outcomes(seen, "blob")
    assert (0, 0) == served(seen)


async def test_manifests(owner: aiohttp.ClientSession, upstream: FakeRegistry) -> None:
    """A manifest is a miss, then a hit; two who ask at once are a miss and a wait."""
    for number in "12":
        upstream.add_image("team/app", number, number.encode())
    name = f"/v2/{upstream.name}/team/app/manifests"
    gate, digest = asyncio.Event(), digest_of(make_image(b"2"))
    for _ in range(2):
        await fetch(owner, f"{name}/1")
    upstream.stall(f"GET .*{digest}", gate)
    both = [asyncio.create_task(fetch(owner, f"{name}/2")) for _ in range(2)]
    await until(lambda: upstream.lines(f"GET .*{digest}"))
    for _ in range(5):  # the second request was sent before these, so it has been read too
        await scrape(owner)
    gate.set()
    answers = await asyncio.gather(*both)
    seen = await settled(owner, 4)

    assert [200, 200] == [status for status, _ in answers]
    assert (1, 2, 1) == outcomes(seen, "manifest")
    assert (0, 0) == served(seen)


async def test_what_is_removed_and_pushed(
    owner: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """Bytes that clients push, and blobs that leave the cache, are counted."""
    where = f"/v2/localhost/mine/blobs/{DIGEST}"
    async with owner.post(
        "/v2/localhost/mine/blobs/uploads/", params={"digest": str(DIGEST)}, data=CONTENT
    ) as answer:
        assert answer.status == 201
    async with owner.delete(where) as answer:
        assert answer.status == 202
    seen = await settled(owner, 2)

    assert SIZE == seen.get("pushed_bytes_total")
    assert (1, SIZE) == (seen.get("removed_blobs_total"), seen.get("removed_bytes_total"))
    assert (0, 0) == (seen.get("cache_blobs"), seen.get("cache_bytes"))


async def test_proofs_and_grants(
    stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """What a registry said about a caller, and how many are let in now."""
    await fetch(stranger, path)
    await fetch(stranger, path)
    upstream.answer("team/other", 403, times=None)
    await fetch(stranger, path.replace("team/app", "team/other"))
    seen = await settled(stranger, 3)

    assert 1 == seen.get("grants")
    assert 1 == seen.get("access_proofs_total", outcome="proven")
    assert 1 == seen.get("access_proofs_total", outcome="denied")


async def test_nothing_private_is_shown(
    owner: aiohttp.ClientSession, stranger: aiohttp.ClientSession, path: str
) -> None:
    """The metrics are for everybody, so they name no repository, digest or user."""
    await fetch(owner, path)
    await fetch(owner, path.replace("team/app", "team/none"))
    text = (await settled(stranger, 2)).text

    assert [] == [word for word in ("team", DIGEST.hex, "uid:", "anonymous") if word in text]


async def test_a_made_up_method_makes_no_series(stranger: aiohttp.ClientSession) -> None:
    """Clients cannot fill the memory with methods of their own."""
    for method in ("LOCK", "PROPFIND"):
        async with stranger.request(method, "/v2/") as answer:
            await answer.read()
    seen = await settled(stranger, 2)
    methods = {dict(labels)["method"] for name, labels in seen.values if "requests_total" in name}

    assert {"other"} == methods


async def test_an_unknown_path_is_counted_as_what_it_was_told(
    stranger: aiohttp.ClientSession,
) -> None:
    """404 is 404 in the metrics too, not a client that has left."""
    assert 404 == (await fetch(stranger, "/what"))[0]
    seen = await settled(stranger, 1)

    assert 1 == seen.get("requests_total", method="GET", route="other", status="404")


def test_the_page_names_what_there_is() -> None:
    """Every metric in docs/metrics.md is one of these, and every one of these is there."""
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    rows = "".join(line for line in text.splitlines() if line.startswith("|"))
    named = {word.removesuffix("_total") for word in re.findall(r"registryd_[a-z_]+", rows)}

    assert {name for name, _, _ in FAMILIES | OF_CLUSTER} | OF_LOWER == named


async def test_stale_answers(tmp_path: Path, upstream: FakeRegistry) -> None:
    """A tag given without its registry's word is counted by why, until the registry is back."""
    upstream.add_image("team/app", "1", b"layer")
    image, name = f"{upstream.name}/team/app:1", f"/v2/{upstream.name}/team/app/manifests/1"
    folder = tmp_path / "stale"
    folder.mkdir()
    async with (
        running_node(folder, registries=plain(upstream, tag_ttl=0.0)) as node,
        node.owner() as client,
    ):
        async with client.post("/api/v1/pull", json={"reference": image}) as answer:
            await answer.read()
        upstream.answer("manifests", 500)
        status, _ = await fetch(client, name)
        seen, away = await settled(client, 2), dict(node.node.counts.away)
        await fetch(client, name)
        back = dict(node.node.counts.away)
        upstream.answer("manifests", 500)
        async with client.get("/api/v1/digest", params={"reference": image}) as answer:
            await answer.read()
        again = await settled(client, 4)

        assert (200, {upstream.name: "server_error"}) == (status, away)
        assert 1 == seen.get("stale_answers_total", cause="server_error")
        assert {} == back
        assert 2 == again.get("stale_answers_total", cause="server_error")
        assert {upstream.name: "server_error"} == node.node.counts.away


def test_times_lie_in_their_buckets() -> None:
    """A bucket holds what took as long as its bound or less, with all that was shorter."""
    times, family = Times(), HistogramMetricFamily("x", "X.", labels=("route",))
    for seconds in (0.0005, 0.001, 0.0011, 200.0):
        times.observe(seconds)
    times.write(family, "blob")
    counts = {sample.labels.get("le"): sample.value for sample in family.samples}

    assert (2, 3, 3, 4) == tuple(counts[le] for le in ("0.001", "0.005", "120.0", "+Inf"))
    assert [200.0026] == [s.value for s in family.samples if s.name == "x_sum"]


def test_registries_without_end() -> None:
    """Only so many registries are counted by name, those of the configuration first."""
    counts = Counts(["own.test"])
    for number in range(NAMED + 10):
        counts.answered(f"r{number}.test", 200)
    counts.answered("own.test", None)
    names = {registry for registry, _ in counts.answers}

    assert NAMED + 1 == len(names)
    assert 11 == counts.answers[OTHER, "2xx"]
    assert 1 == counts.answers["own.test", "none"]


def outcomes(seen: Scrape, kind: str) -> tuple[float | None, ...]:
    """Hits, misses and waits."""
    ways = ("hit", "miss", "wait")
    return tuple(seen.get("cache_lookups_total", kind=kind, outcome=way) for way in ways)


def served(seen: Scrape) -> tuple[float | None, ...]:
    """Bytes from the cache, and from upstream."""
    sources = ("cache", "upstream")
    return tuple(seen.get("served_bytes_total", source=source) for source in sources)


def flights(seen: Scrape) -> tuple[float | None, float | None, float]:
    """Fetches begun, under way, failed."""
    failed = [value for (name, _), value in seen.values.items() if "flights_failed" in name]
    return seen.get("flights_started_total"), seen.get("flights"), sum(failed)
