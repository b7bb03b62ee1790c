"""Where in a file its squashfs is: at the beginning, or in the partition of a SIF.

Squashfs 4.0's superblock; SIF's global header and descriptors (version 01). Invariant: what is
found lies in the file as a whole, by what its own superblock says.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from typing import Final

from registryd.mounts.errors import NotMountable

#: magic, inodes, mtime, block size, fragments, compressor, log, flags, ids, version, root, bytes.
_SUPERBLOCK: Final = struct.Struct("<4sIIIIHHHHHHQQ")
_MAGIC: Final = b"hsqs"
_VERSION: Final = (4, 0)
COMPRESSORS: Final = {1: "gzip", 2: "lzma", 3: "lzo", 4: "xz", 5: "lz4", 6: "zstd"}

#: launch line, magic, version, architecture, uuid, ctime, mtime, then of the descriptors how many
#: are free, how many there are, where they are and their bytes; where data are and their bytes.
_SIF: Final = struct.Struct("<32s10s3s3s16s8q")
_SIF_MAGIC: Final = b"SIF_MAGIC\0"
#: type, used, id, group, link, offset, size, padded size, ctime, mtime, uid, gid, name, extra.
_DESCRIPTOR: Final = struct.Struct("<iBIIIqqqqqqq128s384s")
_PARTITION: Final = 0x4004
#: Of a partition's extra: the kind of file system, and what it is for.
_PARTITION_EXTRA: Final = struct.Struct("<ii")
_SQUASHFS, _PRIMARY = 1, 2
#: A SIF has 48 descriptors; one with more than this is not worth reading.
_DESCRIPTORS_LIMIT: Final = 4096


@dataclass(frozen=True, slots=True)
class Found:
    """A squashfs in a file: where it begins, its bytes, and how it is compressed."""

    offset: int
    size: int
    compressor: str


def find_squashfs(file: int, name: str) -> Found:
    """The squashfs in an open file, called ``name`` where it has none. Raises NotMountable."""
    try:
        seen = os.fstat(file)
        if not stat.S_ISREG(seen.st_mode):
            raise NotMountable(f"{name} is no file that holds a squashfs")
        total = seen.st_size
        offset = 0
        head = os.pread(file, _SIF.size, 0)
        if head[32:42] == _SIF_MAGIC:
            offset = _in_sif(file, head, name)
        return superblock(os.pread(file, _SUPERBLOCK.size, offset), offset, total, name)
    except OSError as error:
        raise NotMountable(f"{name}: {(error.strerror or str(error)).lower()}") from error


def superblock(head: bytes, offset: int, total: int, name: str) -> Found:
    """What a superblock at this offset of a file of ``total`` bytes says. Raises NotMountable."""
    if len(head) < _SUPERBLOCK.size or head[:4] != _MAGIC:
        raise NotMountable(f"{name} is no squashfs (convert the image to squashfs, or name a SIF)")
    fields = _SUPERBLOCK.unpack_from(head)
    compressor, version, used = fields[5], fields[9:11], fields[12]
    if version != _VERSION:
        raise NotMountable(f"{name} is squashfs {version[0]}.{version[1]} (4.0 can be mounted)")
    if compressor not in COMPRESSORS:
        raise NotMountable(f"{name} is compressed in a way that nobody knows ({compressor})")
    if offset + used > total:
        raise NotMountable(
            f"{name} is cut off: its squashfs has {used} bytes, and the file {total - offset}"
        )
    return Found(offset, used, COMPRESSORS[compressor])


def _in_sif(file: int, head: bytes, name: str) -> int:
    """The offset of the partition that a SIF starts from. Raises NotMountable."""
    if len(head) < _SIF.size:
        raise NotMountable(f"{name} is cut off: a SIF has a header of {_SIF.size} bytes")
    count, where = _SIF.unpack(head)[8:10]
    if not 0 <= count <= _DESCRIPTORS_LIMIT or where < 0:
        raise NotMountable(f"{name} is a SIF with a broken header")
    table = os.pread(file, count * _DESCRIPTOR.size, where)
    whole = len(table) - len(table) % _DESCRIPTOR.size
    for entry in _DESCRIPTOR.iter_unpack(table[:whole]):
        kind, used, offset, extra = entry[0], entry[1], entry[5], entry[13]
        if used and kind == _PARTITION:
            system, purpose = _PARTITION_EXTRA.unpack_from(extra)
            if purpose == _PRIMARY:
                if system != _SQUASHFS or offset < 0:
                    raise NotMountable(f"{name} is a SIF whose system partition is no squashfs")
                return int(offset)
    raise NotMountable(f"{name} is a SIF without a system partition")
