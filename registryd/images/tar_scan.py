"""Where the members of a tar archive are: its headers read one by one, its contents passed over.

POSIX.1-2001 "pax", "ustar Interchange Format", and GNU's long names and large numbers.

Invariants:
- nothing is unpacked, and no name of an archive is ever a path of this machine;
- every name and link lies inside the archive: absolute ones, ``..`` beyond its top, names that are
  not UTF-8, devices and sparse members are refused;
- time and memory are bounded by the limits below and by the archive's own size, whatever its
  headers claim; a member that ends after the archive does is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from registryd.images.errors import NotAnImage
from registryd.images.tar_fields import BLOCK, ZEROS, number, pax_records, sum_is_right, text

#: Most members: an image has at most some hundred layers of three files, an archive some images.
MEMBERS_LIMIT: Final = 50_000
#: Longest name: those of image archives have 141 bytes at most.
NAME_LIMIT: Final = 1024
#: Bytes that all names of an archive may have together: they are kept.
NAMES_LIMIT: Final = 16 << 20
#: Largest extended header; they carry names, and perhaps some attributes.
EXTENDED_LIMIT: Final = 1 << 20
#: How many links may be followed from a name.
LINKS_LIMIT: Final = 8
#: Largest size of a member: what file systems count in.
_SIZE_LIMIT: Final = 2**63 - 1

_DECIMAL = re.compile(rb"[0-9]{1,19}")
_REGULAR: Final = b"0\0" + b"7"
_IGNORED: Final = b"5V"  # folders, and the labels of volumes
_SPARSE: Final = b"GNU.sparse."

#: Gives up to ``count`` bytes from an offset; fewer only where the archive ends.
ReadAt = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive: where its bytes are; or, with ``link``, the name that it stands for."""

    offset: int
    size: int
    link: str = ""


Members = Mapping[str, Member]


def scan(read_at: ReadAt, end: int, where: str) -> dict[str, Member]:
    """Every file and link by its name; of several with one name the last. Raises NotAnImage."""
    members: dict[str, Member] = {}
    count = names = 0
    for header in _headers(_Cursor(read_at, end, where)):
        count += 1
        if count > MEMBERS_LIMIT:
            raise NotAnImage(f"{where} has more than {MEMBERS_LIMIT} entries, as no image has")
        member = header.member()
        if member is None:
            continue
        name = header.name()
        names += len(name) + len(member.link)
        if names > NAMES_LIMIT:
            raise NotAnImage(f"{where} has more than {NAMES_LIMIT} bytes of names, as no image has")
        if name:
            members[name] = member
    return members


def resolve(members: Members, name: str, where: str) -> Member | None:
    """The file that a name means, through links; None where it is missing. Raises NotAnImage."""
    found = members.get(name)
    for _ in range(LINKS_LIMIT):
        if found is None or not found.link:
            return found
        found = members.get(found.link)
    raise NotAnImage(f"{where}: the links of {name[:140]!r} lead on and on")


@dataclass(frozen=True, slots=True)
class _Cursor:
    """An archive as the scan reads it."""

    read_at: ReadAt
    end: int
    where: str

    def refuse(self, position: int, why: str) -> NoReturn:
        raise NotAnImage(f"{self.where}: {why} (at byte {position})")

    def whole(self, position: int, count: int) -> bytes:
        """Exactly these bytes."""
        content = self.read_at(position, count) if position + count <= self.end else b""
        if len(content) != count:
            self.refuse(position, "it is cut off" if position else "it is not a tar archive")
        return content


