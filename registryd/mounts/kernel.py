"""Mounting by the kernel itself, through a loop device: for root.

Invariants:
- the loop device is read-only and clears itself, so that it is gone with its mount whatever
  happens to us;
- what is mounted is read-only, and nothing in it is a device or gives a right.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import Final

#: ioctls of /dev/loop-control and of a loop device (linux/loop.h).
_GET_FREE: Final = 0x4C82
_CONFIGURE: Final = 0x4C0A
#: struct loop_config: descriptor, block size, then loop_info64 (offset, size limit, flags), spare.
_CONFIG: Final = struct.Struct("=II24xQQ12xI64s64s32s16x64x")
_READ_ONLY, _AUTOCLEAR = 1, 4
#: mount(2).
_MS_RDONLY, _MS_NOSUID, _MS_NODEV = 1, 2, 4
#: A device is found free, and taken by another before we configure it.
_TRIES: Final = 64
#: A loop device ends at a whole sector: what comes after would be lost.
SECTOR: Final = 512


def mount_squashfs(file: int, offset: int, target: Path) -> None:
    """Mount the squashfs at this offset of an open file. Raises OSError."""
    if (os.fstat(file).st_size - offset) % SECTOR:
        raise OSError(errno.EINVAL, "the file does not end at a whole sector")
    device = _loop(file, offset)
    try:
        mount(f"/dev/loop{os.minor(os.fstat(device).st_rdev)}", target, "squashfs")
    finally:
        os.close(device)


def mount(device: str, target: Path, kind: str) -> None:
    """mount(2), read-only and harmless. Raises OSError."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    flags = ctypes.c_ulong(_MS_RDONLY | _MS_NOSUID | _MS_NODEV)
    words = os.fsencode(device), os.fsencode(target), kind.encode()
    if libc.mount(*words, flags, None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def _loop(file: int, offset: int) -> int:
    """A loop device for a file, which is gone when it is closed and not mounted."""
    config = _CONFIG.pack(
        file, 0, offset, 0, _READ_ONLY | _AUTOCLEAR, b"registryd".ljust(64, b"\0"), b"", b""
    )
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            number = fcntl.ioctl(control, _GET_FREE)
            device = os.open(f"/dev/loop{number}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _CONFIGURE, config)
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:
                    raise
            else:
                return device
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "no loop device is free")
