"""The few calls of Linux that Python 3.11 has no words for: namespaces, mounts, privileges.

Invariants:
- every call that fails raises OSError with the path or the thing it was about;
- nothing is decided here.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
from typing import Final

# <linux/sched.h>
NEWNS: Final = 0x00020000
NEWUSER: Final = 0x10000000
# <linux/mount.h>
RDONLY: Final = 1
NOSUID: Final = 2
NODEV: Final = 4
NOEXEC: Final = 8
REMOUNT: Final = 32
NOATIME: Final = 1024
NODIRATIME: Final = 2048
BIND: Final = 4096
REC: Final = 16384
SLAVE: Final = 1 << 19
RELATIME: Final = 1 << 21
DETACH: Final = 2
# mount_setattr(2), the same number on every architecture
_MOUNT_SETATTR: Final = 442
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
# <linux/prctl.h>
_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
#: capset(2) with 64 bits of capabilities.
_CAP_VERSION: Final = 0x20080522
_LAST_CAP: Final = 63
#: What statvfs(3) tells of a mount, and the flag that keeps it in a remount.
_KEPT: Final = {
    os.ST_RDONLY: RDONLY,
    os.ST_NOSUID: NOSUID,
    os.ST_NODEV: NODEV,
    os.ST_NOEXEC: NOEXEC,
    os.ST_NOATIME: NOATIME,
    os.ST_NODIRATIME: NODIRATIME,
    os.ST_RELATIME: RELATIME,
}

#: ioctl_ns(2)
_NS_GET_USERNS: Final = 0xB701
#: How mountinfo writes a space, a tab, a newline and a backslash (proc(5)).
_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")

_libc = ctypes.CDLL(None, use_errno=True)


def _done(result: int, what: str) -> None:
    """Raises OSError for a call that has failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare(flags: int) -> None:
    """Leave these namespaces for new ones. Raises OSError."""
    _done(_libc.unshare(flags), "new namespaces")


def setns(descriptor: int, kind: int) -> None:
    """Enter a namespace. Raises OSError."""
    _done(_libc.setns(descriptor, kind), "a namespace")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError."""
    encoded = (os.fsencode(source), os.fsencode(target), kind.encode() or None)
    _done(_libc.mount(*encoded, ctypes.c_ulong(flags), os.fsencode(options) or None), target)


def restrict(target: str, flags: int, *, recursive: bool) -> None:
    """Add RDONLY, NOSUID and NODEV of ``flags`` to a mount, and to those below. Raises OSError."""
    attributes = (ctypes.c_uint64 * 4)(flags, 0, 0, 0)
    result = _libc.syscall(
        _MOUNT_SETATTR,
        _AT_FDCWD,
        ctypes.c_char_p(os.fsencode(target)),
        _AT_RECURSIVE if recursive else 0,
        attributes,
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )
    if result != 0 and ctypes.get_errno() == errno.ENOSYS:  # Linux before 5.12
        _remount(target, flags, recursive=recursive)
        return
    _done(result, target)


def _remount(target: str, flags: int, *, recursive: bool) -> None:
    """The same by one remount for each mount; flags that are there must be named again."""
    for each in _mounts_at(target) if recursive else [target]:
        found = os.statvfs(each).f_flag
        kept = sum(own for seen, own in _KEPT.items() if found & seen)
        mount("none", each, flags=REMOUNT | BIND | kept | flags)


def _mounts_at(target: str) -> list[str]:
    """The mount at this path and all below it."""
    found = []
    with open("/proc/self/mountinfo", "rb") as lines:
        for line in lines:
            point = _ESCAPE.sub(lambda m: bytes([int(m[1], 8)]), line.split(b" ")[4])
            path = os.fsdecode(point)
            if path == target or path.startswith(f"{target}/"):
                found.append(path)
    return found


def unmount(target: str) -> None:
    """Take a mount and all below it out of the tree. Raises OSError."""
    _done(_libc.umount2(os.fsencode(target), DETACH), target)


def pivot_root(target: str) -> None:
    """Make a mount the root of the tree, and forget the old one. Raises OSError."""
    os.chdir(target)
    _done(_libc.pivot_root(b".", b"."), target)
    unmount(".")
    os.chdir("/")


def stay_visible() -> None:
    """Let other processes of the user look at this one, as they could before it changed."""
    _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def drop_privileges(kept: frozenset[int] = frozenset()) -> None:
    """Keep these capabilities at most, for ever. Raises OSError."""
    for number in range(_LAST_CAP + 1):
        if number not in kept:
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _done(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")


def capabilities() -> frozenset[int]:
    """The capabilities that this process may have. Raises OSError."""
    with open("/proc/self/status", "rb") as file:
        line = next(line for line in file if line.startswith(b"CapPrm:"))
    bits = int(line.split()[1], 16)
    return frozenset(each for each in range(_LAST_CAP + 1) if bits >> each & 1)


def outermost() -> bool:
    """Whether ids are the machine's own, all of them."""
    with open("/proc/self/uid_map", "rb") as file:
        return file.read().split() == [b"0", b"0", b"4294967295"]


def owner_of(namespace: int) -> int:
    """A descriptor of the user namespace that a namespace belongs to. Raises OSError."""
    return fcntl.ioctl(namespace, _NS_GET_USERNS)


def set_capabilities(kept: frozenset[int] = frozenset()) -> None:
    """Have exactly these capabilities now. Raises OSError."""
    low = sum(1 << each for each in kept if each < 32)
    high = sum(1 << (each - 32) for each in kept if each >= 32)
    header = (ctypes.c_uint32 * 2)(_CAP_VERSION, 0)
    words = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    _done(_libc.capset(header, words), "capabilities")
