"""Batch: the bytes of one connection on their way to the file, one thread hop of them at a time."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from cache.errors import SizeMismatch
from cache.ingest import Ingest

#: Bytes a thread hop takes: hashing and writing 1 MiB costs far more than the hop itself.
HOP = 1 << 20
#: A slow stream is written out this often (seconds), so that those who read along see it.
FLUSH = 0.005


class Batch:
    """The bytes of one connection on their way to the file, one hop of them at a time."""

    def __init__(self, ingest: Ingest, at: int) -> None:
        self._ingest = ingest
        self._at = at
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._hop: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def add(self, piece: bytes) -> None:
        """Take bytes that follow; waits only while a whole hop of them is under way already."""
        self._pieces.append(piece)
        self._gathered += len(piece)
        if self._gathered >= HOP:
            await self._settle()
            self._hop = self._write()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH, self._flush)

    async def finish(self) -> None:
        """Write what is left. Raises why a write failed, this one or an earlier one."""
        if self._timer is not None:
            self._timer.cancel()
        await self._settle()
        if self._pieces:
            await self._write()

    def _flush(self) -> None:
        # What came is to be seen, even if nothing follows for a long time.
        self._timer = None
        if not self._pieces or self._ingest.ended:
            return
        if self._hop is None:
            with suppress(SizeMismatch):  # too much came: whoever comes next is told
                self._hop = self._write()
        else:
            self._timer = asyncio.get_running_loop().call_later(FLUSH, self._flush)

    async def _settle(self) -> None:
        if self._hop is not None and not self._hop.cancelled():
            await self._hop
        self._hop = None

    def _write(self) -> asyncio.Future[None]:
        hop = self._ingest.write(self._at, self._pieces)
        self._at, self._pieces, self._gathered = self._at + self._gathered, [], 0
        hop.add_done_callback(self._written)
        return hop

    def _written(self, done: asyncio.Future[None]) -> None:
        # One that failed stays, so that whoever comes next is told.
        if done is self._hop and (done.cancelled() or done.exception() is None):
            self._hop = None
