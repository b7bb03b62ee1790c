"""Mounts of a user whose squashfuse was killed: what a batch job can leave on its node.

Only what is dead is found: a mount that answers its user may belong to another job of theirs.

Invariant: what stands at a user's path is changed by that user alone. They may put a link there at
any moment, and root would follow it to a mount of the machine's.
"""

from __future__ import annotations

import subprocess
from typing import Final

from registryd.mounts.fuse import unmounter
from registryd.mounts.table import TABLE, lines

#: Seconds in which a mount that lives has answered.
PATIENCE: Final = 5.0
_SAYS_DEAD: Final = b"not connected"


def clear(user: int) -> list[str]:
    """Unmount what is dead of this user's, for root; the folders. Others' are not touched."""
    text = TABLE.read_bytes().decode(errors="surrogateescape")
    found = [
        line.target
        for line in lines(text)
        if line.kind.startswith("fuse.squashfuse") and f"user_id={user}" in line.options.split(",")
    ]
    gone = [folder for folder in reversed(found) if _dead(folder, user)]
    for folder in gone:
        take_away(folder, user)
    return gone


def take_away(folder: str, user: int) -> None:
    """Unmount what this user has mounted there, as them; nothing where they have not."""
    program = unmounter({})
    if program:
        _as_user(user, program, "-u", "-z", "-q", "--", folder)


def _dead(folder: str, user: int) -> bool:
    """Whether nobody serves it any more: only its user may ask, so it is asked as them."""
    done = _as_user(user, "/usr/bin/env", "LC_ALL=C", "stat", "--", folder)
    return done is not None and done.returncode != 0 and _SAYS_DEAD in done.stderr


def _as_user(user: int, *words: str) -> subprocess.CompletedProcess[bytes] | None:
    """What a program of the user's has ended with; None where it was not begun, or hangs."""
    try:
        return subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            user=user,
            group=user,
            extra_groups=[],
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
