"""What the daemon counts, in Prometheus' text format.

Invariants:
- a request costs a few additions to dicts of this process; Prometheus' form is made when a scrape
  comes, and whatever blocks (``/proc``) is read in a thread;
- labels hold what the daemon knows, never what a client has made up: a route's name, a method of
  HTTP, one of a bounded number of registries; none names a repository, a digest or a user;
- a family whose labels are known begins with zeros, so that a rate can be had of its first event.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress

from prometheus_client import (
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import (
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from typing_extensions import override

from cache.errors import Fault
from registryd import __version__
from registryd.operations import Node
from registryd.server.account import Account
from registryd.server.metric_forms import counter, singly
from registryd.server.metrics_cluster import of_cluster
from registryd.server.metrics_lower import of_lower
from registryd.server.metrics_scrub import of_scrub

#: Upper bounds (seconds) that tell a hit (well under 10 ms) from a miss and from a stall.
BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SOURCES = ("cache", "upstream")
KINDS = ("blob", "manifest")
OUTCOMES = ("hit", "miss", "wait")


class Times:
    """How often something took how long."""

    __slots__ = ("_counts", "_total")

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS) + 1)
        self._total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(BUCKETS, seconds)] += 1
        self._total += seconds

    def write(self, family: HistogramMetricFamily, label: str) -> None:
        """Give the buckets, each with all below it, to a family."""
        buckets, count = [], 0
        for bound, here in zip((*map(str, BUCKETS), "+Inf"), self._counts, strict=True):
            count += here
            buckets.append((bound, count))
        family.add_metric([label], buckets, self._total)


class Amount:
    """A number that grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, amount: int = 1) -> None:
        """Let it grow."""
        self.value += amount


