"""``/etc/ld.so.cache``: which file the dynamic loader takes for a soname (pure).

Invariants:
- the bytes are an image's: nothing in them is trusted, and reading is bounded by their length;
- what is given are names and absolute paths as they stand there, in the file's order. Whether such
  a file is there, and is what it says, is for the caller to look at.

Formats (glibc, ``ldconfig -c``): "ld.so-1.7.0" (old), "glibc-ld.so.cache1.1" (new), and the first
with the second behind it (compat).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from registryd.oci.errors import UsageError

#: Bytes of a cache; that of a full desktop has 200 KiB.
SIZE_LIMIT: Final = 16 << 20
#: Libraries in a cache; that of a full desktop has 4,000.
ENTRIES_LIMIT: Final = 100_000
#: Bytes of a name or path in it: PATH_MAX.
TEXT_LIMIT: Final = 4096

_OLD: Final = b"ld.so-1.7.0"
_NEW: Final = b"glibc-ld.so.cache1.1"
_OLD_HEADER: Final = 16
_NEW_HEADER: Final = 48
_OLD_ENTRY: Final = "iII"
_NEW_ENTRY: Final = "iIIIQ"
#: The low byte of an entry's flags: an ELF library, of libc5 or libc6.
_ELF_KINDS: Final = (1, 3)


class LoaderCacheWrong(UsageError):
    """Raised when bytes are no cache of the loader's, or one that makes no sense."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One library that the loader knows."""

    soname: str
    path: str


def read_loader_cache(raw: bytes) -> tuple[CacheEntry, ...]:
    """What the cache says. Raises LoaderCacheWrong."""
    if len(raw) > SIZE_LIMIT:
        raise LoaderCacheWrong(f"has {len(raw)} bytes, {SIZE_LIMIT} are allowed")
    if raw.startswith(_NEW):
        return _new(raw)
    if raw.startswith(_OLD):
        order, count = _order(raw, 12, _OLD_HEADER, _OLD_ENTRY)
        strings = _OLD_HEADER + count * struct.calcsize(order + _OLD_ENTRY)
        for alignment in (8, 4):
            behind = -(-strings // alignment) * alignment
            if raw.startswith(_NEW, behind):
                return _new(raw[behind:])
        return _entries(raw, _OLD_HEADER, strings, order + _OLD_ENTRY, strings)
    raise LoaderCacheWrong("is no cache of the dynamic loader")


def _new(raw: bytes) -> tuple[CacheEntry, ...]:
    order, count = _order(raw, len(_NEW), _NEW_HEADER, _NEW_ENTRY)
    end = _NEW_HEADER + count * struct.calcsize(order + _NEW_ENTRY)
    return _entries(raw, _NEW_HEADER, end, order + _NEW_ENTRY, 0)


def _order(raw: bytes, at: int, header: int, entry: str) -> tuple[str, int]:
    """The byte order in which the number of entries fits into the file, and that number."""
    for order in "<>":
        if len(raw) >= header:
            (count,) = struct.unpack_from(f"{order}I", raw, at)
            room = (len(raw) - header) // struct.calcsize(order + entry)
            if count <= min(room, ENTRIES_LIMIT):
                return order, count
    raise LoaderCacheWrong("is a cache of the dynamic loader that was cut off")


def _entries(raw: bytes, begin: int, end: int, form: str, base: int) -> tuple[CacheEntry, ...]:
    """The entries between two places; their texts are counted from ``base``."""
    found = []
    for flags, key, value, *_ in struct.iter_unpack(form, raw[begin:end]):
        if flags & 0xFF in _ELF_KINDS:
            soname, path = _text(raw, base + key), _text(raw, base + value)
            if soname and path.startswith("/") and "/" not in soname:
                found.append(CacheEntry(soname, path))
    return tuple(found)


def _text(raw: bytes, at: int) -> str:
    end = raw.find(b"\0", at, at + TEXT_LIMIT)
    if end < 0:
        raise LoaderCacheWrong("has a name that does not end")
    return raw[at:end].decode("utf-8", "surrogateescape")
