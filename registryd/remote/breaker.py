"""The circuit breaker of a host: when one that fails is left alone, and when it is tried again.

Invariants:
- a rule of values: the moment comes in as an argument (monotonic seconds);
- a host is left alone after ``LIMIT`` failures in a row, each time for longer, never for ever;
- then it gets one try: while that is under way, and after it has failed, others stay away.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

#: Failures in a row after which a host is left alone.
LIMIT = 3
#: Seconds for which it is left alone first; each failed try doubles them, up to the longest.
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0
#: Hosts that are remembered; the one that failed longest ago is forgotten first.
KEPT = 1024


@dataclass(frozen=True, slots=True)
class Breaker:
    """What is remembered of a host that has failed: how often in a row, until when, and why."""

    failures: int = 0
    until: float = 0.0
    cause: str = ""

    def admits(self, now: float) -> bool:
        """Whether the host may be asked."""
        return self.failures < LIMIT or now >= self.until

    def failed(self, now: float, cause: str) -> Breaker:
        """The breaker after one more failure."""
        failures = self.failures + 1
        pause = pause_after(failures)
        return Breaker(failures, now + pause if pause else 0.0, cause)

    def tried(self, now: float) -> Breaker:
        """The breaker while the one try is under way."""
        pause = pause_after(self.failures)
        return replace(self, until=now + pause) if pause else self


def pause_after(failures: int) -> float:
    """Seconds to leave a host alone after so many failures in a row."""
    if failures < LIMIT:
        return 0.0
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - LIMIT, 30))


class Breakers:
    """The breakers of all hosts of this process, by their names."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._breakers: OrderedDict[str, Breaker] = OrderedDict()

    def admits(self, host: str) -> bool:
        """Whether the host may be asked; changes nothing."""
        return self._breakers.get(host, Breaker()).admits(self._now())

    def enter(self, host: str) -> bool:
        """Whether the host may be asked now; of those who wait for it, one is let through."""
        breaker = self._breakers.get(host)
        if breaker is None:
            return True
        now = self._now()
        if not breaker.admits(now):
            return False
        self._breakers[host] = breaker.tried(now)
        return True

    def failed(self, host: str, cause: str) -> None:
        """The host could not be reached, broke off, or has failed by its own word."""
        self._breakers[host] = self._breakers.get(host, Breaker()).failed(self._now(), cause)
        self._breakers.move_to_end(host)
        while len(self._breakers) > KEPT:
            self._breakers.popitem(last=False)

    def worked(self, host: str) -> None:
        """The host has answered as a registry does."""
        self._breakers.pop(host, None)

    def left_alone(self) -> list[tuple[str, float, str]]:
        """The hosts that are left alone now: name, seconds until the next try, cause."""
        now = self._now()
        return [
            (host, breaker.until - now, breaker.cause)
            for host, breaker in self._breakers.items()
            if not breaker.admits(now)
        ]
