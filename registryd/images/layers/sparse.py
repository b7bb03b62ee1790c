"""Sparse files in a tar: which of their bytes are stored. GNU's old form, and 0.0, 0.1 and 1.0.

Invariants:
- the stretches of a map are in order, do not overlap, and lie within the file;
- together they are as long as what is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, Protocol

from registryd.images.tar_fields import BLOCK, number

if TYPE_CHECKING:
    from registryd.images.layers.reading import Stretches

#: Most stretches of one file: 32 MB of a map.
STRETCHES_LIMIT: Final = 1 << 20
#: Bytes of memory that one takes: two numbers, and the pair that they are.
STRETCH_COST: Final = 128
_OLD_FIRST: Final = 386
_OLD_COUNT: Final = 4
_MORE_COUNT: Final = 21
_FIELD: Final = 12


class Holes(NamedTuple):
    """What a sparse file is: its whole size, and offset and length of what is stored of it."""

    size: int
    stored: tuple[tuple[int, int], ...]


class Scan(Protocol):
    """The layer that a map is read from."""

    stretches: Stretches
    said: dict[bytes, bytes]
    pairs: list[tuple[bytes, bytes]]

    def refuse(self, why: str) -> NoReturn:
        """Raise NotAnImage."""

    def decimal(self, raw: bytes) -> int:
        """A number. Raises NotAnImage."""


def sparse_map(scan: Scan, kind: bytes, block: bytes, stored: int) -> tuple[Holes, int]:
    """The map, and how many bytes of contents follow now. Raises NotAnImage."""
    said = scan.said
    if kind == b"S":
        size, flat = _old(scan, block)
    elif said.get(b"GNU.sparse.major", b"0") == b"1":
        size = scan.decimal(said.get(b"GNU.sparse.realsize", b""))
        before = scan.stretches.position
        flat = _listed(scan, stored)
        stored -= scan.stretches.position - before
    else:
        size = scan.decimal(_first(said, b"GNU.sparse.size", b"GNU.sparse.realsize"))
        if b"GNU.sparse.map" in said:
            flat = [scan.decimal(each) for each in said[b"GNU.sparse.map"].split(b",") if each]
        else:
            wanted = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
            flat = [scan.decimal(value) for key, value in scan.pairs if key in wanted]
    return Holes(size, _checked(scan, size, flat, stored)), stored


def _first(said: Mapping[bytes, bytes], *keys: bytes) -> bytes:
    return next((said[key] for key in keys if key in said), b"")


def _old(scan: Scan, block: bytes) -> tuple[int, list[int]]:
    """GNU's old form: in the header, and in blocks after it."""
    size = number(block[483:495])
    flat = _fields(scan, block[_OLD_FIRST:], _OLD_COUNT)
    more = block[482]
    while more:
        further = scan.stretches.exactly(BLOCK)
        flat += _fields(scan, further, _MORE_COUNT)
        more = further[504]
        if len(flat) > 2 * STRETCHES_LIMIT:
            break
    if size is None:
        scan.refuse("an entry has an impossible size")
    return size, flat


def _fields(scan: Scan, block: bytes, count: int) -> list[int]:
    found = []
    for at in range(0, 2 * count * _FIELD, 2 * _FIELD):
        if not block[at]:
            break
        for field in (block[at : at + _FIELD], block[at + _FIELD : at + 2 * _FIELD]):
            value = number(field)
            if value is None:
                scan.refuse("the map of a sparse file is damaged")
            found.append(value)
    return found


def _listed(scan: Scan, stored: int) -> list[int]:
    """1.0: decimal lines before the contents, the first their count, in whole blocks."""
    content = bytearray()
    wanted, lines = None, 0
    while wanted is None or lines < wanted:
        if len(content) + BLOCK > stored or len(content) > 32 * STRETCHES_LIMIT:
            scan.refuse("the map of a sparse file is damaged")
        block = scan.stretches.exactly(BLOCK)
        lines += block.count(b"\n")
        content += block
        if wanted is None and lines:
            wanted = 1 + 2 * min(scan.decimal(bytes(content).partition(b"\n")[0]), STRETCHES_LIMIT)
    return [scan.decimal(line) for line in bytes(content).split(b"\n")[1:wanted]]


def _checked(
    scan: Scan, size: int, flat: Sequence[int], stored: int
) -> tuple[tuple[int, int], ...]:
    stretches = [pair for pair in zip(flat[::2], flat[1::2], strict=False) if pair[1]]
    end = 0
    for offset, count in stretches:
        if offset < end:
            scan.refuse("the map of a sparse file is damaged")
        end = offset + count
    total = sum(count for _, count in stretches)
    if len(flat) % 2 or len(flat) > 2 * STRETCHES_LIMIT or end > size or total != stored:
        scan.refuse("the map of a sparse file is damaged")
    return tuple(stretches)
