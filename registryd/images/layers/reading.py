"""A stream read in stretches of any length: taken, or passed over.

Invariant: memory is bounded by one piece, and by what is asked for at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from registryd.images.errors import NotAnImage
from registryd.images.inflate import Readable
from registryd.images.tar_fields import BLOCK

#: How much is read at a time.
PIECE: Final = 256 << 10


class Stretches:
    """What comes from a file in order."""

    def __init__(self, file: Readable, where: str) -> None:
        self._file = file
        self._where = where
        self._held = b""
        self._at = 0
        #: How many bytes were taken or passed over.
        self.position = 0

    def block(self) -> bytes | None:
        """The next 512 bytes; None at the end. Raises NotAnImage when it ends within them."""
        at = self._at
        if at + BLOCK <= len(self._held):
            self._at = at + BLOCK
            self.position += BLOCK
            return self._held[at : at + BLOCK]
        return None if at == len(self._held) and not self._fill() else self.exactly(BLOCK)

    def exactly(self, count: int) -> bytes:
        """So many bytes. Raises NotAnImage."""
        at = self._at
        if at + count <= len(self._held):
            self._at = at + count
            self.position += count
            return self._held[at : at + count]
        return b"".join(self.pieces(count))

    def pieces(self, count: int) -> Iterator[bytes]:
        """So many bytes, in pieces. Raises NotAnImage."""
        while count:
            if self._at == len(self._held) and not self._fill():
                raise NotAnImage(f"{self._where}: it is cut off (at byte {self.position})")
            piece = self._held[self._at : self._at + count]
            self._at += len(piece)
            self.position += len(piece)
            count -= len(piece)
            yield piece

    def skip(self, count: int) -> None:
        """Pass over so many bytes. Raises NotAnImage."""
        if self._at + count <= len(self._held):
            self._at += count
            self.position += count
            return
        while count:
            if self._at == len(self._held) and not self._fill():
                raise NotAnImage(f"{self._where}: it is cut off (at byte {self.position})")
            step = min(count, len(self._held) - self._at)
            self._at += step
            self.position += step
            count -= step

    def _fill(self) -> bool:
        self._held, self._at = self._file.read(PIECE), 0
        return bool(self._held)
