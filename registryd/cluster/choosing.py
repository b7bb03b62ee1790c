"""Choosing: whom to ask next for one chunk. Pure.

Invariants:
- nobody is chosen who was asked in this round, is passed over, lied, or is ourselves;
- waiting goes up the ranking only (asker, relay, owner, upstream): peers cannot wait in a circle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from registryd.cluster.peers import Peers
from registryd.cluster.placement import Placement, mix, node_seed, rotated

#: The name of the source that is no peer.
UPSTREAM = ""
#: How many of a ranking are tried as owners before upstream is asked.
STAND_INS = 3
#: From so many holders of the whole blob on they are asked by everyone; fewer only by the owners,
#: who pass it on.
MANY_HOLDERS = 4
#: Holders tried in one round: more would be a long way to a rest when all are busy.
HOLDERS_TRIED = 3
#: Redirects followed for one chunk in one round: twice the depth of any tree worth having.
HOPS = 16


@dataclass(slots=True)
class Request:
    """One request for a chunk: ``began`` and ``offset`` count from the chunk's start."""

    node: str
    since: float
    began: int
    hedge: bool = False
    flowing: bool = False
    offset: int = 0
    heard: float = 0.0

    def __post_init__(self) -> None:
        self.heard = self.since
        self.offset = self.began


@dataclass(slots=True)
class Quest:
    """The search for one chunk: its requests, and who was asked in this round."""

    chunk: int
    begun: float
    requests: list[Request] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    hops: int = 0
    rounds: int = 0
    offset: int = 0
    until: float = 0.0
    upstream_failures: int = 0

    def again(self) -> None:
        """Begin another round: everyone may be asked again."""
        self.asked.clear()
        self.hops = 0
        self.rounds += 1


@dataclass(frozen=True, slots=True)
class Choice:
    """A source: UPSTREAM with a reason if we do not own it; ``owed`` if the peer must get it."""

    node: str
    owed: bool = False
    reason: str = ""


class Chooser:
    """The rules by which one node picks its sources for one blob."""

    def __init__(self, blob: int, placement: Placement, peers: Peers) -> None:
        self.blob = blob
        self.placement = placement
        self.peers = peers
        self.holders: tuple[str, ...] = ()
        self._seed = node_seed(peers.me)

    def owner(self, chunk: int, now: float) -> str | None:
        """The first in rank that we would ask now (ourselves if it is us)."""
        ranking = self.placement.ranked(self.blob, chunk, STAND_INS)
        return next((node for node in ranking if self._possible(node, now)), None)

    def relays(self, chunk: int) -> bool:
        """Whether we are one of a chunk's relays: others wait for it with us."""
        return self.peers.me in self.placement.relays(self.blob, chunk)

    def second(self, chunk: int) -> bool:
        """Whether we come right after the owner: we alone make up for one that is slow."""
        return self.placement.ranked(self.blob, chunk, 2)[1:] == (self.peers.me,)

    def choose(self, quest: Quest, now: float) -> Choice | None:
        """The next source; None when everyone left is only busy, and shall be asked later."""
        for choice in self._candidates(quest.chunk, now):
            if choice.node == UPSTREAM or choice.node not in quest.asked:
                return choice
        return None

    def follows(self, quest: Quest, to: str, now: float) -> bool:
        """Whether a redirect leads anywhere: not in a loop, not to us, not too far."""
        known = to in self.placement and to != self.peers.me
        return known and quest.hops <= HOPS and to not in quest.asked and self.peers.usable(to, now)

    def _candidates(self, chunk: int, now: float) -> Iterator[Choice]:
        ranking = self.placement.ranked(self.blob, chunk, STAND_INS)
        ours = self.owner(chunk, now) == self.peers.me
        if self.holders and (ours or len(self.holders) >= MANY_HOLDERS):
            yield from self._holding(chunk, now)
        if not ours:
            yield from self._relay(chunk, now)
        gone = True
        for node in ranking:
            if node == self.peers.me:
                if gone:
                    yield Choice(UPSTREAM, reason="" if node == ranking[0] else "stands in")
                return  # whoever ranks below us may be waiting for us
            if self._possible(node, now):
                yield Choice(node, owed=gone)
                gone = False
        if gone:
            yield Choice(UPSTREAM, reason="no peer left")

    def _holding(self, chunk: int, now: float) -> Iterator[Choice]:
        turn = mix(self._seed ^ chunk)
        live = [node for node in self.holders if self._other(node, now)]
        near = [node for node in live if self.peers.near(node)]
        far = [node for node in live if not self.peers.near(node)]
        for node in [*rotated(near, turn), *rotated(far, turn)][:HOLDERS_TRIED]:
            yield Choice(node)

    def _relay(self, chunk: int, now: float) -> Iterator[Choice]:
        """One of the chunk's relays, by our own rotation, a near one if there is any."""
        relays = self.placement.relays(self.blob, chunk)
        if self.peers.me in relays:
            return
        turn = mix(self._seed ^ chunk) % len(relays)
        node = relays[turn]
        if self.peers.zones and not self.peers.near(node):
            near = [each for each in relays if self.peers.near(each)]
            node = near[turn % len(near)] if near else node
        if node != relays[0] and self._other(node, now):
            yield Choice(node)

    def _possible(self, node: str, now: float) -> bool:
        return node == self.peers.me or self.peers.usable(node, now)

    def _other(self, node: str, now: float) -> bool:
        return node != self.peers.me and node in self.placement and self.peers.usable(node, now)
