"""Compressed files read back: gzip, zstd, bzip2 and xz, by what they begin with.

Invariants:
- a read gives at most what was asked for, whatever the file claims or holds: memory is bounded;
- what is damaged or cut off is NotAnImage, and no other exception.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from typing import IO, Final, Literal, Protocol, cast

from registryd.images.errors import NotAnImage

Compression = Literal["gzip", "zstd", "bzip2", "xz"]

#: What files begin with (RFC 1952 2.3.1, RFC 8878 3.1.1, and the formats of bzip2 and xz).
_MAGIC: Final[tuple[tuple[bytes, Compression], ...]] = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
)
MAGIC_LENGTH: Final = max(len(magic) for magic, _ in _MAGIC)
#: Largest window or dictionary: what zstd --long=27 and xz -9 need, and twice that.
_WINDOW_LIMIT: Final = 1 << 27
_XZ_MEMORY_LIMIT: Final = 256 << 20
_XZ_INPUT: Final = 64 << 10
#: What the standard library raises for damaged content.
_DAMAGE: Final = (zlib.error, gzip.BadGzipFile, lzma.LZMAError, EOFError, ValueError)


class Readable(Protocol):
    """What is read in order."""

    def read(self, count: int, /) -> bytes:
        """Up to so many bytes; none at the end."""


def compression(beginning: bytes) -> Compression | None:
    """How a file with this beginning is compressed; None where it is not."""
    return next((kind for magic, kind in _MAGIC if beginning.startswith(magic)), None)


class Inflated:
    """What a compressed file holds, read in order."""

    def __init__(self, file: Readable, kind: Compression, where: str) -> None:
        self._plain, self._damage = _opened(file, kind)
        self._kind = kind
        self._where = where

    def read(self, count: int) -> bytes:
        """Up to so many bytes; none at the end. Raises NotAnImage."""
        try:
            return self._plain.read(count)
        except self._damage as error:
            reason = str(error)
        except OSError as error:
            if error.errno is not None:
                raise
            reason = str(error)
        raise NotAnImage(f"{self._where} is damaged: its {self._kind} says {reason[:140]}")


def _opened(file: Readable, kind: Compression) -> tuple[Readable, tuple[type[Exception], ...]]:
    """What reads it, and what that raises when the file is damaged."""
    binary = cast("IO[bytes]", file)
    if kind == "gzip":
        return gzip.GzipFile(fileobj=binary, mode="rb"), _DAMAGE
    if kind == "bzip2":
        return bz2.BZ2File(binary), _DAMAGE
    if kind == "xz":
        return _Xz(file), _DAMAGE
    # Here, for most commands read nothing of this kind.
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_LIMIT)
    reader = decompressor.stream_reader(binary, read_across_frames=True, closefd=False)
    return reader, (*_DAMAGE, zstandard.ZstdError)


class _Xz:
    """xz with a limit to its memory, which the standard library's file does not offer."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._rest = b""
        self._stream: lzma.LZMADecompressor | None = None

    def read(self, count: int) -> bytes:
        """Up to so many bytes; none at the end. Raises LZMAError, EOFError."""
        while True:
            if self._stream is None or self._stream.needs_input:
                self._rest = self._rest or self._file.read(_XZ_INPUT)
            if self._stream is None:
                self._rest = self._rest.lstrip(b"\0")  # between streams zeros may stand
                if not self._rest:
                    return b""
                self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_LIMIT)
            elif self._stream.needs_input and not self._rest:
                raise EOFError("it is cut off")
            piece, self._rest = self._stream.decompress(self._rest, count), b""
            if self._stream.eof:
                self._rest, self._stream = self._stream.unused_data, None
            if piece:
                return piece
