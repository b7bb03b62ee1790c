"""Choosing: whom to ask next for one chunk. Pure.

Invariants:
- nobody is chosen who was asked in this round, is passed over, lied, or is ourselves;
- waiting goes up the ranking only (asker, relay, owner, upstream): peers cannot wait in a circle.

A node that cannot get the blob from its registry is *barred*. It owns nothing then: the ranking
goes on without it, but it gives what it has. No circle comes of that even where nodes disagree on
who is barred, because of two rules: who must get a chunk for others waits with no relay, and who is
barred turns those away to whom it would owe a chunk. So owed requests lead up the ranking alone.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from math import inf

from registryd.cluster.peers import Failure, Peers
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
    owed: bool = False
    holds: bool = False
    flowing: bool = False
    #: The sender is still receiving it.
    passing_on: bool = False
    offset: int = 0
    heard: float = 0.0

    def __post_init__(self) -> None:
        self.heard = self.since
        self.offset = self.began

    def blame(self, failure: Failure) -> Failure:
        """What a failure of it says of the node that was asked."""
        if self.passing_on and failure in (Failure.STALLED, Failure.CUT):
            return Failure.REFUSED  # what it does not receive it cannot pass on
        # Bytes of several senders were wrong: which of them lied is not known.
        unsure = failure is Failure.WRONG and self.began > 0
        return Failure.GONE if unsure else failure

    @property
    def may_wait(self) -> bool:
        """Whether the one that was asked may itself be waiting for the chunk, with anybody."""
        return not (self.owed or self.holds or self.node == UPSTREAM)


@dataclass(slots=True)
class Quest:
    """The search for one chunk: its requests, and who was asked in this round."""

    chunk: int
    begun: float
    requests: list[Request] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    #: Sources that gave it far slower than others give theirs: not asked for it again.
    slow: set[str] = field(default_factory=set)
    #: When its first bytes came.
    flowed: float = inf
    hops: int = 0
    rounds: int = 0
    offset: int = 0
    until: float = 0.0
    upstream_failures: int = 0
    #: Whether others wait for us as the one who must get it.
    owed: bool = False

    def again(self) -> None:
        """Begin another round: everyone may be asked again."""
        self.asked.clear()
        self.hops = 0
        self.rounds += 1


@dataclass(frozen=True, slots=True)
class Choice:
    """A source: UPSTREAM with a reason if we do not own it; ``owed`` if the peer must get it.

    ``holds``: it has the whole blob.
    """

    node: str
    owed: bool = False
    holds: bool = False
    reason: str = ""


class Chooser:
    """The rules by which one node picks its sources for one blob."""

    def __init__(self, blob: int, placement: Placement, peers: Peers) -> None:
        self.blob = blob
        self.placement = placement
        self.peers = peers
        self.holders: tuple[str, ...] = ()
        #: Until when a node cannot get this blob from its registry, by what we were told.
        self.bars: dict[str, float] = {}
        self._seed = node_seed(peers.me)

    def barred(self, node: str, now: float) -> bool:
        """Whether this node (it may be ourselves) cannot get the blob from its registry."""
        until = self.bars.get(node)
        return until is not None and until > now

    def hopeless(self, now: float) -> bool:
        """Whether nobody can get the blob from its registry: each is barred, or gone for longer."""
        return self.barred(self.peers.me, now) and all(
            self.barred(node, now) or (node != self.peers.me and self.peers.lost(node, now))
            for node in self.placement.nodes
        )

    def line(self, chunk: int, now: float) -> tuple[str, ...]:
        """The owner and its stand-ins: the first in rank of those who are not barred."""
        ranking = self.placement.ranked(self.blob, chunk, STAND_INS)
        if not self.bars:
            return ranking
        count = STAND_INS
        while True:
            able = tuple(node for node in ranking if self._able(node, now))[:STAND_INS]
            if len(able) == STAND_INS or count >= len(self.placement):
                return able
            count *= 4
            ranking = self.placement.ranked(self.blob, chunk, count)

    def owner(self, chunk: int, now: float) -> str | None:
        """The first in rank that we would ask now (ourselves if it is us)."""
        return self._first(self.line(chunk, now), (), now)

    def relays(self, chunk: int) -> bool:
        """Whether we are one of a chunk's relays: others wait for it with us."""
        return self.peers.me in self.placement.relays(self.blob, chunk)

    def choose(self, quest: Quest, now: float) -> Choice | None:
        """The next source; None when everyone left is only busy, and shall be asked later."""
        for choice in self._candidates(quest, now):
            if choice.node == UPSTREAM or choice.node not in quest.asked:
                return choice
        return None

    def place(self, chunk: int, now: float) -> int:
        """How many come before us among those who may have to get a chunk (all, if we are none)."""
        line = self.line(chunk, now)
        return line.index(self.peers.me) if self.peers.me in line else STAND_INS

    def instead(self, quest: Quest, now: float) -> Choice | None:
        """Another source than the slow ones; UPSTREAM when all who come before us were tried."""
        choice = self.choose(quest, now)
        line = self.line(quest.chunk, now)
        if choice is None and self.peers.me in line:
            return Choice(UPSTREAM, reason=_reason(self.peers.me, line, quest.slow))
        return choice

    def follows(self, quest: Quest, to: str, now: float) -> bool:
        """Whether a redirect leads anywhere: not in a loop, not to us, not too far."""
        known = to in self.placement and to != self.peers.me
        return known and quest.hops <= HOPS and to not in quest.asked and self.peers.usable(to, now)

    def _candidates(self, quest: Quest, now: float) -> Iterator[Choice]:
        chunk, me = quest.chunk, self.peers.me
        line = self.line(chunk, now)
        ours = self._first(line, quest.slow, now) == me
        if self.holders and (ours or len(self.holders) >= MANY_HOLDERS):
            yield from self._holding(chunk, now)
        if ours:
            yield from self._barred_before_us(chunk, now)
        elif not quest.owed and me not in line:
            yield from self._relay(quest, now)
        gone = True
        for node in line:
            if node == me:
                if gone:
                    yield Choice(UPSTREAM, reason=_reason(me, line, quest.slow))
                return  # whoever ranks below us may be waiting for us
            if self._possible(node, now) and node not in quest.slow:
                yield Choice(node, owed=gone or quest.owed)
                gone = False
        # Who has failed once is worth the wait: all nodes at upstream are of no use to anybody.
        lost = gone and all(self.peers.lost(node, now) for node in line)
        if lost and not quest.slow and not self.barred(me, now):
            yield Choice(UPSTREAM, reason="no peer left")

    def _barred_before_us(self, chunk: int, now: float) -> Iterator[Choice]:
        """Those for whom we stand in: they may have got the chunk before they were barred."""
        for node in self.placement.ranked(self.blob, chunk, STAND_INS) if self.bars else ():
            if node == self.peers.me:
                return
            if self.barred(node, now) and self._other(node, now):
                yield Choice(node, owed=True)

    def _holding(self, chunk: int, now: float) -> Iterator[Choice]:
        turn = mix(self._seed ^ chunk)
        live = [node for node in self.holders if self._other(node, now)]
        near = [node for node in live if self.peers.near(node)]
        far = [node for node in live if not self.peers.near(node)]
        for node in [*rotated(near, turn), *rotated(far, turn)][:HOLDERS_TRIED]:
            yield Choice(node, holds=True)

    def _relay(self, quest: Quest, now: float) -> Iterator[Choice]:
        """One of the chunk's relays, by our own rotation, a near one if there is any."""
        relays = self.placement.relays(self.blob, quest.chunk)
        if self.peers.me in relays:
            return
        turn = mix(self._seed ^ quest.chunk) + len(quest.slow)
        node = relays[turn % len(relays)]
        if self.peers.zones and not self.peers.near(node):
            near = [each for each in relays if self.peers.near(each)]
            node = near[turn % len(near)] if near else node
        if node != relays[0] and self._other(node, now):
            yield Choice(node)

    def _able(self, node: str, now: float) -> bool:
        """Not barred; if we are, not out of reach either: we have no other way."""
        if self.barred(node, now):
            return False
        return not self.barred(self.peers.me, now) or self.peers.usable(node, now)

    def _first(self, line: Iterable[str], slow: Container[str], now: float) -> str | None:
        return next((n for n in line if n not in slow and self._possible(n, now)), None)

    def _possible(self, node: str, now: float) -> bool:
        return node == self.peers.me or self.peers.usable(node, now)

    def _other(self, node: str, now: float) -> bool:
        return node != self.peers.me and node in self.placement and self.peers.usable(node, now)


def _reason(me: str, line: tuple[str, ...], slow: Container[str]) -> str:
    """Why we ask upstream, if somebody before us may do so as well."""
    if me == line[0]:
        return ""
    return "slow owner" if line[0] in slow else "stands in"
