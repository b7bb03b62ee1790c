"""One arriving blob for the tests of ``Ingest``: its content, its ingest, its readers."""

import asyncio
import os
from contextlib import asynccontextmanager

import pytest

from cache.content import Digest
from cache.errors import StoreUnusable
from cache.ingest import HELD_BACK, Ingest
from cache.layout import ingest_key
from tests.cache.samples import noise

CONTENT = noise(HELD_BACK * 3 + 11)
DIGEST = Digest.of(CONTENT)
SIZE = len(CONTENT)
#: How much of it may be seen before it is proven.
SHOWN = SIZE - HELD_BACK


@asynccontextmanager
async def begun(files, workers, digest=DIGEST, key=None):
    """An ingest, given up at the end unless it has ended."""
    ingest = Ingest(key or ingest_key(digest), files, workers, expected=digest)
    await ingest.open()
    try:
        yield ingest
    finally:
        await ingest.abort(StoreUnusable("the test has ended"))


class Reader:
    """A follower at its own pace, which remembers what it got."""

    def __init__(self, ingest, start=0, stop=None, **rule):
        self.got = bytearray()
        self._news = asyncio.Event()
        self._task = asyncio.ensure_future(self._read(ingest, start, stop, rule))

    async def _read(self, ingest, start, stop, rule):
        async with ingest.follow(start, stop, **rule) as follower:
            async for offset, count in follower:
                assert start + len(self.got) == offset
                self.got += os.pread(follower.fd, count, offset)
                self._news.set()

    async def reaches(self, count):
        """Wait until so many bytes have come."""
        while len(self.got) < count:
            await self._news.wait()
            self._news.clear()

    async def end(self):
        """Everything that came, when there is no more."""
        await self._task
        return bytes(self.got)

    async def leave(self):
        """Stop reading."""
        self._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._task
