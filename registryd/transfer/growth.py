"""Growth: how many connections help one blob, found by trying; and what helped, by registry. Pure.

A registry (or the line to it) gives some connections little, and gives more to more of them; to
others a second one is a burden and no help. Nobody says which it is, so it is tried: 1, 2, 4 ...

Invariants:
- there is never less than one connection, nor more than the limit;
- the number doubles only after a step in which the registry's bytes came clearly faster than in
  the one before; where they did not, or a connection brought nothing at all, it goes back by one
  step, and some time passes before the next attempt;
- what is compared is all that comes from the registry: bytes that one blob takes from another are
  no gain;
- where one connection is fast there is one;
- what helped one blob is where the next one of that registry begins, for a while.
"""

from __future__ import annotations

#: One connection that delivers this much (bytes a second) is not made faster by more of them:
#: hashing and writing are then near their own limit.
FAST_ENOUGH = 250 << 20
#: Nor is it worth a connection where all of them together bring this much.
ALL_FAST = 800 << 20
#: Bytes a connection must bring before its speed says anything; where it is slow, so many seconds
#: are as good, with these bytes at least.
SAMPLE = 4 << 20
SAMPLE_SECONDS = 1.0
LEAST_SAMPLE = 1 << 20
#: A step is measured for no less than this (seconds): the bytes of a moment are chance.
MOMENT = 0.1
#: How much faster twice the connections must be, to be worth keeping.
GAIN = 1.2
#: That it is not is believed only after so many seconds: a busy machine has slow moments.
DOUBT = 1.0
#: Seconds until more connections are tried again where they did not help: at first, and at most.
AGAIN, AGAIN_AT_MOST = 2.0, 60.0
#: Seconds for which it is remembered what helped a registry's blobs: lines change.
REMEMBERED = 600.0


class Width:
    """What is known of one registry: bytes that came from it, and how many connections helped."""

    def __init__(self) -> None:
        self.received = 0
        #: Until when no more connections are tried, and how long the last such rest was.
        self.resting_until = 0.0
        self._rest = 0.0
        self._helped = 1
        self._at = 0.0

    def start(self, now: float) -> int:
        """How many connections a blob begins with."""
        return self._helped if now < self._at + REMEMBERED else 1

    def helped(self, count: int, now: float) -> None:
        """Say that so many connections are as many as help."""
        self._helped, self._at = count, now

    def rest(self, now: float) -> None:
        """Say that more connections did not help; each time that is believed for longer."""
        self._rest = min(max(2 * self._rest, AGAIN), AGAIN_AT_MOST)
        self.resting_until = now + self._rest

    def wake(self) -> None:
        """Say that more connections did help."""
        self._rest = 0.0


class Widths:
    """All registries of this process; a registry is forgotten with what it taught us."""

    def __init__(self) -> None:
        self._known: dict[str, Width] = {}

    def of(self, registry: str) -> Width:
        """What is known of this registry."""
        return self._known.setdefault(registry, Width())


class Growth:
    """The connections of one blob; ``now`` (seconds) is an argument.

    A step has two parts as long as one another: in the first the new connections come up to their
    speed, in the second it is measured.
    """

    def __init__(self, width: Width, limit: int, now: float) -> None:
        self._width = width
        self._limit = max(1, limit)
        self.count = min(width.start(now), self._limit)
        #: What came a second with half the connections; None where that was not tried.
        self._before: float | None = None
        # What a first connection brings is looked at from its first byte: there is none to add to.
        self._settled = self.count == 1
        self._began, self._base = now, width.received

    def came(self, now: float, *, busy: int) -> bool:
        """Bytes have come (``Width.received`` has them): whether ``count`` is another one now.

        ``busy`` is how many connections the blob has: the speed of fewer than ``count`` tells
        nothing.
        """
        if busy < self.count:
            self._settled, self._began, self._base = False, now, self._width.received
            return False
        seconds, received = now - self._began, self._width.received - self._base
        if not _enough(received, seconds, self.count):
            return False
        if not self._settled:
            self._settled = True
            self._began, self._base = now, self._width.received
            return False
        return self._judge(received / seconds, now)

    def hindered(self, now: float) -> bool:
        """A connection beside others brought nothing: whether ``count`` is another one now."""
        if self.count == 1:
            return False
        self._fall_back(now)
        return True

    def _judge(self, rate: float, now: float) -> bool:
        if self._before is not None:
            if rate < GAIN * self._before:
                if now - self._began < DOUBT:
                    return False
                self._fall_back(now)
                return True
            self._width.wake()
        self._width.helped(self.count, now)
        fast = rate >= FAST_ENOUGH * self.count or rate >= ALL_FAST
        if fast or self.count >= self._limit or now < self._width.resting_until:
            self._measure_anew(self.count, now, before=None)
            return False
        self._measure_anew(min(2 * self.count, self._limit), now, before=rate)
        return True

    def _fall_back(self, now: float) -> None:
        self._width.rest(now)
        self._measure_anew(-(-self.count // 2), now, before=None)
        self._width.helped(self.count, now)

    def _measure_anew(self, count: int, now: float, *, before: float | None) -> None:
        self._settled, self._before, self.count = count == self.count, before, count
        self._began, self._base = now, self._width.received


def _enough(received: int, seconds: float, count: int) -> bool:
    """Whether so much, in so long, says how fast so many connections are."""
    if seconds < MOMENT or received < LEAST_SAMPLE:
        return False
    return received >= SAMPLE * count or seconds >= SAMPLE_SECONDS
