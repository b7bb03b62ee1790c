"""Byte ranges as values: what was asked for, what was sent, and how far an upload has come.

RFC 9110, section 14; distribution specification 1.1, "Pushing a blob in chunks".

Invariants:
- ranges in the program are half-open (``start`` up to but not including ``stop``), on the wire
  they are inclusive; the change happens here and nowhere else;
- a ByteRange is never empty and, when it comes from ``parse_range``, lies within the content;
- the ranges of one request together are never longer than the content.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from cache.marks import override
from registryd.oci.errors import BadAnswer, RangeInvalid

#: Most ranges of one request that are answered one by one; beyond it the whole is sent.
RANGES_LIMIT: Final = 64

# Twenty digits are more than any size; without a bound a header could hold a number that is slow
# to read.
_NUMBER = r"[0-9]{1,20}"
_BYTES = re.compile(r"bytes[ \t]*=(?P<ranges>.*)", re.IGNORECASE)
_RANGE = re.compile(rf"(?P<first>{_NUMBER})?-(?P<last>{_NUMBER})?")
_CONTENT_RANGE = re.compile(
    rf"(?:bytes[ \t]*[ =])?[ \t]*(?:(?P<first>{_NUMBER})-(?P<last>{_NUMBER})|\*)"
    rf"(?:/(?P<total>{_NUMBER}|\*))?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, order=True)
class ByteRange:
    """The bytes from ``start`` up to but not including ``stop``.

    Raises RangeInvalid when there are none.
    """

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise RangeInvalid(f"there is no byte from {self.start} up to {self.stop}")

    @property
    def length(self) -> int:
        """How many bytes it has."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class ContentRange:
    """What a ``Content-Range`` header says: which bytes, of how many (None: not told).

    ``start == stop`` is the answer "none of it": ``bytes */total`` (RFC 9110, 14.4).
    Raises BadAnswer when it contradicts itself.
    """

    start: int
    stop: int
    total: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop <= (self.stop if self.total is None else self.total):
            raise BadAnswer(
                f"Content-Range {self.start}-{self.stop - 1}/{self.total} is impossible"
            )

    @classmethod
    def parse(cls, text: str) -> ContentRange:
        """Read the header; the unit and the total may be missing. Raises BadAnswer."""
        match = _CONTENT_RANGE.fullmatch(text.strip())
        if not match:
            raise BadAnswer(f"Content-Range {text[:140]!r} cannot be read")
        total = match["total"]
        size = int(total) if total and total != "*" else None
        if match["first"] is None:
            return cls(0, 0, size)
        return cls(int(match["first"]), _stop_after(match["first"], match["last"], text), size)

    @classmethod
    def unsatisfied(cls, total: int) -> ContentRange:
        """The header that goes with status 416."""
        return cls(0, 0, total)

    @property
    def satisfied(self) -> bool:
        """Whether there are bytes at all."""
        return self.start < self.stop

    @override
    def __str__(self) -> str:
        total = "*" if self.total is None else self.total
        span = f"{self.start}-{self.stop - 1}" if self.satisfied else "*"
        return f"bytes {span}/{total}"


def parse_range(header: str | None, size: int) -> tuple[ByteRange, ...] | None:
    """Which bytes of content of this size a ``Range`` header asks for; None: send all of it.

    A header in another unit or that cannot be read is ignored, as is one that asks for too much
    (RFC 9110, 14.2); empty content is sent as it is. Raises RangeInvalid when no byte can be sent,
    or when a range ends before it begins (a server may ignore or reject that; registries are
    expected to reject it).
    """
    match = _BYTES.fullmatch(header.strip()) if header else None
    if not match or size == 0:
        return None
    specs = [spec for part in match["ranges"].split(",") if (spec := part.strip(" \t"))]
    if not specs or len(specs) > RANGES_LIMIT:
        return None
    ranges = []
    for spec in specs:
        bounds = _RANGE.fullmatch(spec)
        if not bounds or spec == "-":
            return None
        found = _bounded(bounds["first"], bounds["last"], size)
        if found:
            ranges.append(found)
    return _affordable(ranges, size)


def format_range(start: int, stop: int | None = None) -> str:
    """The ``Range`` header for the bytes from ``start`` up to but not including ``stop``.

    Raises RangeInvalid when there are none.
    """
    if stop is None:
        return f"bytes={start}-"
    wanted = ByteRange(start, stop)
    return f"bytes={wanted.start}-{wanted.stop - 1}"


def parse_upload_range(text: str) -> ByteRange:
    """Read ``0-N``: the ``Content-Range`` of a chunk, or the ``Range`` that a registry answers.

    A unit in front and a total behind are passed over. ``0-0`` is one byte here; some registries
    say so of an empty upload too. Raises RangeInvalid.
    """
    try:
        sent = ContentRange.parse(text)
    except BadAnswer:
        raise RangeInvalid(
            f"{text[:140]!r} is not the range of an upload (want FIRST-LAST)"
        ) from None
    return ByteRange(sent.start, sent.stop)


def format_upload_range(start: int, stop: int) -> str:
    """``0-N`` for the bytes from ``start`` up to but not including ``stop``.

    An upload that has no bytes yet is ``0-0``: there is no other way to write it.
    """
    return f"{start}-{max(stop - 1, start)}"


def _stop_after(first: str, last: str, text: str) -> int:
    if int(last) < int(first):
        raise BadAnswer(f"Content-Range {text[:140]!r} ends before it begins")
    return int(last) + 1


def _bounded(first: str | None, last: str | None, size: int) -> ByteRange | None:
    """One range, clipped to the content; None when no byte of it is there."""
    if first is None:
        start, stop = max(size - int(last or 0), 0), size
    else:
        start, stop = int(first), size if last is None else min(int(last) + 1, size)
        if last is not None and int(last) < start:
            raise RangeInvalid(f"the range {first}-{last} ends before it begins", size=size)
    return ByteRange(start, stop) if start < stop else None


def _affordable(ranges: list[ByteRange], size: int) -> tuple[ByteRange, ...] | None:
    """These ranges, unless they overlap so that sending all of the content is less."""
    if not ranges:
        raise RangeInvalid(f"no byte of that range is in content of {size} bytes", size=size)
    return tuple(ranges) if sum(part.length for part in ranges) <= size else None
