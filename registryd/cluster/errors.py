"""What can go wrong between the nodes of a cluster."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cache.errors import DiskFull, Fault

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class IdentityUnusable(Fault):
    """Raised when a certificate or key of ours cannot be used, read or written; names the file."""


class PeerRefused(Fault):
    """Raised when the other side has not proven to be the member that it should be, or no member.

    Also when it refuses us, for whatever we have shown.
    """

    exit_code = 3
    code = "DENIED"


@contextmanager
def file_faults(path: Path) -> Iterator[None]:
    """Give every OSError of the block as one line. Raises DiskFull, IdentityUnusable."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        if error.errno in _FULL:
            raise DiskFull(f"{path}: {reason}; free some space and try again") from error
        raise IdentityUnusable(f"{path}: {reason}") from error
