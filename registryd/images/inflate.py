"""Compressed files read back: gzip, zstd, bzip2 and xz, by what they begin with.

Invariants:
- a read gives at most what was asked for, whatever the file claims or holds: memory is bounded;
- what is damaged or cut off is NotAnImage, and no other exception.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
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
#: How much is read at a time of what is decompressed here.
_INPUT: Final = 64 << 10
#: A gzip header is expected, and its sums are checked.
_GZIP_BITS: Final = 31
#: What the standard library raises for damaged content.
_DAMAGE: Final = (zlib.error, lzma.LZMAError, EOFError, ValueError)


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
        inflate, damage = fastest()
        return Gunzipped(file, inflate), (*_DAMAGE, damage)
    if kind == "bzip2":
        return bz2.BZ2File(binary), _DAMAGE
    if kind == "xz":
        return _Xz(file), _DAMAGE
    # Here, for most commands read nothing of this kind.
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_LIMIT)
    reader = decompressor.stream_reader(binary, read_across_frames=True, closefd=False)
    return reader, (*_DAMAGE, zstandard.ZstdError)


class Inflate(Protocol):
    """One member of a gzip file being inflated, in the words of the standard library."""

    @property
    def eof(self) -> bool:
        """Whether its end was reached, and its sums were right."""

    @property
    def unconsumed_tail(self) -> bytes:
        """What was given and not looked at yet."""

    @property
    def unused_data(self) -> bytes:
        """What came after its end."""

    def decompress(self, content: bytes, count: int, /) -> bytes:
        """Up to so many bytes."""


Begin = Callable[[int], Inflate]


def fastest() -> tuple[Begin, type[Exception]]:
    """The fastest inflate that is installed, and what it raises for damage.

    ISA-L takes half the time of zlib; it has no wheel for some machines.
    """
    try:
        # Here, for most commands read nothing of this kind.
        from isal import isal_zlib
    except ImportError:
        return zlib.decompressobj, zlib.error
    return isal_zlib.decompressobj, cast("type[Exception]", isal_zlib.error)


class Gunzipped:
    """A gzip file read in order (RFC 1952): one member or several, and zeros between them."""

    def __init__(self, file: Readable, begin: Begin) -> None:
        self._file = file
        self._begin = begin
        self._rest = b""
        self._member: Inflate | None = None
        #: Whether the member may hold more than it gave.
        self._more = False

    def read(self, count: int) -> bytes:
        """Up to so many bytes; none at the end. Raises EOFError and what inflate raises."""
        while True:
            if not self._rest and not self._more:
                self._rest = self._file.read(_INPUT)
                if not self._rest and self._member is None:
                    return b""
                if not self._rest:
                    raise EOFError("it is cut off")
            if self._member is None:
                self._rest = self._rest.lstrip(b"\0")
                if not self._rest:
                    continue
                self._member = self._begin(_GZIP_BITS)
            piece = self._member.decompress(self._rest, count)
            self._rest, self._more = self._member.unconsumed_tail, len(piece) == count
            if self._member.eof:
                self._rest, self._member, self._more = self._member.unused_data, None, False
            if piece:
                return piece


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
                self._rest = self._rest or self._file.read(_INPUT)
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
