"""One node's swarm on a real ingest, among scripted nodes and with a scripted registry."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cache.content import Digest
from cache.ingest import Ingest
from cache.store import BlobStore
from registryd.cluster.exchange import Exchange
from registryd.cluster.placement import Placement, blob_key
from registryd.cluster.swarm import Swarm
from registryd.cluster_ports import Errand
from registryd.oci.reference import Reference
from registryd.ports import TransportError
from registryd.secrets import Secret
from tests.fakes.peer_client import KnownHolders, ScriptedPeers
from tests.server.wire import noise

#: Three chunks, the last one shorter.
CONTENT = noise((5 << 20) + 12345)
DIGEST = Digest.of(CONTENT)
REPOSITORY = Reference.parse("registry.example/team/app", default_tag=None)
NAMES = ("a:1", "b:1", "c:1", "d:1", "e:1")
CHUNKS = 3


def ranked(chunk: int, names: Iterable[str] = NAMES) -> tuple[str, ...]:
    """The nodes in the order in which they answer for a chunk."""
    return Placement(names).ranked(blob_key(DIGEST), chunk, len(NAMES))


@dataclass
class Registry:
    """The blob's registry: ``faults`` come first, an empty place stands for what it should do."""

    ingest: Ingest
    faults: deque[Exception | None] = field(default_factory=deque)
    down: Exception | None = None
    asked: Counter[int] = field(default_factory=Counter)
    gate: asyncio.Event | None = None

    async def bring(self, start: int, stop: int) -> None:
        """As a flight's intake would."""
        self.asked[start] += 1
        fault = self.faults.popleft() if self.faults else self.down
        if self.gate is not None:
            await self.gate.wait()
        if fault is not None:
            raise fault
        for first, last in self.ingest.held.missing(start, stop):
            await self.ingest.write(first, [CONTENT[first:last]])


@dataclass
class World:
    """A node among others."""

    store: BlobStore
    ingest: Ingest
    exchange: Exchange
    peers: ScriptedPeers
    cluster: KnownHolders
    registry: Registry
    swarm: Swarm

    async def run(self, wanted: bool = True) -> None:
        """Bring the blob, within a time that no honest way takes."""
        async with asyncio.timeout(3600):
            await self.swarm.run(lambda: wanted)

    async def content(self) -> bytes:
        """The blob, proven and committed."""
        await self.store.commit(self.ingest, repository=REPOSITORY.name)
        return await self.store.read(DIGEST, limit=len(CONTENT))


async def no_token() -> Secret | None:
    return None


@asynccontextmanager
async def world(
    folder: Path,
    *,
    me: str = NAMES[0],
    names: Iterable[str] = NAMES,
    holders: Iterable[str] = (),
    whole: bool = True,
    linger: float = 30.0,
) -> AsyncIterator[World]:
    """The world; nothing has been asked yet."""
    cluster = KnownHolders(me, names, holders)
    peers = ScriptedPeers(CONTENT)
    async with BlobStore.open(folder) as store:
        exchange = Exchange(cluster, peers, linger=linger)
        ingest = await store.ingest(DIGEST, size=len(CONTENT))
        registry = Registry(ingest)
        errand = Errand(REPOSITORY, DIGEST, len(CONTENT), registry.bring, no_token)
        swarm = exchange.inflow(errand, ingest, whole=whole)
        assert swarm is not None
        try:
            yield World(store, ingest, exchange, peers, cluster, registry, swarm)
        finally:
            if not ingest.ended:
                await store.abort(ingest, TransportError("the test is over"), discard=True)
