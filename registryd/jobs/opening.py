"""From the cluster that a node is in to the prefetches that it offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from registryd.cluster.alone import Alone
from registryd.cluster_ports import Cluster
from registryd.jobs.board import Board, MemoryBoard
from registryd.jobs.fan_out import FanOut
from registryd.jobs.lookup import Lookup
from registryd.jobs.prefetches import Prefetches
from registryd.transfer.tag_policy import TagPolicy

if TYPE_CHECKING:
    from registryd.cluster.peer_client import PeerClient


def prefetches_of(
    cluster: Cluster,
    client: PeerClient | None,
    lookup: Lookup,
    policy: TagPolicy,
    *,
    host: str,
    clock: Callable[[], float],
) -> Prefetches:
    """The prefetches of a node; they begin with ``Prefetches.run``.

    ``client`` asks other nodes, where there are any; ``host`` is this machine's name.
    """
    board = _board(cluster, client)
    return Prefetches(cluster, board, lookup, policy, host=host, clock=clock)


def _board(cluster: Cluster, client: PeerClient | None) -> Board:
    if isinstance(cluster, Alone) or client is None:
        return MemoryBoard()
    if cluster.kind == "static":
        from registryd.cluster.peer_lines import PeerLines

        return FanOut(cluster, PeerLines(client))
    # Here, for nobody else has a use for what streams take to import.
    from registryd.cluster.nats_cluster import NatsCluster
    from registryd.jobs.streams import StreamBoard

    assert isinstance(cluster, NatsCluster)  # noqa: S101 - there is no third kind
    return StreamBoard(cluster.link, cluster.prefix)
