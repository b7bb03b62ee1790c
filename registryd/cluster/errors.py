"""What can go wrong between the nodes of a cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from cache.errors import Fault, os_faults


class IdentityUnusable(Fault):
    """Raised when a certificate or key of ours cannot be used, read or written; names the file."""


class PeerRefused(Fault):
    """Raised when the other side has not proven to be the member that it should be, or no member.

    Also when it refuses us, for whatever we have shown.
    """

    exit_code = 3
    code = "DENIED"


def file_faults(path: Path) -> AbstractContextManager[None]:
    """Give every OSError of the block as one line. Raises DiskFull, IdentityUnusable."""
    return os_faults(path, IdentityUnusable)