@dataclass(frozen=True, slots=True)
class _Header:
    """One header with what the extended headers before it said."""

    cursor: _Cursor
    position: int
    block: bytes
    size: int
    long_name: bytes | None
    long_link: bytes | None

    @property
    def kind(self) -> bytes:
        return self.block[156:157]

    def name(self) -> str:
        """The member's name from the top of the archive; "" for the top itself."""
        raw = self.long_name
        if raw is None:
            raw = text(self.block[:100])
            prefix = text(self.block[345:500])
            if prefix and self.block[257:263] == b"ustar\0":
                raw = prefix + b"/" + raw
        return self._inside(raw)

    def member(self) -> Member | None:
        """What it is; None for folders and labels."""
        kind, offset = self.kind, self.position + BLOCK
        if kind in _IGNORED:
            return None
        if kind in (b"1", b"2"):
            raw = self.long_link if self.long_link is not None else text(self.block[157:257])
            above = self.name().split("/")[:-1] if kind == b"2" else []
            link = self._inside(raw, above)
            if not link:
                self.cursor.refuse(self.position, "a link leads to no file")
            return Member(offset, 0, link)
        if kind == b"0" and text(self.block[:100]).endswith(b"/") and not self.size:
            return None  # how old programs write folders
        return Member(offset, self.size)

    def _inside(self, raw: bytes, above: list[str] | None = None) -> str:
        """A name, or a link from the folder ``above``, as its way from the top."""
        if len(raw) > NAME_LIMIT:
            self.cursor.refuse(self.position, f"a name has more than {NAME_LIMIT} bytes")
        try:
            decoded = raw.decode("utf-8")
        except UnicodeDecodeError:
            self.cursor.refuse(self.position, "a name is not UTF-8 text")
        if decoded.startswith("/") or "\0" in decoded:
            self.cursor.refuse(self.position, f"{decoded[:140]!r} is not a name inside the archive")
        way = list(above or [])
        for part in decoded.split("/"):
            if part == "..":
                if not way or above is None:
                    self.cursor.refuse(self.position, f"{decoded[:140]!r} leads out of the archive")
                way.pop()
            elif part not in ("", "."):
                way.append(part)
        return "/".join(way)


def _headers(cursor: _Cursor) -> Iterator[_Header]:
    """Each header of a member, in order."""
    position = extended = 0
    said: dict[bytes, bytes] = {}
    while position < cursor.end:
        block = cursor.whole(position, BLOCK)
        if block == ZEROS:
            break
        kind, size = _checked(cursor, position, block)
        if kind in b"LKxgX":
            content = _extended(cursor, position, size)
            if kind in b"LK":
                said[kind] = content.rstrip(b"\0")
            elif kind != b"g":  # a global header would name all members alike: it says nothing
                said.update(_pax(cursor, position, content))
            extended += 1
        else:
            if kind not in b"12" + _REGULAR + _IGNORED:
                cursor.refuse(position, f"an entry of type {chr(kind[0])!r} is in no image archive")
            size = _claimed(cursor, position, kind, size, said)
            name, link = said.get(b"L", said.get(b"path")), said.get(b"K", said.get(b"linkpath"))
            yield _Header(cursor, position, block, size, name, link)
            said, extended = {}, 0
        if extended > MEMBERS_LIMIT:
            cursor.refuse(position, "there are headers and no members")
        position += BLOCK + -(-size // BLOCK) * BLOCK
    if said:
        cursor.refuse(position, "it is cut off")


def _checked(cursor: _Cursor, position: int, block: bytes) -> tuple[bytes, int]:
    """Type and size of a header whose sum is right."""
    if not sum_is_right(block):
        cursor.refuse(position, "it is damaged" if position else "it is not a tar archive")
    size = number(block[124:136])
    if size is None or size > _SIZE_LIMIT:
        cursor.refuse(position, "an entry has an impossible size")
    return block[156:157], size


def _claimed(
    cursor: _Cursor, position: int, kind: bytes, size: int, said: Mapping[bytes, bytes]
) -> int:
    """How many bytes a member has, which must be there."""
    if any(key.startswith(_SPARSE) for key in said):
        cursor.refuse(position, "an entry is sparse, as in no image archive")
    if b"size" in said:
        if not _DECIMAL.fullmatch(said[b"size"]):
            cursor.refuse(position, "an entry has an impossible size")
        size = int(said[b"size"])
    if kind in b"12" + _IGNORED:
        return 0
    if size > cursor.end - position - BLOCK:
        cursor.refuse(position, "it is cut off")
    return size


def _extended(cursor: _Cursor, position: int, size: int) -> bytes:
    if size > EXTENDED_LIMIT:
        cursor.refuse(position, f"an extended header has more than {EXTENDED_LIMIT} bytes")
    return cursor.whole(position + BLOCK, size)


def _pax(cursor: _Cursor, position: int, content: bytes) -> list[tuple[bytes, bytes]]:
    records = pax_records(content)
    if records is None:
        cursor.refuse(position, "an extended header is damaged")
    return records
