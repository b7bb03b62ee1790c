"""What can go wrong in the gateway, beside what pulling and converting raise."""

from __future__ import annotations

from cache.errors import CacheError, Fault


class ImageUnknown(CacheError):
    """Raised when nothing has this name that the caller may read: it need not be so for others."""

    exit_code = 2
    code = "MANIFEST_UNKNOWN"


class Refused(Fault):
    """Raised when a site's examiner does not let an image in; says its last line."""

    exit_code = 3
    code = "DENIED"


class LoginLost(Fault):
    """Raised when an import needs a login that went with the daemon's memory."""

    exit_code = 3
    code = "UNAUTHORIZED"

    @classmethod
    def of(cls, fault: Fault) -> LoginLost:
        """What is told of an import that failed by this without its login."""
        return cls(
            "the daemon was restarted, and the login of this import was in its memory only: pull"
            f" again ({fault})"
        )


class MungeUnusable(Fault):
    """Raised when credentials cannot be looked into: the program or its daemon is not there."""

    exit_code = 6
    code = "UNAVAILABLE"
