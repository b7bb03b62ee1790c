"""Reading one file of a file system that may be slow, stale, or not answer at all.

Invariants:
- nothing but a regular file is opened, and no link is followed in place of one: a pipe under a
  blob's name would hold us, a device would do more;
- a stale handle, and an error that may pass, are tried again for about a second;
- what is read ahead is bounded, and who leaves ends the reading at its next step.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

#: Bytes a read asks for: what a network file system moves at once, and a hop of ours.
READ: Final = 1 << 20
#: Waits (seconds) between tries: a client's view of a folder that was just written is late, and
#: the handle of a file that was just replaced is stale.
WAITS: Final = (0.05, 0.2, 0.5)
#: Pieces that are read ahead of whoever takes them.
AHEAD: Final = 2

#: What another try may mend: a handle that went stale, a server that stumbled.
_AGAIN: Final = frozenset({errno.ESTALE, errno.EIO, errno.ENOENT, errno.EAGAIN, errno.EINTR})
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR})


class LowerFailed(Exception):
    """Raised when a lower store does not give what it was asked for; says why."""


class LowerAbsent(LowerFailed):
    """Raised when a file is not there."""


class Reader:
    """One file, read by a thread from its first byte to its last."""

    def __init__(self, path: Path, *, limit: int | None, expected: bool) -> None:
        self._path = path
        self._limit = limit
        self._expected = expected
        self._loop = asyncio.get_running_loop()
        self._room = threading.Semaphore(AHEAD)
        self._left = False
        #: Since when (time.monotonic) the file system has been asked; None when it is not.
        self.asking: float | None = None
        #: (size, modified) first, then pieces, None at the end; or why there is no more.
        self.said: asyncio.Queue[tuple[int, float] | bytes | LowerFailed | None] = asyncio.Queue()

    def leave(self) -> None:
        """Nobody takes any more."""
        self._left = True
        self._room.release()

    def taken(self) -> None:
        """A piece was taken."""
        self._room.release()

    def run(self, act: Callable[[Reader], None]) -> None:
        """Do this, and say how it ended; in a thread of its own."""
        self.asking = time.monotonic()
        try:
            act(self)
            self.say(None)
        except LowerFailed as failed:
            self.say(failed)
        except OSError as error:
            self.say(LowerFailed(_reason(error)))
        finally:
            self.asking = None

    def read(self) -> None:
        """Say size and time of change, then all bytes."""
        file, status = self._open()
        self.say((status.st_size, status.st_mtime))
        self._read(file, status.st_size)

    def look(self) -> None:
        """Say which version of the file there is."""
        status = os.stat(self._path)
        self.say((status.st_ino, float(status.st_mtime_ns)))

    def _read(self, file: int, size: int) -> None:
        at = 0
        try:
            while at < size:
                self.asking = None
                self._room.acquire()
                if self._left:
                    return
                self.asking = time.monotonic()
                for wait in (*WAITS, None):
                    try:
                        piece = os.pread(file, min(READ, size - at), at)
                    except OSError as error:
                        if wait is None or error.errno not in _AGAIN:
                            raise
                        # What has this name now is the same by its digest, whatever file it is.
                        os.close(file)
                        file = -1
                        time.sleep(wait)
                        file, _ = self._open()
                        continue
                    if not piece:
                        raise LowerFailed(f"ends at byte {at} of {size}, cut while it was read")
                    at += len(piece)
                    self.say(piece)
                    break
        finally:
            if file >= 0:
                os.close(file)

    def _open(self) -> tuple[int, os.stat_result]:
        file = self._opened()
        status = os.fstat(file)
        unfit = "" if stat.S_ISREG(status.st_mode) else "is not a regular file"
        if self._limit is not None and status.st_size > self._limit:
            unfit = f"has {status.st_size} bytes, at most {self._limit} are read here"
        if unfit:
            os.close(file)
            raise LowerFailed(unfit)
        return file, status

    def _opened(self) -> int:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        waits = list(WAITS)
        while True:
            try:
                return os.open(self._path, flags)
            except OSError as error:
                absent = error.errno in _ABSENT
                hopeless = error.errno not in _AGAIN or (absent and not self._expected)
                if (hopeless or not waits) and absent:
                    raise LowerAbsent(_reason(error)) from None
                if hopeless or not waits:
                    raise
            self._look_again()
            time.sleep(waits.pop(0))

    def _look_again(self) -> None:
        """Have NFS ask its server what is in the folder: that is what opening one means there."""
        try:
            os.close(os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError:
            return  # the next try says it

    def say(self, what: tuple[int, float] | bytes | LowerFailed | None) -> None:
        """Tell whoever takes."""
        with suppress(RuntimeError):  # the loop has ended while we were stuck
            self._loop.call_soon_threadsafe(self.said.put_nowait, what)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
