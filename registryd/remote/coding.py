"""An encoding that was put on top of a body on its way, undone.

We ask for ``identity``; some servers and proxies compress all the same (RFC 9110, section 8.4).
Invariant: no more is decoded than may be read, whatever a few bytes claim to be.
"""

from __future__ import annotations

import zlib

CODINGS = frozenset({"gzip", "x-gzip", "deflate"})


def undo(raw: bytes, coding: str, limit: int) -> bytes:
    """This body without its coding, at most one byte more than ``limit`` of it.

    As it came where the coding is only claimed, or not one that we know.
    """
    if coding.strip().lower() not in CODINGS:
        return raw
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        return decoder.decompress(raw, limit + 1) or raw
    except zlib.error:
        return raw
