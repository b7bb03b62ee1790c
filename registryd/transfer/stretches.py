"""Stretches: which part of a blob to ask for next, and over how many connections. Pure.

Invariants:
- no two connections are given the same byte at the same time;
- a byte that is here is never given out again;
- small blobs, and blobs of unknown size, are asked for whole: one request, no Range.
"""

from __future__ import annotations

from dataclasses import dataclass

from cache.chunks import ChunkMap

#: One connection that delivers this much (bytes a second) is not made faster by more of them:
#: hashing and writing are then near their own limit.
FAST_ENOUGH = 250 << 20
#: What one connection must have delivered before its speed says anything (bytes).
SAMPLE = 4 << 20


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes ``[start, stop)`` to ask for; ``stop`` None is "to the end, wherever that is"."""

    start: int
    stop: int | None

    @property
    def whole(self) -> bool:
        """Whether this is the blob from its first byte to its end."""
        return self.start == 0 and self.stop is None


class Plan:
    """Gives out what is missing of one blob, in order, in stretches of at most ``step`` bytes."""

    def __init__(self, step: int) -> None:
        self._step = step
        self._given: set[Stretch] = set()

    def take(self, held: ChunkMap, size: int | None) -> Stretch | None:
        """The next stretch to ask for, or None when everything is here or on its way."""
        if size is None:
            # Nobody knows the size: one open-ended request continues what is here.
            return None if self._given else self._give(Stretch(held.reach(0), None))
        if not held.ranges and not self._given and size <= 2 * self._step:
            return self._give(Stretch(0, None)) if size else None
        busy = ChunkMap(held.ranges)
        for stretch in self._given:
            busy.add(stretch.start, size if stretch.stop is None else stretch.stop)
        for start, stop in busy.missing(0, size):
            return self._give(Stretch(start, min(stop, start + self._step)))
        return None

    def _give(self, stretch: Stretch) -> Stretch:
        self._given.add(stretch)
        return stretch

    def give_back(self, stretch: Stretch) -> None:
        """Say that nobody works on this stretch any more, finished or not."""
        self._given.discard(stretch)


def connections(received: int, seconds: float, limit: int) -> int:
    """How many connections are worth having, by what one of them delivered in ``seconds``."""
    if received < SAMPLE or received >= FAST_ENOUGH * seconds:
        return 1
    return limit
