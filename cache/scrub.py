"""Scrub: blobs read again from the disk, and proven anew.

Invariants:
- what is found to be wrong is given to nobody any more from that moment on;
- it is put aside, not removed: a bad file tells of its disk;
- what is known of it stays (who needs it, whose it is), so that it is fetched again like any other.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cache.content import Digest
from cache.errors import BlobNotFound, StoreUnusable
from cache.files import Files
from cache.hops import Acts, RowHop, taken
from cache.listing import Listing
from cache.passages import Passages

if TYPE_CHECKING:
    from cache.store import BlobStore

#: Bytes that one hop hashes, and that are read at a time.
HOP, READ = 16 << 20, 1 << 20

_log = logging.getLogger(__name__)

#: Told how many bytes of a blob were read, and how many it has.
Moved = Callable[[int, int], None]


class Lose(Protocol):
    """Forgets a blob in the index; gives the names that need it."""

    def __call__(self, digest: Digest) -> list[str]:
        """Blocks."""


@dataclass(frozen=True, slots=True)
class Bad:
    """A blob that was put aside: why, the names of the images that need it, and its file now."""

    digest: Digest
    size: int
    why: str
    names: tuple[str, ...]
    path: str


class Scrub:
    """Re-reads the blobs of a store. Every method raises StoreUnusable and DiskFull."""

    def __init__(
        self,
        store: BlobStore,
        files: Files,
        lose: Lose,
        io: RowHop,
        change: RowHop,
        listing: Listing,
        passages: Passages,
        acts: Acts,
    ) -> None:
        self._store = store
        self._files = files
        self._lose = lose
        self._io = io
        self._change = change
        self._listing = listing
        self._passages = passages
        self._acts = acts

    async def prove(self, digest: Digest, moved: Moved) -> Bad | None:
        """Read a blob again; what was wrong with it, and it is put aside then.

        A blob that goes meanwhile is not wrong.
        """
        size = self._store.held.size(digest)
        if size is None:
            return None
        why = await self._wrong(digest, size, moved)
        if not why or digest not in self._store.held:
            return None
        return await self._acts.run(self._put_aside(digest, size, why))

    async def _wrong(self, digest: Digest, size: int, moved: Moved) -> str:
        """What is wrong with the file of a blob ("": nothing)."""
        try:
            fd = await taken(self._io(self._files.open_blob, digest), os.close)
        except (BlobNotFound, StoreUnusable) as error:
            return str(error)
        hasher, at, more = digest.hasher(), 0, True
        try:
            await self._io(os.posix_fadvise, fd, 0, 0, os.POSIX_FADV_DONTNEED)
            while more:
                count = await self._io(_hash_on, fd, at, hasher.update)
                at, more = at + count, count == HOP
                moved(min(at, size), size)
        except OSError as error:
            return f"it cannot be read: {error.strerror}"
        finally:
            os.close(fd)
        if at != size:
            return f"it has {at} bytes, not {size}"
        found = hasher.hexdigest()
        return "" if found == digest.hex else f"it hashes to {digest.algorithm}:{found}"

    async def _put_aside(self, digest: Digest, size: int, why: str) -> Bad:
        async with self._passages.leaving([digest]):
            self._store.held.drop(digest)
            path = await self._io(self._files.quarantine, digest)
            names = await self._change(self._lose, digest)
        await self._listing.publish()
        _log.error("quarantined: blob=%s file=%s why=%s images=%s", digest, path, why, names)
        return Bad(digest, size, why, tuple(names), path)


def _hash_on(fd: int, at: int, update: Callable[[bytes], object]) -> int:
    """Hash the next stretch of a file, whose pages are not kept; its bytes."""
    done = 0
    while done < HOP and (piece := os.pread(fd, READ, at + done)):
        update(piece)
        done += len(piece)
    os.posix_fadvise(fd, at, done, os.POSIX_FADV_DONTNEED)
    return done
