"""Pace: how many requests of a fetch are under way, and whether a chunk comes too slowly. Pure.

A chunk is measured against the others that came lately, over the same link: where all are slow, as
on a slow link of our own, none is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from registryd.cluster.choosing import STAND_INS, UPSTREAM, Choice, Chooser, Quest, Request
from registryd.cluster.geometry import Geometry
from registryd.cluster.steps import Counts, Limits


@dataclass(slots=True)
class Flights:
    """The requests of one fetch that are under way, counted by what they are."""

    asked: int = 0
    flowing: int = 0
    hedging: int = 0

    @property
    def waiting(self) -> int:
        """Those without a byte yet."""
        return self.asked - self.flowing

    def open(self, quest: Quest, request: Request) -> None:
        """A request begins."""
        quest.requests.append(request)
        self.asked += 1
        self.hedging += request.hedge

    def flow(self, request: Request) -> None:
        """Its first bytes are here."""
        request.flowing = True
        self.flowing += 1

    def settle(self, request: Request) -> None:
        """It is the only one for its chunk from now on."""
        self.hedging -= request.hedge
        request.hedge = False

    def end(self, request: Request) -> None:
        """It is over."""
        self.asked -= 1
        self.flowing -= request.flowing
        self.hedging -= request.hedge


class Pace:
    """What is slow, for one fetch, and who is asked instead."""

    def __init__(
        self, geometry: Geometry, chooser: Chooser, limits: Limits, counts: Counts
    ) -> None:
        self._geometry = geometry
        self._chooser = chooser
        self._limits = limits
        self._counts = counts

    def fair(self, chunk: int) -> float | None:
        """The seconds that a chunk usually takes; None before we know."""
        usual = self._chooser.peers.usual
        return None if usual is None else self._geometry.length(chunk) / usual

    def silence(self, request: Request) -> float:
        """The seconds without a byte after which a source is left."""
        if not request.flowing:
            return self._limits.answer
        passing_on = request.passing_on or request.node == UPSTREAM
        return self._limits.passing_on if passing_on else self._limits.stall

    def slow(self, chunk: int, request: Request, now: float) -> bool:
        """Whether a peer gives a chunk far slower than chunks usually come."""
        fair, took = self.fair(chunk), now - request.since
        if fair is None or request.node == UPSTREAM or not request.flowing:
            return False
        if took < max(fair, self._limits.least):
            return False
        came = request.offset - request.began
        return came * self._limits.slower * fair < took * self._geometry.length(chunk)

    def vain(self, chunk: int, hedge: Request, now: float) -> bool:
        """Whether a peer that was asked beside a slow one has not answered for too long."""
        fair = self.fair(chunk)
        late = fair is not None and now - hedge.since >= fair
        return late and not hedge.flowing and hedge.node != UPSTREAM

    def instead(self, quest: Quest, here: int, now: float) -> Choice | None:
        """Whom to ask beside the source that is slow; None while there is nobody.

        UPSTREAM is asked by those who are in line for the chunk, one after the other by rank: the
        others then leave the slow source for whoever went first.
        """
        node, fair = quest.requests[0].node, self.fair(quest.chunk)
        if node not in quest.slow:
            quest.slow.add(node)
            quest.asked = set(quest.slow)
        choice = self._chooser.instead(quest, now)
        if choice is not None and choice.node == UPSTREAM:
            turn = quest.flowed + (fair or 0.0) * (1 + self._chooser.place(quest.chunk, now))
            choice = choice if now >= turn and self._may_double(here) else None
        if choice is None:
            quest.asked = set(quest.slow)
        return choice

    def overdue(self, quest: Quest, here: int, now: float) -> bool:
        """Whether those before us in line gave no byte of a chunk for so long that we shall."""
        fair, place = self.fair(quest.chunk), self._chooser.place(quest.chunk, now)
        if fair is None or quest.flowed < inf or not 0 < place < STAND_INS:
            return False
        turn = quest.begun + fair * self._limits.overdue * place
        return now >= turn and self._may_double(here)

    def _may_double(self, here: int) -> bool:
        """Whether upstream may be asked for a chunk that somebody slow may be fetching as well."""
        ours = here / max(1, len(self._chooser.placement))
        return self._counts.double["slow owner"] <= ours * self._limits.double_share
