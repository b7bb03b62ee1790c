"""Geometry: how a blob is cut in chunks. Pure.

Invariants:
- the spans of a blob's chunks follow one another without gap or overlap, from 0 to its size;
- every chunk but the last has the same size, which depends on the blob's size alone; an empty blob
  has one empty chunk.
"""

from __future__ import annotations

from dataclasses import dataclass

from cache.chunks import ChunkMap

#: The most bytes of a chunk: a request costs little beside it (64 ms at 1 Gbit/s).
CHUNK = 8 << 20
#: The least: below it requests cost more than they bring.
LEAST = 2 << 20
#: Into about so many chunks a blob is cut: then the time that the last chunk takes through the
#: cluster, and the first one before anybody has something to give, are short beside the whole.
PARTS = 256


def chunk_size(size: int) -> int:
    """The bytes of a chunk of a blob of this size: a power of two, at most CHUNK.

    Every node must cut alike: a change is a change of the protocol between peers.
    """
    part = LEAST
    while part < CHUNK and part * PARTS < size:
        part *= 2
    return part


@dataclass(frozen=True, slots=True)
class Geometry:
    """A blob's size, and so the spans of its chunks. Raises ValueError for a negative size."""

    size: int
    #: 0: by the size.
    chunk: int = 0

    def __post_init__(self) -> None:
        if not self.chunk:
            object.__setattr__(self, "chunk", chunk_size(self.size))
        if self.size < 0 or self.chunk < 1:
            raise ValueError(f"a blob of {self.size} bytes has no chunks of {self.chunk}")

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return max(1, -(-self.size // self.chunk))

    def span(self, chunk: int) -> tuple[int, int]:
        """The half-open range of a chunk in the blob. Raises IndexError when there is none."""
        if not 0 <= chunk < self.count:
            raise IndexError(f"a blob of {self.size} bytes has no chunk {chunk}")
        start = chunk * self.chunk
        return start, min(start + self.chunk, self.size)

    def length(self, chunk: int) -> int:
        """How many bytes a chunk has."""
        start, stop = self.span(chunk)
        return stop - start

    def covering(self, start: int, stop: int) -> range:
        """The chunks that hold any byte of ``[start, stop)``."""
        stop = min(stop, self.size)
        if start >= stop:
            return range(0)
        return range(start // self.chunk, (stop - 1) // self.chunk + 1)

    def whole(self, here: ChunkMap) -> frozenset[int]:
        """The chunks of which every byte is here."""
        return frozenset(
            chunk for chunk in range(self.count) if not here.missing(*self.span(chunk))
        )

    def reached(self, here: ChunkMap, chunk: int) -> int:
        """How many bytes of a chunk are here without a gap from its start on."""
        start, stop = self.span(chunk)
        return min(here.reach(start), stop) - start
