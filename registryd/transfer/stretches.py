"""Stretches: which part of a blob to ask for next. Pure.

Invariants:
- no two connections are given the same byte at the same time;
- a byte that is here is never given out again;
- what somebody waits for (a demand) is given before anything else; a connection that would come
  to it only later is cut short for it;
- of a blob of which only parts are demanded nothing else is given;
- small blobs, and blobs of unknown size, are asked for whole: one request, no Range. Where that
  proves to be slow, another connection takes over a half.
"""

from __future__ import annotations

from dataclasses import dataclass

from cache.chunks import ChunkMap

#: Parts are asked for by chunks of so many bytes: on most connections a chunk costs about as much
#: time as the question, and those who read a blob in parts come back for what lies beside.
CHUNK = 1 << 20
#: What is left of a request (bytes) and not worth another one.
LITTLE = 4 * CHUNK
#: Half of what a connection has still to bring is another one's when it is this much (bytes).
WORTH_HALVING = 8 * CHUNK
#: A connection that is this near (bytes) to what is demanded brings it sooner than a new one.
NEAR = CHUNK


@dataclass(slots=True)
class Stretch:
    """Bytes ``[start, stop)`` to ask for; ``stop`` None is "to the end, wherever that is".

    The plan lowers ``stop`` of a stretch that is under way when another connection takes the rest;
    ``donor`` is the one that this rest was taken from.
    """

    start: int
    stop: int | None
    donor: Stretch | None = None

    @property
    def whole(self) -> bool:
        """Whether this is the blob from its first byte to its end."""
        return self.start == 0 and self.stop is None


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """Bytes ``[start, stop)`` that somebody waits for."""

    start: int
    stop: int


class Plan:
    """Gives out what is missing of one blob, in stretches of at most ``step`` bytes."""

    def __init__(self, step: int) -> None:
        self._step = step
        self._given: list[Stretch] = []
        self._demands: list[Demand] = []

    def demand(self, start: int, stop: int) -> Demand:
        """Say that somebody waits for these bytes."""
        demand = Demand(start, stop)
        self._demands.append(demand)
        return demand

    def withdraw(self, demand: Demand) -> None:
        """Say that nobody waits for them any more."""
        self._demands.remove(demand)

    def urgent(self, held: ChunkMap, size: int) -> Stretch | None:
        """The next stretch that somebody waits for, and no connection is about to bring."""
        for demand in self._demands:
            missing = held.missing(demand.start, min(demand.stop, size))
            if missing and self._is_free(missing[0][0], held, size):
                # Those who wait take turns.
                self.withdraw(demand)
                self._demands.append(demand)
                start, stop = self._gaps(held, size, *missing[0])[0]
                return self._give(start, min(stop, start + self._step))
        return None

    def _is_free(self, at: int, held: ChunkMap, size: int) -> bool:
        """Whether no connection is near a missing byte; one that is on its way to it is cut."""
        for stretch in self._given:
            if stretch.start <= at < (size if stretch.stop is None else stretch.stop):
                if at - held.reach(stretch.start) <= NEAR:
                    return False
                stretch.stop = at
        return True

    def take(self, held: ChunkMap, size: int | None) -> Stretch | None:
        """The next stretch to ask for, or None when everything is here or on its way."""
        if size is None:
            # Nobody knows the size: one open-ended request continues what is here.
            return None if self._given else self._give(held.reach(0), None)
        if not held.ranges and not self._given and size <= 2 * self._step:
            return self._give(0, None) if size else None
        for start, stop in self._gaps(held, size, 0, size):
            return self._give(start, min(stop, start + self._step))
        return None

    def halve(self, held: ChunkMap, size: int) -> Stretch | None:
        """Half of what the longest stretch has still to bring; None where that is too little."""

        def left(stretch: Stretch) -> int:
            return (size if stretch.stop is None else stretch.stop) - held.reach(stretch.start)

        longest = max(self._given, key=left, default=None)
        if longest is None or left(longest) < 2 * WORTH_HALVING:
            return None
        stop = size if longest.stop is None else longest.stop
        middle = chunks(stop - left(longest) // 2, stop)[0]
        half = self._give(middle, stop)
        half.donor, longest.stop = longest, middle
        return half

    def undo(self, half: Stretch) -> bool:
        """Let the donor bring this half too; False when it has ended."""
        donor = half.donor
        if donor is None or not any(given is donor for given in self._given):
            return False
        donor.stop = half.stop
        return True

    def _gaps(self, held: ChunkMap, size: int, start: int, stop: int) -> list[tuple[int, int]]:
        """What of ``[start, stop)`` is neither here nor given."""
        busy = ChunkMap(held.ranges)
        for stretch in self._given:
            end = size if stretch.stop is None else stretch.stop
            busy.add(stretch.start, end)
        return busy.missing(start, stop)

    def _give(self, start: int, stop: int | None) -> Stretch:
        self._given.append(Stretch(start, stop))
        return self._given[-1]

    def give_back(self, stretch: Stretch) -> None:
        """Say that nobody works on this stretch any more, finished or not."""
        self._given = [given for given in self._given if given is not stretch]


def chunks(start: int, stop: int) -> tuple[int, int]:
    """The bounds of the whole chunks that cover ``[start, stop)``."""
    return start // CHUNK * CHUNK, -(-stop // CHUNK) * CHUNK


def shorten_at(stretch: Stretch, at: int, size: int | None) -> None:
    """Let a stretch that has come to ``at`` end with the chunk that is just coming.

    The plan gives the rest out anew. Where little is left of it, it goes on to its end.
    """
    stop = size if stretch.stop is None else stretch.stop
    if stop is None or stop - at > LITTLE:
        stretch.stop = chunks(at, at + 1)[1]
