"""What a layer's bytes are without their compression: the digest of the tar in it.

Image specification 1.1, "Layer DiffID". Its first bytes say which compression it is, not its media
type.

Invariants:
- memory is bounded however well the bytes were compressed: what comes out is hashed piece by piece;
- several members or frames one after the other are one stream, as gzip and zstd have it.
"""

from __future__ import annotations

import io
import zlib
from typing import IO, Final, cast

import zstandard
from typing_extensions import Buffer, override

from cache.content import Digest, Hash
from registryd.oci.errors import ManifestInvalid

#: How much comes out of a decoder at a time.
STEP: Final = 1 << 20
GZIP_MAGIC: Final = b"\x1f\x8b"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
#: zstd begins with a skippable frame where it carries a table of contents (zstd:chunked ends so).
SKIPPABLE: Final = frozenset(bytes([low, 0x2A, 0x4D, 0x18]) for low in range(0x50, 0x60))
MAGIC: Final = 4


class Unpacked:
    """Takes a layer's bytes as they come; the digest of what they unpack to."""

    def __init__(self, algorithm: str = "sha256") -> None:
        self._algorithm = algorithm
        self._hash = Digest.of(b"", algorithm).hasher()
        self._head = b""
        self._decoder: _Plain | None = None

    def feed(self, piece: bytes) -> None:
        """The next bytes. Raises ManifestInvalid for what cannot be unpacked."""
        if self._decoder is None:
            self._head += piece
            if len(self._head) < MAGIC:
                return
            piece, self._head = self._head, b""
            self._decoder = _decoder(piece[:MAGIC], self._hash)
        self._decoder.feed(piece)

    def digest(self) -> Digest:
        """The digest, after the last byte. Raises ManifestInvalid for a stream without its end."""
        decoder = self._decoder or _Plain(self._hash)
        decoder.feed(self._head)
        decoder.end()
        return Digest(self._algorithm, self._hash.hexdigest())


def _decoder(head: bytes, target: Hash) -> _Plain:
    if head.startswith(GZIP_MAGIC):
        return _Gzip(target)
    return _Zstd(target) if head == ZSTD_MAGIC or head in SKIPPABLE else _Plain(target)


class _Plain:
    """Bytes that are not compressed."""

    def __init__(self, target: Hash) -> None:
        self._target = target

    def feed(self, piece: bytes) -> None:
        self._target.update(piece)

    def end(self) -> None:
        """Nothing can be missing that we would know of."""


class _Gzip(_Plain):
    """Members of gzip; zeros after the last one are padding."""

    def __init__(self, target: Hash) -> None:
        super().__init__(target)
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._inside = True

    @override
    def feed(self, piece: bytes) -> None:
        while piece:
            if not self._inside:
                piece = piece.lstrip(b"\0")
                if not piece:
                    return
                self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
                self._inside = True
            piece = self._decoded(piece)

    def _decoded(self, piece: bytes) -> bytes:
        try:
            while piece and not self._member.eof:
                self._target.update(self._member.decompress(piece, STEP))
                piece = self._member.unconsumed_tail
        except zlib.error as error:
            raise ManifestInvalid(f"its gzip stream is damaged: {error}") from None
        if self._member.eof:
            self._inside = False
            return self._member.unused_data
        return b""

    @override
    def end(self) -> None:
        if self._inside and not self._member.eof:
            raise ManifestInvalid("its gzip stream has no end")


class _Zstd(_Plain):
    """Frames of zstd. That the last one has no end shows in the hash alone."""

    def __init__(self, target: Hash) -> None:
        super().__init__(target)
        # The writer gives what comes out in small pieces, where decompressobj would give all of it.
        self._frames = zstandard.ZstdDecompressor().stream_writer(
            cast("IO[bytes]", _Into(target)), write_size=STEP
        )

    @override
    def feed(self, piece: bytes) -> None:
        try:
            self._frames.write(piece)
        except zstandard.ZstdError as error:
            raise ManifestInvalid(f"its zstd stream is damaged: {error}") from None


class _Into(io.RawIOBase):
    """A hash as a file to write to."""

    def __init__(self, target: Hash) -> None:
        super().__init__()
        self._target = target

    @override
    def write(self, content: Buffer, /) -> int:
        view = memoryview(content)
        self._target.update(view)
        return view.nbytes
