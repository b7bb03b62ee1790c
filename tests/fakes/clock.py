"""A clock that a test moves: what sleeps on it goes on at once, and the time has passed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from registryd.remote.clock import Clock


@dataclass
class FakeClock:
    """``now`` in seconds, and the sleeps that were asked for."""

    now: float = 1_000_000.0
    chance: float = 0.5
    slept: list[float] = field(default_factory=list)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    @property
    def clock(self) -> Clock:
        """This clock as the client takes it."""
        return Clock(lambda: self.now, lambda: self.now, self._sleep, lambda: self.chance)
