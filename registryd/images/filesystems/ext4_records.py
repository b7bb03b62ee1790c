"""The records of ext4: superblock, groups, inodes, folders, extents, attributes. Pure.

Kernel documentation, "ext4 Data Structures and Algorithms". Little endian.

Invariant: what is packed has no checksum and needs no journal: it is written once, and read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from registryd.images.errors import NotMade
from registryd.images.filesystems.nodes import BLOCK
from registryd.images.filesystems.records import KINDS, device_of, mode_of, shortened
from registryd.images.layers.headers import FOLDER, Entry

INODE_SIZE: Final = 256
#: The first ten belong to the file system; the second is the top.
ROOT: Final = 2
FIRST: Final = 11
GROUP_BLOCKS: Final = 8 * BLOCK
#: A symbolic link of up to so many bytes is in its inode.
SHORT_LINK: Final = 59
#: Most names of one file, and most folders in one that are counted.
LINKS_LIMIT: Final = 65_000
_SECOND: Final = 10**9
_EXTENTS: Final = 0x80000
_EXTRA: Final = 32
#: Mode, uid, size, access, change, modification, deletion, gid, links, sectors, flags, version,
#: blocks, generation, attributes, size; sectors, attributes, uid and gid again; then the extra
#: part: its length, checksum, change, modification, access, creation, and the rest of them.
_INODE: Final = struct.Struct("<HHIIIIIHHIII60sIIIIHHHHHHHHIIIIIII")
_ENTRY: Final = struct.Struct("<IHBB")
_HEADER: Final = struct.Struct("<HHHHI")
_LEAF: Final = struct.Struct("<IHHI")
_BRANCH: Final = struct.Struct("<IIHH")
_EXTENT_MAGIC: Final = 0xF30A
_IN_INODE: Final = 4
PER_BLOCK: Final = (BLOCK - 12) // 12
#: Blocks that one extent reaches over.
EXTENT_LIMIT: Final = 32_768
_XATTR_MAGIC: Final = 0xEA020000
_XATTR: Final = struct.Struct("<BBHIII")
_ROOM_IN_INODE: Final = INODE_SIZE - 128 - _EXTRA - 4
_XATTR_HEADER: Final = 32
_GROUP: Final = struct.Struct("<IIIHHHHIHHHH")
_ATTRIBUTES: Final = 0x8
_FEW_COPIES: Final = 0x200
_KIND_IN_FOLDERS, _BY_EXTENTS, _ANYWHERE = 0x2, 0x40, 0x200
_LARGE_FILES, _HUGE_FILES, _MANY_FOLDERS, _EXTRA_TIMES = 0x2, 0x8, 0x20, 0x40


class Extent(NamedTuple):
    """Blocks of a file in a row: the first of the file's, how many, and where they lie."""

    first: int
    length: int
    at: int


class Attributes(NamedTuple):
    """The attributes of a file: what is in the inode, and what needs a block of its own."""

    inside: bytes
    block: bytes


class Inode(NamedTuple):
    """What an inode says beside its entry: ``blocks`` are the 60 bytes that lead to its bytes."""

    links: int
    size: int
    sectors: int
    blocks: bytes
    by_extents: bool
    attributes: Attributes
    attributes_at: int


def inode(entry: Entry, more: Inode) -> bytes:
    """The inode of an entry."""
    seconds, extra = _time(entry.mtime)
    record = _INODE.pack(
        mode_of(entry),
        entry.uid & 0xFFFF,
        more.size & 0xFFFFFFFF,
        seconds,
        seconds,
        seconds,
        0,
        entry.gid & 0xFFFF,
        more.links if more.links <= LINKS_LIMIT else 1,
        more.sectors & 0xFFFFFFFF,
        _EXTENTS if more.by_extents else 0,
        0,
        more.blocks,
        0,
        more.attributes_at & 0xFFFFFFFF,
        more.size >> 32,
        0,
        more.sectors >> 32,
        more.attributes_at >> 32,
        entry.uid >> 16,
        entry.gid >> 16,
        0,
        0,
        _EXTRA,
        0,
        extra,
        extra,
        extra,
        seconds,
        extra,
        0,
        0,
    )
    return (record + more.attributes.inside).ljust(INODE_SIZE, b"\0")


def _time(mtime: int) -> tuple[int, int]:
    """Seconds of which 34 bits are kept, and their upper bits with the rest of a second."""
    seconds, rest = divmod(mtime, _SECOND)
    kept = min(max(seconds, -(1 << 31)), (1 << 34) - (1 << 31) - 1)
    rest = rest if kept == seconds else 0
    low = kept & 0xFFFFFFFF
    signed = low - (1 << 32) if low >> 31 else low
    return low, ((kept - signed) >> 32 & 3) | rest << 2


