"""The folder of a user's mounts on this node.

Invariants:
- it is a real folder of this user that nobody else may enter;
- it is on this node alone: nothing of it is in a home directory.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from registryd.mounts.errors import MountFailed

#: Where it is when the session has no folder of its own, as in most batch jobs; root's is where
#: nobody clears away what is old.
TEMPORARY: Final = Path("/tmp")  # noqa: S108 (the folder in it is checked)
OF_ROOT: Final = Path("/run")


def runtime_folder(environ: Mapping[str, str], user: int) -> Path:
    """The user's folder, made where it is missing. Raises MountFailed."""
    given = environ.get("XDG_RUNTIME_DIR", "")
    # A scheduler passes the variable on to nodes where that folder is not.
    base = Path(given) if given.startswith("/") and _is_ours(Path(given), user) else None
    top = base / "registryd" if base else _usual(user)
    for folder in (top, top / "mounts"):
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise MountFailed(f"{folder} cannot be made: {why}") from error
        # The first may be the daemon's too, which lets others look for its socket.
        if not _is_ours(folder, user, 0o022 if folder == top else 0o077):
            raise MountFailed(
                f"{folder} is not a folder that is of user {user} alone (mode 0700): remove it,"
                " or set XDG_RUNTIME_DIR"
            )
    return top / "mounts"


def _usual(user: int) -> Path:
    """The place for a user by their number outside of a user namespace, where others are root."""
    real = outer(Path("/proc/self/uid_map").read_text(), user)
    system = real == 0 and os.access(OF_ROOT, os.W_OK)
    return (OF_ROOT if system else TEMPORARY) / f"registryd-{real}"


def outer(table: str, user: int) -> int:
    """Who a user of a namespace with this uid_map is in the one around it (user_namespaces(7))."""
    for line in table.splitlines():
        inside, outside, count = (int(word) for word in line.split())
        if inside <= user < inside + count:
            return outside + user - inside
    return user


def _is_ours(folder: Path, user: int, others: int = 0o077) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    mode = found.st_mode
    return stat.S_ISDIR(mode) and found.st_uid == user and not stat.S_IMODE(mode) & others
