"""Arrival: the bytes of one peer's answer on their way to the file.

Invariants:
- receiving and writing overlap: one thread hop is under way while the next bytes come in, never
  more, so an answer needs about two hops of memory;
- the first bytes are written at once, for others wait for them; then in hops of ``HOP``, or what
  has come in ``FLUSH`` seconds;
- what came is kept, also when the answer breaks off or nobody wants it any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from cache.errors import CacheError
from cache.ingest import Ingest

#: Bytes a thread hop takes: writing 1 MiB costs far more than the hop itself.
HOP = 1 << 20
#: A slow answer is written out this often (seconds), so that those who read along see it. Longer
#: than for a registry's answers: sixteen of them may flow at the same time.
FLUSH = 0.1


class Arrival:
    """Writes what is added; ``wrote`` is told how far, by the offset in the blob."""

    def __init__(self, ingest: Ingest, at: int, wrote: Callable[[int], None]) -> None:
        self._ingest = ingest
        self._at = at
        self._wrote = wrote
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._begun = False
        self._hop: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def add(self, piece: bytes) -> None:
        """Take bytes that follow; waits only while a whole hop of them is under way already.

        Raises DiskFull, StoreUnusable, SizeMismatch and IngestAborted.
        """
        self._pieces.append(piece)
        self._gathered += len(piece)
        if not self._begun or self._gathered >= HOP:
            await self._settle()
            self._write()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH, self._flush)

    async def finish(self) -> None:
        """Write what is left. Raises as ``add`` does, for earlier bytes too."""
        if self._timer is not None:
            self._timer.cancel()
        await self._settle()
        if self._pieces:
            self._write()
            await self._settle()

    def _flush(self) -> None:
        self._timer = None
        if not self._pieces or self._ingest.ended:
            return
        if self._hop is None:
            with suppress(CacheError):  # whoever comes next is told
                self._write()
        else:
            self._timer = asyncio.get_running_loop().call_later(FLUSH, self._flush)

    async def _settle(self) -> None:
        hop = self._hop
        if hop is not None and not hop.cancelled():
            await hop
        self._hop = None

    def _write(self) -> None:
        hop = self._ingest.write(self._at, self._pieces, checked=False)
        self._begun = True
        self._at, self._pieces, self._gathered = self._at + self._gathered, [], 0
        self._hop, reached = hop, self._at
        hop.add_done_callback(lambda done: self._written(done, reached))

    def _written(self, done: asyncio.Future[None], reached: int) -> None:
        if done.cancelled() or done.exception() is not None:
            return  # one that failed stays, so that whoever comes next is told
        if done is self._hop:
            self._hop = None
        self._wrote(reached)
