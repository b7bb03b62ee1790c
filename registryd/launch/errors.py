"""What can go wrong with starting a command in an image."""

from __future__ import annotations

from cache.errors import Fault
from registryd.oci.errors import UsageError


class LaunchRefused(UsageError):
    """Raised when a flag, a bind or an edit cannot be obeyed; says what to write instead."""


class LaunchFailed(Fault):
    """Raised when this machine does not let us build what a command is to run in."""

    code = "UNAVAILABLE"
