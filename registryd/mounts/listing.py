"""All that a user has mounted on this node: what stays, and what is held while it is in use."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from registryd.mounts.folder import runtime_folder
from registryd.mounts.held import HELD, mounted
from registryd.mounts.kept import kept
from registryd.mounts.watcher import MOUNT_POINT

_LOCKS: Final = Path("/proc/locks")


@dataclass(frozen=True, slots=True)
class Listed:
    """A mount: of what, where, how, how many refer to it, and since when (seconds of the epoch).

    ``kind`` is ``kept`` (until it is unmounted) or ``held`` (by those who use it).
    """

    image: str
    key: str
    folder: str
    how: str
    kind: Literal["kept", "held"]
    references: int
    since: float


def listed(environ: Mapping[str, str]) -> list[Listed]:
    """The mounts of this user in this namespace, by image. Raises MountFailed."""
    home = runtime_folder(environ, os.geteuid())
    found = [
        Listed(e.image, e.key, e.folder, e.how, "kept", e.references, _since(entry))
        for entry, e in kept(environ)
    ]
    locks = _LOCKS.read_text()
    for about in home.glob(f"{HELD}*/about"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            entry = about.parent
            if mounted(entry / MOUNT_POINT):
                said = json.loads(about.read_text())
                found.append(
                    Listed(
                        str(said["image"]),
                        str(said["key"]),
                        str(entry / MOUNT_POINT),
                        str(said["how"]),
                        "held",
                        shared(locks, entry.stat().st_ino),
                        _since(entry),
                    )
                )
    return sorted(found, key=lambda each: (each.image, each.kind, each.folder))


def shared(locks: str, inode: int) -> int:
    """How many shared flocks of a file there are, by the kernel's list (proc(5), locks)."""
    count = 0
    for line in locks.splitlines():
        words = line.split()
        if words[1:2] == ["FLOCK"] and "READ" in words and words[5:6]:
            count += words[5].rpartition(":")[2] == str(inode)
    return count


def _since(entry: Path) -> float:
    try:
        return (entry / "about").stat().st_mtime
    except FileNotFoundError:  # it is being unmounted
        return 0.0
