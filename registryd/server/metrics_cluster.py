"""What a node counts of its part in a cluster, as families of Prometheus.

Invariant: no label names a node; who lied is in ``registryctl status`` and in the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric

from registryd.cluster.checking import Verdict
from registryd.cluster.exchange import Exchange
from registryd.cluster.peer_counts import PeerCounts
from registryd.cluster.peers import Failure
from registryd.cluster_ports import Cluster
from registryd.server.metric_forms import counter, singly

#: Why a registry is asked for what another node may ask it for as well.
DOUBLE = ("stands in", "slow owner", "no peer left", "patience", "unproven", "misled")
ANSWERS = ("serve", "redirect", "refuse")


def of_cluster(cluster: Cluster, exchange: Exchange) -> Iterator[Metric]:
    """All of them."""
    yield from _of_members(cluster, exchange)
    counts = exchange.counts
    yield from _of_bytes(counts)
    yield from _of_sources(counts)
    yield from _of_trust(counts, exchange)


def _of_members(cluster: Cluster, exchange: Exchange) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "registryd_cluster_nodes", "Nodes of the cluster, this one too.", len(cluster.nodes())
    )
    yield GaugeMetricFamily(
        "registryd_cluster_connected",
        "Whether news of the other nodes can come now.",
        float(cluster.connected),
    )
    yield GaugeMetricFamily(
        "registryd_cluster_uploads", "Chunks that are being sent to other nodes.", exchange.load
    )


def _of_bytes(counts: PeerCounts) -> Iterator[Metric]:
    yield counter(
        "registryd_cluster_received_bytes",
        "Bytes of blobs taken from other nodes, of this zone (near) and of others (far).",
        ("zone",), singly({"near": counts.received - counts.far, "far": counts.far}),
    )  # fmt: skip
    yield counter(
        "registryd_cluster_sent_bytes", "Bytes of blobs sent to other nodes.",
        (), {(): counts.sent},
    )  # fmt: skip


def _of_sources(counts: PeerCounts) -> Iterator[Metric]:
    yield counter(
        "registryd_cluster_registry_chunks", "Chunks that this node asked a registry for.",
        (), {(): counts.upstream},
    )  # fmt: skip
    yield counter(
        "registryd_cluster_double_fetches",
        "Chunks asked of a registry though another node may have asked for them too, by why.",
        ("reason",), _labelled(DOUBLE, counts.double),
    )  # fmt: skip
    yield counter(
        "registryd_cluster_hedges", "Chunks asked of a second source because the first was slow.",
        (), {(): counts.hedges},
    )  # fmt: skip
    yield counter(
        "registryd_cluster_redirects", "Redirects to another node that were followed.",
        (), {(): counts.redirects},
    )  # fmt: skip
    yield counter(
        "registryd_cluster_refusals", "Answers by which other nodes turned this one away.",
        (), {(): counts.refusals},
    )  # fmt: skip
    yield counter(
        "registryd_cluster_failures", "Requests to other nodes that brought no chunk, by kind.",
        ("kind",), _labelled((failure.value for failure in Failure), counts.failures),
    )  # fmt: skip
    yield counter(
        "registryd_cluster_answers", "Requests of other nodes for chunks, by how they ended.",
        ("answer",), _labelled(ANSWERS, counts.answers),
    )  # fmt: skip


def _of_trust(counts: PeerCounts, exchange: Exchange) -> Iterator[Metric]:
    yield counter(
        "registryd_cluster_checks", "Chunks from other nodes that were checked, by verdict.",
        ("verdict",), _labelled((verdict.value for verdict in Verdict), counts.checks),
    )  # fmt: skip
    yield GaugeMetricFamily(
        "registryd_cluster_liars",
        "Nodes that sent what is wrong and are not asked any more.",
        len(exchange.liars),
    )


def _labelled(known: Iterable[str], counts: Counter[str]) -> Mapping[tuple[str, ...], int]:
    values = dict.fromkeys(known, 0) | counts
    return singly({name.replace(" ", "_"): count for name, count in values.items()})
