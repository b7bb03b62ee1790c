"""A blob that arrives in memory: it keeps the promises of ``cache.ingest`` without file or thread.

Each act happens at once, so none of it can be cancelled in the middle.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cache.chunks import ChunkMap
from cache.content import Digest, verify
from cache.errors import CacheError, IngestAborted, SizeMismatch
from cache.ingest import HELD_BACK


class MemoryIngest:
    """One arriving blob; made by ``MemoryStore``."""

    def __init__(self, key: str, expected: Digest | None, left: MemoryIngest | None = None) -> None:
        self.key = key
        self.expected = expected
        self.size: int | None = left.size if left else None
        self.held: ChunkMap = ChunkMap(left.held.ranges if left else ())
        self.content: bytearray = bytearray(left.content if left else b"")
        self.committed = False
        self.error: BaseException | None = None
        self._news = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen here."""
        return self.committed or self.error is not None

    def announce(self, size: int) -> None:
        """Say how large the whole is. Raises SizeMismatch."""
        if len(self.content) > size or self.size not in (None, size):
            raise SizeMismatch(f"{self.key}: {size} bytes announced, {len(self.content)} are here")
        self.size = size
        self._tell()

    def write(self, offset: int, pieces: Sequence[bytes]) -> asyncio.Future[None]:
        """Take in bytes that are not here yet. Raises SizeMismatch and IngestAborted."""
        self.raise_if_ended()
        content = b"".join(pieces)
        stop = offset + len(content)
        if self.size is not None and stop > self.size:
            raise SizeMismatch(f"{self.key}: more bytes came than the {self.size} announced")
        self.content.extend(bytes(max(0, stop - len(self.content))))
        for start, end in self.held.missing(offset, stop):
            self.content[start:end] = content[start - offset : end - offset]
            self.held.add(start, end)
        self._tell()
        written = asyncio.get_running_loop().create_future()
        written.set_result(None)
        return written

    def goal(self, digest: Digest | None) -> Digest:
        """What this is to be committed as. Raises ValueError."""
        goal = digest or self.expected
        if goal is None or self.expected not in (None, goal):
            raise ValueError(f"{self.key} cannot be committed as {goal}")
        return goal

    def prove(self, goal: Digest) -> bytes:
        """The whole, proven. Raises SizeMismatch and DigestMismatch."""
        size = len(self.content) if self.size is None else self.size
        if self.held.total != size:
            raise SizeMismatch(f"{self.key}: {self.held.total} bytes came, {size} were expected")
        content = bytes(self.content)
        verify(content, goal, size)
        return content

    def end(self, cause: BaseException | None = None) -> None:
        """It is over: committed, or given up for this cause; who follows is told."""
        self.error = cause
        self.committed = cause is None
        self.size = len(self.content) if self.committed else self.size
        self._tell()

    @asynccontextmanager
    async def follow(self, start: int = 0, stop: int | None = None) -> AsyncIterator[MemoryReading]:
        """Read along, from the moment at which the size is known. Raises IngestAborted."""
        self.raise_if_aborted()
        while self.size is None:
            await self.changed()
        end = self.size if stop is None else min(stop, self.size)
        yield MemoryReading(self, start, end)

    async def changed(self) -> None:
        """Wait until something happens. Raises as ``raise_if_aborted`` does."""
        await self._news.wait()
        self.raise_if_aborted()

    def shown(self, start: int) -> int:
        """How far a reader at ``start`` may read: the last bytes only when they are proven."""
        self.raise_if_aborted()
        size = self.size or 0
        limit = size if self.committed else size - HELD_BACK
        return max(start, min(self.held.reach(start), limit))

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def raise_if_aborted(self) -> None:
        """Raises what ended this, or IngestAborted with it as its cause."""
        if isinstance(self.error, CacheError):
            raise self.error
        if self.error is not None:
            raise IngestAborted(f"{self.key}: {self.error}") from self.error

    def raise_if_ended(self) -> None:
        """Raises the same, and IngestAborted when this was committed."""
        self.raise_if_aborted()
        if self.committed:
            raise IngestAborted(f"{self.key} has ended")


@dataclass
class MemoryReading:
    """A reader at its own pace; iterated once, for what can be read now."""

    ingest: MemoryIngest
    start: int
    stop: int

    @property
    def fd(self) -> bytearray:
        """What to read from."""
        return self.ingest.content

    async def __aiter__(self) -> AsyncIterator[tuple[int, int]]:
        at = self.start
        while at < self.stop:
            reach = min(self.ingest.shown(at), self.stop)
            if reach == at:
                await self.ingest.changed()
                continue
            yield at, reach - at
            at = reach
