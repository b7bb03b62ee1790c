"""The entries of a layer: what every header of its tar says, with sparse maps and attributes.

Image specification 1.1, "Image Layer Filesystem Changeset"; POSIX.1-2001 "pax", GNU's long names,
large numbers and its four forms of sparse files.

Invariants:
- an entry's way has no empty part, no ``.`` and no ``..``, and no part that no file system takes;
  a name that leads out of the image is refused;
- names, links and attributes are bytes: what is not UTF-8 stays what it is;
- time and memory are bounded by the limits below, whatever the headers claim.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Final, NamedTuple, NoReturn

from registryd.images.errors import NotAnImage
from registryd.images.inflate import Readable
from registryd.images.layers.allowance import ENTRIES_LIMIT, Allowance
from registryd.images.layers.reading import Stretches
from registryd.images.layers.sparse import STRETCH_COST, Holes, sparse_map
from registryd.images.tar_fields import BLOCK, ZEROS, number, pax_records, sum_is_right, text

#: Longest path and longest part of one: what Linux takes (PATH_MAX, NAME_MAX).
PATH_LIMIT: Final = 4095
PART_LIMIT: Final = 255
#: Deepest folder: each level above it is held open while a file is written.
DEPTH_LIMIT: Final = 256
#: Most bytes of extended headers before one entry: a hundred long attributes.
EXTENDED_LIMIT: Final = 1 << 20

FILE, LINK, SYMLINK, CHARACTER, BLOCKS, FOLDER, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_SPARSE: Final = b"S"
_FILES: Final = b"0\0" + b"7" + _SPARSE
_KNOWN: Final = frozenset(_FILES + b"123456")
_EXTENDED: Final = frozenset(b"LKxgX")
_LABEL: Final = b"V"
#: Name, mode with owners, size, time, type, link, magic, and what stands before the name.
_HEADER: Final = Struct("100s 24s 12s 12s 8x c 100s 6s 82x 155s 12x")
_USTAR: Final = b"ustar\0"
#: How a number of 12 bytes may end.
_ENDS: Final = frozenset(b"\0 ")
#: What pax says of most files, and what is nothing to us.
_USUAL: Final = frozenset((b"path", b"linkpath", b"mtime", b"atime", b"ctime"))
_XATTR: Final = b"SCHILY.xattr."
_USUAL_KINDS: Final = frozenset((FILE, FOLDER, SYMLINK, LINK))
_XATTR_LIMIT: Final = 64 << 10
_DECIMAL = re.compile(rb"[0-9]{1,19}")
_TIME = re.compile(rb"(-?)([0-9]{1,18})(?:\.([0-9]*))?")
_SECOND: Final = 10**9
_SIZE_LIMIT: Final = 2**63 - 1
_ID_LIMIT: Final = 2**32 - 2
#: How many entries, or bytes of names, are counted at once.
_COUNTED: Final = 1000
_NAMES_COUNTED: Final = 1 << 20
_OWNERS_KEPT: Final = 256
#: Parts of a name that mean something else than themselves.
_NO_PART: Final = frozenset((b"", b".", b".."))
_DEVICE_LIMIT: Final = 2**20 - 1


class Entry(NamedTuple):
    """One entry: ``offset`` is where the bytes of a file begin in the layer, not compressed.

    ``link`` is the text of a symbolic link, or the name that a hard link leads to; ``mtime`` is in
    nanoseconds; ``holes`` is the map of a sparse file, whose ``size`` is what it is read as.
    """

    way: tuple[bytes, ...]
    kind: bytes
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    layer: int = 0
    offset: int = 0
    holes: Holes | None = None


def read_entries(file: Readable, where: str, layer: int, allowance: Allowance) -> list[Entry]:
    """Every entry of a layer in order; ``file`` gives its tar. Raises NotAnImage."""
    scan = _Scan(Stretches(file, where), where, layer)
    found: list[Entry] = []
    counted = names = contents = 0
    for entry in scan.entries():
        found.append(entry)
        names += sum(map(len, entry.way)) + len(entry.link)
        if entry.xattrs:
            names += sum(len(key) + len(value) for key, value in entry.xattrs)
        if entry.holes is not None:
            names += STRETCH_COST * len(entry.holes.stored)
        contents += entry.size
        if len(found) - counted == _COUNTED or names > _NAMES_COUNTED:
            allowance.take(where, len(found) - counted, names, contents)
            counted, names, contents = len(found), 0, 0
    allowance.take(where, len(found) - counted, names, contents)
    return found


@dataclass
class _Scan:
    """A layer on its way past: ``said`` is what extended headers said of the next entry."""

    stretches: Stretches
    where: str
    layer: int
    said: dict[bytes, bytes] = field(default_factory=dict)
    pairs: list[tuple[bytes, bytes]] = field(default_factory=list)
    #: How many bytes they had.
    extended: int = 0
    #: Fields of mode, uid and gid as they were last read: few of them differ.
    owners: dict[bytes, tuple[int, int, int]] = field(default_factory=dict)
    #: The folder of the last name, raw and as a way: mostly that of the next one too.
    above: tuple[bytes, tuple[bytes, ...]] = (b"", ())

    def entries(self) -> Iterator[Entry]:
        extended = 0
        while (block := self.stretches.block()) is not None and block != ZEROS:
            if not sum_is_right(block):
                first = self.stretches.position == BLOCK
                self.refuse("it is not a tar archive" if first else "it is damaged")
            kind = block[156:157]
            if kind[0] in _EXTENDED:
                self._extend(kind, self._number(block[124:136], _SIZE_LIMIT, "size"))
                extended += 1
                if extended > ENTRIES_LIMIT:
                    self.refuse("there are headers and no entries")
                continue
            entry = self._usual(block) if kind in _USUAL_KINDS else None
            entry = entry or self._entry(kind, block)
            if entry is not None:
                yield entry
            if self.extended:
                self.said, self.pairs, self.extended = {}, [], 0
        if self.said:
            self.refuse("it is cut off")

    def _usual(self, block: bytes) -> Entry | None:
        """The entry of a header as nearly all are; None where it must be looked at more closely.

        What it gives is what ``_entry`` gives, at a third of the time.
        """
        name, owned, size, mtime, kind, link, magic, before = _HEADER.unpack(block)
        known = self.owners.get(owned)
        if known is None:
            return None
        digits, seconds = size[:11], mtime[:11]
        if not (digits.isdigit() and seconds.isdigit() and {size[11], mtime[11]} <= _ENDS):
            return None
        try:
            stored, when = int(digits, 8), int(seconds, 8) * _SECOND
        except ValueError:
            return None
        raw, link = text(name), text(link)
        if before[0] and magic == _USTAR:
            raw = text(before) + b"/" + raw
        xattrs: tuple[tuple[bytes, bytes], ...] = ()
        if self.said:
            said = self.said
            if not said.keys() <= _USUAL:
                xattrs = self._xattrs()
                if len(said.keys() - _USUAL) > len(xattrs):
                    return None
            raw, link = said.get(b"path", raw), said.get(b"linkpath", link)
            if b"mtime" in said:
                when = self._time(mtime)
        if kind == FILE:
            link = b""
        elif kind == FOLDER:
            raw, link = raw.removesuffix(b"/"), b""
        elif not link or len(link) > PATH_LIMIT or b"\0" in link:
            return None
        way = self._usual_way(raw)
        if way is None:
            return None
        if kind != FILE:
            stored = 0
        offset = self.stretches.position
        self.stretches.skip(stored + -stored % BLOCK)
        mode, uid, gid = known
        return Entry(
            way, kind, mode, uid, gid, when, stored, link, 0, 0, xattrs, self.layer, offset
        )

    def _usual_way(self, raw: bytes) -> tuple[bytes, ...] | None:
        """A name's parts, those of its folder kept once; None where it is an odd name."""
        above, _, last = raw.rpartition(b"/")
        if last in _NO_PART or len(raw) > PART_LIMIT or b"\0" in last:
            return None
        before, way = self.above
        if above != before:
            try:
                way = way_of(above)
            except ValueError:
                return None
            self.above = above, way
        return (*way, last)  # so short a name has no part and no depth that is too much

    def refuse(self, why: str) -> NoReturn:
        raise NotAnImage(f"{self.where}: {why} (before byte {self.stretches.position})")

    def _extend(self, kind: bytes, size: int) -> None:
        """Take in an extended header; a global one would speak of all alike: it says nothing."""
        self.extended += size
        if self.extended > EXTENDED_LIMIT:
            self.refuse(f"the extended headers of an entry have more than {EXTENDED_LIMIT} bytes")
        content = self.stretches.exactly(size)
        self.stretches.skip(-size % BLOCK)
        if kind in b"LK":
            self.said[b"path" if kind == b"L" else b"linkpath"] = content.rstrip(b"\0")
        elif kind != b"g":
            records = pax_records(content)
            if records is None:
                self.refuse("an extended header is damaged")
            self.pairs += records
            self.said.update(records)

    def _entry(self, kind: bytes, block: bytes) -> Entry | None:
        """The entry of a header, its bytes passed over; None for the label of a volume."""
        if kind[0] not in _KNOWN and kind != _LABEL:
            self.refuse(f"an entry of type {chr(kind[0])!r} is in no layer")
        stored = self._stored(kind, block)
        raw = self._name(block)
        if kind == _LABEL:
            return None
        holes, packed = None, kind in _FILES
        if packed and (kind == _SPARSE or (self.said and self._is_sparse())):
            holes, stored = sparse_map(self, kind, block, stored)
            kind = FILE
        elif packed:
            kind = FOLDER if raw.endswith(b"/") and not stored else FILE
        offset = self.stretches.position
        self.stretches.skip(stored + -stored % BLOCK)
        link = self._link(block) if kind in b"12" else b""
        device = kind in b"34"
        mode, uid, gid = self._owned(block)
        return Entry(
            self._way(raw),
            kind,
            mode,
            uid,
            gid,
            self._time(block[136:148]),
            stored if holes is None else holes.size,
            link,
            self._number(block[329:337], _DEVICE_LIMIT, "device") if device else 0,
            self._number(block[337:345], _DEVICE_LIMIT, "device") if device else 0,
            self._xattrs() if self.said else (),
            self.layer,
            offset,
            holes,
        )

    def _is_sparse(self) -> bool:
        return any(key.startswith(b"GNU.sparse.") for key in self.said)

    def _stored(self, kind: bytes, block: bytes) -> int:
        """How many bytes follow."""
        size = self._number(block[124:136], _SIZE_LIMIT, "size")
        if b"size" in self.said:
            size = self.decimal(self.said[b"size"])
        return size if kind in _FILES else 0

    def _name(self, block: bytes) -> bytes:
        said = self.said.get(b"GNU.sparse.name") or self.said.get(b"path")
        if said is not None:
            return said
        raw = text(block[:100])
        if block[345] and block[257:263] == _USTAR:
            raw = text(block[345:500]) + b"/" + raw
        return raw

    def _link(self, block: bytes) -> bytes:
        link = self.said.get(b"linkpath")
        link = text(block[157:257]) if link is None else link
        if not link or len(link) > PATH_LIMIT or b"\0" in link:
            self.refuse("a link leads to no name")
        return link

    def _way(self, raw: bytes) -> tuple[bytes, ...]:
        try:
            return way_of(raw)
        except ValueError as error:
            self.refuse(str(error))

    def _owned(self, block: bytes) -> tuple[int, int, int]:
        """Mode and owners."""
        fields = block[100:124]
        plain = b"uid" not in self.said and b"gid" not in self.said
        if plain and (known := self.owners.get(fields)):
            return known
        mode = self._number(fields[:8], _SIZE_LIMIT, "mode") & 0o7777
        uid, gid = self._owner(fields[8:16], b"uid"), self._owner(fields[16:], b"gid")
        if plain:
            if len(self.owners) == _OWNERS_KEPT:
                self.owners.clear()
            self.owners[fields] = mode, uid, gid
        return mode, uid, gid

    def _owner(self, raw: bytes, key: bytes) -> int:
        if key in self.said:
            found = self.decimal(self.said[key])
            if found > _ID_LIMIT:
                self.refuse(f"an entry has an impossible {key.decode()}")
            return found
        return self._number(raw, _ID_LIMIT, key.decode())

    def _time(self, raw: bytes) -> int:
        said = self.said.get(b"mtime")
        if said is None:
            return (number(raw) or 0) * _SECOND  # a time before 1970 that GNU tar may write
        matched = _TIME.fullmatch(said)
        if matched is None:
            self.refuse("an entry has an impossible mtime")
        sign, whole, part = matched.groups()
        found = int(whole) * _SECOND + int((part or b"")[:9].ljust(9, b"0"))
        return -found if sign else found

    def _xattrs(self) -> tuple[tuple[bytes, bytes], ...]:
        found = []
        for key, value in self.said.items():
            if key.startswith(_XATTR):
                if len(value) > _XATTR_LIMIT or not 0 < len(key) - len(_XATTR) <= PART_LIMIT:
                    self.refuse("an extended attribute is larger than Linux takes")
                found.append((key[len(_XATTR) :], value))
        return tuple(sorted(found))

    def decimal(self, raw: bytes) -> int:
        """A number of a pax header."""
        if not _DECIMAL.fullmatch(raw) or int(raw) > _SIZE_LIMIT:
            self.refuse("an entry has an impossible number")
        return int(raw)

    def _number(self, raw: bytes, limit: int, what: str) -> int:
        found = number(raw)
        if found is None or found > limit:
            self.refuse(f"an entry has an impossible {what}")
        return found


def way_of(raw: bytes) -> tuple[bytes, ...]:
    """A name as its parts from the top of the image. Raises ValueError with the reason."""
    if len(raw) > PATH_LIMIT or b"\0" in raw:
        raise ValueError(f"a name has more than {PATH_LIMIT} bytes, or a NUL")
    parts = raw.split(b"/")
    if not (b"" in parts or b"." in parts or b".." in parts):
        way = parts
    else:
        way = []
        for part in parts:
            if part == b"..":
                if not way:
                    shown = raw[:140].decode(errors="replace")
                    raise ValueError(f"{shown!r} leads out of the image")
                way.pop()
            elif part not in (b"", b"."):
                way.append(part)
    if len(way) > DEPTH_LIMIT:
        raise ValueError(f"a name has more than {DEPTH_LIMIT} folders")
    if len(raw) > PART_LIMIT and any(len(part) > PART_LIMIT for part in way):
        raise ValueError(f"a part of a name has more than {PART_LIMIT} bytes")
    return tuple(way)
