"""Time and chance as values, so that rules about waiting can be proven without waiting."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """What the client knows of time: a clock for intervals, one for dates, sleep and chance."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    #: A number in [0, 1); spreads waits apart, guards nothing.
    chance: Callable[[], float] = random.random
