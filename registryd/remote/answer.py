"""An answer on its connection: status, headers, and the body by pieces or whole.

Invariants:
- what is read whole has a limit;
- a body that breaks off, stalls or ends short is a TransportError that names the host.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from registryd.oci.errors import BadAnswer, ErrorEntry
from registryd.oci.wire_errors import ERROR_BODY_LIMIT, parse_errors
from registryd.ports import Line, TransportError
from registryd.remote.coding import undo
from registryd.remote.failures import FOREIGN, explain
from registryd.remote.hosts import Endpoint


class Answer:
    """What came back; owned by the ``send`` that gave it.

    ``url`` is the one that answered in the end; ``strayed`` says that it is another origin's than
    the one first asked, so that its refusals are not the registry's own.
    """

    __slots__ = (
        "_errors",
        "_response",
        "_stall",
        "asked",
        "broken",
        "host",
        "strayed",
        "taken",
        "url",
    )

    def __init__(self, response: aiohttp.ClientResponse, url: URL, host: str, stall: float) -> None:
        self._response = response
        self._stall = stall
        self.url = url
        self.host = host
        self.strayed = False
        #: Where the request went first; None: to no registry.
        self.asked: Endpoint | None = None
        #: Its body has broken off.
        self.broken = False
        #: Its connection is somebody else's, who knows how that ends.
        self.taken = False
        self._errors: tuple[ErrorEntry, ...] | None = None

    def ranges_fail(self) -> None:
        """Ask the host for no ranges again: it got one wrong."""
        if self.asked is not None:
            self.asked.ranges_work = False

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._response.status

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The headers; names in any case."""
        return self._response.headers

    @property
    def length(self) -> int | None:
        """The Content-Length, or None when there is none that can be read."""
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdigit() else None

    @property
    def content_type(self) -> str:
        """The Content-Type as it came, or the empty text."""
        return self.headers.get("Content-Type", "")

    @property
    def coding(self) -> str:
        """The Content-Encoding as it came, or the empty text."""
        return self.headers.get("Content-Encoding", "")

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body in the pieces in which it came off the wire. Raises TransportError."""
        # Not readany(): that joins what is buffered, a copy of every byte.
        read = self._response.content.readchunk
        with self._ending_with_connection():
            while True:
                piece, chunk_ends = await read()
                if piece:
                    yield piece
                elif not chunk_ends:
                    return

    @contextmanager
    def _ending_with_connection(self) -> Iterator[None]:
        """Within this, who reads the body is told when the connection is lost: TransportError.

        The library closes a connection on which something comes that is not HTTP (garbage where a
        chunk should begin), and would let the reader wait for ever.
        """
        connection, content = self._response.connection, self._response.content
        protocol = None if connection is None else connection.protocol

        def lost(_: object) -> None:
            if not content.is_eof() and content.exception() is None:
                content.set_exception(aiohttp.ClientPayloadError("the connection was lost"))

        # No protocol: the body is here.
        closed = None if protocol is None else protocol.closed
        if closed is not None:
            closed.add_done_callback(lost)
        elif protocol is not None:
            lost(None)
        try:
            yield
        except FOREIGN as error:
            self.broken = True
            raise explain(error, self.host, self._stall) from error
        finally:
            if closed is not None:
                closed.remove_done_callback(lost)  # the connection lives on, for many bodies

    def take_line(self, length: int) -> Line | None:
        """Take a plain connection over, with ``length`` bytes of body on it not read yet.

        The connection cannot be used again: closing the answer closes it. Raises TransportError.
        """
        connection, content = self._response.connection, self._response.content
        transport = connection.transport if connection else None
        if transport is None or self.length != length or "Content-Encoding" in self.headers:
            return None
        if transport.get_extra_info("sslcontext") is not None or content.exception():
            return None
        head = content.read_nowait()
        transport.pause_reading()  # in the same step: nothing may come in between
        sock = transport.get_extra_info("socket")
        self.taken = True
        return Line(head, os.dup(sock.fileno()), length - content.total_bytes)

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises BadAnswer beyond the limit, TransportError."""
        return self._bounded(await self.head(limit + 1), limit)

    async def plain(self, limit: int) -> bytes:
        """The whole body without what a proxy has put on top of it. Raises as ``read`` does."""
        return self._bounded(undo(await self.read(limit), self.coding, limit), limit)

    def _bounded(self, whole: bytes, limit: int) -> bytes:
        if len(whole) > limit:
            raise BadAnswer(f"{self.host} answered with more than {limit} bytes")
        return whole

    async def head(self, limit: int) -> bytes:
        """The body's first bytes, up to the limit. Raises TransportError."""
        parts, left = [], limit
        with self._ending_with_connection():
            while left > 0 and (piece := await self._response.content.read(left)):
                parts.append(piece)
                left -= len(piece)
        return b"".join(parts)

    async def errors(self) -> tuple[ErrorEntry, ...]:
        """What the body of a refusal says; may be called again. Raises TransportError."""
        if self._errors is None:
            body = undo(await self.head(ERROR_BODY_LIMIT), self.coding, ERROR_BODY_LIMIT)
            self._errors = parse_errors(self.status, body, self.content_type)
        return self._errors

    async def drain(self) -> None:
        """Read the rest of a short body, so that the connection can be used again, and let go."""
        with suppress(TransportError):
            await self.head(ERROR_BODY_LIMIT)
        self.close()

    def close(self) -> None:
        """Give the connection back, or close it when there is more to come. May be called twice."""
        self._response.release()
