"""Several copies to one repository at once: each thing is moved by one of them, and seen by all.

Some registries write small files in place: who puts an index while somebody puts one of its
manifests once more is told that the manifest is unknown, or not what it should be.

Invariants:
- who comes second waits for the first, and tries itself when that one has failed;
- several turns are taken in the order of their digests, so that nobody waits in a circle.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final, Protocol

from cache.content import Digest


class Turns(Protocol):
    """Who may move what, and what is known to be there."""

    def of(self, digest: Digest, below: Iterable[Digest] = ()) -> AbstractAsyncContextManager[bool]:
        """Within this block nobody else moves this, or what is below it; whether it is there."""


class SharedTurns:
    """The turns of all copies of one run to one repository."""

    def __init__(self) -> None:
        self._locks: dict[Digest, asyncio.Lock] = {}
        self._there: set[Digest] = set()

    @asynccontextmanager
    async def of(self, digest: Digest, below: Iterable[Digest] = ()) -> AsyncIterator[bool]:
        """It is there when a block before this one has ended well."""
        async with AsyncExitStack() as taken:
            for each in sorted({digest, *below}, key=str):
                await taken.enter_async_context(self._locks.setdefault(each, asyncio.Lock()))
            yield digest in self._there
            self._there.add(digest)


class _NoTurns:
    """Nobody else copies to the same place: nobody waits, and nothing is known."""

    @asynccontextmanager
    async def of(self, digest: Digest, below: Iterable[Digest] = ()) -> AsyncIterator[bool]:
        """Nothing is known to be there."""
        yield False


EVERYONE_AT_ONCE: Final[Turns] = _NoTurns()
