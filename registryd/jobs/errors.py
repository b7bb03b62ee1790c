"""What can go wrong with a job before a node works on it."""

from __future__ import annotations

from cache.errors import Fault
from registryd.oci.errors import UsageError


class JobInvalid(UsageError):
    """Raised when a record, or a list of wishes, is not what it has to be; says where."""


class JobUnknown(Fault):
    """Raised when no job has this id (any more)."""

    exit_code = 2
    code = "NAME_UNKNOWN"


class BoardUnreachable(Fault):
    """Raised when a job cannot be told to the other nodes now; says what does not answer."""

    exit_code = 6
    code = "UNAVAILABLE"


class NoCluster(Fault):
    """Raised when other nodes are meant by a node that has none."""

    exit_code = 6
    code = "UNAVAILABLE"


class Outrun(Fault):
    """Raised when a job was changed by somebody else meanwhile: look at it again."""
