"""The clock of the simulator, and the transfers over its links.

The model, which is meant to be simple and never better than the world:
- a transfer has an equal share of the sender's uplink or of the receiver's downlink, the smaller
  of the two, but never more than the others have left free: no link ever carries more than it
  can, and what the other end cannot use lies idle (in the world its neighbours would take it).
  Shares are looked at when a transfer begins and QUARTERS times in the usual time of a chunk;
  in between, what others give back lies idle;
- a sender that is still receiving the chunk passes it on as it comes, one piece (64 KiB) behind;
- a message takes one latency, a lost connection is seen after one latency;
- upstream is one link, shared by everyone who asks it, with no limit on their number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

#: What a sender must have of a chunk before it can pass it on.
PIECE = 64 << 10
#: How often shares are looked at, in the usual time of a chunk.
QUARTERS = 12
SPARE = 0.02


class Clock:
    """Events in order of time; those of one moment in the order in which they were set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.count = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, time: float, what: Callable[..., None], *args: object) -> None:
        """Do this then."""
        self.count += 1
        heappush(self._heap, (time, self.count, what, args))

    def run(self, until: float) -> None:
        """Go on until nothing is left to do, or to that time."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, what, args = heappop(heap)
            what(*args)


@dataclass(slots=True, eq=False)
class Link:
    """One direction of a node's link: what it can carry, what it carries, and for how many."""

    capacity: float
    used: float = 0.0
    count: int = 0
    carried: float = 0.0

    @property
    def share(self) -> float:
        """What one transfer may have now, its own rate given back: its part, and half of what is
        left free beyond it by those who cannot use theirs."""
        part = self.capacity / max(1, self.count)
        free = self.capacity - self.used
        return min(free, part + max(0.0, free - part - SPARE * self.capacity) / 2)


@dataclass(slots=True, eq=False)
class Transfer:
    """One chunk (or the rest of it) on its way; ``sender`` -1 is upstream.

    ``got`` counts from the chunk's start, as ``offset`` and ``size`` do.
    """

    sender: int
    receiver: int
    chunk: int
    up: Link
    down: Link
    offset: int = 0
    size: int = 0
    got: float = 0.0
    rate: float = 0.0
    seen: float = 0.0
    begun: float = 0.0
    flowing: bool = False
    open: bool = False
    over: bool = False

    def start(self, offset: int, size: int, now: float) -> None:
        """Take a place on both links."""
        self.offset, self.size, self.got = offset, size, float(offset)
        self.seen = self.begun = now
        self.open = True
        self.up.count += 1
        self.down.count += 1

    def advance(self, now: float, limit: float) -> None:
        """Take in what came since we last looked; ``limit``: what the sender itself has."""
        came = min(self.got + self.rate * (now - self.seen), self.size, max(limit, self.got))
        self.up.carried += came - self.got
        self.down.carried += came - self.got
        self.got, self.seen = came, now

    def share(self, limit: float) -> None:
        """Take what both links have for us now; ``limit``: no more than the sender has to send."""
        self._pace(0.0)
        self._pace(max(0.0, min(self.up.share, self.down.share, limit)))

    def stop(self) -> None:
        """Give both links back."""
        self._pace(0.0)
        if self.open:
            self.up.count -= 1
            self.down.count -= 1
        self.open, self.over = False, True

    def _pace(self, rate: float) -> None:
        self.up.used += rate - self.rate
        self.down.used += rate - self.rate
        self.rate = rate
