"""Exchange: this node's part in the cluster: what it takes from the others, and what it gives.

Invariants:
- who is a member is what ``Cluster`` says; a swarm hears at once of a member that has left;
- a blob has one swarm at a time; it is found here for as long as its ingest lives, also while the
  whole is being proven, so that peers are served all the time;
- a node that answers a peer's request for a manifest asks no peer for it: no circle comes of nodes
  that see different members.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from cache.content import Digest
from cache.errors import DigestMismatch
from cache.ingest import Ingest
from cache.store import BlobStore
from registryd.cluster.chunk_hashes import ChunkHashes
from registryd.cluster.company import ANNOUNCED, LINGER, Client, Company
from registryd.cluster.errors import PeerFault
from registryd.cluster.fetching import Limits
from registryd.cluster.peer_counts import PeerCounts
from registryd.cluster.peers import Peers
from registryd.cluster.placement import Placement, blob_key
from registryd.cluster.queueing import Line
from registryd.cluster.serving import SLOTS, Serving
from registryd.cluster.swarm import Swarm
from registryd.cluster_ports import Cluster, ClusterNode, Errand
from registryd.oci.reference import Reference
from registryd.rates import Rates
from registryd.secrets import Secret

#: Seconds between two looks at the queue and at blobs that have come or gone.
TICK: Final = 0.25
#: Seconds for one node's answer about a manifest; the registry is asked after that.
PATIENCE: Final = 5.0
#: How many nodes are asked for a manifest: its owner, and who stands in for it.
ASKED: Final = 3
#: Seconds for all of their answers.
PATIENCES: Final = 15.0
#: How many when its registry turns this node away: it may let another one in.
LIMIT: Final = 16
#: Seconds after the last request for a blob until it is forgotten who was served which chunk.
REMEMBERED: Final = 120.0
#: Blobs that came out wrong and are remembered until the right ones are here.
WRONG_KEPT: Final = 16

_log = logging.getLogger(__name__)
_answering: ContextVar[bool] = ContextVar("answering", default=False)


class Exchange:
    """The Neighbours of this node's transfers (see ``ports``), and its uploads to peers."""

    def __init__(
        self,
        cluster: Cluster,
        client: Client,
        *,
        rates: Rates | None = None,
        slots: int = SLOTS,
        limits: Limits | None = None,
        linger: float = LINGER,
        clock: Callable[[], float] | None = None,
    ) -> None:
        clock = clock or asyncio.get_running_loop().time
        placement = Placement([cluster.me])
        serving = Serving(cluster.me, placement, slots=slots)
        self.company = Company(
            cluster=cluster,
            client=client,
            placement=placement,
            peers=Peers(cluster.me),
            line=Line(serving, clock),
            clock=clock,
            hashes=ChunkHashes(),
            counts=PeerCounts(),
            rates=rates or Rates(),
            limits=limits or Limits(flowing=slots),
            linger=linger,
        )
        self._swarms: dict[Digest, Swarm] = {}
        self._store: BlobStore | None = None
        #: Swarms whose blob came out wrong: who lied is known once the right one is here.
        self._wrong: OrderedDict[Digest, Swarm] = OrderedDict()
        self._asked: dict[int, float] = {}
        mine = cluster.find(cluster.me)
        self._set_zone(cluster.me, "" if mine is None else mine.zone)
        cluster.watch(self._joined, self._left)

    @property
    def me(self) -> str:
        """This node's name."""
        return self.company.me

    @property
    def line(self) -> Line:
        """The upload slots and who waits for one."""
        return self.company.line

    @property
    def hashes(self) -> ChunkHashes:
        """What chunks hash to, as far as it is proven here."""
        return self.company.hashes

    @property
    def load(self) -> int:
        """Uploads under way."""
        return self.line.serving.used

    @property
    def counts(self) -> PeerCounts:
        """What it has come to so far, with what is under way; a copy."""
        counts = self.company.counts.copy()
        for swarm in self._swarms.values():
            if not swarm.ended:
                counts.take_in(swarm.fetching.counts)
        return counts

    @property
    def liars(self) -> frozenset[str]:
        """The nodes that are left out for good."""
        return frozenset(self.company.peers.liars)

    async def run(self) -> None:
        """Keep the queue and the list of what is on its way; ends when it is cancelled."""
        while True:
            await asyncio.sleep(TICK)
            try:
                self._tick()
            except Exception:
                _log.exception("the exchange with other nodes stumbled")

    def _tick(self) -> None:
        self.line.tick()
        for digest, swarm in list(self._swarms.items()):
            if swarm.effort.ingest.ended:
                self._end(digest, swarm)
        now = self.company.clock()
        for blob in [blob for blob, at in self._asked.items() if now - at > REMEMBERED]:
            del self._asked[blob]
            self.line.serving.forget(blob)

    def _end(self, digest: Digest, swarm: Swarm) -> None:
        """The ingest of a blob has ended: it is here (the store tells), or it will not be."""
        del self._swarms[digest]
        ingest = swarm.effort.ingest
        if isinstance(ingest.error, DigestMismatch):
            self.hashes.forget(digest)
            self._wrong[digest] = swarm
            while len(self._wrong) > WRONG_KEPT:
                self._wrong.popitem(last=False)
        if not ingest.committed:
            self.company.cluster.lets_go(digest)

    def tell_of(self, store: BlobStore) -> None:
        """Tell the others which blobs are here, now and whenever that changes."""
        self._store = store
        for digest, size in store.held.items():
            self._held(digest, size)
        store.held.watch(self._held)

    def _held(self, digest: Digest, size: int | None) -> None:
        if size is None:
            self.hashes.forget(digest)
            self.company.cluster.lets_go(digest)
        elif size >= ANNOUNCED:
            self.company.cluster.holds(digest, size=size, whole=True)

    # What transfers ask.

    @property
    def others(self) -> bool:
        """Whether anybody else is there now."""
        return bool(self.company.others)

    def inflow(self, errand: Errand, ingest: Ingest, *, whole: bool) -> Swarm | None:
        """What brings a blob; None when nobody else is there."""
        if not self.company.others or errand.size < 1:
            return None
        swarm = self._swarms[errand.digest] = Swarm(errand, ingest, self.company, whole=whole)
        if errand.size >= ANNOUNCED:
            self.company.cluster.holds(errand.digest, size=errand.size, whole=False)
        return swarm

    async def manifest(
        self, exact: Reference, token: Secret | None, *, refused: bool = False
    ) -> tuple[bytes, str] | None:
        """A manifest by its digest, proven, from the node that answers for it.

        None when it has to come from its registry. With ``refused`` several nodes are asked.
        """
        digest, company = exact.digest, self.company
        if digest is None or _answering.get():
            return None
        until = company.clock() + PATIENCES
        for name in company.placement.ranked(blob_key(digest), 0, LIMIT if refused else ASKED):
            node = company.cluster.find(name)
            if (name == self.me and not refused) or company.clock() >= until:
                return None
            if name == self.me or node is None or not company.peers.usable(name, company.clock()):
                continue
            try:
                async with asyncio.timeout(PATIENCE):
                    found = await company.client.manifest(node, exact, token)
            except (PeerFault, TimeoutError) as error:
                _log.info("peer gave no manifest: node=%s cause=%s", name, error)
                continue
            if found is not None or not refused:
                return found
        return None

    async def misled(self, digest: Digest) -> None:
        """Find out who lied: a blob that came out wrong is here now, from its registry alone."""
        swarm = self._swarms.get(digest)
        if swarm is not None and swarm.effort.ingest.ended:
            self._end(digest, swarm)
        swarm = self._wrong.pop(digest, None)
        if swarm is None or self._store is None:
            return
        # The whole came a second time, from the registry alone, chunk by chunk.
        self.company.counts.double["misled"] += swarm.effort.geometry.count
        async with self._store.open_blob(digest) as fd:
            liars = await swarm.proven(fd)
        if not liars:
            _log.warning("a blob from peers was wrong, by nobody's word: digest=%s", digest)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Within this block a peer is answered: what it takes comes from no other peer."""
        before = _answering.set(True)
        try:
            yield
        finally:
            _answering.reset(before)

    # What the peers' door asks.

    def swarm(self, digest: Digest) -> Swarm | None:
        """The swarm of a blob that is on its way here."""
        swarm = self._swarms.get(digest)
        return None if swarm is None or swarm.effort.ingest.ended else swarm

    def owner(self, digest: Digest, chunk: int) -> str:
        """Who must get a chunk, as far as it is known without a fetch of it."""
        return self.company.placement.ranked(blob_key(digest), chunk, 1)[0]

    def asked(self, digest: Digest) -> int:
        """Note that a peer asks for a blob; the key that stands for it."""
        blob = blob_key(digest)
        self._asked[blob] = self.company.clock()
        return blob

    # Members.

    def _joined(self, node: ClusterNode) -> None:
        self.company.placement.join(node.name)
        self._set_zone(node.name, node.zone)

    def _left(self, name: str) -> None:
        self.company.placement.leave(name)
        for swarm in list(self._swarms.values()):
            swarm.left(name)

    def _set_zone(self, name: str, zone: str) -> None:
        if zone:
            self.company.peers.zones[name] = zone
            self.line.serving.zones[name] = zone
