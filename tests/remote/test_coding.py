"""Encodings undone: those that we know, no further than asked, and never with an error."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.remote.coding import undo

TEXT = b"some text " * 100


@pytest.mark.parametrize(
    ("raw", "coding", "expected"),
    [
        (gzip.compress(TEXT, mtime=0), "gzip", TEXT),
        (gzip.compress(TEXT, mtime=0), " X-GZIP ", TEXT),
        (zlib.compress(TEXT), "deflate", TEXT),
        (gzip.compress(TEXT, mtime=0), "", gzip.compress(TEXT, mtime=0)),
        (gzip.compress(TEXT, mtime=0), "br", gzip.compress(TEXT, mtime=0)),
        (TEXT, "gzip", TEXT),
        (b"", "gzip", b""),
        (gzip.compress(TEXT, mtime=0)[:10], "gzip", gzip.compress(TEXT, mtime=0)[:10]),
    ],
)
def test_undo(raw: bytes, coding: str, expected: bytes) -> None:
    """Known codings are undone; what is only claimed, or breaks off at once, stays as it came."""
    assert expected == undo(raw, coding, 10**6)


def test_4b_14_no_bomb() -> None:
    """A few bytes never become more than was asked for, and one to show that there are more."""
    bomb = gzip.compress(bytes(10**7))

    assert 1001 == len(undo(bomb, "gzip", 1000))


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate", "x-gzip", "identity"]))
def test_any_bytes(raw: bytes, coding: str) -> None:
    """No bytes make an error."""
    assert isinstance(undo(raw, coding, 1000), bytes)
