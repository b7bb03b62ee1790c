"""A file that a user names by its path, read with that user's rights and no others.

Invariants:
- the file is opened by a process that is the user: what they may not read is not read for them;
- only files below the folders that the site has named are taken at all;
- the disk is not filled by them: others live there too.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from registryd.gateway.record import Account
from registryd.images.errors import PathUnusable, path_faults
from registryd.images.files import HOP, write_all
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


def copy_as(account: Account, path: str, target: Path, check: Callable[[int], None]) -> None:
    """Copy a user's file into a new one of ours, as that user.

    ``check`` raises DiskFull where no more may be written into that. Blocks. Raises PathUnusable.
    """
    with path_faults(target):
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with _reading(account, path) as process:
            try:
                _copy(process, path, fd, check)
            except BaseException:
                process.kill()
                raise
            said = process.stderr.read() if process.stderr else b""
        with path_faults(target):
            os.fsync(fd)
    finally:
        os.close(fd)
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines() or ["it cannot be read"]
        raise PathUnusable(f"{path}: {lines[-1].removeprefix('cat: ')[:200]}")


def _reading(account: Account, path: str) -> subprocess.Popen[bytes]:
    """A process of that user that reads the file. Raises PathUnusable."""
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", _READ, "sh", path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin"},
            cwd="/",
            user=account.uid,
            group=account.gid,
            extra_groups=sorted(account.groups),
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise PathUnusable(f"{path}: cannot be read as user {account.uid}: {error}") from error


def _copy(
    process: subprocess.Popen[bytes], path: str, fd: int, check: Callable[[int], None]
) -> None:
    """Write what it reads, while there is room and time. Raises PathUnusable, DiskFull."""
    assert process.stdout is not None  # noqa: S101 (it was asked for)
    pipe, ends, ready = process.stdout.fileno(), time.monotonic() + LIMIT, select.poll()
    ready.register(pipe, select.POLLIN)
    with path_faults(Path(path)):
        while True:
            if not ready.poll(max(ends - time.monotonic(), 0) * 1000):
                raise PathUnusable(f"{path}: was not read in {LIMIT:.0f} s")
            piece = os.read(pipe, HOP)
            if not piece:
                return
            check(fd)
            write_all(fd, piece)
