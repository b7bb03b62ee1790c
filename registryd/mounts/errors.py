"""What can go wrong when a file is to be seen as a folder."""

from __future__ import annotations

from cache.errors import Fault


class NotMountable(Fault):
    """Raised when a file holds no squashfs, or only the beginning of one; says what it holds."""


class MountFailed(Fault):
    """Raised when this machine does not mount it for us; says what is missing and what to do."""


class MountBusy(Fault):
    """Raised when a mount is in use; says by whom."""


class NotMounted(Fault):
    """Raised when what is to be unmounted is not mounted by us."""

    exit_code = 2
