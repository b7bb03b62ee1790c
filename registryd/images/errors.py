"""What can go wrong with images that are kept as files."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cache.errors import DiskFull, Fault

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class NotAnImage(Fault):
    """Raised when a path does not hold what its form promises; says what it lacks."""


class PathUnusable(Fault):
    """Raised when a file or folder cannot be created, read or written; says which and why."""


@contextmanager
def path_faults(path: Path) -> Iterator[None]:
    """Give every OSError of the block as one line. Raises DiskFull, PathUnusable."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        if error.errno in _FULL:
            raise DiskFull(f"{path}: {reason}; free some space and try again") from error
        raise PathUnusable(f"{path}: {reason}") from error
