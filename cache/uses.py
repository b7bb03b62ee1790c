"""Uses: when blobs were last used, remembered in memory and written down in batches.

Invariant: that a use cannot be written down is no reason to refuse a read; it is lost then.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from cache.content import Digest
from cache.errors import DiskFull, StoreUnusable
from cache.hops import RowHop
from cache.index import Index

#: Uses remembered before they are written to the index in one transaction.
TOUCH_BATCH = 256


class Uses:
    """The uses of a store's blobs."""

    def __init__(self, index: Index, rows: RowHop, clock: Callable[[], float]) -> None:
        self._index = index
        self._rows = rows
        self.clock = clock
        self._used: dict[Digest, float] = {}

    async def touch(self, digest: Digest) -> None:
        """Remember a use; off the hot path."""
        self._used[digest] = self.clock()
        if len(self._used) >= TOUCH_BATCH:
            await self.write()

    async def write(self) -> None:
        """Write down what is remembered."""
        used, self._used = self._used, {}
        with suppress(DiskFull, StoreUnusable):
            await self._rows(self._index.touch, used)
