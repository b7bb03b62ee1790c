"""Sizes and times as people write them: ``200GiB``, ``1h30m``.

Invariants:
- a number without a unit is bytes for a size, and is refused for a time (except ``0``);
- no result is negative, and every size fits in 63 bits (a file offset, a database integer).
"""

from __future__ import annotations

import re
from decimal import Decimal

from registryd.oci.errors import UsageError

SIZE_UNITS = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "PB": 10**15,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "PiB": 2**50,
}
TIME_UNITS = {
    "d": Decimal(86400),
    "h": Decimal(3600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
}
#: What links are sold by; a rate may be written in these.
BIT_UNITS = {"bit": 1, "kbit": 10**3, "Mbit": 10**6, "Gbit": 10**9, "Tbit": 10**12}
#: The largest file offset there is.
LARGEST_SIZE = 2**63 - 1

SIZE_FORMS = 'a size is written "64MiB", "200GiB", "1.5GB" or as a number of bytes'
RATE_FORMS = 'a rate is written "125MB/s", "10MiB", "1Gbit/s" or as bytes a second; "0" for none'
TIME_FORMS = 'a time is written "300ms", "30s", "5m" or "1h30m"'

# At most 19 digits: more would not fit, and longer texts cost time to convert.
_NUMBER = r"[0-9]{1,19}(?:\.[0-9]{1,9})?"
_SIZE = re.compile(rf"({_NUMBER}) ?([A-Za-z]*)")
_TIME_PARTS = "".join(rf"(?:({_NUMBER}){unit})?" for unit in TIME_UNITS)
_TIME = re.compile(_TIME_PARTS)


def parse_size(text: str | int) -> int:
    """The number of bytes that a size means; a fraction of a byte is dropped.

    Raises UsageError.
    """
    if isinstance(text, int):
        text = str(
            max(-1, min(text, LARGEST_SIZE + 1))
        )  # thousands of digits cannot be written out
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"{_shown(text)} is not a size ({SIZE_FORMS})")
    number, unit = match.groups()
    if unit not in SIZE_UNITS:
        known = ", ".join(name for name in SIZE_UNITS if name)
        raise UsageError(f"{_shown(text)} has the unit {unit[:20]!r}, which is none of {known}")
    size = int(Decimal(number) * SIZE_UNITS[unit])
    if size > LARGEST_SIZE:
        raise UsageError(f"{_shown(text)} is more than {LARGEST_SIZE} bytes")
    return size


def parse_rate(text: str | int) -> int:
    """The bytes a second that a rate means: a size or a number of bits, with or without ``/s``.

    Raises UsageError.
    """
    if isinstance(text, int):
        return parse_size(text)
    amount = text.removesuffix("/s")
    match = _SIZE.fullmatch(amount)
    if match is None:
        raise UsageError(f"{_shown(text)} is not a rate ({RATE_FORMS})")
    number, unit = match.groups()
    if unit not in BIT_UNITS:
        return parse_size(amount)
    return parse_size(str(int(Decimal(number) * BIT_UNITS[unit] / 8)))


def parse_duration(text: str) -> float:
    """The number of seconds that a time means; units from large to small, each once.

    Raises UsageError.
    """
    if text == "0":
        return 0.0
    match = _TIME.fullmatch(text)
    if match is None or not text:
        raise UsageError(f"{_shown(text)} is not a time ({TIME_FORMS})")
    amounts = zip(match.groups(), TIME_UNITS.values(), strict=True)
    return float(sum(Decimal(number) * unit for number, unit in amounts if number))


def format_size(size: int) -> str:
    """The shortest exact form: ``32MiB`` for 33554432, ``1000B`` for 1000."""
    for unit in ("PiB", "TiB", "GiB", "MiB", "KiB"):
        if size and size % SIZE_UNITS[unit] == 0:
            return f"{size // SIZE_UNITS[unit]}{unit}"
    return f"{size}B"


def format_rate(rate: int) -> str:
    """The form that parse_rate reads: ``32MiB/s``; ``0`` for no limit."""
    return f"{format_size(rate)}/s" if rate else "0"


def format_duration(seconds: float) -> str:
    """The form that parse_duration reads, exact to the millisecond: ``1h30m`` for 5400.0."""
    left = Decimal(round(seconds * 1000)) / 1000
    words = []
    for unit, length in TIME_UNITS.items():
        count, left = divmod(left, length)
        if count:
            words.append(f"{count:.0f}{unit}")
    return "".join(words) or "0s"


def _shown(text: str) -> str:
    """A wrong value as an error shows it: on one line, and not without end."""
    return ascii(text) if len(text) <= 60 else ascii(text[:60]) + "..."
