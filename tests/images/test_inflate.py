"""gzip read back, by ISA-L and by zlib alike."""

from __future__ import annotations

import gzip
import io
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from isal import isal_zlib

from registryd.images.errors import NotAnImage
from registryd.images.inflate import Begin, Gunzipped, Inflated, fastest

PLAIN = b"".join(b"%d\n" % number for number in range(60_000))
PACKED = gzip.compress(PLAIN, mtime=0)
both = pytest.mark.parametrize("begin", [zlib.decompressobj, isal_zlib.decompressobj])


def inflated(raw: bytes, begin: Begin, count: int = 100_000) -> bytes:
    """All of it; no piece is larger than what was asked for."""
    file, pieces = Gunzipped(io.BytesIO(raw), begin), []
    while piece := file.read(count):
        assert len(piece) <= count
        pieces.append(piece)
    return b"".join(pieces)


def test_the_fastest_is_used() -> None:
    """ISA-L is installed here, and taken."""
    assert (isal_zlib.decompressobj, isal_zlib.error) == fastest()


@both
@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        (PACKED, PLAIN),
        (PACKED + bytes(70_000) + PACKED + bytes(600), PLAIN * 2),
        (b"\x1f\x8b\x08\x08" + PACKED[4:10] + b"name\0" + PACKED[10:], PLAIN),
        (gzip.compress(bytes(3 << 20), mtime=0), bytes(3 << 20)),
        (gzip.compress(b"", mtime=0) + PACKED, PLAIN),
        (b"", b""),
    ],
    ids=["one", "members", "named", "zeros", "none", "empty"],
)
def test_what_is_whole(begin: Begin, raw: bytes, plain: bytes) -> None:
    """Members one after another are one content; zeros may stand between and after them."""
    assert plain == inflated(raw, begin)


@both
@pytest.mark.parametrize(
    "raw",
    [
        PACKED[:-4],
        PACKED[: len(PACKED) // 2],
        PACKED[:5],
        PACKED[:-8] + bytes(4) + PACKED[-4:],
        PACKED[:-2] + b"\1\1",
        PACKED + b"more",
        b"\x1f\x8b\x08" + bytes(600),
    ],
    ids=["sums cut", "cut", "header", "wrong sum", "wrong length", "more", "garbage"],
)
def test_what_is_damaged(begin: Begin, raw: bytes) -> None:
    """It is never taken for whole."""
    with pytest.raises((zlib.error, fastest()[1], EOFError)):
        inflated(raw, begin)
    with pytest.raises(NotAnImage, match=r"^the layer is damaged: its gzip says [^\n]*$"):
        whole = Inflated(io.BytesIO(raw), "gzip", "the layer")
        while whole.read(100_000):
            pass


@given(
    st.lists(st.binary(max_size=9).map(lambda part: part * 40), min_size=1, max_size=3),
    st.integers(1, 50),
)
def test_any_content(parts: list[bytes], count: int) -> None:
    """Whatever it holds and however little is asked for, both give it."""
    raw = b"".join(gzip.compress(part) for part in parts)
    for begin in (zlib.decompressobj, isal_zlib.decompressobj):
        assert b"".join(parts) == inflated(raw, begin, count)
