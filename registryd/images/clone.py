"""Files copied by the kernel: shared blocks where the file system can, else bytes that stay in it.

Invariant: the copy has its name when it is whole and on disk; a failure leaves nothing.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from registryd.images.files import HOP, cloned, placed, write_all

#: The kernel's own copy ends with what it cannot do between these two files.
_CANNOT: Final = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM}
)


def copy_out(source: int, path: Path, *, before: bytes = b"", mode: int = 0o666) -> int:
    """Write all of an open file to a path, in place of one that is there; how many bytes it has.

    ``before`` stands before it there. Raises DiskFull, PathUnusable.
    """
    with placed(path, mode) as target:
        size = os.fstat(source).st_size
        if before or not cloned(source, target):
            write_all(target, before)
            _copy_range(source, target, size)
    return len(before) + size


def _copy_range(source: int, target: int, size: int) -> None:
    """Append the first bytes of one file to another. Raises OSError."""
    at = 0
    try:
        while at < size:
            count = os.copy_file_range(source, target, size - at, at)
            if not count:
                break
            at += count
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    while at < size:
        piece = os.pread(source, min(HOP, size - at), at)
        if not piece:
            raise OSError(errno.EIO, "the file has become shorter while it was read")
        write_all(target, piece)
        at += len(piece)
