"""ChunkMap: which byte ranges of a blob are here. Pure: no file, no clock.

Invariants:
- ranges are half-open ``[start, stop)``, sorted, disjoint and never adjacent (neighbours merge);
- adding a range twice, or one that overlaps others, changes nothing but what was missing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from cache.marks import override


class ChunkMap:
    """A set of bytes by offset, kept as ranges."""

    __slots__ = ("_starts", "_stops")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for start, stop in ranges:
            self.add(start, stop)

    def add(self, start: int, stop: int) -> None:
        """Mark ``[start, stop)`` as here. Raises ValueError when it is not a range."""
        if start < 0 or stop < start:
            raise ValueError(f"[{start}, {stop}) is not a range")
        if start == stop:
            return
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        if first < last:
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def remove(self, start: int, stop: int) -> None:
        """Mark ``[start, stop)`` as not here. Raises ValueError when it is not a range."""
        if start < 0 or stop < start:
            raise ValueError(f"[{start}, {stop}) is not a range")
        first = bisect_right(self._stops, start)
        last = bisect_left(self._starts, stop)
        if start == stop or first >= last:
            return
        left = [(self._starts[first], start)] if self._starts[first] < start else []
        right = [(stop, self._stops[last - 1])] if self._stops[last - 1] > stop else []
        self._starts[first:last] = [span[0] for span in left + right]
        self._stops[first:last] = [span[1] for span in left + right]

    def reach(self, start: int) -> int:
        """The end of what is here without a gap from ``start`` on (``start`` when nothing is)."""
        at = bisect_right(self._starts, start) - 1
        return max(start, self._stops[at]) if at >= 0 else start

    def missing(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The ranges of ``[start, stop)`` that are not here, in order."""
        gaps = []
        at = bisect_right(self._stops, start)
        while start < stop:
            if at == len(self._starts) or self._starts[at] >= stop:
                gaps.append((start, stop))
                break
            if self._starts[at] > start:
                gaps.append((start, self._starts[at]))
            start = self._stops[at]
            at += 1
        return gaps

    def common(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The ranges of ``[start, stop)`` that are here, in order."""
        return ChunkMap(self.missing(start, stop)).missing(start, stop)

    @property
    def total(self) -> int:
        """How many bytes are here."""
        return sum(self._stops) - sum(self._starts)

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The ranges that are here, in order."""
        return tuple(zip(self._starts, self._stops, strict=True))

    @override
    def __repr__(self) -> str:
        return f"ChunkMap({list(self.ranges)})"
