"""One task beside a block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Final

#: Seconds in which a task that was told to end has ended, unless it has not heard.
AGAIN: Final = 1.0


@asynccontextmanager
async def beside(act: Callable[[], Coroutine[None, None, None]]) -> AsyncIterator[None]:
    """Let this run until the block ends; the block's own error comes out as itself.

    ``act`` answers for its errors: what it raises is raised when the block has ended.
    """
    task = asyncio.create_task(act())
    try:
        yield
    finally:
        while not task.done():  # what a task calls may lose a cancellation: it is said again
            task.cancel()
            await asyncio.wait([task], timeout=AGAIN)
    with suppress(asyncio.CancelledError):
        task.result()
