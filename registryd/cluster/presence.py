"""Who is there: rules on beats. Pure: ``now`` and chance are arguments.

A beat goes from each member to all. A node that comes says hello, and everyone answers with a
beat; one that leaves says bye.

Invariants:
- only the moments at which beats arrive here count, by this node's own clock of intervals;
- a member is gone after MISSED of its own intervals in silence, and only while somebody's beats
  come (ours do, where NATS works): silence of all is NATS's silence, and nobody has left then;
- when beats come again after such a silence, everyone has as long as ever to be heard;
- after ``keep`` seconds in which nobody was heard, this node is alone;
- a name belongs to the first process that is heard by it, for as long as that one is heard.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Final

from registryd.cluster.beats import Beat, BeatInvalid, Kind
from registryd.cluster.members import Facts, Members
from registryd.cluster_ports import ClusterNode
from registryd.hostlist import NAMES_LIMIT

#: Intervals of silence after which a member is gone; the part is for a late arrival.
MISSED: Final = 3.25
#: Beats a second that one node takes in, and as much for a while when somebody says hello.
RATE: Final = 125.0
HELLO_RATE: Final = 500.0
#: Beats come this much earlier than promised, by chance, so that they spread out.
SPREAD: Final = 0.1
#: Conflicts that are remembered as told.
_TOLD_LIMIT: Final = 256

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: between two beats at most and in small clusters, until all answer a hello, and how
    long members are kept while NATS is away."""

    beat: float = 2.0
    answer: float = 0.25
    keep: float = 600.0


@dataclass(slots=True)
class _Known:
    """What was heard last of a member, and when."""

    beat: Beat
    heard: float


class Presence:
    """The members of which this node hears, itself among them."""

    def __init__(
        self,
        me: ClusterNode,
        *,
        run: str,
        members: Members,
        now: float,
        timing: Timing = Timing(),
    ) -> None:
        self.members = members
        #: Beats taken in, and what came in their place that was none.
        self.taken = 0
        self.ignored = 0
        self._me = me
        self._run = run
        self._timing = timing
        self._known: dict[str, _Known] = {}
        #: When anybody was heard last, and since when that goes on without a gap.
        self._last = now
        self._since = now
        self._told: set[tuple[str, ...]] = set()
        members.put(me)

    # what is sent

    @property
    def every(self) -> float:
        """Seconds between two beats of this node."""
        return max(self._timing.beat, len(self.members) / RATE)

    def beat(self, kind: Kind, facts: Facts) -> Beat:
        """What this node has to say."""
        me = self._me
        return Beat(
            name=me.name,
            url=me.url,
            run=self._run,
            every=round(self.every, 3),
            zone=me.zone,
            version=facts.version,
            load=facts.load,
            free=facts.free,
            kind=kind,
        )

    def pause(self, chance: float) -> float:
        """Seconds until the next beat, after one."""
        return self.every * (1 - SPREAD * chance)

    def answer_within(self, chance: float) -> float:
        """Seconds until the beat that answers a hello: all together answer at a bounded rate."""
        return max(self._timing.answer, len(self.members) / HELLO_RATE) * chance

    # what is heard

    def hear(self, raw: bytes, now: float) -> bool:
        """Take in what has come; whether it asks for a beat of ours."""
        try:
            beat = Beat.parse(raw)
        except BeatInvalid as error:
            self.ignored += 1
            self._tell_once(("nonsense", str(error)), "a beat was ignored: it %s", error)
            return False
        if not self._is_of_its_name(beat, now):
            self.ignored += 1
            return False
        self.taken += 1
        if now - self._last > 2 * self.every:
            self._since = now
        self._last = now
        if beat.run == self._run:
            return False
        if beat.kind is Kind.BYE:
            self._gone(beat)
            return False
        self._take(beat, now)
        return beat.kind is Kind.HELLO

    def _take(self, beat: Beat, now: float) -> None:
        known = self._known.get(beat.name)
        if known is None and len(self._known) >= NAMES_LIMIT:
            return
        if known is not None and known.beat.url != beat.url:
            self.members.remove(beat.name)  # so that who watches dials anew
        self._known[beat.name] = _Known(beat, now)
        self.members.put(beat.node)

    def _gone(self, beat: Beat) -> None:
        known = self._known.get(beat.name)
        if known is not None and known.beat.run == beat.run:
            self._leave(beat.name)

    def _is_of_its_name(self, beat: Beat, now: float) -> bool:
        """Whether the one who has spoken is the one that has this name."""
        if beat.name == self._me.name:
            if beat.run != self._run and beat.kind is not Kind.BYE:
                words = (
                    "another node, at %s, says that it is %s: each needs a certificate of its own"
                )
                self._tell_once((beat.name, beat.url), words, beat.url, beat.name)
            return beat.run == self._run
        known = self._known.get(beat.name)
        if known is None or known.beat.url == beat.url or known.beat.run == beat.run:
            return True
        if now - known.heard > MISSED * known.beat.every:
            return True
        words = "two nodes say that they are %s: the one at %s was heard first, not the one at %s"
        self._tell_once((beat.name, beat.url), words, beat.name, known.beat.url, beat.url)
        return False

    def _tell_once(self, what: tuple[str, ...], words: str, *values: object) -> None:
        if what not in self._told and len(self._told) < _TOLD_LIMIT:
            self._told.add(what)
            _log.warning(words, *values)

    # who is not heard

    def connected(self, now: float) -> None:
        """NATS has come back: from now on everyone has time to be heard."""
        self._since = now

    def look(self, now: float) -> None:
        """Let go of those who are gone."""
        silence = now - self._last
        if silence > self._timing.keep:
            for name in tuple(self._known):
                self._leave(name)
            return
        if silence > 2 * self.every:
            return
        for name, known in tuple(self._known.items()):
            if now - max(known.heard, self._since) > MISSED * known.beat.every:
                self._leave(name)

    def _leave(self, name: str) -> None:
        del self._known[name]
        self.members.remove(name)

    # what is told of them

    def nodes(self, facts: Facts, now: float) -> tuple[ClusterNode, ...]:
        """Everyone, with when they were heard."""
        return tuple(self._shown(node, facts, now) for node in self.members.all())

    def _shown(self, node: ClusterNode, facts: Facts, now: float) -> ClusterNode:
        known = self._known.get(node.name)
        if known is not None:
            return replace(node, heard=max(0.0, now - known.heard))
        return replace(node, version=facts.version, load=facts.load, free=facts.free, heard=0.0)
