"""Patience: when a transfer that broke goes on, when it is given up, and what is too slow.

Invariants:
- tries are counted only while nothing comes: any progress begins the count anew;
- a connection's speed is judged by the time in which we waited for its source: the time in which
  we let it wait (a limit of bandwidth, a disk) is nobody's fault there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from registryd.config import TransferConfig
from registryd.ports import TransportError

#: Waits (seconds) before the tries that follow a failure without progress; the last one repeats.
PAUSES = (0.0, 0.25, 1.0, 3.0)

Sleep = Callable[[float], Awaitable[None]]


class Patience:
    """The tries of one transfer."""

    def __init__(self, attempts: int, sleep: Sleep = asyncio.sleep) -> None:
        self._attempts = attempts
        self._sleep = sleep
        self._tries = 0

    def broke(self, error: TransportError, *, progress: bool) -> None:
        """Count a break, after ``progress`` or without. Raises the error when it was the last."""
        self._tries = 1 if progress else self._tries + 1
        if self._tries >= self._attempts:
            raise error

    async def pause(self) -> None:
        """Wait before the next try."""
        await self._sleep(PAUSES[min(max(self._tries, 1), len(PAUSES)) - 1])


class LowSpeed:
    """One connection, which must bring ``least`` bytes a second, looked at every ``seconds``.

    Nothing at all is a stall, and another's business. 0 for ``least`` is no limit.
    """

    def __init__(self, least: int, seconds: float) -> None:
        self._least = least
        self._window = seconds
        self._waited = 0.0
        self._came = 0

    @classmethod
    def of(cls, settings: TransferConfig) -> LowSpeed:
        """As it is configured."""
        return cls(settings.low_speed, settings.low_speed_time)

    def check(self, count: int, waited: float, source: str) -> None:
        """So many bytes came after a wait of so many seconds. Raises TransportError: too slow."""
        self._waited += waited
        self._came += count
        if self._waited < self._window:
            return
        if self._came < self._least * self._waited:
            raise TransportError(
                f"{source} sent only {self._came} bytes in {self._waited:.0f} seconds"
            )
        self._waited, self._came = 0.0, 0
