"""What the daemon counts, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from cache.store import BlobStore
from registryd.transfer.flight import Flights

#: Upper bounds (seconds) that tell a hit (well under 10 ms) from a miss and from a stall.
BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0)


class Metrics:
    """The counters of one daemon; each daemon has its own registry."""

    def __init__(self, store: BlobStore, flights: Flights) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_State(store, flights))
        self.requests = Counter(
            "registryd_requests",
            "Requests answered, by method, route and status.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "registryd_request_seconds",
            "Time to a whole answer.",
            ("route",),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self.served = Counter(
            "registryd_served_bytes",
            "Bytes of blobs given to clients, by where they came from.",
            ("origin",),
            registry=self._registry,
        )
        self.pushed = Counter(
            "registryd_pushed_bytes", "Bytes of blobs taken from clients.", registry=self._registry
        )

    def text(self) -> bytes:
        """All metrics, as a scrape gets them."""
        return generate_latest(self._registry)


class _State(Collector):
    """What is read when a scrape comes, not counted."""

    def __init__(self, store: BlobStore, flights: Flights) -> None:
        self._store = store
        self._flights = flights

    @override
    def collect(self) -> Iterator[Metric]:
        under_way = self._flights.under_way()
        fetched = self._flights.fetched + sum(flight.received for flight in under_way)
        yield GaugeMetricFamily("registryd_cache_blobs", "Blobs held.", len(self._store))
        yield GaugeMetricFamily("registryd_cache_bytes", "Bytes held.", self._store.size)
        yield GaugeMetricFamily("registryd_flights", "Fetches under way.", len(under_way))
        yield GaugeMetricFamily(
            "registryd_upstream_bytes", "Bytes of blobs taken from upstream since start.", fetched
        )
