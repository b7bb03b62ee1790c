"""A request's body on its way out, watched.

Invariants:
- exactly as many bytes go out as were announced, or the request fails;
- a receiver that takes nothing for the stall time is a stall, as a sender that sends nothing is;
- what goes wrong in the source of the bytes is raised as it was, not as a broken connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from cache.errors import SizeMismatch
from registryd.ports import Body, BodyOpener

#: A body in memory goes out in pieces of this size, so that writing it never holds the loop up.
PIECE = 2**18


@dataclass(frozen=True, slots=True)
class Upload:
    """A body that is streamed: who opens it, and how long it is."""

    open: BodyOpener
    size: int


class Sending:
    """One sending of a body, opened and closed here; a context manager around the request."""

    def __init__(self, body: bytes | Upload | None, stall: float) -> None:
        self._body = body
        self._stall = stall
        self._failure: Exception | None = None
        self._limit = asyncio.timeout(None)
        self._reading = asyncio.Lock()
        self._over = False
        self._stack = AsyncExitStack()
        self.content: bytes | AsyncIterator[bytes] | None = None

    async def __aenter__(self) -> Self:
        if isinstance(self._body, Upload):
            body = await self._stack.enter_async_context(self._body.open())
            self.content = self._pieces(body, self._body.size)
            self._stack.push_async_callback(self._end)
        elif self._body is not None and len(self._body) > PIECE:
            self.content = _slices(self._body)
        else:
            self.content = self._body
        await self._stack.enter_async_context(self._limit)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, trace)

    @property
    def stalled(self) -> bool:
        """Whether the receiver took nothing for too long."""
        return self._limit.expired()

    @property
    def headers(self) -> dict[str, str]:
        """The length, always: some registries refuse ``Transfer-Encoding: chunked``."""
        if self._body is None:
            return {}
        whole = self._body
        return {"Content-Length": str(whole.size if isinstance(whole, Upload) else len(whole))}

    def raise_own_failure(self) -> None:
        """Raise what went wrong at the source of the bytes, if something did."""
        if self._failure is not None:
            raise self._failure

    async def _end(self) -> None:
        # An early answer leaves the writer at work; the body is closed between two of its reads.
        async with self._reading:
            self._over = True

    async def _pieces(self, body: Body, size: int) -> AsyncIterator[bytes]:
        """The pieces for the library's own task, which may outlive this sending."""
        pieces = aiter(body)
        sent = 0
        while (piece := await self._next(pieces)) is not None:
            sent += len(piece)
            if sent > size:
                break
            self._watch(self._stall)
            yield piece
            self._watch(None)
        if sent != size:
            given = "more" if sent > size else f"{sent} bytes"
            self._failure = self._failure or SizeMismatch(
                f"{body.source} gave {given} where {size} bytes were announced"
            )
            raise self._failure

    async def _next(self, pieces: AsyncIterator[bytes]) -> bytes | None:
        async with self._reading:
            if self._over:
                return None
            try:
                return await anext(pieces, None)
            except Exception as error:
                self._failure = error
                raise

    def _watch(self, seconds: float | None) -> None:
        if self._over or self._limit.expired():
            return
        now = asyncio.get_running_loop().time()
        self._limit.reschedule(None if seconds is None else now + seconds)


async def _slices(whole: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(whole), PIECE):
        yield whole[start : start + PIECE]
