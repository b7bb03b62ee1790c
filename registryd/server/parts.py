"""Which bytes of a blob a request asks for. Pure.

RFC 9110, 14.2 "Range". Invariants:
- a part is bounded when its request named its end or its length, and it is not the whole: nobody
  can take it for a whole blob, so it may be given before the whole is proven, its end included;
- ``bytes=N-`` is what a client sends that goes on with a whole blob: it is not bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from registryd.oci.ranges import parse_range

_BOUNDED = re.compile(r"bytes[ \t]*=[ \t]*([0-9]+-[0-9]+|-[0-9]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes ``[start, stop)`` to give; ``ranged`` when the client asked for just these."""

    start: int
    stop: int
    ranged: bool = False
    bounded: bool = False

    @property
    def length(self) -> int:
        """How many bytes it has; the whole of an empty blob has none."""
        return self.stop - self.start


def may_be_bounded(header: str | None) -> bool:
    """Whether a ``Range`` header asks for a bounded part, as far as it can be seen by itself."""
    return header is not None and _BOUNDED.fullmatch(header.strip()) is not None


def part_of(header: str | None, size: int) -> Part:
    """The bytes to give: the range asked for, or everything. Raises RangeInvalid."""
    ranges = parse_range(header, size)
    # Several ranges may be answered by the whole (RFC 9110, 14.2); clients that send them cope.
    if not ranges or len(ranges) > 1:
        return Part(0, size)
    wanted = ranges[0]
    bounded = may_be_bounded(header) and wanted.length < size
    return Part(wanted.start, wanted.stop, ranged=True, bounded=bounded)
