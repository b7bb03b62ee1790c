"""Steps: what a fetch says that shall be done, how much it may do at once, what it has cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one blob asks for at once, and how long anything is waited for (seconds)."""

    #: Chunks whose bytes flow at the same time.
    flowing: int = 16
    #: Requests that wait for a peer's answer or in its queue, beside those.
    waiting: int = 8
    #: How far beyond the next chunk we begin one that is ours to get.
    ahead: int = 8
    #: Without a byte for so long, a source is left.
    stall: float = 5.0
    #: The same for a sender that is itself receiving the chunk, and for the registry: what is wrong
    #: may be far from them, and whoever is next to it acts first.
    passing_on: float = 20.0
    #: A peer that neither answers nor refuses for so long is left (more than its own queue waits).
    answer: float = 30.0
    #: Before a chunk is tried again when everyone was busy; doubled each round up to the limit.
    rest: float = 0.05
    rest_limit: float = 0.2
    #: A chunk that nobody gave for so long is fetched from upstream, owner or not.
    patience: float = 120.0
    #: After so long, who sends us where we cannot go is passed over: it may do so for ever.
    astray: float = 10.0
    #: A chunk is slow when it comes so many times slower than chunks usually do. It is judged after
    #: the time that one usually takes, and then another source is sought: for so many at once.
    slower: float = 3.0
    #: No chunk is slow before so many seconds: a busy machine falters now and then.
    least: float = 0.5
    hedges: int = 8
    #: A stand-in fetches a chunk after so many times that time, if nobody gave it a byte.
    overdue: float = 6.0
    #: Chunks that a node fetches from upstream because their owners are slow: one, and so many for
    #: each chunk that is ours by right.
    double_share: float = 0.25
    #: Before upstream is asked again after it failed; doubled six times at most.
    upstream_rest: float = 0.5


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask a peer for a chunk, from ``offset`` in the chunk on.

    ``owed``: as the one who must get it (owner, or in its place). ``hops``: redirects followed.
    ``relay``: as one of the chunk's relays.
    """

    chunk: int
    node: str
    offset: int = 0
    hops: int = 0
    owed: bool = False
    relay: bool = False


@dataclass(frozen=True, slots=True)
class AskUpstream:
    """Fetch a chunk from upstream, from ``offset`` in the chunk on."""

    chunk: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Drop:
    """End a request that is no longer needed."""

    chunk: int
    node: str


Step = Ask | AskUpstream | Drop


@dataclass(slots=True)
class Counts:
    """What a fetch has cost: for metrics, and for people who ask why."""

    upstream: int = 0
    redirects: int = 0
    hedges: int = 0
    #: Slow sources that were left for another peer.
    replaced: int = 0
    #: Requests to upstream that somebody else may have made as well, by reason.
    double: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
