"""What can go wrong with content or with the disk that holds it.

Every class carries two facts for the edges of the program, and only the edges read them:
``exit_code`` (what a command ends with) and ``code`` (what a registry answer says,
distribution specification 1.1, "Error Codes").
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar


class Fault(Exception):
    """The root of every error this project raises on purpose; its text is one clear line."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "UNKNOWN"


class CacheError(Fault):
    """Content or disk is at fault."""


class DigestInvalid(CacheError):
    """Raised when a text is not a digest of an algorithm we know."""

    exit_code = 64
    code = "DIGEST_INVALID"


class DigestMismatch(CacheError):
    """Raised when bytes do not hash to the digest they were asked by."""

    exit_code = 5
    code = "DIGEST_INVALID"


class SizeMismatch(CacheError):
    """Raised when content is shorter or longer than its descriptor says."""

    exit_code = 5
    code = "SIZE_INVALID"


class BlobNotFound(CacheError):
    """Raised when a digest is asked for that the store does not hold."""

    exit_code = 2
    code = "BLOB_UNKNOWN"


class NameNotFound(CacheError):
    """Raised when a name is asked for that the store does not know."""

    exit_code = 2
    code = "MANIFEST_UNKNOWN"


class PinNotFound(CacheError):
    """Raised when a pin is to be ended that the store does not know."""

    exit_code = 2
    code = "NAME_UNKNOWN"


class PatternInvalid(CacheError):
    """Raised when a text is no pattern of names; says what one looks like."""

    exit_code = 64
    code = "NAME_INVALID"


class Pinned(CacheError):
    """Raised when the last name of pinned content is to be taken away; says who has pinned it."""


class IngestAborted(CacheError):
    """Raised to everyone who follows an ingest that was given up; its cause says why."""


class StoreLocked(CacheError):
    """Raised when another process writes to this cache root; names the holder."""


class StoreUnusable(CacheError):
    """Raised when the cache root cannot be created, read or written, or is not one of ours."""


class DiskFull(CacheError):
    """Raised when a write failed for want of space or quota; what was committed is kept."""


class QuotaExceeded(DiskFull):
    """Raised when a user's images hold as much as they may; says how much, and what is needed."""

    code = "DENIED"


#: What the system says when there is no room, or none left to this user.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def os_faults(path: Path, kind: type[Fault]) -> Iterator[None]:
    """Give every OSError of the block as one line about this path. Raises DiskFull and ``kind``."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        if error.errno in FULL:
            raise DiskFull(f"{path}: {reason}; free some space and try again") from error
        raise kind(f"{path}: {reason}") from error
