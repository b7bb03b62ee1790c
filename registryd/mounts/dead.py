"""Mounts of a user whose squashfuse was killed: what a batch job can leave on its node.

Only what is dead is found: a mount that answers its user may belong to another job of theirs.
"""

from __future__ import annotations

import subprocess
from contextlib import suppress
from typing import Final

from registryd.mounts.table import TABLE, lines
from registryd.mounts.watcher import detach

#: Seconds in which a mount that lives has answered.
PATIENCE: Final = 5.0
_SAYS_DEAD: Final = b"not connected"


def clear(user: int) -> list[str]:
    """Unmount what is dead of this user's, as root; the folders. Others' are not touched."""
    text = TABLE.read_bytes().decode(errors="surrogateescape")
    found = [
        line.target
        for line in lines(text)
        if line.kind.startswith("fuse.squashfuse") and f"user_id={user}" in line.options.split(",")
    ]
    gone = [folder for folder in reversed(found) if _dead(folder, user)]
    for folder in gone:
        with suppress(OSError):
            detach(folder, "")
    return gone


def _dead(folder: str, user: int) -> bool:
    """Whether nobody serves it any more: only its user may ask, so it is asked as them."""
    command = ["/usr/bin/env", "LC_ALL=C", "stat", "--", folder]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=PATIENCE, user=user, group=user, extra_groups=[]
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode != 0 and _SAYS_DEAD in done.stderr
