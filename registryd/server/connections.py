"""The connections of clients: what each may take its time for, and how all of them end.

Invariants:
- a connection without a whole request head is given up after ``Limits.idle`` seconds, one that
  stops in the middle of a request's body after ``Limits.body``;
- where there are too many, the one that has been idle longest makes room; one whose request is
  being answered never does;
- what is no request is refused in the protocol's words and with one line in the log;
- at the end a request that has come in is answered, and its answer says that it is the last one
  (RFC 9112, 9.6); only what is silent then is closed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from aiohttp import HttpVersion10, HttpVersion11, StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from typing_extensions import override

from registryd.oci.errors import ErrorEntry
from registryd.oci.wire_errors import clean, format_errors

#: Read buffer of a connection: pushed layers come in large pieces (bytes).
READ_BUFFER = 1 << 20
#: The longest line of a request's head, and the most of its headers: tokens of some registries
#: have 6 KB, and nothing of ours comes near it.
LONGEST_LINE = 16 << 10
MOST_HEADERS = 128
#: An answer to what was not read whole is given so long (seconds) to arrive before the end.
LINGER = 5.0
#: More clients than this at once are none of one node's.
MOST_CONNECTIONS = 16384
#: What the protocol's codes are for statuses of the HTTP library; any other is UNSUPPORTED.
CODES = {404: "NAME_UNKNOWN", 413: "SIZE_INVALID"}

#: Whether a request is in a version of HTTP that is spoken here.
_KNOWN = web.RequestKey("known version", bool)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What connections may take: seconds, and how many there may be.

    ``settle`` is how long, at the end, a request that is on its way is waited for.
    """

    idle: float = 60.0
    body: float = 300.0
    settle: float = 0.5
    connections: int = MOST_CONNECTIONS


class Connection(web.RequestHandler):
    """One client's connection; made by the listener it came in by."""

    def __init__(self, server: web.Server, crowd: Crowd) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=crowd.limits.idle,
            access_log=None,  # type: ignore[arg-type]
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
            max_headers=MOST_HEADERS,
            lingering_time=LINGER,
            read_bufsize=READ_BUFFER,
            # Blobs are what was sent, whatever Content-Encoding says of it; and no bombs.
            auto_decompress=False,
        )
        self._crowd = crowd
        self._clock = asyncio.get_running_loop().time
        self._listening = True
        self._heard = 0.0
        self._watch: asyncio.TimerHandle | None = None
        #: The rest of a request that was answered before it had come whole; it is thrown away.
        self._rest: StreamReader | None = None
        crowd.announce(self)

    def begin(self, body: StreamReader) -> None:
        """A request has come in; its body may follow."""
        self._crowd.busy(self)
        self._rest = None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if not body.is_eof():
            self._heard = self._clock()
            self._look(body)

    def _look(self, body: StreamReader) -> None:
        """Give up a client that says nothing more in the middle of a body."""
        self._watch = None
        now = self._clock()
        if not self._listening:
            self._heard = now
        if body.is_eof() or self.transport is None:
            return
        quiet = now - self._heard
        if quiet >= self._crowd.limits.body:
            _log.warning("connection given up: cause=nothing came of a body for %.0f s", quiet)
            self.transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._watch = loop.call_later(self._crowd.limits.body - quiet, self._look, body)

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._crowd.enter(self)

    @override
    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._crowd.leave(self)
        if self._watch is not None:
            self._watch.cancel()
        if self._rest is not None:
            self._rest.feed_eof()  # nobody waits for it any more

    @override
    def data_received(self, data: bytes) -> None:
        self._heard = self._clock()
        super().data_received(data)

    @override
    def pause_reading(self) -> None:
        self._listening = False
        super().pause_reading()

    @override
    def resume_reading(self, resume_parser: bool = True) -> None:
        self._listening, self._heard = True, self._clock()
        super().resume_reading(resume_parser)

    @override
    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if isinstance(resp, web.HTTPException) and resp.status >= 400:
            refused = _refusal(request, resp.status, f"{request.method} here: {resp.reason}")
            if "Allow" in resp.headers:
                refused.headers["Allow"] = resp.headers["Allow"]
            resp = refused
        outcome = await super().finish_response(request, resp, start_time)
        if request.content.is_eof():
            self._crowd.rest(self)
        elif self.transport is not None:
            self._rest = request.content
        return outcome

    @override
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= 500:
            _log.error("request failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun, and cannot become a refusal")
        if status >= 500:
            response = _refusal(request, status, "internal error, see the daemon's log", "UNKNOWN")
        else:
            status, cause = _malformed(exc)
            _log.warning("request refused: status=%d cause=%s", status, cause)
            response = _refusal(request, status, cause)
        response.force_close()
        response.headers["Connection"] = "close"  # said aloud: of HTTP/1.0 aiohttp takes it as read
        return response


