"""Trickle: whether bytes come so slowly that it is worth waiting until more of them are here. Pure.

To take bytes costs about the same for few as for many. A stream that is slow anyway is therefore
taken in larger steps: nobody has its bytes much later, and a node with many such streams has its
processor for other things (with 16 nodes on 2 cores it was busy with nothing else).
"""

from __future__ import annotations

from collections.abc import Callable

#: Bytes a second below which a stream is slow.
SLOW = 4 << 20
#: Seconds until that is judged: the first bytes are waited for by others.
AFTER = 0.3
#: Seconds to wait between two steps; and the bytes that are worth a step of their own.
PAUSE = 0.1
ENOUGH = 256 << 10


class Trickle:
    """One stream; its first bytes are about to come."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._came = 0

    def pause(self, count: int) -> float:
        """Told of bytes that came: how many seconds to wait before more are taken, mostly 0."""
        self._came += count
        took = self._clock() - self._began
        slow = took >= AFTER and self._came < SLOW * took
        return PAUSE if slow and count < ENOUGH else 0.0
