"""The fields of tar headers: numbers, texts, the sum, and the records of pax.

POSIX.1-2001 "pax", "ustar Interchange Format", and GNU's large numbers.
"""

from __future__ import annotations

from typing import Final
from zlib import adler32

BLOCK: Final = 512
ZEROS: Final = bytes(BLOCK)

#: That of Adler-32.
_MODULUS: Final = 65521
_HALF: Final = BLOCK // 2
_BLANKS: Final = 8 * ord(" ")
_NEWLINE: Final = ord("\n")


def number(field: bytes) -> int | None:
    """A number of a header, octal or GNU's base 256; None when it is none, or negative."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
        return None if field[0] & 0x40 else value
    digits = field.partition(b"\0")[0]
    if not digits.isdigit():
        digits = digits.strip(b" ")
    if not digits.isdigit():
        return None if digits else 0
    try:
        return int(digits, 8)
    except ValueError:
        return None


def text(field: bytes) -> bytes:
    """A field up to its NUL."""
    return field.partition(b"\0")[0]


def sum_of(block: bytes) -> int:
    """The sum of a block's bytes, in a fifth of the time that ``sum`` takes.

    The lower half of Adler-32 is one more than it, modulo 65521, which half a block never reaches.
    """
    return (adler32(block[:_HALF]) & 0xFFFF) + (adler32(block[_HALF:]) & 0xFFFF) - 2


def sum_is_right(block: bytes) -> bool:
    """Whether a header's sum is that of its bytes, with or without signs as old programs had it.

    A sum that is wrong by 65521 or twice that passes: damage that adds up to this is no likelier
    than any other that a sum does not show.
    """
    field = block[148:156]
    digits = field[:6]
    if digits.isdigit() and not field[6] and not (b"8" in digits or b"9" in digits):
        claimed: int | None = int(digits, 8)
    else:
        claimed = number(field)
    if claimed is None:
        return False
    signless = claimed + sum(field) - _BLANKS
    if adler32(block) & 0xFFFF == (signless + 1) % _MODULUS:
        return True
    negatives = sum(byte >= 128 for byte in block[:148] + block[156:])
    return signless == sum_of(block) - 256 * negatives


def pax_records(content: bytes) -> list[tuple[bytes, bytes]] | None:
    """The records of a pax header, ``LENGTH KEY=VALUE\\n`` each; None where it is damaged."""
    found = []
    at, whole = 0, len(content)
    while at < whole and content[at]:
        blank = content.find(b" ", at, at + 11)
        length = content[at:blank]
        end = at + int(length) if blank > 0 and length.isdigit() else 0
        equals = content.find(b"=", blank + 1, end - 1) if end else -1
        if equals < 0 or end > whole or content[end - 1] != _NEWLINE:
            return None
        found.append((content[blank + 1 : equals], content[equals + 1 : end - 1]))
        at = end
    return found
