"""Serving: whom a node gives a chunk, and whom it sends elsewhere. Pure: ``now`` is an argument.

Invariants:
- never more uploads than slots, never more in the queue than its bound, none beyond its deadline;
- a redirect names a live node that was served this very chunk here, and never the asker; whoever
  comes by one does not wait long for what is not here: two may have been sent to each other;
- an asker that has as much of the chunk as we do gets nothing: whoever sends is ahead of whoever
  receives, so that nodes can never feed on one another in a circle.

A chunk that is still arriving is served like one that is here (cut-through).
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

#: Uploads at the same time: enough to fill a link with slow receivers among them, few enough that
#: each child gets its chunk in time to have children of its own.
SLOTS = 16
#: Askers that wait for a slot. Few: the others do better with someone who has one free now.
QUEUED = 3
#: The same for a chunk's relays, who are served first: a slow start of theirs is everyone's.
RELAYS_QUEUED = 16
#: Askers that wait for chunks which are not here yet: each is an open connection, no more.
ABSENT = 1024
#: Seconds after which an asker that waits for a slot is sent on its way: some turns of the slots.
DEADLINE = 2.0
#: Seconds after which an asker that waits for a chunk which we fetch is sent on its way.
PATIENCE = 25.0
#: What a refused asker is told to wait, in seconds (Retry-After).
RETRY_AFTER = 1

Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Request:
    """What an asker says: the chunk, and from where in it; ``free``: its own free upload slots.

    ``relay``: it asks as one of the chunk's relays, and others wait for it. ``owed``: it asks us as
    the one who must get the chunk.
    """

    asker: str
    blob: int
    chunk: int
    offset: int = 0
    hops: int = 0
    free: int = 0
    relay: bool = False
    owed: bool = False

    @property
    def key(self) -> Key:
        """The chunk among all chunks of all blobs."""
        return self.blob, self.chunk


@dataclass(frozen=True, slots=True)
class Serve:
    """Send it; a slot is taken until ``ended``."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """307 to a node that has the chunk."""

    node: str


@dataclass(frozen=True, slots=True)
class Queue:
    """Say nothing yet: an answer comes by ``until`` at the latest."""

    until: float


@dataclass(frozen=True, slots=True)
class Refuse:
    """503 with Retry-After."""

    after: int = RETRY_AFTER


Answer = Serve | Redirect | Queue | Refuse
#: Answers to askers that were queued: to be sent now.
Answers = list[tuple[Request, Serve | Redirect | Refuse]]


@dataclass(slots=True)
class Child:
    """A node that we serve: the slots it told of last, and how many askers it was sent since."""

    free: int
    sent: int = 0


@dataclass(slots=True)
class Waiting:
    """An asker in the queue."""

    request: Request
    until: float


class Serving:
    """The upload slots of a node, for all blobs."""

    def __init__(
        self,
        me: str,
        members: Container[str],
        *,
        slots: int = SLOTS,
        queued: int = QUEUED,
        zones: Mapping[str, str] | None = None,
    ) -> None:
        self.me = me
        #: Who is alive, as the cluster says now.
        self.members = members
        self.slots = slots
        self.queued = queued
        self.zones = dict(zones or {})
        self.used = 0
        #: Who was served each chunk, and what each of them said last, whatever it asked for.
        self._children: dict[Key, dict[str, Child]] = {}
        self._told: dict[str, Child] = {}
        #: Askers for whom the chunk is there and a slot is not; and those who wait for the chunk.
        self._line: list[Waiting] = []
        self._absent: dict[Key, list[Waiting]] = {}
        self._absent_count = 0

    @property
    def free(self) -> int:
        """Upload slots that nobody has or waits for."""
        return max(0, self.slots - self.used - len(self._line))

    def ask(self, request: Request, reach: int | None, now: float) -> Answer:
        """Answer a request for a chunk.

        ``reach``: how many bytes of the chunk are here from its start on; None when all are, 0 when
        it is wanted here but nothing of it has come.
        """
        told = self._told.get(request.asker)
        if told is not None:
            told.free, told.sent = request.free, 0
        if reach == request.offset == 0:
            return self._wait_for_chunk(request, now)
        if reach is not None and reach <= request.offset:
            return Refuse()
        return self._answer(request, now)

    def here(self, blob: int, chunk: int, now: float) -> Answers:
        """The first bytes of a chunk came: answer those who wait for it, the roomiest first."""
        waiting = self._absent.pop((blob, chunk), [])
        self._absent_count -= len(waiting)
        waiting.sort(key=lambda each: (not each.request.relay, -each.request.free))
        answers: Answers = []
        for each in waiting:
            answer = self._answer(each.request, now)
            if not isinstance(answer, Queue):
                answers.append((each.request, answer))
        return answers

    def lost(self, blob: int, chunk: int) -> Answers:
        """A chunk will not come: refuse those who wait for it."""
        waiting = self._absent.pop((blob, chunk), [])
        self._absent_count -= len(waiting)
        return [(each.request, Refuse()) for each in waiting]

    def barred(self, blob: int) -> Answers:
        """We cannot get a blob from its registry: refuse those to whom we owe chunks of it."""
        answers: Answers = []
        for key in [key for key in self._absent if key[0] == blob]:
            line = self._absent[key]
            answers += [(each.request, Refuse()) for each in line if each.request.owed]
            self._absent[key] = [each for each in line if not each.request.owed]
            self._absent_count -= len(line) - len(self._absent[key])
        return answers

    def ended(self, now: float) -> Answers:
        """An upload is over, well or badly: its slot goes to the next in line."""
        self.used -= 1
        answers: Answers = []
        while self._line and self.used < self.slots:
            request = self._line.pop(self._first()).request
            answers.append((request, self._serve(request)))
        return answers

    def withdrawn(self, asker: str, blob: int, chunk: int) -> None:
        """An asker in the queue waits no longer."""
        key = (blob, chunk)
        self._line = [
            each for each in self._line if each.request.asker != asker or each.request.key != key
        ]
        if key in self._absent:
            kept = [each for each in self._absent[key] if each.request.asker != asker]
            self._absent_count -= len(self._absent[key]) - len(kept)
            self._absent[key] = kept

    def forget(self, blob: int) -> None:
        """A blob is no longer spread: who was served it is of no more use."""
        for key in [key for key in self._children if key[0] == blob]:
            del self._children[key]

    def due(self) -> float | None:
        """When the first deadline in the queue is; None when nobody waits."""
        times = [each.until for each in self._line]
        times += [each.until for line in self._absent.values() for each in line]
        return min(times, default=None)

    def passed(self, now: float) -> Answers:
        """Send on those who waited too long: to a node that has the chunk, or away."""
        late = [each for each in self._line if each.until <= now]
        if late:
            self._line = [each for each in self._line if each.until > now]
        answers: Answers = [(each.request, self._away(each.request)) for each in late]
        for key, line in list(self._absent.items()):
            gone = [each for each in line if each.until <= now]
            if gone:
                self._absent[key] = [each for each in line if each.until > now]
                self._absent_count -= len(gone)
                answers += [(each.request, Refuse()) for each in gone]
        return answers

    def _answer(self, request: Request, now: float) -> Answer:
        if self.used < self.slots and not self._line:
            return self._serve(request)
        best = self._best(request)
        if best is not None and best[1].free > best[1].sent:
            return self._send(*best)
        room = RELAYS_QUEUED if request.relay else self.queued
        if len(self._line) < room:
            self._line.append(Waiting(request, now + DEADLINE))
            return Queue(now + DEADLINE)
        return self._away(request)

    def _first(self) -> int:
        """Who is next in line: a relay, then who wants what the fewest have been given here."""
        ranks = [
            (not each.request.relay, len(self._children.get(each.request.key, ())), place)
            for place, each in enumerate(self._line)
        ]
        return min(ranks)[2]

    def _wait_for_chunk(self, request: Request, now: float) -> Answer:
        if self._absent_count >= ABSENT:
            return Refuse()
        line = self._absent.setdefault(request.key, [])
        sent_here = request.hops > 0 and not request.owed
        until = now + (DEADLINE if sent_here else PATIENCE)
        line.append(Waiting(request, until))
        self._absent_count += 1
        return Queue(until)

    def _serve(self, request: Request) -> Serve:
        self.used += 1
        child = self._told.setdefault(request.asker, Child(request.free))
        self._children.setdefault(request.key, {})[request.asker] = child
        return Serve()

    def _away(self, request: Request) -> Redirect | Refuse:
        best = self._best(request)
        return Refuse() if best is None else self._send(*best)

    def _best(self, request: Request) -> tuple[str, Child] | None:
        """The node served this chunk that has the most room by what we know, a near one first."""
        children = self._children.get(request.key)
        if not children:
            return None
        zone = self.zones.get(request.asker)
        best, best_rank = None, (2, 0)
        for node, child in children.items():
            if node != request.asker and node in self.members:
                far = bool(self.zones) and self.zones.get(node) != zone
                rank = (int(far), child.sent - child.free)
                if best is None or rank < best_rank:
                    best, best_rank = (node, child), rank
        return best

    def _send(self, node: str, child: Child) -> Redirect:
        child.sent += 1
        return Redirect(node)

    def children(self) -> Iterator[tuple[Key, str]]:
        """Which node was served which chunk; for people and for tests."""
        for key, nodes in self._children.items():
            for node in nodes:
                yield key, node