def device(entry: Entry) -> bytes:
    """The 60 bytes of a device: the old way of writing its numbers, or the new one."""
    major, minor = entry.major, entry.minor
    if major < 256 and minor < 256:
        return struct.pack("<II", major << 8 | minor, 0).ljust(60, b"\0")
    return struct.pack("<II", 0, device_of(entry)).ljust(60, b"\0")


def folder_blocks(
    names: Iterable[tuple[bytes, int, bytes]], own: int, parent: int
) -> Iterator[bytes]:
    """The blocks of a folder: names, with the inode and kind of each."""
    block = bytearray()
    last = 0
    listed: list[tuple[bytes, int, bytes]] = [(b".", own, FOLDER), (b"..", parent, FOLDER)]
    for part in (listed, names):
        for name, number, kind in part:
            length = 8 + len(name) + 3 & ~3
            if len(block) + length > BLOCK:
                yield _closed(block, last)
                block = bytearray()
            last = len(block)
            block += _ENTRY.pack(number, length, len(name), KINDS[kind])
            block += name.ljust(length - 8, b"\0")
    yield _closed(block, last)


def _closed(block: bytearray, last: int) -> bytes:
    """The last entry of a block reaches to its end."""
    struct.pack_into("<H", block, last + 4, BLOCK - last)
    return bytes(block.ljust(BLOCK, b"\0"))


