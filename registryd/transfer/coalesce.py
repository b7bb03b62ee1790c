"""Coalesce: callers who ask the same thing at the same time share one answer.

Invariants:
- one caller works, the others wait; an answer and an error go to all of them;
- when the one who works is cancelled, one of the others takes over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Coalesce(Generic[T]):
    """Calls under way, by key."""

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Future[T]] = {}

    def runs(self, key: Hashable) -> bool:
        """Whether a call with this key is under way, to be shared by who asks now."""
        return key in self._running

    async def once(self, key: Hashable, act: Callable[[], Awaitable[T]]) -> T:
        """The result of ``act``, or of the call with this key that is under way already."""
        while (running := self._running.get(key)) is not None:
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not running.cancelled() or (task and task.cancelling()):
                    raise
        return await self._lead(key, act)

    async def _lead(self, key: Hashable, act: Callable[[], Awaitable[T]]) -> T:
        answer = self._running[key] = asyncio.get_running_loop().create_future()
        try:
            result = await act()
        except asyncio.CancelledError:
            answer.cancel()
            raise
        except BaseException as error:
            answer.set_exception(error)
            answer.exception()  # it may be that nobody waits
            raise
        finally:
            del self._running[key]
        answer.set_result(result)
        return result
