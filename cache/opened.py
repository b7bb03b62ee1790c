"""Opened: which files somebody has open, in whatever process (Linux leases, fcntl(2) F_SETLEASE).

The kernel grants a write lease only on a file that nobody else has open; where it cannot tell
(another's file, a network file system), nobody is said to have. A file that has another name too
(the gateway keeps images so) counts as open: its bytes would stay on the disk.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cache.content import Digest
from cache.layout import blob_path


def opened(root: Path, digests: Iterable[Digest]) -> set[Digest]:
    """Those of these blobs whose files are open now, or have another name; blocks."""
    return {digest for digest in digests if _is_open(blob_path(root, digest))}


def _is_open(path: Path) -> bool:
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_nlink > 1:
                return True
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError as error:
            return error.errno == errno.EAGAIN
        finally:
            os.close(fd)
    return False
