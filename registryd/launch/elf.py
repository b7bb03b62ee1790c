"""What a shared library says of itself: machine, soname and the sonames that it needs.

Invariants:
- the file is an image's or a stranger's: every offset in it is checked, and what is read is bounded
  however the file lies;
- a name is printable ASCII without a slash: it can always be the name of a file;
- only the program headers and the dynamic section are looked at, as the loader does (ELF
  specification, "Program Header" and "Dynamic Section").
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from typing import Final

from registryd.oci.errors import UsageError

#: Program headers of a file; the largest programs have about twenty.
HEADERS_LIMIT: Final = 512
#: Bytes of a dynamic section; 16 an entry, real ones have less than a hundred.
DYNAMIC_LIMIT: Final = 1 << 16
#: Bytes of a name in the string table.
NAME_LIMIT: Final = 255

_ET_DYN: Final = 3
_PT_LOAD: Final = 1
_PT_DYNAMIC: Final = 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME = 0, 1, 5, 10, 14
_NAME = re.compile(rb"[!-.0-~]+")


class ElfWrong(UsageError):
    """Raised when a file is no shared library of ELF, or one whose tables make no sense."""


@dataclass(frozen=True, slots=True)
class Library:
    """A shared library. ``abi`` is what must be equal for a process to load both of two."""

    bits: int
    order: str
    machine: int
    soname: str
    needed: tuple[str, ...]

    @property
    def abi(self) -> tuple[int, str, int]:
        """Word size, byte order and machine."""
        return self.bits, self.order, self.machine


@dataclass(frozen=True, slots=True)
class _Shape:
    """Where things are in files of one word size."""

    header: str
    program: str
    dynamic: str
    #: Of a program header: its place of offset, address and size in the file.
    offset: int
    address: int
    size: int


_SHAPES: Final = {
    32: _Shape("HHIIIIIHHH", "IIIIIIII", "iI", offset=1, address=2, size=4),
    64: _Shape("HHIQQQIHHH", "IIQQQQQQ", "qQ", offset=2, address=3, size=5),
}


def read_library(descriptor: int) -> Library:
    """The library in an open file, which must allow reading at a place. Raises ElfWrong."""
    return _Reading(descriptor).library()


class _Reading:
    """One file that is read."""

    def __init__(self, descriptor: int) -> None:
        self._file = descriptor
        ident = self._bytes(0, 16)
        if ident[:4] != b"\x7fELF":
            raise ElfWrong("is no ELF file")
        if ident[4] not in (1, 2) or ident[5] not in (1, 2):
            raise ElfWrong("is an ELF file of an unknown word size or byte order")
        self._bits = 32 * ident[4]
        self._order = "<>"[ident[5] - 1]
        self._shape = _SHAPES[self._bits]

    def library(self) -> Library:
        kind, machine, _, _, start, _, _, _, length, count = self._unpack(self._shape.header, 16)
        if kind != _ET_DYN:
            raise ElfWrong("is no shared library")
        if count > HEADERS_LIMIT or length < struct.calcsize(self._order + self._shape.program):
            raise ElfWrong("has program headers that make no sense")
        headers = [self._unpack(self._shape.program, start + length * n) for n in range(count)]
        entries = self._dynamic(headers)
        table, limit = self._strings(headers, entries)
        sonames = [self._name(table, limit, at) for tag, at in entries if tag == _DT_SONAME]
        needed = [self._name(table, limit, at) for tag, at in entries if tag == _DT_NEEDED]
        soname = sonames[0] if sonames else ""
        return Library(self._bits, self._order, machine, soname, tuple(dict.fromkeys(needed)))

    def _dynamic(self, headers: list[tuple[int, ...]]) -> list[tuple[int, int]]:
        """Tag and value of the dynamic section, up to its end mark."""
        found = next((each for each in headers if each[0] == _PT_DYNAMIC), None)
        if found is None:
            raise ElfWrong("has no dynamic section")
        size = found[self._shape.size]
        if size > DYNAMIC_LIMIT:
            raise ElfWrong(f"has a dynamic section of {size} bytes, {DYNAMIC_LIMIT} are allowed")
        one = struct.calcsize(self._order + self._shape.dynamic)
        raw = self._bytes(found[self._shape.offset], size - size % one)
        entries: list[tuple[int, int]] = []
        for tag, value in struct.iter_unpack(self._order + self._shape.dynamic, raw):
            if tag == _DT_NULL:
                break
            entries.append((tag, value))
        return entries

    def _strings(
        self, headers: list[tuple[int, ...]], entries: list[tuple[int, int]]
    ) -> tuple[int, int]:
        """Where the string table is in the file, and its size."""
        values = dict(reversed(entries))
        address, size = values.get(_DT_STRTAB, 0), values.get(_DT_STRSZ, 0)
        for each in headers:
            begin, length = each[self._shape.address], each[self._shape.size]
            if each[0] == _PT_LOAD and begin <= address < begin + length:
                return each[self._shape.offset] + address - begin, size
        raise ElfWrong("has no string table")

    def _name(self, table: int, limit: int, at: int) -> str:
        if at >= limit:
            raise ElfWrong("has a name outside its string table")
        length = min(NAME_LIMIT + 1, limit - at)
        name, end, _ = self._bytes(table + at, length, short=True).partition(b"\0")
        if not end or not _NAME.fullmatch(name):
            raise ElfWrong("has a name that no file can have")
        return name.decode("ascii")

    def _unpack(self, form: str, at: int) -> tuple[int, ...]:
        whole = struct.Struct(self._order + form)
        return whole.unpack(self._bytes(at, whole.size))

    def _bytes(self, at: int, size: int, *, short: bool = False) -> bytes:
        """Bytes at a place; ``short`` allows the file to end before them."""
        try:
            found = os.pread(self._file, size, at)
        except (OSError, OverflowError) as error:
            raise ElfWrong(f"cannot be read at byte {at}: {error}") from None
        if len(found) < size and not short:
            raise ElfWrong("ends too early for an ELF file")
        return found
