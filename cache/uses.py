"""Uses: when blobs were last used, remembered in memory and written down in batches.

Invariant: that a use cannot be written down is no reason to refuse a read; it is lost then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from cache.content import Digest
from cache.errors import DiskFull, StoreUnusable
from cache.hops import Acts, RowHop
from cache.index import Index

#: Uses remembered before they are written to the index in one transaction.
TOUCH_BATCH = 256


class Uses:
    """The uses of a store's blobs."""

    def __init__(self, index: Index, rows: RowHop, acts: Acts, clock: Callable[[], float]) -> None:
        self._index = index
        self._rows = rows
        self._acts = acts
        self.clock = clock
        self._used: dict[Digest, float] = {}
        self._writing = False
        self._turn = asyncio.Lock()

    def touch(self, digest: Digest) -> None:
        """Remember a use; who uses something does not wait until that is written down."""
        self._used[digest] = self.clock()
        if len(self._used) >= TOUCH_BATCH and not self._writing:
            self._writing = True
            self._acts.begin(self._write_full())

    async def _write_full(self) -> None:
        try:
            await self.write()
        finally:
            self._writing = False

    async def write(self) -> None:
        """Write down what is remembered, a batch at a time: other work goes between.

        What somebody else is writing is written by then too.
        """
        async with self._turn:
            used, self._used = list(self._used.items()), {}
            for at in range(0, len(used), TOUCH_BATCH):
                with suppress(DiskFull, StoreUnusable):
                    await self._rows(self._index.touch, dict(used[at : at + TOUCH_BATCH]))
