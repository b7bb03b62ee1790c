"""The records of EROFS: superblock, inodes, folders, attributes. Pure.

Kernel documentation, "EROFS - Enhanced Read-Only File System". Little endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from registryd.images.errors import NotMade
from registryd.images.filesystems.nodes import BLOCK
from registryd.images.filesystems.records import KINDS, device_of, mode_of, shortened
from registryd.images.layers.headers import BLOCKS, CHARACTER, Entry

#: Inodes are counted in places of so many bytes from the beginning; the first is after the
#: superblock.
PLACE: Final = 32
FIRST: Final = 1024 + 128
INODE_SIZE: Final = 64
#: How the bytes of a file lie: in blocks, or in blocks and a rest beside its inode, or in chunks.
PLAIN, WITH_REST, IN_CHUNKS = 0, 2, 4
#: A chunk that is a hole.
HOLE: Final = 0xFFFFFFFF
_MAGIC: Final = 0xE0F5E1E2
_BLOCK_BITS: Final = BLOCK.bit_length() - 1
_OF_CHANGE: Final = 0x2
_CHUNKED: Final = 0x4
_EXTENDED: Final = 1
_SECOND: Final = 10**9
#: Magic, sum, what old kernels may ignore, size of blocks, the top, inodes, time and its rest,
#: blocks, where inodes and shared attributes begin, identifier, name, what they may not ignore.
_SUPERBLOCK: Final = struct.Struct("<IIIBBHQQIIII16s16sI")
#: How it lies, attributes, mode, size, where it lies, number, owners, time and its rest, names.
_INODE: Final = struct.Struct("<HHHHQIIIIQII16x")
_ENTRY: Final = struct.Struct("<QHBB")
_XATTR_HEADER: Final = 12
_XATTR: Final = struct.Struct("<BBH")
_VALUE_LIMIT: Final = 0xFFFF


class Inode(NamedTuple):
    """What an inode says beside its entry; ``where`` is a block, or how chunks are counted."""

    number: int
    links: int
    size: int
    form: int
    where: int
    attributes: int


def inode(entry: Entry, more: Inode) -> bytes:
    """The inode of an entry."""
    seconds, rest = divmod(max(entry.mtime, 0), _SECOND)
    return _INODE.pack(
        _EXTENDED | more.form << 1,
        (more.attributes - _XATTR_HEADER) // 4 + 1 if more.attributes else 0,
        mode_of(entry),
        0,
        more.size,
        device_of(entry) if entry.kind in (CHARACTER, BLOCKS) else more.where,
        more.number,
        entry.uid,
        entry.gid,
        seconds,
        rest,
        more.links,
    )


def folder_shape(names: Iterable[bytes]) -> tuple[list[int], int]:
    """How many names are in each block of a folder, and how many bytes all of them take."""
    counts, used = [0], 0
    for name in names:
        length = _ENTRY.size + len(name)
        if used + length > BLOCK:
            counts.append(0)
            used = 0
        counts[-1] += 1
        used += length
    return counts, (len(counts) - 1) * BLOCK + used


def folder_blocks(
    names: Sequence[tuple[bytes, int, bytes]], counts: Sequence[int]
) -> Iterator[bytes]:
    """The blocks of a folder: its names in order, with the inode and kind of each."""
    done = 0
    for count in counts:
        part = names[done : done + count]
        at = count * _ENTRY.size
        entries = b""
        for name, number, kind in part:
            entries += _ENTRY.pack(number, at, KINDS[kind], 0)
            at += len(name)
        done += count
        block = entries + b"".join(name for name, _, _ in part)
        yield block if done == len(names) else block.ljust(BLOCK, b"\0")


def attributes(pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The attributes of a file. Raises NotMade where they are more than EROFS takes."""
    if not pairs:
        return b""
    found = bytes(_XATTR_HEADER)
    for key, value in pairs:
        short = shortened(key)
        if short is None or len(value) > _VALUE_LIMIT:
            raise NotMade(f"EROFS takes no attribute {key[:60]!r} of {len(value)} bytes")
        index, name = short
        entry = _XATTR.pack(len(name), index, len(value)) + name + value
        found += entry.ljust(len(entry) + 3 & ~3, b"\0")
    if (len(found) - _XATTR_HEADER) // 4 >= _VALUE_LIMIT:
        raise NotMade("a file has more attributes than EROFS takes")
    return found


def superblock(
    *, top: int, inodes: int, blocks: int, mtime: int, identifier: bytes, chunks: bool
) -> bytes:
    """The bytes from 1,024 on."""
    seconds, rest = divmod(max(mtime, 0), _SECOND)
    incompatible = _CHUNKED if chunks else 0
    return _SUPERBLOCK.pack(
        *(_MAGIC, 0, _OF_CHANGE, _BLOCK_BITS, 0, top, inodes, seconds, rest, blocks),
        *(0, 0, identifier, b"", incompatible),
    ).ljust(FIRST - 1024, b"\0")
