"""Chunk hashes: what the chunks of blobs hash to, as far as this node has proven it.

Invariants:
- a hash is remembered only of a chunk that was checked, or of a blob that is held;
- few are kept: those of the ``KEPT`` blobs that were asked for last;
- one chunk is hashed once at a time, and at most ``AT_ONCE`` chunks on a node.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from cache.content import Digest

#: Blobs whose chunk hashes are remembered: a blob of 10 GiB has 1,280 of them.
KEPT = 128
#: Threads that hash for peers: on a small machine two leave room for those that write and send.
AT_ONCE = 2
#: Bytes read at once to be hashed.
PIECE = 1 << 20


class ChunkHashes:
    """The hashes that this node can vouch for."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Digest, dict[int, Digest]] = OrderedDict()
        self._working: dict[tuple[Digest, int], asyncio.Future[Digest]] = {}
        self.threads = asyncio.Semaphore(AT_ONCE)

    def find(self, blob: Digest, chunk: int) -> Digest | None:
        """The hash of a chunk, if it is at hand."""
        chunks = self._kept.get(blob)
        return None if chunks is None else chunks.get(chunk)

    def keep(self, blob: Digest, chunk: int, digest: Digest) -> None:
        """Remember the hash of a chunk that was proven."""
        self._kept.setdefault(blob, {})[chunk] = digest
        self._kept.move_to_end(blob)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def forget(self, blob: Digest) -> None:
        """Vouch for nothing of this blob any more."""
        self._kept.pop(blob, None)

    async def make(self, blob: Digest, chunk: int, make: Callable[[], Awaitable[Digest]]) -> Digest:
        """The hash of a chunk of a held blob, made by ``make`` where it is not at hand."""
        key = blob, chunk
        while (working := self._working.get(key)) is not None:
            await asyncio.wait([working])
        found = self.find(blob, chunk)
        if found is not None:
            return found
        done = self._working[key] = asyncio.get_running_loop().create_future()
        try:
            async with self.threads:
                found = await make()
            self.keep(blob, chunk, found)
        finally:
            del self._working[key]
            done.cancel()
        return found


def span_digest(fd: int, start: int, stop: int) -> Digest:
    """The sha256 of ``[start, stop)`` of a file; for a thread. Raises EOFError when it is short."""
    seen = hashlib.sha256()
    while start < stop:
        piece = os.pread(fd, min(PIECE, stop - start), start)
        if not piece:
            raise EOFError("the file is shorter than it was announced")
        seen.update(piece)
        start += len(piece)
    return Digest("sha256", seen.hexdigest())
