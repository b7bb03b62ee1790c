"""Hops: work given to threads by tasks that may be cancelled while the thread works.

Invariant: a thread cannot be cancelled, so what it makes is never lost with its caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def hop(
    workers: Executor, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> asyncio.Future[T]:
    """Let a worker thread do this; the future gives what it gives."""
    return asyncio.get_running_loop().run_in_executor(workers, lambda: act(*args, **kwargs))


class RowHop(Protocol):
    """Runs an act in the index's thread; what SQLite raises ends there as an error of ours."""

    def __call__(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """The act's result. Raises StoreUnusable and DiskFull."""


async def taken(making: asyncio.Future[T], undo: Callable[[T], object]) -> T:
    """What a hop makes and its caller has to close; undone when the caller is cancelled first."""
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        making.add_done_callback(lambda made: _undo(made, undo))
        raise


def _undo(made: asyncio.Future[T], undo: Callable[[T], object]) -> None:
    if not made.cancelled() and made.exception() is None:
        undo(made.result())


async def to_its_end(act: Coroutine[Any, Any, T]) -> T:
    """Do this to its end; a caller that is cancelled gets control back only then."""
    task = asyncio.ensure_future(act)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                continue
        if not task.cancelled():
            task.exception()  # nobody waits for it any more
        raise


class Acts:
    """Acts that must not be cut in two: once begun they run to their end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, act: Coroutine[Any, Any, T]) -> T:
        """Do this, and wait for it; a caller that is cancelled leaves it running."""
        task = asyncio.ensure_future(act)
        self._keep(task)
        return await asyncio.shield(task)

    def begin(self, act: Coroutine[Any, Any, None]) -> None:
        """Do this, and let nobody wait for it."""
        self._keep(asyncio.ensure_future(act))

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def ended(self) -> None:
        """Wait until none is running."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))
