"""A file that a user names by its path, read with that user's rights and no others.

Invariants:
- the file is opened by a process that is the user: what they may not read is not read for them;
- only files below the folders that the site has named are taken at all.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from registryd.gateway.record import Account
from registryd.images.errors import PathUnusable, path_faults
from registryd.oci.errors import Denied, UsageError

#: Seconds in which a file was read: a pipe that nobody writes to would keep us for ever.
LIMIT: Final = 1800.0
#: A regular file alone: what is no file may have no end.
_READ: Final = (
    'test -f "$1" && exec cat -- "$1"; echo "it is no file that you may read" >&2; exit 1'
)


def check_path(text: str, folders: Sequence[Path]) -> str:
    """The path, if files may be taken from there. Raises Denied, UsageError."""
    path = PurePosixPath(text)
    if not path.is_absolute() or ".." in path.parts or "\0" in text or not text.isprintable():
        raise UsageError(f"{text[:140]!r} is not the absolute path of a file")
    if not any(path.is_relative_to(folder) for folder in folders):
        raise Denied("files are taken only from the folders that gateway.import_dirs names")
    if os.geteuid() != 0:
        raise Denied("only a gateway that runs as root can read a file as its user (use the CLI)")
    return str(path)


def copy_as(account: Account, path: str, target: Path) -> None:
    """Copy a user's file into a new one of ours, as that user. Blocks. Raises PathUnusable."""
    with path_faults(target):
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", _READ, "sh", path],
            stdin=subprocess.DEVNULL,
            stdout=fd,
            stderr=subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin"},
            cwd="/",
            user=account.uid,
            group=account.gid,
            extra_groups=sorted(account.groups),
            timeout=LIMIT,
        )
        with path_faults(target):
            os.fsync(fd)
    except subprocess.TimeoutExpired:
        raise PathUnusable(f"{path}: was not read in {LIMIT:.0f} s") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise PathUnusable(f"{path}: cannot be read as user {account.uid}: {error}") from error
    finally:
        os.close(fd)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["it cannot be read"]
        raise PathUnusable(f"{path}: {lines[-1].removeprefix('cat: ')[:200]}")
