"""What both file systems have of Linux: modes, kinds of names, devices, attributes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from registryd.images.layers.headers import (
    BLOCKS,
    CHARACTER,
    FIFO,
    FILE,
    FOLDER,
    SYMLINK,
    Entry,
)

_MODES: Final[Mapping[bytes, int]] = {
    FILE: 0o100000,
    FOLDER: 0o040000,
    SYMLINK: 0o120000,
    CHARACTER: 0o020000,
    BLOCKS: 0o060000,
    FIFO: 0o010000,
}
#: What a folder says of each of its names.
KINDS: Final[Mapping[bytes, int]] = {
    FILE: 1,
    FOLDER: 2,
    CHARACTER: 3,
    BLOCKS: 4,
    FIFO: 5,
    SYMLINK: 7,
}
#: How names of attributes begin, and the number that stands for it.
_PREFIXES: Final = ((b"user.", 1), (b"security.", 6))


def mode_of(entry: Entry) -> int:
    """The kind of a file and its rights, in one number."""
    return _MODES[entry.kind] | (0o777 if entry.kind == SYMLINK else entry.mode)


def device_of(entry: Entry) -> int:
    """The numbers of a device in one, 12 bits of the first and 20 of the second."""
    return entry.minor & 0xFF | entry.major << 8 & 0xFFF00 | (entry.minor & ~0xFF) << 12


def shortened(key: bytes) -> tuple[int, bytes] | None:
    """An attribute's name as the number of its beginning and the rest; None where it has none."""
    for prefix, number in _PREFIXES:
        if key.startswith(prefix):
            return number, key[len(prefix) :]
    return None
