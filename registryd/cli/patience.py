"""Waiting for another process that works on the same cache, where there is no daemon.

One process writes to a cache root, so commands that are begun at once, as by a shell's loop or by
``make``, have to take turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from cache.errors import StoreLocked

#: Seconds: a large image is fetched and made a squashfs in this time.
LIMIT: Final = 600.0
#: How often (seconds) we look whether it is our turn, and after how many looks we say so.
STEP: Final = 0.1
QUIET: Final = 10

_T = TypeVar("_T")


def in_turn(
    act: Callable[[], _T], told: Callable[[str], None], wait: Callable[[float], None] = time.sleep
) -> _T:
    """What ``act`` gives, as soon as nobody else has the cache. Raises what it raises."""
    for look in range(round(LIMIT / STEP)):
        try:
            return act()
        except StoreLocked as locked:
            if look == QUIET:
                told(f"waiting: {str(locked).partition(';')[0]}")
        wait(STEP)
    return act()
