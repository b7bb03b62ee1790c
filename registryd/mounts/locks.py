"""Locks that the kernel lets go of when their holder dies.

Invariant: both kinds belong to an open file, not to a process: whoever inherits the descriptor
holds the lock, until the last of them has closed it or ended.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from registryd.mounts.errors import MountFailed

#: A mount takes some milliseconds; who holds the door for so long (seconds) hangs.
PATIENCE: Final = 30.0
#: How often (seconds) we look whether it is open.
_STEP: Final = 0.005
#: struct flock: type, whence, start, length (0: all), process.
_RECORD: Final = struct.Struct("hhqqi4x")


@contextmanager
def door(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Be the only one who changes what a folder holds. Raises MountFailed."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        until = time.monotonic() + patience
        while not locked(file, fcntl.LOCK_EX):
            if time.monotonic() > until:
                raise MountFailed(
                    f"{folder}: another process has been mounting for {patience:g} s"
                    " (a squashfuse or fusermount3 that hangs: end it)"
                )
            time.sleep(_STEP)
        yield
    finally:
        os.close(file)


def locked(file: int, kind: int) -> bool:
    """Take a flock of this kind, if that can be done at once."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def taken(file: int) -> bool:
    """Whether somebody holds the record lock of a file; asking takes nothing."""
    record = _RECORD.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, record)
    return bool(_RECORD.unpack(answer)[0] != fcntl.F_UNLCK)


def take(file: int) -> bool:
    """Take the record lock of a file, if nobody holds it."""
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, _RECORD.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True
