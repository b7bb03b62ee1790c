"""The process that waits until nobody uses a mount any more, and takes it away.

It is run by itself, as ``python -I -S watcher.py LOCK WATCH ENTRY PROGRAM``, so that it is small
and outlives whoever asked for the mount; nothing of ours is imported here. LOCK and WATCH are
descriptors: one of the entry's folder, and one whose lock says that somebody waits. Invariants:
- it takes nothing away before it holds the folder's lock alone: nobody has a reference then;
- a mount that is in use all the same (a shell stands in it) goes from its place at once, and ends
  with its last user.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import sys

#: umount2(2): out of sight now, gone with the last user; and no symbolic link in the last place.
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8
#: What an entry's folder holds: the folder that is mounted on, and files beside it.
MOUNT_POINT = "root"
BESIDE = ("about", "watch")


def umount(path: str, flags: int = 0) -> None:
    """umount2(2). Raises OSError."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(path), flags | UMOUNT_NOFOLLOW):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def detach(path: str, program: str) -> None:
    """Take a mount from its place, whoever uses it; ``program`` is fusermount3, or nothing."""
    try:
        umount(path, MNT_DETACH)
    except OSError as error:
        if error.errno == errno.EPERM and program:
            quiet = os.open(os.devnull, os.O_RDWR)
            actions = [(os.POSIX_SPAWN_DUP2, quiet, number) for number in (0, 1, 2)]
            words = [program, "-u", "-z", "-q", "--", path]
            child = os.posix_spawn(program, words, {}, file_actions=actions)
            os.close(quiet)
            os.waitpid(child, 0)


def remove(entry: str) -> None:
    """Remove an entry's folder. Where it is still mounted on, it stays."""
    with contextlib.suppress(OSError):
        os.rmdir(os.path.join(entry, MOUNT_POINT))
        for name in BESIDE:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(entry, name))
        os.rmdir(entry)


def wait(lock: int, entry: str, program: str) -> None:
    """Return when the last reference has gone, and the mount with it."""
    fcntl.flock(lock, fcntl.LOCK_EX)
    detach(os.path.join(entry, MOUNT_POINT), program)
    remove(entry)


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    wait(int(sys.argv[1]), sys.argv[3], sys.argv[4])
