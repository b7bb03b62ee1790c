"""Fetching: one node fetches one blob. It says whom to ask, and is told what came of it. Pure.

The daemon does what ``steps`` says and tells what happened; the simulator does the very same.

Invariants:
- a chunk is asked of one source at a time; of a second one only as a hedge, which is counted;
- a chunk that is here is never asked for; bytes that came stay (a request starts where they end);
- a liar is never asked again; within one round no peer is asked twice for the same chunk;
- upstream is asked by the chunk's owner; by anyone else only when no peer is left or patience is
  at its end, and then it is counted (``Counts.double``) with its reason;
- chunks are begun in their order, within a window: the whole cluster then works on the same few
  chunks, which upstream sends one after the other and not all at once at a crawl.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from registryd.cluster.choosing import UPSTREAM, Choice, Chooser, Quest, Request
from registryd.cluster.geometry import Geometry
from registryd.cluster.peers import Failure, Peers
from registryd.cluster.placement import Placement


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one blob asks for at once, and how long anything is waited for (seconds)."""

    #: Chunks whose bytes flow at the same time.
    flowing: int = 16
    #: Requests that wait for a peer's answer or in its queue, beside those.
    waiting: int = 8
    #: How far beyond the first missing chunk another one is begun.
    window: int = 128
    #: Without a byte for so long, a source is left.
    stall: float = 5.0
    #: A peer that neither answers nor refuses for so long is left (more than its own queue waits).
    answer: float = 30.0
    #: Before a chunk is tried again when everyone was busy; doubled each round up to the limit.
    rest: float = 0.05
    rest_limit: float = 0.2
    #: A chunk that nobody gave for so long is fetched from upstream, owner or not.
    patience: float = 120.0
    #: A second source is asked when a chunk takes so many times as long as it usually does.
    hedge_after: float = 1.5
    #: Never earlier than this.
    hedge_floor: float = 0.05
    #: Hedges allowed at the same time, and in all as a share of the chunks that have come.
    hedges: int = 1
    hedge_share: float = 0.1
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
    #: Requests to upstream that somebody else may have made as well, by reason.
    double: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)


