"""Reading a blob's file from the disk again, step by step in threads, to see what it hashes to.

Invariants:
- bytes come from the disk, not from the kernel's memory of it, and are not kept there after (but
  for files of less than ``READ``: to let go of them costs more than to have them);
- a small file is one step: opened, read and closed in one hop;
- the file is closed once, after the step that uses it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from cache.content import Digest
from cache.errors import CacheError
from cache.files import Files

#: Bytes that one step hashes unless it is told otherwise, and that are read at a time.
HOP, READ = 16 << 20, 1 << 20
#: Small files that are read together: enough for the disk to have its pick, and for a hop to be
#: worth it; few enough open files.
TOGETHER = 64


class Reading:
    """One blob's file on its way through a hash; its methods block."""

    def __init__(self, files: Files, digest: Digest, size: int) -> None:
        """``size`` is what it should have: it is not asked for in vain where it ends."""
        self.at = 0
        self._size = size
        self._files = files
        self._digest = digest
        self._hasher = digest.hasher()
        self._fd = -1
        self._over = False
        self._lock = threading.Lock()

    @property
    def hex(self) -> str:
        """What was read so far hashes to."""
        return self._hasher.hexdigest()

    def ahead(self) -> None:
        """Let the disk begin with a small file. Raises BlobNotFound, StoreUnusable, OSError."""
        with self._lock:
            self._open()
            os.posix_fadvise(self._fd, 0, self._size, os.POSIX_FADV_WILLNEED)

    def _open(self) -> None:
        if self._fd < 0:
            self._fd = self._files.open_blob(self._digest)
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def step(self, count: int = HOP) -> bool:
        """Hash the next bytes; whether there may be more.

        Raises BlobNotFound, StoreUnusable, OSError.
        """
        with self._lock:
            if self._over:
                return False
            done = 0
            try:
                self._open()
                if self._size >= READ:  # the disk goes on while this is hashed
                    os.posix_fadvise(self._fd, self.at, 2 * count, os.POSIX_FADV_WILLNEED)
                while done < count:
                    left = max(0, self._size - self.at - done)
                    asked = min(READ, count - done, left + 1)
                    piece = os.pread(self._fd, asked, self.at + done)
                    self._hasher.update(piece)
                    done += len(piece)
                    if len(piece) < asked:  # of a file on a disk: here it ends
                        break
                    if self.at + done > self._size:  # it is too long: that is known by now
                        self.at = os.fstat(self._fd).st_size
                        self._close()
                        return False
                if done >= READ:
                    os.posix_fadvise(self._fd, self.at, done, os.POSIX_FADV_DONTNEED)
                self.at += done
            except BaseException:
                self._close()
                raise
            if done < count:
                self._close()
            return not self._over

    def drop(self) -> None:
        """Read no further."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._over = True
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def groups(sizes: Iterable[tuple[Digest, int]], most: int) -> Iterator[list[tuple[Digest, int]]]:
    """These blobs in their order: the small ones together, ``most`` bytes at once. Pure."""
    group: list[tuple[Digest, int]] = []
    total = 0
    for digest, size in sizes:
        if group and (total + size > most or len(group) == TOGETHER or size >= READ):
            yield group
            group, total = [], 0
        group.append((digest, size))
        total += size
        if size >= READ:
            yield group
            group, total = [], 0
    if group:
        yield group


def right_of(files: Files, blobs: Sequence[tuple[Digest, int]]) -> list[Digest]:
    """Which of these small blobs are what they should be; of the others nothing is said. Blocks.

    The disk is asked for all of them first, so that it need not wait for us in between.
    """
    readings = [(digest, size, Reading(files, digest, size)) for digest, size in blobs]
    right = []
    try:
        for _, _, reading in readings:
            with suppress(CacheError, OSError):
                reading.ahead()
        for digest, size, reading in readings:
            with suppress(CacheError, OSError):
                reading.step(size + 1)
                if reading.at == size and reading.hex == digest.hex:
                    right.append(digest)
    finally:
        for _, _, reading in readings:
            reading.drop()
    return right
