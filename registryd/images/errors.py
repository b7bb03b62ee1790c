"""What can go wrong with images that are kept as files."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from cache.errors import Fault, os_faults


class NotAnImage(Fault):
    """Raised when a path does not hold what its form promises; says what it lacks."""


class PathUnusable(Fault):
    """Raised when a file or folder cannot be created, read or written; says which and why."""


class NotMade(Fault):
    """Raised when a program that makes a file for us failed; says what it said."""


def path_faults(path: Path) -> AbstractContextManager[None]:
    """Give every OSError of the block as one line. Raises DiskFull, PathUnusable."""
    return os_faults(path, PathUnusable)
