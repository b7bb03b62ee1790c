"""An event loop that does not wait: when nothing else happens, its time goes on to the next timer.

Threads are given a moment first, so that what they do seems to take no time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from typing_extensions import override

T = TypeVar("T")

#: How long (seconds) threads have before time is moved on.
MOMENT = 0.003


class _Hasty(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0

    @override
    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= MOMENT:
            return super().select(timeout)
        ready = super().select(MOMENT)
        if not ready:
            self.ahead += timeout
        return ready


class TravelLoop(asyncio.SelectorEventLoop):
    """The loop; its ``time`` runs ahead of everybody's."""

    def __init__(self) -> None:
        self._hasty = _Hasty()
        super().__init__(self._hasty)

    @override
    def time(self) -> float:
        return super().time() + self._hasty.ahead


def travel(story: Coroutine[Any, Any, T]) -> T:
    """Run this on such a loop."""
    with asyncio.Runner(loop_factory=TravelLoop) as runner:
        return runner.run(story)
