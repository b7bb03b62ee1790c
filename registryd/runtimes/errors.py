"""What can go wrong when a runtime is set up."""

from __future__ import annotations

from cache.errors import Fault


class SetupBlocked(Fault):
    """Raised when nothing could be set up: what stands there is another's, or cannot be written."""


class SetupLeft(Fault):
    """Raised when a part is set up, and the rest has been said to be the administrator's."""

    exit_code = 7
