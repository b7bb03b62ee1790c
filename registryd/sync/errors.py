"""What can be wrong with what is to be mirrored."""

from __future__ import annotations

from cache.errors import Fault
from registryd.oci.errors import UsageError


class SyncInvalid(UsageError):
    """Raised when a list of images to mirror cannot be used; names the file and the key's path."""


class OutOfStep(Fault):
    """Raised when a look has found images that are not the same at both ends."""
