"""A body that can be opened again, given out in stretches: whole, in chunks, or from a byte on.

Invariants:
- stretches in a row come from one open body, so a blob in chunks is read once;
- a stretch that did not end well, or begins elsewhere, opens the body again and passes over what
  comes before it;
- at most one stretch is open at a time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from cache.errors import SizeMismatch
from registryd.ports import Body, BodyOpener, Skipping


class Stretches:
    """The stretches of one blob; close it in the end."""

    def __init__(self, open_body: BodyOpener, size: int) -> None:
        self.size = size
        self._open_body = open_body
        self._opened = AsyncExitStack()
        self._body: Body | None = None
        self._pieces: AsyncIterator[bytes] | None = None
        #: The first byte that has not been given out; what of its piece is left over.
        self._at = 0
        self._rest = b""

    async def close(self) -> None:
        """Close the body, if it is open."""
        self._body = self._pieces = None
        await self._opened.aclose()

    @asynccontextmanager
    async def open(self, start: int, stop: int) -> AsyncIterator[Body]:
        """The bytes from ``start`` up to ``stop``; after the blob's last byte all that there is.

        Raises SizeMismatch when the body ends before ``start``, and what opening it raises.
        """
        if self._pieces is None or self._at != start:
            await self._rewind(start)
        body, self._body = self._body, None
        assert body is not None  # noqa: S101 (rewound, or left by the last stretch)
        stretch = _Stretch(self, start, stop, body.source)
        try:
            yield stretch
        finally:
            if stretch.ended:
                self._body, self._at = body, stop
            else:
                await self.close()

    async def _rewind(self, start: int) -> None:
        await self.close()
        body = await self._opened.enter_async_context(self._open_body())
        skipped = start > 0 and isinstance(body, Skipping) and await body.skip_to(start)
        self._body, self._pieces = body, aiter(body)
        self._at, self._rest = start if skipped else body.start, b""
        while self._at < start:
            piece = await self.next()
            if not piece:
                raise SizeMismatch(
                    f"{body.source} gave {self._at} bytes where {self.size} were announced"
                )
            self._at += len(piece)
            if self._at > start:
                self._rest, self._at = piece[start - self._at :], start

    async def next(self) -> bytes:
        """The next piece; nothing at the body's end."""
        if self._rest:
            piece, self._rest = self._rest, b""
            return piece
        assert self._pieces is not None  # noqa: S101 (a stretch is open)
        return await anext(self._pieces, b"")

    def leave(self, rest: bytes) -> None:
        """Keep what a stretch did not need of its last piece."""
        self._rest = rest


class _Stretch:
    """One stretch as a body (ports.Body)."""

    def __init__(self, stretches: Stretches, start: int, stop: int, source: str) -> None:
        self.start = start
        self.total: int | None = stretches.size
        self.source = source
        self.ended = False
        self._stretches = stretches
        self._stop = stop

    async def __aiter__(self) -> AsyncIterator[bytes]:
        at, stop = self.start, self._stop
        last = stop == self._stretches.size
        while at < stop or last:
            piece = await self._stretches.next()
            if not piece:
                break
            if not last and at + len(piece) > stop:
                self._stretches.leave(piece[stop - at :])
                piece = piece[: stop - at]
            at += len(piece)
            # Said before the piece is given: the answer may come before anyone asks for more.
            self.ended = at == stop
            yield piece
