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


class PeerFault(Fault):
    """What a peer was asked for did not come from it; another one, or the registry, may have it."""

    exit_code = 6
    code = "UNAVAILABLE"


class PeerGone(PeerFault):
    """Raised when there is no connection to a peer, or it ends before an answer; says why."""


class PeerCut(PeerFault):
    """Raised when a peer's answer ends before it is whole."""


class PeerStalled(PeerFault):
    """Raised when a connection to a peer stays silent for too long."""


class PeerUnknown(PeerFault):
    """Raised for a member that asks and of which this node has not heard yet."""


class PeerWrong(PeerFault):
    """Raised when a peer's answer is not one to what it was asked."""


class NatsAway(Fault):
    """Raised when no server of NATS answers, or the one that did is gone; says why."""

    exit_code = 6
    code = "UNAVAILABLE"


def file_faults(path: Path) -> AbstractContextManager[None]:
    """Give every OSError of the block as one line. Raises DiskFull, IdentityUnusable."""
    return os_faults(path, IdentityUnusable)
