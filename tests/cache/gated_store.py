"""A real store whose hops to threads a test can stop."""

import asyncio
from contextlib import suppress

from cache.errors import StoreLocked
from cache.store import BlobStore
from tests.cache.gates import PATIENCE, GatedExecutor


class GatedStore(BlobStore):
    """``bytes`` moves bytes and files, ``rows`` is the one thread of the index."""

    def __init__(self, files, index, *, clock):
        super().__init__(files, index, clock=clock)
        self._bytes.shutdown()
        self._rows.shutdown()
        self.bytes = self._bytes = GatedExecutor(8)
        self.rows = self._rows = GatedExecutor(1)


async def reopened(root) -> None:
    """Wait until nobody holds the root any more; a store on it opens and closes."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(StoreLocked):
                async with BlobStore.open(root):
                    return
