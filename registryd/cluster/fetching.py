"""Fetching: one node fetches one blob. It says whom to ask, and is told what came of it. Pure.

The daemon does what ``steps`` says and tells what happened; the simulator does the very same.

Invariants:
- a chunk is asked of one source at a time; of a second one only as a hedge, which is counted;
- a chunk that is here is never asked for; bytes that came stay (a request starts where they end);
- a liar is never asked again; within one round no peer is asked twice for the same chunk;
- upstream is asked by the chunk's owner (the first in rank who is not barred); by anyone else only
  when no peer is left, or none is fast enough, and that is counted (``Counts.double``) with its
  reason; who is barred itself never asks it;
- chunks are begun in their order, few at a time: the whole cluster then works on the same few
  chunks, which upstream sends one after the other and not all at once at a crawl.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from registryd.cluster.choosing import UPSTREAM, Choice, Chooser, Quest, Request
from registryd.cluster.geometry import Geometry
from registryd.cluster.pace import Flights, Pace
from registryd.cluster.peers import Failure, Peers
from registryd.cluster.placement import Placement
from registryd.cluster.steps import Ask, AskUpstream, Counts, Drop, Limits, Step

__all__ = ["Ask", "AskUpstream", "Counts", "Drop", "Fetching", "Limits", "Step"]


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
        self._quests: dict[int, Quest] = {}
        #: Quests that are begun at the next step, beyond every limit; others that are tried again.
        self._urgent: list[Quest] = []
        self._ready: list[Quest] = []
        self._resting: dict[int, Quest] = {}
        self._out: list[Step] = []
        #: Chunks before this one have been looked at for whether they are ours to get.
        self._looked, self._flights = 0, Flights()
        self._pace = Pace(geometry, self._chooser, self.limits, self.counts)

    # What is asked of the fetch.

    def demand(self, chunk: int, now: float, *, owed: bool) -> bool:
        """A peer asks us for a chunk: whether it is here, coming, or ours to get.

        False: send the asker to the ``owner``; with ``owed``, turn it away and say that we are
        barred (``bar``). Otherwise we do not fetch this blob and are not the one who must.
        """
        quest = self._quests.get(chunk)
        if chunk in self.here or (quest is not None and any(r.flowing for r in quest.requests)):
            return True
        if owed and self._chooser.barred(self.peers.me, now):
            return False
        if quest is None:
            if not (self.whole or owed or self._chooser.owner(chunk, now) == self.peers.me):
                return False
            quest = self._hurry(chunk)
            self._urgent.append(quest)
        if owed and not quest.owed:
            quest.owed = True
            # With nobody who may be waiting for us.
            self._abandon(quest, [each for each in quest.requests if each.may_wait])
        return True

    def want(self, chunks: Iterable[int]) -> None:
        """A reader on this node waits for these chunks: they are begun first, beyond the limits."""
        new = [c for c in dict.fromkeys(chunks) if c not in self.here and c not in self._quests]
        self._urgent[:0] = [self._hurry(chunk) for chunk in new]

    @property
    def done(self) -> bool:
        """Whether every chunk is here."""
        return len(self.here) == self.geometry.count

    @property
    def idle(self) -> bool:
        """Whether nothing is wanted and not yet here."""
        return not (self._todo or self._quests)

    @property
    def under_way(self) -> int:
        """Requests that have not ended."""
        return self._flights.asked

    def want_all(self) -> None:
        """The whole blob is wanted from now on, where it was only chunks for others."""
        self.whole = True
        begun = self.here | self._quests.keys()
        self._todo = [chunk for chunk in range(self.geometry.count) if chunk not in begun]

    def wanted_from(self, chunk: int, node: str) -> int | None:
        """Where in the chunk this source's answer shall begin; None when it is not awaited."""
        request = self._request(chunk, node)
        return None if request is None or request.flowing else request.began

    def hold(self, holders: Iterable[str]) -> None:
        """Who holds the whole blob, as far as presence knows now."""
        self._chooser.holders = tuple(holders)

    def owner(self, chunk: int, now: float) -> str | None:
        """Who must get a chunk from upstream, as far as we know; None when nobody is left."""
        return self._chooser.owner(chunk, now)

    def bar(self, now: float) -> float:
        """For how many seconds we ourselves are barred; 0.0 when we are not."""
        return max(0.0, self._chooser.bars.get(self.peers.me, now) - now)

    def hopeless(self, now: float) -> bool:
        """Whether nobody is left who could get this blob from its registry."""
        return self._chooser.hopeless(now)

    def steps(self, now: float, budget: int | None = None) -> list[Step]:
        """What to do now; ``budget``: how many more requests this blob may have in flight."""
        while self._urgent:
            # Beyond every limit: others wait for these, and we may be waiting for them.
            quest = self._urgent.pop(0)
            quest.begun = min(quest.begun, now)
            self._start(quest, now)
        room = self.limits.waiting - self._flights.waiting
        room = room if budget is None else min(budget, room)
        while room > 0 and self._ready:
            room -= self._start(self._ready.pop(0), now)
        while room > 0 and self.whole and (chunk := self._ours(now)) is not None:
            room -= self._begin(chunk, now)
        while room > 0 and (chunk := self._next()) is not None:
            room -= self._begin(chunk, now)
        out, self._out = self._out, []
        return out

    # What happened.

    def flowing(self, chunk: int, node: str, now: float, *, passing_on: bool = False) -> None:
        """The first bytes of an answer are here; ``passing_on``: of a chunk its sender receives."""
        request = self._request(chunk, node)
        if request is not None and not request.flowing:
            self._flights.flow(request)
            request.passing_on, request.since, request.heard = passing_on, now, now
            quest = self._quests[chunk]
            quest.flowed = min(quest.flowed, now)
            if request.hedge:
                self._leave_slower(quest, request)

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
            self._flights.end(request)
            if request.node != node:
                self._out.append(Drop(chunk, request.node))
            elif node != UPSTREAM:
                length, took = self.geometry.length(chunk) - request.began, now - request.since
                self.peers.served(node, length / took if request.flowing and took > 0 else None)
        for line in (self._ready, self._urgent):
            if quest in line:
                line.remove(quest)

    def redirected(self, chunk: int, node: str, to: str, now: float) -> None:
        """A peer answered 307: somebody else has the chunk, or must get it."""
        quest, request = self._quests.get(chunk), self._request(chunk, node)
        if quest is None or request is None:
            return
        self._end(quest, request)
        self.counts.redirects += 1
        quest.hops += 1
        if self._chooser.follows(quest, to, now):
            choice = Choice(to, owed=to == self._chooser.owner(chunk, now))
            self._ask(quest, choice, now, hedge=request.hedge)
            return
        if now - quest.begun >= self.limits.astray:
            self.peers.failed(node, Failure.GONE, now)
        self._retry(quest, self._ready)

    def failed(self, chunk: int, node: str, failure: Failure, now: float) -> None:
        """A request ended without the chunk."""
        quest, request = self._quests.get(chunk), self._request(chunk, node)
        if quest is None or request is None:
            return
        if node != UPSTREAM:
            self.peers.failed(node, request.blame(failure), now)
        self.counts.failures[failure.value] += 1
        if failure is Failure.WRONG:
            quest.offset = request.offset = 0
        self._end(quest, request)
        if node == UPSTREAM:
            quest.upstream_failures += 1
            pause = self.limits.upstream_rest * 2 ** min(quest.upstream_failures, 6)
            self._rest(quest, now, pause)
        else:
            self._retry(quest, self._ready)

    def spoilt(self, chunk: int, node: str, now: float, *, sure: bool) -> None:
        """A chunk that had arrived from this source is wrong by its hash: it is fetched again.

        ``sure``: the source itself made it wrong. Otherwise it may have passed on another's lie.
        """
        self.counts.failures[Failure.WRONG.value] += 1
        if node != UPSTREAM:
            self.peers.failed(node, Failure.WRONG if sure else Failure.GONE, now)
        if chunk in self.here:
            self.here.remove(chunk)
            quest = self._hurry(chunk)
            quest.asked.add(node)
            self._urgent.insert(0, quest)

    def barred(self, node: str, now: float, seconds: float) -> None:
        """This node, which may be ourselves, cannot get the blob from its registry for so long."""
        known = self._chooser.barred(node, now)
        bars = self._chooser.bars
        bars[node] = max(now + seconds, bars.get(node, now))
        if node == self.peers.me:
            self._wake(list(self._resting.values()))
        elif not known:
            for quest in list(self._quests.values()):
                awaited = [r for r in quest.requests if r.node == node and r.owed]
                self._abandon(quest, awaited)
                if awaited:
                    quest.asked.discard(node)  # it may have the chunk: it is asked once more

    def left(self, node: str, now: float) -> None:
        """A node is no member any more: what was asked of it is asked elsewhere."""
        for quest in list(self._quests.values()):
            for request in list(quest.requests):
                if request.node == node:
                    self.failed(quest.chunk, node, Failure.GONE, now)

    def passed(self, now: float) -> None:
        """Time went by: stalled sources are left, slow ones hedged, those who rested go on."""
        self._wake([each for each in self._resting.values() if each.until <= now])
        for quest in list(self._quests.values()):
            for request in list(quest.requests):
                if now - request.heard >= self._pace.silence(request):
                    self._out.append(Drop(quest.chunk, request.node))
                    self.failed(quest.chunk, request.node, Failure.STALLED, now)
            self._hedge(quest, now)

    def due(self) -> float | None:
        """When the first chunk that rests goes on; None when none does."""
        return min((quest.until for quest in self._resting.values()), default=None)

    # How it is done.

    def _next(self) -> int | None:
        """The next chunk to begin, in their order."""
        free = self._flights.flowing < self.limits.flowing
        return self._todo.pop(0) if free and self._todo else None

    def _ours(self, now: float) -> int | None:
        """A chunk that is ours to get, a little ahead of those who will ask us for it."""
        stop = self._todo[0] + self.limits.ahead if self._todo else 0
        while self._looked < min(stop, self.geometry.count):
            chunk, self._looked = self._looked, self._looked + 1
            if chunk in self._todo and self._chooser.owner(chunk, now) == self.peers.me:
                return self._todo.pop(self._todo.index(chunk))
        return None

    def _hurry(self, chunk: int) -> Quest:
        """The quest of a chunk that goes before the others; its time begins with its first step."""
        if chunk in self._todo:
            self._todo.remove(chunk)
        quest = self._quests[chunk] = Quest(chunk, begun=inf)
        return quest

    def _begin(self, chunk: int, now: float) -> int:
        quest = self._quests[chunk] = Quest(chunk, begun=now)
        return self._start(quest, now)

    def _start(self, quest: Quest, now: float) -> int:
        """Ask the next source for a chunk: 1, or 0 when it has to rest."""
        impatient = now - quest.begun >= self.limits.patience
        if impatient and not self._chooser.barred(self.peers.me, now):
            return self._ask_upstream(quest, now, "patience")
        if quest.asked and self._pace.overdue(quest, len(self.here), now):
            return self._ask_upstream(quest, now, "slow owner")
        choice = self._chooser.choose(quest, now)
        if choice is None:
            pause = min(self.limits.rest * 2**quest.rounds, self.limits.rest_limit)
            self._rest(quest, now, pause)
            return 0
        if choice.node == UPSTREAM:
            return self._ask_upstream(quest, now, choice.reason)
        self._ask(quest, choice, now)
        return 1

    def _ask(self, quest: Quest, choice: Choice, now: float, *, hedge: bool = False) -> None:
        chunk, node, owed = quest.chunk, choice.node, choice.owed and not hedge
        quest.asked.add(node)
        self._flights.open(quest, Request(node, now, quest.offset, hedge, owed, choice.holds))
        relay = self._chooser.relays(chunk)
        self._out.append(Ask(chunk, node, quest.offset, quest.hops, owed, relay))

    def _ask_upstream(self, quest: Quest, now: float, reason: str, *, hedge: bool = False) -> int:
        if reason:
            self.counts.double[reason] += 1
            self.counts.hedges += reason == "slow owner"
        self.counts.upstream += 1
        self._flights.open(quest, Request(UPSTREAM, now, quest.offset, hedge))
        self._out.append(AskUpstream(quest.chunk, quest.offset))
        return 1

    def _request(self, chunk: int, node: str) -> Request | None:
        quest = self._quests.get(chunk)
        if quest is None:
            return None
        return next((each for each in quest.requests if each.node == node), None)

    def _end(self, quest: Quest, request: Request) -> None:
        """A request is over: what it brought stays."""
        self._flights.end(request)
        quest.requests.remove(request)
        quest.offset = max(quest.offset, request.offset)

    def _leave_slower(self, quest: Quest, hedge: Request) -> None:
        """The other source answers: the one that was too slow is let go."""
        for request in [each for each in quest.requests if each is not hedge]:
            self._out.append(Drop(quest.chunk, request.node))
            self._end(quest, request)
        self._flights.settle(hedge)

    def _retry(self, quest: Quest, line: list[Quest]) -> None:
        """Let a chunk be asked elsewhere, unless its other request still runs."""
        if quest.requests:
            self._flights.settle(quest.requests[0])
        else:
            line.append(quest)

    def _abandon(self, quest: Quest, requests: list[Request]) -> None:
        """End requests of which nothing has come, and try again at once."""
        for request in [each for each in requests if not each.flowing]:
            self._out.append(Drop(quest.chunk, request.node))
            self._end(quest, request)
            self._retry(quest, self._urgent)

    def _wake(self, quests: list[Quest]) -> None:
        """Let quests that rest go on, in another round."""
        for quest in quests:
            del self._resting[quest.chunk]
            quest.again()
            self._ready.append(quest)

    def _rest(self, quest: Quest, now: float, seconds: float) -> None:
        quest.until = now + seconds
        self._resting[quest.chunk] = quest

    def _hedge(self, quest: Quest, now: float) -> None:
        """Ask another source for a chunk that comes far slower than chunks do; then leave it."""
        for hedge in quest.requests[1:]:
            if self._pace.vain(quest.chunk, hedge, now):
                self._out.append(Drop(quest.chunk, hedge.node))
                self._end(quest, hedge)
        if len(quest.requests) != 1 or self._flights.hedging >= self.limits.hedges:
            return
        (request,) = quest.requests
        if not self._pace.slow(quest.chunk, request, now):
            return
        choice = self._pace.instead(quest, len(self.here), now)
        if choice is None:
            return
        quest.offset = max(quest.offset, request.offset)
        if choice.node == UPSTREAM:
            self._ask_upstream(quest, now, choice.reason, hedge=True)
            return
        self.counts.replaced += 1
        self._ask(quest, choice, now, hedge=True)
