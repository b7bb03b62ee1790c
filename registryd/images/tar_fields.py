"""The fields of tar headers: numbers, texts, the sum, and the records of pax.

POSIX.1-2001 "pax", "ustar Interchange Format", and GNU's large numbers.
"""

from __future__ import annotations

import re
from typing import Final

BLOCK: Final = 512
ZEROS: Final = bytes(BLOCK)

_LENGTH = re.compile(rb"[0-9]{1,10}")


def number(field: bytes) -> int | None:
    """A number of a header, octal or GNU's base 256; None when it is none, or negative."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
        return None if field[0] & 0x40 else value
    digits = field.partition(b"\0")[0].strip(b" ")
    if not digits.isdigit():
        return None if digits else 0
    try:
        return int(digits, 8)
    except ValueError:
        return None


def text(field: bytes) -> bytes:
    """A field up to its NUL."""
    return field.partition(b"\0")[0]


def sum_is_right(block: bytes) -> bool:
    """Whether a header's sum is that of its bytes, with or without signs as old programs had it."""
    field = block[148:156]
    claimed = number(field)
    summed = sum(block) - sum(field) + 8 * ord(" ")
    if claimed == summed:
        return True
    negatives = sum(byte >= 128 for byte in block[:148] + block[156:])
    return claimed == summed - 256 * negatives


def pax_records(content: bytes) -> list[tuple[bytes, bytes]] | None:
    """The records of a pax header, ``LENGTH KEY=VALUE\\n`` each; None where it is damaged."""
    found = []
    at = 0
    while at < len(content) and content[at]:
        length, blank, _ = content[at : at + 11].partition(b" ")
        end = at + int(length) if blank and _LENGTH.fullmatch(length) else 0
        record = content[at + len(length) + 1 : end]
        key, equals, value = record[:-1].partition(b"=")
        if not equals or end > len(content) or record[-1:] != b"\n":
            return None
        found.append((key, value))
        at = end
    return found
