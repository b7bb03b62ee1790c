"""Time for rates: it stands still but for the jumps that a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from registryd.rates import Rates, Timer


class Timed:
    """A time of its own; ``now`` in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def later(self, seconds: float, act: Callable[[], None]) -> Timer:
        raise NotImplementedError

    def rates(
        self, up: int = 0, down: int = 0, registries: Mapping[str, int] | None = None
    ) -> Rates:
        """Rates in this time."""
        return Rates(up, down, registries, clock=self.clock, later=self.later)


class Jumps(Timed):
    """Time that jumps on by itself to whatever was to happen next."""

    def later(self, seconds: float, act: Callable[[], None]) -> Timer:
        def jump() -> None:
            self.now = max(self.now, at)
            act()

        at = self.now + seconds
        return asyncio.get_running_loop().call_soon(jump)


class Standing(Timed):
    """Time that passes when the test says so; ``timers`` are those that will ring."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: list[Ring] = []

    def later(self, seconds: float, act: Callable[[], None]) -> Timer:
        self.timers.append(Ring(self, self.now + seconds, act))
        return self.timers[-1]

    def pass_by(self, seconds: float) -> None:
        """Let time pass, and everything happen when it is due."""
        until = self.now + seconds
        while due := [ring for ring in self.timers if ring.at <= until]:
            first = min(due, key=lambda ring: ring.at)
            self.now = max(self.now, first.at)
            first.cancel()
            first.act()
        self.now = until


class Ring:
    """A timer of a time that stands still."""

    def __init__(self, time: Standing, at: float, act: Callable[[], None]) -> None:
        self.time, self.at, self.act = time, at, act

    def cancel(self) -> None:
        if self in self.time.timers:
            self.time.timers.remove(self)