def _malformed(exc: BaseException | None) -> tuple[int, str]:
    """Status and words for what could not be read as a request; nothing of it is repeated."""
    if isinstance(exc, LineTooLong):
        return 431, f"a line of the request's head is longer than {LONGEST_LINE} bytes"
    # What follows a colon or a line's end is what the client has sent.
    said = exc.message if isinstance(exc, HttpProcessingError) else ""
    cause = clean(said.partition("\n")[0].partition(":")[0])
    if cause.startswith("Too many headers"):
        return 431, f"the request has more than {MOST_HEADERS} headers"
    return 400, f"this is no request of HTTP/1.1 ({cause or 'malformed'})"


def _refusal(request: web.BaseRequest, status: int, words: str, code: str = "") -> web.Response:
    body = format_errors([ErrorEntry(code or CODES.get(status, "UNSUPPORTED"), words)])
    if request.path.startswith("/api/"):
        body = json.dumps({**json.loads(body), "exit_code": 64 if status < 500 else 1}).encode()
    return web.Response(status=status, body=body, content_type="application/json")


class Crowd:
    """All connections of a daemon."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.ending = False
        #: Accepted, and not yet open: TLS is being agreed on. Some of them never come to more.
        self._arriving: WeakSet[Connection] = WeakSet()
        self._idle: dict[Connection, None] = {}
        self._other: set[Connection] = set()
        self._changed = asyncio.Event()

    def announce(self, connection: Connection) -> None:
        """It was accepted."""
        self._arriving.add(connection)

    def enter(self, connection: Connection) -> None:
        """It is open, and nothing has come yet; another one may have to go for it."""
        self._arriving.discard(connection)
        self._wait(connection)
        if len(self._idle) + len(self._other) > self.limits.connections:
            self._close(next(iter(self._idle)))

    def busy(self, connection: Connection) -> None:
        """It has a request."""
        self._idle.pop(connection, None)
        self._other.add(connection)
        self._changed.set()

    def rest(self, connection: Connection) -> None:
        """It was answered, and may be used again."""
        if connection in self._other:
            self._other.discard(connection)
            self._wait(connection)

    def leave(self, connection: Connection) -> None:
        """It has ended."""
        self._idle.pop(connection, None)
        self._other.discard(connection)
        self._changed.set()

    async def part(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Say with an answer that it is the last one, where that is so; a signal of aiohttp."""
        if self.ending:
            response.force_close()
            response.headers["Connection"] = "close"  # its headers are made already

    async def end(self, drain: float) -> None:
        """Answer what has come, then close; at most for so many seconds."""
        self.ending = True
        loop = asyncio.get_running_loop()
        for connection in self._idle:
            self._settle(connection)
        loop.call_later(self.limits.settle, self._forget_arriving)
        try:
            async with asyncio.timeout(drain):
                while self._idle or self._other or self._arriving:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return

    def _wait(self, connection: Connection) -> None:
        self._idle[connection] = None
        if self.ending:
            self._settle(connection)

    def _settle(self, connection: Connection) -> None:
        """Close it after a while, unless a request has come by then."""
        loop = asyncio.get_running_loop()
        loop.call_later(self.limits.settle, self._close_idle, connection)

    def _close_idle(self, connection: Connection) -> None:
        if connection in self._idle:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        self._other.add(connection)  # until what was written to it has left
        connection.force_close()

    def _forget_arriving(self) -> None:
        self._arriving.clear()
        self._changed.set()


def watched(server: web.Server, tasks: set[asyncio.Task[None]]) -> web.Server:
    """The same server, whose connections are told of each request; it speaks HTTP/1 alone.

    ``tasks`` holds what answers requests: the library forgets those whose client has gone.
    """
    make: Callable[..., Any] = server.request_factory
    answer: Callable[[Any], Awaitable[web.StreamResponse]] = server.request_handler

    def factory(message: Any, body: StreamReader, connection: Any, *more: Any) -> Any:
        connection.begin(body)
        known = message.version in (HttpVersion10, HttpVersion11)
        if not known:  # the answer is not in it either
            message = message._replace(version=HttpVersion11, should_close=True)
        request = make(message, body, connection, *more)
        request[_KNOWN] = known
        return request

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if not request[_KNOWN]:
            raise web.HTTPVersionNotSupported
        tasks.add(request.task)
        request.task.add_done_callback(tasks.discard)
        return await answer(request)

    server.request_factory, server.request_handler = factory, handler
    return server
