"""Reading a blob's file from the disk again, step by step in threads, to see what it hashes to.

Invariants:
- bytes come from the disk, not from the kernel's memory of it, and are not kept there after;
- a small file is one step: opened, read and closed in one hop;
- the file is closed once, after the step that uses it.
"""

from __future__ import annotations

import os
import threading

from cache.content import Digest
from cache.files import Files

#: Bytes that one step hashes unless it is told otherwise, and that are read at a time.
HOP, READ = 16 << 20, 1 << 20


class Reading:
    """One blob's file on its way through a hash; its methods block."""

    def __init__(self, files: Files, digest: Digest) -> None:
        self.at = 0
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

    def step(self, count: int = HOP) -> bool:
        """Hash the next bytes; whether there may be more.

        Raises BlobNotFound, StoreUnusable, OSError.
        """
        with self._lock:
            if self._over:
                return False
            done = 0
            try:
                if self._fd < 0:
                    self._fd = self._files.open_blob(self._digest)
                    os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
                while done < count:
                    piece = os.pread(self._fd, min(READ, count - done), self.at + done)
                    if not piece:
                        break
                    self._hasher.update(piece)
                    done += len(piece)
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
