"""``nodes`` and ``whohas`` as verbs: who may ask, and where nobody can be asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cache.content import Digest
from cache.errors import DigestInvalid
from cache.store import BlobStore
from registryd.cluster.errors import NatsAway
from registryd.cluster.nats_cluster import NatsCluster
from registryd.cluster.static import StaticCluster
from registryd.cluster_ports import Cluster
from registryd.oci.errors import Denied, UsageError
from registryd.operations import Operations
from tests.fakes.node import running_node
from tests.fakes.waiting import until
from tests.real.nats import free_ports, nats_server
from tests.real.nats_nodes import node, nodes

BLOB, OTHER = b"a blob " * 300_000, Digest.of(b"another")


@asynccontextmanager
async def verbs(folder: Path, cluster: Cluster) -> AsyncIterator[Operations]:
    """The verbs of a node with this cluster."""
    async with running_node(folder) as running:
        yield Operations(replace(running.node, cluster=cluster))


async def test_nodes_of_a_list(tmp_path: Path) -> None:
    """Everybody is told who is there: with nothing but names where nothing is heard."""
    static = StaticCluster("n1:1", {"n1:1": "r1", "n2:1": ""})
    async with verbs(tmp_path, static) as operations:
        said: Any = await operations.nodes()
        status: Any = await operations.status(principal="uid:7")

    assert ("static", "n1:1", True) == (said["kind"], said["me"], said["connected"])
    assert {
        "name": "n2:1", "url": "https://n2:1", "zone": "", "version": "", "load": None,
        "free": None, "heard_seconds": None,
    } == said["nodes"][1]  # fmt: skip
    word = {"kind": "static", "me": "n1:1", "connected": True, "nodes": 2}
    assert word.items() <= status["cluster"].items()


async def test_a_list_cannot_be_asked(tmp_path: Path) -> None:
    """Who holds a blob is asked over NATS: without it, that is said."""
    async with verbs(tmp_path, StaticCluster("n1:1", {"n1:1": ""})) as operations:
        with pytest.raises(UsageError, match="asked by NATS only"):
            await operations.whohas(str(OTHER))


async def test_holders_are_for_the_owner(tmp_path: Path) -> None:
    """Who is not let into an image is not told where it is."""
    async with verbs(tmp_path, StaticCluster("n1:1", {"n1:1": ""})) as operations:
        with pytest.raises(Denied):
            await operations.whohas(str(OTHER), principal="uid:7")
        with pytest.raises(DigestInvalid):
            await operations.whohas("what")


async def arriving(store: BlobStore) -> Digest:
    """A blob of which a part is here."""
    ingest = await store.ingest(Digest.of(BLOB), size=len(BLOB))
    await ingest.write(0, [BLOB[:1000]])
    return ingest.expected


async def test_this_node_comes_first(tmp_path: Path) -> None:
    """What is here, or on its way, is in the answer beside what the others say."""
    with nats_server(tmp_path / "nats") as server:
        async with nodes(3, server.url) as (n1, n2, _), verbs(tmp_path / "n", n1) as operations:
            before: Any = await operations.whohas(str(OTHER))
            digest = await arriving(operations._store)
            n2.holds(digest, size=len(BLOB), whole=True)
            said = await _whohas(operations, digest, 2)

    assert {"digest": str(OTHER), "holders": []} == before
    assert [{"name": "n1", "whole": False}, {"name": "n2", "whole": True}] == said


async def _whohas(operations: Operations, digest: Digest, count: int) -> Any:
    said: Any = {"holders": []}
    async with asyncio.timeout(20):
        while len(said["holders"]) < count:
            said = await operations.whohas(str(digest))
    return said["holders"]


async def test_nats_is_away(tmp_path: Path) -> None:
    """A question that nobody can hear is not answered by "nobody has it"."""
    url = f"nats://127.0.0.1:{free_ports(1)[0]}"
    async with node("n1", url) as cluster, verbs(tmp_path, cluster) as operations:
        assert isinstance(cluster, NatsCluster)
        with pytest.raises(NatsAway, match="nobody can be asked") as error:
            await operations.whohas(str(OTHER))
        await until(lambda: not cluster.connected)

    assert 6 == error.value.exit_code
