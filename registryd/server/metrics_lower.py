"""What came of the shared stores below the cache, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import Metric

from cache.lower import Lower
from registryd.server.metric_forms import counter


def of_lower(stores: Sequence[Lower]) -> Iterator[Metric]:
    """The families of the stores, by path; the configuration says which there are."""
    if not stores:
        return
    counts = {(str(store.root),): store.counts for store in stores}
    yield counter(
        "registryd_lower_blobs", "Blobs and manifests taken from a shared store, proven.",
        ("store",), {store: each.blobs for store, each in counts.items()},
    )  # fmt: skip
    yield counter(
        "registryd_lower_bytes", "Bytes taken from a shared store, proven.",
        ("store",), {store: each.bytes for store, each in counts.items()},
    )  # fmt: skip
    yield counter(
        "registryd_lower_errors", "Times that a shared store gave what is wrong, or nothing.",
        ("store",), {store: each.errors for store, each in counts.items()},
    )  # fmt: skip
