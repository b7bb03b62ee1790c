"""A plan as one tar: every path once, folders before what is in them, files before their links.

Invariants:
- the same layers give the same bytes, on whichever machine and in whichever order they came;
- sparse files are written out, times are whole seconds that 32 bits hold;
- of the extended attributes those stay that mean the same on another machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import IO, Final

from registryd.images.layers.contents import Opener, each_file
from registryd.images.layers.headers import FILE, LINK, Entry
from registryd.images.layers.plan import Plan
from registryd.images.tar_fields import BLOCK, sum_of

_CAPABILITY: Final = b"security.capability"
_USERS: Final = b"user."
_SECOND: Final = 10**9
_TIME_LIMIT: Final = 2**32 - 1
_NAME: Final = 100
#: Name, mode, owners, size, time, sum, type, link, magic, device: cut, or filled up with zeros.
_HEADER: Final = Struct("100s 8s 8s 8s 12s 12s 8s c 100s 8s 64x 8s 8s 167x")
_SUM: Final = 148
_BLANKS: Final = b" " * 8
_MAGIC: Final = b"ustar\x0000"


def write_tar(plan: Plan, openers: Sequence[Opener], where: str, out: IO[bytes]) -> None:
    """Write it all. Raises NotAnImage, PathUnusable, and what writing raises."""
    for named in plan.folders:
        out.write(header(named.path + b"/" if named.path else b"./", named.entry))
    for named in plan.others:
        out.write(header(named.path, named.entry))
    for named, content in plan.extras:
        out.write(header(named.path, named.entry))
        out.write(content + bytes(-len(content) % BLOCK))
    for named, pieces in each_file(plan, openers, where):
        out.write(header(named.path, named.entry))
        for piece in pieces:
            out.write(piece)
        out.write(bytes(-named.entry.size % BLOCK))
    for path, target in plan.links:
        out.write(header(path, Entry((), LINK, link=target)))
    out.write(bytes(2 * BLOCK))


def kept(xattrs: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The attributes that belong to the file, and not to the machine where it was made."""
    return [pair for pair in xattrs if pair[0].startswith(_USERS) or pair[0] == _CAPABILITY]


def header(path: bytes, entry: Entry) -> bytes:
    """The header of an entry, with the one of pax before it that it may need."""
    records = [(b"SCHILY.xattr." + key, value) for key, value in kept(entry.xattrs)]
    if len(path) > _NAME:
        records.append((b"path", path))
    if len(entry.link) > _NAME:
        records.append((b"linkpath", entry.link))
    block = _block(path, entry, entry.kind, entry.size if entry.kind == FILE else 0)
    if not records:
        return block
    content = b"".join(_record(key, value) for key, value in records)
    before = _block(b"pax", Entry((), FILE, mode=0o644), b"x", len(content))
    return before + content + bytes(-len(content) % BLOCK) + block


def _block(path: bytes, entry: Entry, kind: bytes, size: int) -> bytes:
    seconds = min(max(entry.mtime // _SECOND, 0), _TIME_LIMIT)
    known = _HEADER.pack(
        path,
        b"%07o" % entry.mode,
        _number(entry.uid, 8),
        _number(entry.gid, 8),
        _number(size, 12),
        b"%011o" % seconds,
        _BLANKS,
        kind,
        entry.link,
        _MAGIC,
        _number(entry.major, 8),
        _number(entry.minor, 8),
    )
    return b"%s%06o\0 %s" % (known[:_SUM], sum_of(known), known[_SUM + len(_BLANKS) :])


def _number(value: int, width: int) -> bytes:
    """Octal, or GNU's base 256 where that is too short."""
    if value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return (value | 0x80 << 8 * (width - 1)).to_bytes(width, "big")


def _record(key: bytes, value: bytes) -> bytes:
    """A record of pax, which begins with its own length."""
    bare = len(key) + len(value) + 3
    length = bare + len(str(bare))
    if len(str(length)) > len(str(bare)):
        length = bare + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)