class Metrics:
    """The counts of one daemon; each daemon has its own registry."""

    def __init__(self, node: Node) -> None:
        self.pushed = Amount()
        self._node = node
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._seconds: defaultdict[str, Times] = defaultdict(Times)
        self._first_byte: defaultdict[str, Times] = defaultdict(Times)
        self._served = node.counts.served
        self._grants: int | None = None
        self._proven: float | None = None
        for source in SOURCES:
            self._served[source] = 0
            self._first_byte[source] = Times()
        self._registry = CollectorRegistry()
        self._registry.register(_Families(self._families))
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)

    def count(
        self, method: str, route: str, status: int, account: Account, began: float, ended: float
    ) -> None:
        """Take one request, answered or left, into account; times are of time.monotonic."""
        self._requests[method if method in METHODS else "other", route, status] += 1
        self._seconds[route].observe(ended - began)
        if account.source:
            self._count_content(method, status, account, began)
        if account.stale:
            self._node.counts.gave_stale(account.registry, account.stale)

    def _count_content(self, method: str, status: int, account: Account, began: float) -> None:
        if account.kind == "blob":
            self._served[account.source] += account.sent
        if account.first_byte is not None:
            self._first_byte[account.source].observe(account.first_byte - began)
        if method == "GET" and status < 400:
            self._node.counts.lookups[account.kind, account.outcome] += 1

    async def text(self) -> bytes:
        """All metrics, as a scrape gets them."""
        self._grants = self._proven = None
        with suppress(Fault):
            self._grants = len(await self._node.store.grants.all())
            self._proven = await self._node.store.scrub.since()
        process = await asyncio.to_thread(generate_latest, self._process)
        return generate_latest(self._registry) + process

    def _families(self) -> Iterator[Metric]:
        yield from self._of_requests()
        yield from self._of_cache()
        yield from of_scrub(self._node, self._proven)
        yield from of_lower(self._node.lowers.all)
        yield from self._of_upstream()
        if self._node.exchange is not None:
            yield from of_cluster(self._node.cluster, self._node.exchange)
        yield from self._of_process()

    def _of_requests(self) -> Iterator[Metric]:
        requests = {(m, r, str(s)): count for (m, r, s), count in self._requests.items()}
        counts = self._node.counts
        yield counter(
            "registryd_requests", "Requests answered, by method, route and status.",
            ("method", "route", "status"), requests,
        )  # fmt: skip
        yield _histogram(
            "registryd_request_seconds", "Time to a whole answer, by route.", "route", self._seconds
        )
        yield _histogram(
            "registryd_first_byte_seconds",
            "Time to the first byte of content, by where the content came from.",
            "source", self._first_byte,
        )  # fmt: skip
        yield counter(
            "registryd_served_bytes",
            "Bytes of blobs given to clients, by where they came from.",
            ("source",), singly(self._served),
        )  # fmt: skip
        yield counter(
            "registryd_pushed_bytes", "Bytes of blobs taken from clients.",
            (), {(): self.pushed.value},
        )  # fmt: skip
        nothing = {(kind, outcome): 0 for kind in KINDS for outcome in OUTCOMES}
        yield counter(
            "registryd_cache_lookups",
            "Content given, by kind and outcome: it was here (hit), was fetched for the request"
            " (miss), or was on its way already (wait).",
            ("kind", "outcome"), nothing | counts.lookups,
        )  # fmt: skip
        yield counter(
            "registryd_stale_answers",
            "Answers given without the registry's word, by why it could not be had.",
            ("cause",), singly(counts.stale),
        )  # fmt: skip

    def _of_cache(self) -> Iterator[Metric]:
        store, proofs = self._node.store, self._node.counts.proofs
        removed = store.removed
        yield GaugeMetricFamily("registryd_cache_blobs", "Blobs held.", len(store))
        yield GaugeMetricFamily("registryd_cache_bytes", "Bytes held.", store.size)
        yield counter(
            "registryd_removed_blobs", "Blobs removed from the cache, by whatever removes them.",
            (), {(): removed["blobs"]},
        )  # fmt: skip
        yield counter(
            "registryd_removed_bytes", "Bytes of the blobs removed from the cache.",
            (), {(): removed["bytes"]},
        )  # fmt: skip
        if self._grants is not None:
            yield GaugeMetricFamily(
                "registryd_grants", "Grants of access that have not run out.", self._grants
            )
        yield counter(
            "registryd_access_proofs",
            "Questions to registries whether a caller may read, by what came of them.",
            ("outcome",), singly({"proven": 0, "denied": 0, "unanswered": 0} | proofs),
        )  # fmt: skip

    def _of_upstream(self) -> Iterator[Metric]:
        flights, counts = self._node.flights, self._node.counts
        waiters = sum(ingest.followers for ingest in self._node.store.arriving())
        under_way = len(flights.under_way())
        yield GaugeMetricFamily("registryd_flights", "Fetches under way.", under_way)
        yield counter(
            "registryd_flights_started", "Fetches begun.", (), {(): counts.flights_started}
        )
        yield counter(
            "registryd_streamed_blobs", "Blobs given without being kept: there was no room.",
            (), {(): counts.streamed["blobs"]},
        )  # fmt: skip
        yield counter(
            "registryd_streamed_bytes", "Bytes given without being kept.",
            (), {(): counts.streamed["bytes"]},
        )  # fmt: skip
        yield counter(
            "registryd_conversions",
            "Images made one file here, brought from the node that made them, or failed.",
            ("outcome",), singly({"made": 0, "brought": 0, "failed": 0} | counts.conversions),
        )  # fmt: skip
        yield counter(
            "registryd_flights_failed", "Fetches that brought nothing, by kind of error.",
            ("reason",), singly(counts.flights_failed),
        )  # fmt: skip
        yield GaugeMetricFamily(
            "registryd_waiters", "Clients that read what is arriving or pushed.", waiters
        )
        yield counter(
            "registryd_upstream_bytes", "Bytes of blobs taken from upstream, by registry.",
            ("registry",), singly(flights.fetched()),
        )  # fmt: skip
        yield counter(
            "registryd_upstream_answers",
            "Answers of registries by class of status, challenges (401) included; none: no answer.",
            ("registry", "status"), counts.answers,
        )  # fmt: skip

    def _of_process(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "registryd_tasks", "Tasks of the event loop.", len(asyncio.all_tasks())
        )
        build = GaugeMetricFamily("registryd_build_info", "This version.", labels=("version",))
        build.add_metric([__version__], 1)
        yield build


class _Families(Collector):
    """What is made when a scrape comes."""

    def __init__(self, families: Callable[[], Iterator[Metric]]) -> None:
        self._families = families

    @override
    def collect(self) -> Iterable[Metric]:
        return self._families()

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not ask for everything to know the names."""
        return []


def _histogram(name: str, words: str, label: str, times: Mapping[str, Times]) -> Metric:
    family = HistogramMetricFamily(name, words, labels=(label,))
    for value, observed in times.items():
        observed.write(family, value)
    return family
