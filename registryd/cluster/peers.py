"""Peers: what one node has learned of the others, for all blobs. Pure: ``now`` is an argument.

Invariants:
- a peer that lied is never usable again, and stays named in ``liars``;
- a peer that failed is usable again after a time which grows with each failure in a row;
- how fast chunks usually come is known from the last arrivals alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import Enum


class Failure(Enum):
    """How a request to a peer can end without the chunk."""

    GONE = "gone"  # no connection, or it does not have what it was asked for
    STALLED = "stalled"  # no byte for STALL seconds
    CUT = "cut"  # the connection ended within the chunk
    REFUSED = "refused"  # 503: alive, but with no slot and no place in its queue
    WRONG = "wrong"  # its bytes are not the chunk's


#: Seconds for which a peer is passed over when it failed for the first time; doubled each time.
PASSED_OVER = 5.0
#: The longest such time: membership says within seconds who is gone for good.
PASSED_OVER_LIMIT = 60.0
#: Failures in a row after which nobody waits for a peer to come back.
LOST = 2
#: Arrivals by which the usual rate is known, and how many must be there before it is believed.
REMEMBERED = 64
ENOUGH = 8
#: The share of arrivals that are slower than usual. Few: where upstream is slow beside the nodes'
#: links, what comes through from it is slower than what is here already, and no peer is to blame.
QUANTILE = 0.1


class Peers:
    """The book that a node keeps on its peers."""

    def __init__(self, me: str, zones: Mapping[str, str] | None = None) -> None:
        self.me = me
        self.zones = dict(zones or {})
        self.liars: set[str] = set()
        self._until: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._rates: deque[float] = deque(maxlen=REMEMBERED)
        self._usual: float | None = None
        self._stale = 0

    def usable(self, node: str, now: float) -> bool:
        """Whether this peer may be asked now."""
        if node in self.liars:
            return False
        until = self._until.get(node)
        return until is None or until <= now

    def lost(self, node: str, now: float) -> bool:
        """Whether a peer is passed over, and not for the first time since it last served us."""
        return not self.usable(node, now) and (
            node in self.liars or self._failures.get(node, 0) >= LOST
        )

    def near(self, node: str) -> bool:
        """Whether a peer is in our own zone (everyone is where no zones are told)."""
        return self.zones.get(node) == self.zones.get(self.me)

    def failed(self, node: str, failure: Failure, now: float) -> None:
        """Pass a peer over for a time, for good if it lied, not at all if it was only busy."""
        if failure is Failure.WRONG:
            self.liars.add(node)
        elif failure is not Failure.REFUSED and self.usable(node, now):
            # Requests that were under way together fail together: that is once, not in a row.
            count = self._failures[node] = self._failures.get(node, 0) + 1
            length = min(PASSED_OVER * 2 ** (count - 1), PASSED_OVER_LIMIT)
            self._until[node] = now + length

    def served(self, node: str, rate: float | None) -> None:
        """A peer gave a chunk; ``rate``: at so many bytes a second, if it was one flow."""
        self._failures.pop(node, None)
        self._until.pop(node, None)
        if rate is not None:
            self._rates.append(rate)
            self._stale += 1

    @property
    def usual(self) -> float | None:
        """The bytes a second that nine of ten chunks came with lately; None before we know."""
        if self._stale >= ENOUGH:
            self._stale = 0
            self._usual = sorted(self._rates)[int(len(self._rates) * QUANTILE)]
        return self._usual
