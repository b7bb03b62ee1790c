"""Several copies to one repository at once: each blob is moved by one of them, and seen by all.

Invariant: who comes second waits for the first, and tries itself when that one has failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol

from cache.content import Digest


class Turns(Protocol):
    """Who may move what, and what is known to be there."""

    def of(self, digest: Digest) -> AbstractAsyncContextManager[bool]:
        """Within this block nobody else moves the blob; whether it is there already."""


class SharedTurns:
    """The turns of all copies of one run to one repository."""

    def __init__(self) -> None:
        self._locks: dict[Digest, asyncio.Lock] = {}
        self._there: set[Digest] = set()

    @asynccontextmanager
    async def of(self, digest: Digest) -> AsyncIterator[bool]:
        """The blob is there when a block before this one has ended well."""
        async with self._locks.setdefault(digest, asyncio.Lock()):
            yield digest in self._there
            self._there.add(digest)


class _NoTurns:
    """Nobody else copies to the same place: nobody waits, and nothing is known."""

    @asynccontextmanager
    async def of(self, digest: Digest) -> AsyncIterator[bool]:
        """Nothing is known to be there."""
        yield False


EVERYONE_AT_ONCE: Final[Turns] = _NoTurns()
