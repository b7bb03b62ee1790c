"""What the daemon counts of its scrub: the cache read again, and what was wrong with it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from registryd.operations import Node
from registryd.server.metric_forms import counter


def of_scrub(node: Node, proven: float | None) -> Iterator[Metric]:
    """Its families; ``proven``: since when every blob has been proven (0: not all are)."""
    counts = node.store.scrub.counts
    yield counter(
        "registryd_scrub_blobs", "Blobs read again from the disk, by verify or in the background.",
        (), {(): counts["blobs"]},
    )  # fmt: skip
    yield counter(
        "registryd_scrub_bytes", "Bytes of the blobs read again.", (), {(): counts["bytes"]}
    )
    yield counter(
        "registryd_scrub_bad", "Blobs found to be wrong, and put aside.", (), {(): counts["bad"]}
    )
    mended = node.scrubbing.mending.counts if node.scrubbing else counts
    yield counter(
        "registryd_scrub_mended",
        "Blobs found to be wrong that were fetched again, or left to the next pull.",
        ("outcome",), {(each,): mended[each] for each in ("fetched", "left")},
    )  # fmt: skip
    if proven is not None:
        yield GaugeMetricFamily(
            "registryd_scrub_all_proven_since_timestamp_seconds",
            "Since when every blob held has been read and proven; 0 while not all are.",
            proven,
        )