class Fetching:
    """The state of one fetch on one node. ``wants`` None: the whole blob; else these chunks."""

    def __init__(
        self,
        blob: int,
        geometry: Geometry,
        placement: Placement,
        peers: Peers,
        *,
        limits: Limits | None = None,
        wants: Iterable[int] | None = None,
        here: Iterable[int] = (),
        holders: Iterable[str] = (),
    ) -> None:
        self.blob = blob
        self.geometry = geometry
        self.peers = peers
        self.limits = limits or Limits()
        self.here = set(here)
        self.counts = Counts()
        #: Whether the whole blob is wanted here, or only chunks that others ask of us.
        self.whole = wants is None
        self._chooser = Chooser(blob, placement, peers)
        self._chooser.holders = tuple(holders)
        self._todo = list(range(geometry.count)) if wants is None else sorted(set(wants))
        self._todo = [chunk for chunk in self._todo if chunk not in self.here]
        self._urgent: list[int] = []
        self._quests: dict[int, Quest] = {}
        self._ready: list[Quest] = []
        self._resting: dict[int, Quest] = {}
        self._out: list[Step] = []
        self._asked = 0
        self._flows = 0
        self._hedging = 0

    # What is asked of the fetch.

    def demand(self, chunk: int, now: float, *, owed: bool) -> bool:
        """A peer asks us for a chunk: whether it is here, coming, or ours to get.

        False: we do not fetch this blob and are not the one who must: send the asker to the owner.
        """
        if chunk in self.here or chunk in self._quests:
            return True
        if not (self.whole or owed or self._chooser.owner(chunk, now) == self.peers.me):
            return False
        if chunk in self._todo:
            self._todo.remove(chunk)
        if chunk not in self._urgent:
            self._urgent.append(chunk)
        return True

    @property
    def done(self) -> bool:
        """Whether every chunk is here."""
        return len(self.here) == self.geometry.count

    @property
    def idle(self) -> bool:
        """Whether nothing is wanted and not yet here."""
        return not (self._todo or self._urgent or self._quests)

    def want_all(self) -> None:
        """The whole blob is wanted from now on, where it was only chunks for others."""
        self.whole = True
        begun = self.here | self._quests.keys() | set(self._urgent)
        self._todo = [chunk for chunk in range(self.geometry.count) if chunk not in begun]

    def wanted_from(self, chunk: int, node: str) -> int | None:
        """Where in the chunk this source's answer shall begin; None when it is not awaited."""
        request = self._request(chunk, node)
        return None if request is None or request.flowing else request.began

    def hold(self, holders: Iterable[str]) -> None:
        """Who holds the whole blob, as far as presence knows now."""
        self._chooser.holders = tuple(holders)

    def steps(self, now: float, budget: int | None = None) -> list[Step]:
        """What to do now; ``budget``: how many more requests this blob may have in flight."""
        while self._urgent:
            # Beyond every limit: others wait for these, and we may be waiting for them.
            self._begin(self._urgent.pop(0), now)
        room = self._room() if budget is None else min(budget, self._room())
        while room > 0 and self._ready:
            room -= self._start(self._ready.pop(0), now)
        while room > 0 and (chunk := self._next()) is not None:
            room -= self._begin(chunk, now)
        out, self._out = self._out, []
        return out

    # What happened.

    def flowing(self, chunk: int, node: str, now: float) -> None:
        """The first bytes of an answer are here."""
        request = self._request(chunk, node)
        if request is not None and not request.flowing:
            request.flowing = True
            request.since = request.heard = now
            self._flows += 1

    def reached(self, chunk: int, node: str, offset: int, now: float) -> None:
        """So many bytes of a chunk are here, from this source."""
        request = self._request(chunk, node)
        if request is not None and offset > request.offset:
            request.offset, request.heard = offset, now

    def arrived(self, chunk: int, node: str, now: float) -> None:
        """A chunk is here, whole; what else was asked for it is dropped."""
        quest = self._quests.pop(chunk, None)
        if quest is None:
            return
        self.here.add(chunk)
        self._resting.pop(chunk, None)
        for request in quest.requests:
            self._close(request)
            if request.node != node:
                self._out.append(Drop(chunk, request.node))
            elif node != UPSTREAM:
                whole = request.began == 0 and request.flowing
                self.peers.served(node, now - request.since if whole else None)
        if quest in self._ready:
            self._ready.remove(quest)

    def redirected(self, chunk: int, node: str, to: str, now: float) -> None:
        """A peer answered 307: somebody else has the chunk, or must get it."""
        quest, request = self._quests.get(chunk), self._request(chunk, node)
        if quest is None or request is None:
            return
        self.counts.redirects += 1
        self._end(quest, request)
        quest.hops += 1
        if self._chooser.follows(quest, to, now):
            self._ask(quest, to, now, hedge=request.hedge, owed=False)
        else:
            self._retry(quest, now)

    def failed(self, chunk: int, node: str, failure: Failure, now: float) -> None:
        """A request ended without the chunk."""
        quest, request = self._quests.get(chunk), self._request(chunk, node)
        if quest is None or request is None:
            return
        if node != UPSTREAM:
            # Bytes of several senders were wrong: which of them lied is not known.
            unsure = failure is Failure.WRONG and request.began > 0
            self.peers.failed(node, Failure.GONE if unsure else failure, now)
        self.counts.failures[failure.value] += 1
        if failure is Failure.WRONG:
            quest.offset = request.offset = 0
        self._end(quest, request)
        if node == UPSTREAM:
            quest.upstream_failures += 1
            pause = self.limits.upstream_rest * 2 ** min(quest.upstream_failures, 6)
            self._rest(quest, now, pause)
        else:
            self._retry(quest, now)

    def left(self, node: str, now: float) -> None:
        """A node is no member any more: what was asked of it is asked elsewhere."""
        for quest in list(self._quests.values()):
            for request in list(quest.requests):
                if request.node == node:
                    self.failed(quest.chunk, node, Failure.GONE, now)

    def passed(self, now: float) -> None:
        """Time went by: stalled sources are left, slow ones hedged, those who rested go on."""
        for quest in [each for each in self._resting.values() if each.until <= now]:
            del self._resting[quest.chunk]
            quest.again()
            self._ready.append(quest)
        for quest in list(self._quests.values()):
            for request in list(quest.requests):
                limit = self.limits.stall if request.flowing else self.limits.answer
                if now - request.heard >= limit:
                    self._out.append(Drop(quest.chunk, request.node))
                    self.failed(quest.chunk, request.node, Failure.STALLED, now)
            self._hedge(quest, now)

    def due(self) -> float | None:
        """When the first chunk that rests goes on; None when none does."""
        return min((quest.until for quest in self._resting.values()), default=None)

    # How it is done.

    def _room(self) -> int:
        return self.limits.waiting - (self._asked - self._flows)

    def _next(self) -> int | None:
        """The next chunk to begin, in their order: None beyond the window."""
        if not self._todo or self._flows >= self.limits.flowing:
            return None
        first = min(self._todo[0], min(self._quests, default=self._todo[0]))
        return self._todo.pop(0) if self._todo[0] < first + self.limits.window else None

    def _begin(self, chunk: int, now: float) -> int:
        quest = self._quests[chunk] = Quest(chunk, begun=now)
        return self._start(quest, now)

    def _start(self, quest: Quest, now: float) -> int:
        """Ask the next source for a chunk: 1, or 0 when it has to rest."""
        if now - quest.begun >= self.limits.patience:
            return self._ask_upstream(quest, now, "patience")
        choice = self._chooser.choose(quest, now)
        if choice is None:
            pause = min(self.limits.rest * 2**quest.rounds, self.limits.rest_limit)
            self._rest(quest, now, pause)
            return 0
        if choice.node == UPSTREAM:
            return self._ask_upstream(quest, now, choice.reason)
        self._ask(quest, choice.node, now, owed=choice.owed)
        return 1

    def _ask(
        self, quest: Quest, node: str, now: float, *, hedge: bool = False, owed: bool = False
    ) -> None:
        quest.asked.add(node)
        self._open(quest, Request(node, now, quest.offset, hedge=hedge))
        relay = self._chooser.relays(quest.chunk)
        self._out.append(Ask(quest.chunk, node, quest.offset, quest.hops, owed, relay))

    def _ask_upstream(self, quest: Quest, now: float, reason: str) -> int:
        if reason:
            self.counts.double[reason] += 1
        self.counts.upstream += 1
        self._open(quest, Request(UPSTREAM, now, quest.offset))
        self._out.append(AskUpstream(quest.chunk, quest.offset))
        return 1

    def _request(self, chunk: int, node: str) -> Request | None:
        quest = self._quests.get(chunk)
        if quest is None:
            return None
        return next((each for each in quest.requests if each.node == node), None)

    def _open(self, quest: Quest, request: Request) -> None:
        quest.requests.append(request)
        self._asked += 1
        self._hedging += request.hedge

    def _close(self, request: Request) -> None:
        self._asked -= 1
        self._flows -= request.flowing
        self._hedging -= request.hedge

    def _end(self, quest: Quest, request: Request) -> None:
        """A request is over: what it brought stays."""
        self._close(request)
        quest.requests.remove(request)
        quest.offset = max(quest.offset, request.offset)

    def _retry(self, quest: Quest, now: float) -> None:
        """Let a chunk be asked elsewhere, unless its other request still runs."""
        if quest.requests:
            self._hedging -= quest.requests[0].hedge
            quest.requests[0].hedge = False
        else:
            self._ready.append(quest)

    def _rest(self, quest: Quest, now: float, seconds: float) -> None:
        quest.until = now + seconds
        self._resting[quest.chunk] = quest

    def _hedge(self, quest: Quest, now: float) -> None:
        """Ask a second source for a chunk that takes unusually long."""
        usual = self.peers.usual
        if usual is None or len(quest.requests) != 1 or self._hedging >= self.limits.hedges:
            return
        request = quest.requests[0]
        late = max(usual * self.limits.hedge_after, self.limits.hedge_floor)
        allowed = 1 + len(self.here) * self.limits.hedge_share
        if request.node == UPSTREAM or not request.flowing or now - request.since < late:
            return
        if self.counts.hedges >= allowed:
            return
        if self._chooser.second(quest.chunk):
            if now - request.since < late * 2:
                return
            choice: Choice | None = Choice(UPSTREAM, reason="slow owner")
        else:
            choice = self._chooser.choose(quest, now)
        if choice is None or (choice.node == UPSTREAM and choice.reason != "slow owner"):
            return
        self.counts.hedges += 1
        if choice.node == UPSTREAM:
            quest.offset = max(quest.offset, request.offset)
            self._ask_upstream(quest, now, choice.reason)
            return
        quest.offset = max(quest.offset, request.offset)
        self._ask(quest, choice.node, now, hedge=True)
