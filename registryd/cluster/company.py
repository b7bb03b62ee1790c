"""Company: what the swarms of a node have in common, and what the parts of one swarm share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from cache.content import Digest
from cache.errors import DiskFull, StoreUnusable
from cache.ingest import Ingest
from registryd.cluster.chunk_hashes import ChunkHashes
from registryd.cluster.fetching import Fetching, Limits
from registryd.cluster.geometry import Geometry
from registryd.cluster.peer_client import ChunkAsk
from registryd.cluster.peer_counts import PeerCounts
from registryd.cluster.peers import Peers
from registryd.cluster.placement import Placement
from registryd.cluster.queueing import Line
from registryd.cluster_ports import Cluster, ClusterNode, Errand
from registryd.oci.reference import Reference
from registryd.rates import Rates
from registryd.secrets import Secret

#: Seconds for which parts of a blob stay at hand when nobody wants one: askers come one by one.
LINGER = 30.0
#: Seconds for which a node with a full disk says so before it tries again.
UNABLE = 30.0
#: Requests of a node for chunks, of all blobs together.
AT_ONCE = 24
#: Bytes from which on it is told and asked who has a blob: smaller ones cost as much as the asking.
ANNOUNCED = 1 << 20


class Answer(Protocol):
    """What a peer answers to a request for a chunk (see ``peer_client.ChunkAnswer``)."""

    status: int
    here: int | None
    checked: bool
    chunk_digest: Digest | None
    to: str | None
    barred: float | None

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes. Raises PeerFault."""


class Client(Protocol):
    """The way to other nodes (see ``peer_client.PeerClient``); all of it raises PeerFault."""

    def chunk(self, node: ClusterNode, ask: ChunkAsk) -> AbstractAsyncContextManager[Answer]:
        """What a node answers to this."""

    async def chunk_digest(
        self, node: ClusterNode, repository: str, digest: Digest, chunk: int
    ) -> Digest | None:
        """The hash of a chunk that a node has checked; None when it has not."""

    async def manifest(
        self, node: ClusterNode, exact: Reference, token: Secret | None
    ) -> tuple[bytes, str] | None:
        """A proven manifest with its media type; None when it does not come from there."""


class Working(Protocol):
    """A swarm that is at work."""

    @property
    def under_way(self) -> int:
        """Its requests that have not ended."""

    def pump(self) -> None:
        """Do what its fetch says now."""


@dataclass(slots=True)
class Company:
    """The other nodes as this one deals with them, for all blobs.

    ``at_once`` requests are under way at most, for all blobs together: those who came first go
    first, and each has one. So all nodes work on the same few chunks, and upstream sends a few at
    good speed instead of many at a crawl. What others wait for is not counted.
    """

    cluster: Cluster
    client: Client
    placement: Placement
    peers: Peers
    line: Line
    clock: Callable[[], float]
    hashes: ChunkHashes
    counts: PeerCounts
    rates: Rates
    limits: Limits = field(default_factory=Limits)
    linger: float = LINGER
    at_once: int = AT_ONCE
    #: Until when this node has no room for a blob, or no disk that takes it: others shall not wait.
    unable: dict[Digest, float] = field(default_factory=dict)
    #: The swarms at work, the oldest first.
    working: list[Working] = field(default_factory=list)

    def failed(self, digest: Digest, failure: Exception | None) -> None:
        """A blob did not come, for this reason."""
        if isinstance(failure, DiskFull | StoreUnusable):
            self.unable[digest] = self.clock() + UNABLE

    def unable_for(self, digest: Digest) -> float:
        """For how many seconds others shall not wait for a blob here."""
        for each in [each for each, until in self.unable.items() if until <= self.clock()]:
            del self.unable[each]
        return max(0.0, self.unable.get(digest, 0.0) - self.clock())

    def room(self, swarm: Working) -> int:
        """How many more requests a swarm may begin."""
        left = self.at_once - sum(each.under_way for each in self.working)
        return max(left, 0 if swarm.under_way else 1)

    def pump(self) -> None:
        """Let all swarms do what their fetches say now."""
        for swarm in list(self.working):
            swarm.pump()

    @property
    def me(self) -> str:
        """This node's name."""
        return self.peers.me

    @property
    def others(self) -> int:
        """How many other members there are."""
        return len(self.placement) - (self.me in self.placement)


@dataclass(slots=True)
class Sender:
    """A peer that sent bytes of a chunk; ``checked``: it said that it had proven the chunk."""

    node: str
    checked: bool


@dataclass(slots=True)
class Effort:
    """One blob on its way here: what the parts of its swarm share.

    ``told`` is called after the fetch was told something: what it says next is done then.
    """

    errand: Errand
    ingest: Ingest
    geometry: Geometry
    fetching: Fetching
    company: Company
    told: Callable[[], None] = lambda: None
    #: Who sent bytes of each chunk that did not come from the registry alone.
    senders: dict[int, list[Sender]] = field(default_factory=dict)
    #: Who holds the whole blob, as far as it is known.
    holders: tuple[str, ...] = ()
    #: The hash of a chunk that its owner has told on the way, and the owner.
    words: dict[int, tuple[str, Digest]] = field(default_factory=dict)

    @property
    def now(self) -> float:
        """The time by which the rules go."""
        return self.company.clock()

    @property
    def repository(self) -> str:
        """The blob's repository, with its registry."""
        return self.errand.repository.name

    def reach(self, chunk: int) -> int:
        """How many bytes of a chunk are here from its start on."""
        return self.geometry.reached(self.ingest.held, chunk)

    def complete(self, chunk: int) -> bool:
        """Whether every byte of a chunk is here."""
        return self.reach(chunk) == self.geometry.length(chunk)

    def sent_by(self, chunk: int, node: str, *, checked: bool) -> None:
        """Note that a peer sends bytes of a chunk."""
        line = self.senders.setdefault(chunk, [])
        line[:] = [each for each in line if each.node != node]
        line.append(Sender(node, checked))
