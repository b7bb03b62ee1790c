"""What is simulated, and what comes out: plain values."""

from __future__ import annotations

from dataclasses import dataclass, field

from registryd.cluster.geometry import chunk_size

#: 1 Gbit/s in bytes a second.
GIGABIT = 125_000_000.0


@dataclass(frozen=True, slots=True)
class Settings:
    """One storm: who takes part, over which links, and what goes wrong."""

    nodes: int = 1000
    #: How many of them want the blob (None: all). The others only own chunks.
    askers: int | None = None
    #: How many hold the blob already; they are the first of those who do not ask.
    holders: int = 0
    size: int = 1 << 30
    #: 0: as the daemon cuts a blob of this size.
    chunk: int = 0
    #: Bytes a second: a node's link in each direction, and upstream's.
    link: float = GIGABIT
    upstream: float = GIGABIT
    #: Seconds one way between nodes, and to upstream.
    latency: float = 0.00025
    upstream_latency: float = 0.01
    #: Uploads of a node at a time, and the downloads that it wants to have going.
    slots: int = 16
    #: The askers begin within so many seconds of one another.
    spread: float = 0.2
    #: The part of the nodes that dies at ``kill_at`` (a share of the floor).
    killed: float = 0.0
    kill_at: float = 0.5
    #: Seconds until membership says that a dead node is gone.
    detect: float = 3.0
    #: The part of the nodes whose links are slower, and by how much.
    slow: float = 0.0
    slowness: float = 10.0
    #: The part of all transfers that is cut half way.
    loss: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        if not self.chunk:
            object.__setattr__(self, "chunk", chunk_size(self.size))

    @property
    def asking(self) -> int:
        """How many nodes want the blob."""
        return self.nodes - self.holders if self.askers is None else self.askers

    @property
    def floor(self) -> float:
        """The least time in which everyone who asks can have it, by fluid flow (Kumar, Ross)."""
        one = self.size / self.link
        count, total = self.asking, self.upstream + self.asking * self.link
        if self.holders:
            total = (self.asking + self.holders) * self.link
            return max(one, count * self.size / total)
        return max(self.size / self.upstream, one, count * self.size / total)


@dataclass(slots=True)
class Result:
    """What came of a storm. Times in seconds from the start, bytes as sent on links."""

    settings: Settings
    #: When each healthy asker had everything, and each slow one.
    healthy: list[float] = field(default_factory=list)
    slow: list[float] = field(default_factory=list)
    unfinished: int = 0
    upstream_bytes: float = 0.0
    upstream_requests: int = 0
    sent: list[float] = field(default_factory=list)
    received: float = 0.0
    requests: int = 0
    #: The most requests that one node was asked within a second.
    busiest: int = 0
    redirects: int = 0
    hedges: int = 0
    replaced: int = 0
    double: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    events: int = 0

    def at(self, share: float) -> float:
        """The time by which this share of the healthy nodes was done."""
        ordered = sorted(self.healthy)
        if not ordered:
            return float("inf")
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def last(self) -> float:
        """When the last healthy node was done."""
        return max(self.healthy, default=float("inf"))