def tree_blocks(extents: int) -> int:
    """How many blocks lead to so many extents."""
    total = 0
    while extents > _IN_INODE:
        extents = -(-extents // PER_BLOCK)
        total += extents
    return total


def extent_tree(extents: Sequence[Extent], at: int) -> tuple[bytes, bytes]:
    """The 60 bytes of an inode that lead to these extents, and the blocks from ``at`` that help."""
    rows = [
        (e.first, _LEAF.pack(e.first, e.length, e.at >> 32, e.at & 0xFFFFFFFF)) for e in extents
    ]
    blocks: list[bytes] = []
    depth = 0
    while len(rows) > _IN_INODE:
        above = []
        for start in range(0, len(rows), PER_BLOCK):
            part = rows[start : start + PER_BLOCK]
            place = at + len(blocks)
            blocks.append(_extent_node(part, PER_BLOCK, depth).ljust(BLOCK, b"\0"))
            branch = _BRANCH.pack(part[0][0], place & 0xFFFFFFFF, place >> 32, 0)
            above.append((part[0][0], branch))
        rows, depth = above, depth + 1
    return _extent_node(rows, _IN_INODE, depth).ljust(60, b"\0"), b"".join(blocks)


def _extent_node(rows: Sequence[tuple[int, bytes]], room: int, depth: int) -> bytes:
    head = _HEADER.pack(_EXTENT_MAGIC, len(rows), room, depth, 0)
    return head + b"".join(row for _, row in rows)


def attributes(pairs: Sequence[tuple[bytes, bytes]]) -> Attributes:
    """The attributes of a file. Raises NotMade where they are more than ext4 takes."""
    if not pairs:
        return Attributes(b"", b"")
    split = sorted((_prefix(key), value) for key, value in pairs)
    rows = [(index, len(name), name, value) for (index, name), value in split]
    rows.sort(key=lambda row: row[:3])
    inside = _packed(rows, _ROOM_IN_INODE, 0, hashed=False)
    if inside is not None:
        return Attributes(struct.pack("<I", _XATTR_MAGIC) + inside, b"")
    block = _packed(rows, BLOCK - _XATTR_HEADER, _XATTR_HEADER, hashed=True)
    if block is None:
        raise NotMade(f"a file has more attributes than the {BLOCK} bytes that ext4 takes")
    head = struct.pack("<IIIII", _XATTR_MAGIC, 1, 1, 0, 0).ljust(_XATTR_HEADER, b"\0")
    return Attributes(b"", head + block)


def _prefix(key: bytes) -> tuple[int, bytes]:
    short = shortened(key)
    if short is None:
        raise NotMade(f"ext4 has no attribute {key[:60]!r}")
    return short


def _packed(
    rows: Sequence[tuple[int, int, bytes, bytes]], room: int, base: int, *, hashed: bool
) -> bytes | None:
    """Entries from the beginning and values from the end; None where they do not fit.

    Values are found from the first entry, in a block from its beginning: ``base`` before it.
    """
    entries, values, end = b"", b"", room
    for index, length, name, value in rows:
        padded = value.ljust(len(value) + 3 & ~3, b"\0")
        end -= len(padded)
        if end < 0:
            return None
        summed = _hash(name, padded) if hashed else 0
        where = end + base if value else 0
        entries += _XATTR.pack(length, index, where, 0, len(value), summed)
        entries += name.ljust(length + 3 & ~3, b"\0")
        values = padded + values
        if len(entries) + 4 > end:
            return None
    return entries.ljust(end, b"\0") + values


def _hash(name: bytes, value: bytes) -> int:
    """The sum by which the kernel and e2fsck know an attribute."""
    found = 0
    for byte in name:
        found = (found << 5 ^ found >> 27 ^ byte) & 0xFFFFFFFF
    for (word,) in struct.iter_unpack("<I", value):
        found = (found << 16 ^ found >> 16 ^ word) & 0xFFFFFFFF
    return found


class Shape(NamedTuple):
    """How a file system is laid out: groups, inodes of each, and blocks in use and in all."""

    groups: int
    per_group: int
    inodes: int
    used: int
    blocks: int

    @property
    def table(self) -> int:
        """Blocks of one group's inodes."""
        return self.per_group * INODE_SIZE // BLOCK

    @property
    def list_blocks(self) -> int:
        """Blocks of the list of groups."""
        return -(-self.groups * _GROUP.size // BLOCK)

    @property
    def bitmaps(self) -> int:
        """The first block after the list of groups."""
        return 1 + self.list_blocks

    @property
    def tables(self) -> int:
        """The first block of all inodes."""
        return self.bitmaps + 2 * self.groups

    @property
    def first(self) -> int:
        """The first block that is a file's."""
        return self.tables + self.groups * self.table


def shape(inodes: int, blocks: int) -> Shape:
    """The layout for so many inodes, and blocks that are files'. Raises NotMade."""
    groups = max(1, -(-inodes // GROUP_BLOCKS))
    while True:
        per_group = -(-inodes // groups) + 15 & ~15
        found = Shape(groups, per_group, inodes, 0, 0)
        used = found.first + blocks
        needed = -(-used // GROUP_BLOCKS)
        if needed <= groups:
            break
        groups = needed
    if used >> 32:
        raise NotMade("the image is larger than an ext4 of 16 TiB")
    # As many groups as the inodes need, however few blocks are in use.
    return found._replace(used=used, blocks=max(used, (groups - 1) * GROUP_BLOCKS + 1))


def group_list(shape: Shape, folders: Sequence[int]) -> bytes:
    """The groups, each with the folders among its inodes counted."""
    rows = []
    for group in range(shape.groups):
        blocks = min(GROUP_BLOCKS, shape.blocks - group * GROUP_BLOCKS)
        taken = min(max(shape.used - group * GROUP_BLOCKS, 0), blocks)
        inodes = min(max(shape.inodes - group * shape.per_group, 0), shape.per_group)
        rows.append(
            _GROUP.pack(
                shape.bitmaps + group,
                shape.bitmaps + shape.groups + group,
                shape.tables + group * shape.table,
                blocks - taken,
                shape.per_group - inodes,
                folders[group],
                *(0, 0, 0, 0, 0, 0),
            )
        )
    return b"".join(rows).ljust(shape.list_blocks * BLOCK, b"\0")


def bitmaps(shape: Shape) -> bytes:
    """Which blocks are in use, and which inodes; what is beyond the end is in use too."""
    blocks, inodes = [], []
    for group in range(shape.groups):
        end = min(GROUP_BLOCKS, shape.blocks - group * GROUP_BLOCKS)
        blocks.append(_bits(shape.used - group * GROUP_BLOCKS, end))
        inodes.append(_bits(shape.inodes - group * shape.per_group, shape.per_group))
    return b"".join((*blocks, *inodes))


def _bits(used: int, end: int) -> bytes:
    taken = (1 << min(max(used, 0), end)) - 1
    beyond = (1 << 8 * BLOCK) - (1 << end)
    return (taken | beyond).to_bytes(BLOCK, "little")


def superblock(shape: Shape, identifier: bytes, made: int) -> bytes:
    """The first block: 1,024 bytes that nobody reads, and the superblock."""
    found = bytearray(1024)

    def put(at: int, form: str, *values: int | bytes) -> None:
        struct.pack_into(f"<{form}", found, at, *values)

    total = shape.groups * shape.per_group
    put(0, "IIIII", total, shape.blocks, 0, shape.blocks - shape.used, total - shape.inodes)
    put(20, "IIIIII", 0, 2, 2, GROUP_BLOCKS, GROUP_BLOCKS, shape.per_group)
    put(44, "IIHHHHHHII", made, made, 0, 0xFFFF, 0xEF53, 1, 1, 0, made, 0)
    put(72, "IIHHIHH", 0, 1, 0, 0, FIRST, INODE_SIZE, 0)
    put(
        92,
        "III16s",
        _ATTRIBUTES | _FEW_COPIES,
        _KIND_IN_FOLDERS | _BY_EXTENTS | _ANYWHERE,
        _LARGE_FILES | _HUGE_FILES | _MANY_FOLDERS | _EXTRA_TIMES,
        identifier,
    )
    put(236, "16sB", identifier, 1)
    put(256, "III", 0xC, 0, made)
    put(348, "HHI", _EXTRA, _EXTRA, 1)
    put(372, "B", 4)
    return (bytes(1024) + bytes(found)).ljust(BLOCK, b"\0")
