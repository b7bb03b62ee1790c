"""The rules of every ports.Cluster; subclass ClusterContract beside an implementer's tests."""

from __future__ import annotations

import asyncio

import pytest

from cache.content import Digest
from registryd.cluster_ports import Cluster, ClusterNode
from registryd.hostlist import natural_order

BLOB = Digest.of(b"a blob")
GIB = 1 << 30
#: Seconds in which the port promises an answer, and some for a busy machine.
PROMISED = 0.25 + 1.0


class Watcher:
    """What it was told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def joined(self, node: ClusterNode) -> None:
        """A node has joined."""
        self.told.append(("joined", node.name))

    def left(self, name: str) -> None:
        """A node has left."""
        self.told.append(("left", name))


class ClusterContract:
    """What a node may rely on in every cluster."""

    #: What the implementer calls itself.
    kind: str

    @pytest.fixture
    def cluster(self) -> Cluster:
        """The cluster as one node sees it, when everyone has joined."""
        raise NotImplementedError

    async def test_who_it_is(self, cluster: Cluster) -> None:
        """A kind, and a name exactly where there is a cluster."""
        assert (self.kind, self.kind != "none") == (cluster.kind, bool(cluster.me))
        assert cluster.connected

    async def test_members_come_in_order(self, cluster: Cluster) -> None:
        """Everyone once, this node too, in the order of their names, each with a URL."""
        nodes = cluster.nodes()
        names = [node.name for node in nodes]

        assert sorted(set(names), key=natural_order) == names
        assert [cluster.me] == [name for name in names if name == cluster.me] or not cluster.me
        assert all(node.url.startswith("https://") for node in nodes)

    async def test_members_are_found(self, cluster: Cluster) -> None:
        """A member is found by its name, and nobody by another."""
        for node in cluster.nodes():
            found = cluster.find(node.name)

            assert found is not None
            assert (node.name, node.url, node.zone) == (found.name, found.url, found.zone)
        assert cluster.find("nobody:1") is None

    async def test_a_watcher_is_told_of_who_is_there(self, cluster: Cluster) -> None:
        """At once, of each once and of this node never; each watcher for itself."""
        first, second = Watcher(), Watcher()
        cluster.watch(first.joined, first.left)
        cluster.watch(second.joined, second.left)
        others = [("joined", node.name) for node in cluster.nodes() if node.name != cluster.me]

        assert others == first.told == second.told

    async def test_this_node_knows_itself(self, cluster: Cluster) -> None:
        """Of itself a node has what it tells others."""
        for node in cluster.nodes():
            if node.name == cluster.me:
                assert (3, 1 << 40, "9.9") == (node.load, node.free, node.version)

    async def test_nobody_holds_what_was_not_told(self, cluster: Cluster) -> None:
        """Nobody has it: an empty answer, within the time that is promised."""
        async with asyncio.timeout(PROMISED):
            assert () == await cluster.holders(BLOB)

    async def test_a_node_does_not_find_itself(self, cluster: Cluster) -> None:
        """What this node holds is no news to it; telling it twice, and ending twice, is fine."""
        for whole in (False, True, True):
            cluster.holds(BLOB, size=GIB, whole=whole)
        async with asyncio.timeout(PROMISED):
            mine = await cluster.holders(BLOB)
        for _ in range(2):
            cluster.lets_go(BLOB)

        assert () == mine
