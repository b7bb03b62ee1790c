"""Who the other nodes are, and what they hold.

Invariant: everybody may see who is there; who holds a blob is for the owner alone, since whoever
is not let into an image is not told that it is here.
"""

from __future__ import annotations

from cache.content import Digest
from cache.store import BlobStore
from registryd.cluster.errors import NatsAway
from registryd.cluster_ports import ClusterNode
from registryd.oci.errors import Denied, UsageError
from registryd.operations.node import Node, Result

_NOBODY_TO_ASK = {
    "none": "this node has no cluster (its configuration names neither peers nor nats)",
    "static": "this cluster's members are a list, and who holds a blob is asked by NATS only",
}


class Clustered:
    """The other nodes. Every method raises Faults only."""

    _node: Node
    _store: BlobStore

    async def nodes(self) -> Result:
        """The members of the cluster, this node too."""
        cluster = self._node.cluster
        return {
            "kind": cluster.kind,
            "me": cluster.me,
            "connected": cluster.connected,
            "nodes": [_shown(node) for node in cluster.nodes()],
        }

    async def whohas(self, digest: str, *, principal: str = "") -> Result:
        """Some of the nodes that hold a blob, or are receiving it; this one first.

        Raises Denied, DigestInvalid, UsageError where nobody can be asked, NatsAway.
        """
        if principal:
            raise Denied("only root and the daemon's own user may ask who holds a blob")
        wanted, cluster = Digest.parse(digest), self._node.cluster
        if cluster.kind in _NOBODY_TO_ASK:
            raise UsageError(_NOBODY_TO_ASK[cluster.kind])
        if not cluster.connected:
            raise NatsAway("NATS does not answer: nobody can be asked who holds a blob")
        holders = [*self._mine(wanted), *sorted(await cluster.holders(wanted))]
        return {
            "digest": str(wanted),
            "holders": [{"name": name, "whole": whole} for name, whole in holders],
        }

    def _mine(self, digest: Digest) -> list[tuple[str, bool]]:
        whole = self._store.find(digest) is not None
        partly = any(ingest.expected == digest for ingest in self._store.arriving())
        return [(self._node.cluster.me, whole)] if whole or partly else []


def _shown(node: ClusterNode) -> Result:
    return {
        "name": node.name,
        "url": node.url,
        "zone": node.zone,
        "version": node.version,
        "load": node.load,
        "free": node.free,
        "heard_seconds": None if node.heard is None else round(node.heard, 1),
    }
