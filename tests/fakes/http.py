"""A scripted HTTP server on loopback: real HTTP, faults on demand, a log of what was asked.

A fault is queued for the requests that match it; each one that matches takes one of its times.
Nothing here sleeps: what stalls waits for an event that the test sets.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web
from multidict import CIMultiDict

PIECE = 2**16
#: Presigned URLs and tokens are long.
LONGEST_LINE = 2**16


@dataclass
class Reply:
    """What is sent back: all of it can be wrong.

    ``cut`` closes the connection after so many bytes of the body; at ``gate_at`` bytes the reply
    waits for ``gate``; ``length`` is announced in place of the body's true length, and no length
    at all (chunked) when it is negative.
    """

    status: int = 200
    body: bytes = b""
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    length: int | None = None
    cut: int | None = None
    gate: asyncio.Event | None = None
    gate_at: int = 0
    #: Awaited after every ``piece`` bytes of the body: a slow host.
    pace: Callable[[], Awaitable[object]] | None = None
    piece: int = PIECE
    #: Under which name the body's bytes are counted in ``FakeServer.sent``.
    counted_as: str = ""


def reply(status: int = 200, body: bytes | str = b"", **headers: str) -> Reply:
    """A reply; underscores in header names become dashes."""
    raw = body.encode() if isinstance(body, str) else body
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return Reply(status, raw, named)


def error(status: int, code: str, message: str = "", **headers: str) -> Reply:
    """A proper error reply."""
    body = json.dumps({"errors": [{"code": code, "message": message or code.lower()}]})
    return reply(status, body, Content_Type="application/json", **headers)


@dataclass
class Fault:
    """What goes wrong with requests whose "METHOD /path?query" the pattern is found in.

    ``times`` None means always. ``instead`` is sent without doing what was asked; ``change`` alters
    the proper reply.
    """

    pattern: str
    times: int | None = 1
    instead: Callable[[], Reply] | None = None
    change: Callable[[Reply], None] | None = None
    drop: bool = False

    def takes(self, line: str) -> bool:
        """Whether this request has the fault; counts it."""
        if self.times == 0 or not re.search(self.pattern, line):
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(frozen=True)
class Seen:
    """One request as it came; ``path`` holds the query, exactly as it was on the wire."""

    method: str
    path: str
    headers: CIMultiDict[str]

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"


class FakeServer:
    """The server; subclasses say what the proper reply is."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.faults: list[Fault] = []
        self.sent: Counter[str] = Counter()
        self.port = 0
        self.scheme = "http"
        self._tasks: set[asyncio.Task[Any]] = set()

    async def respond(self, request: web.BaseRequest) -> Reply:
        """The proper reply to a request."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """Host and port, as a registry is called in references."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.name}"

    def lines(self, pattern: str = "") -> list[str]:
        """The requests so far that a pattern is found in."""
        return [seen.line for seen in self.requests if re.search(pattern, seen.line)]

    def asked(self, pattern: str) -> list[Seen]:
        """As ``lines``, with headers."""
        return [seen for seen in self.requests if re.search(pattern, seen.line)]

    def answer(
        self,
        pattern: str,
        status: int,
        body: bytes | str = b"",
        times: int | None = 1,
        **headers: str,
    ) -> None:
        """Send this in place of the proper reply."""
        self.faults.append(Fault(pattern, times, instead=lambda: reply(status, body, **headers)))

    def change(
        self, pattern: str, change: Callable[[Reply], None], times: int | None = None
    ) -> None:
        """Alter the proper reply."""
        self.faults.append(Fault(pattern, times, change=change))

    def cut(self, pattern: str, at: int, times: int | None = 1) -> None:
        """Close the connection after so many bytes of the body."""
        self.change(pattern, lambda answer: setattr(answer, "cut", at), times)

    def drop(self, pattern: str, times: int | None = 1) -> None:
        """Close the connection without an answer."""
        self.faults.append(Fault(pattern, times, drop=True))

    def stall(self, pattern: str, gate: asyncio.Event, at: int = 0, times: int | None = 1) -> None:
        """Send so many bytes of the body, then nothing until the gate is opened."""

        def change(answer: Reply) -> None:
            answer.gate, answer.gate_at = gate, at

        self.change(pattern, change, times)

    def slow(
        self,
        pattern: str,
        pace: Callable[[], Awaitable[object]],
        piece: int = 1000,
        times: int | None = 1,
    ) -> None:
        """Send the body in small pieces, and await ``pace`` after each."""

        def change(answer: Reply) -> None:
            answer.pace, answer.piece = pace, piece

        self.change(pattern, change, times)

    def spoil(self, pattern: str, at: int = 0, times: int | None = 1) -> None:
        """Send one wrong byte."""

        def change(answer: Reply) -> None:
            spoiled = bytearray(answer.body)
            spoiled[at] ^= 0xFF
            answer.body = bytes(spoiled)

        self.change(pattern, change, times)

    def compress(self, pattern: str, coding: str = "gzip", times: int | None = None) -> None:
        """Put gzip on top, as a proxy does on its way."""

        def change(answer: Reply) -> None:
            answer.body = gzip.compress(answer.body)
            answer.headers["Content-Encoding"] = coding

        self.change(pattern, change, times)

    def web_page(self, pattern: str = "", times: int | None = None) -> None:
        """Answer everything with a web page, and 200."""
        self.answer(pattern, 200, "<html>Welcome</html>", times, Content_Type="text/html")

    def throttle(
        self, pattern: str, retry_after: str | None, status: int = 429, times: int | None = 1
    ) -> None:
        """Say that it is too much; ``retry_after`` in seconds or as a date."""
        headers = {} if retry_after is None else {"Retry_After": retry_after}
        said = '{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}'
        self.answer(pattern, status, said, times, **headers)

    def announce(self, pattern: str, length: int, times: int | None = 1) -> None:
        """Send a wrong Content-Length; negative: none, in chunked coding."""
        self.change(pattern, lambda answer: setattr(answer, "length", length), times)

    def header(self, pattern: str, name: str, value: str | None, times: int | None = None) -> None:
        """Set a header, or take it away."""

        def change(answer: Reply) -> None:
            answer.headers.popall(name, None)
            if value is not None:
                answer.headers[name] = value

        self.change(pattern, change, times)

    @asynccontextmanager
    async def serve(self, **site: Any) -> AsyncIterator[Self]:
        """Listen on a free loopback port as long as the context lasts."""
        long = {"max_line_size": LONGEST_LINE, "max_field_size": LONGEST_LINE}
        runner = web.ServerRunner(web.Server(self._handle, **long), shutdown_timeout=0.01)
        await runner.setup()
        try:
            if "path" in site:
                await web.UnixSite(runner, **site).start()
            else:
                await web.TCPSite(runner, "127.0.0.1", 0, **site).start()
                self.port = runner.addresses[0][1]
                self.scheme = "https" if site.get("ssl_context") else "http"
            yield self
        finally:
            await runner.cleanup()
            # The library forgets the tasks of connections that the client has closed.
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._tasks.add(request.task)
        request.task.add_done_callback(self._tasks.discard)
        seen = Seen(request.method, request.raw_path, CIMultiDict(request.headers))
        self.requests.append(seen)
        faults = [fault for fault in self.faults if fault.takes(seen.line)]
        if any(fault.drop for fault in faults):
            return self._break_off(request)
        instead = next((fault.instead for fault in faults if fault.instead), None)
        answer = instead() if instead else await self.respond(request)
        for fault in faults:
            if fault.change:
                fault.change(answer)
        return await self._send(request, answer)

    async def _send(self, request: web.BaseRequest, answer: Reply) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        if answer.length is None:
            response.content_length = len(answer.body)
        elif answer.length < 0:
            response.enable_chunked_encoding()
        else:
            response.content_length = answer.length
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        stop = len(answer.body) if answer.cut is None else min(answer.cut, len(answer.body))
        at = 0
        while at < stop or answer.gate is not None:
            if answer.gate is not None and at >= min(answer.gate_at, stop):
                await answer.gate.wait()
                answer.gate = None
                continue
            end = min(at + answer.piece, stop if answer.gate is None else min(answer.gate_at, stop))
            await response.write(answer.body[at:end])
            self.sent[answer.counted_as] += end - at
            at = end
            if answer.pace is not None:
                await answer.pace()
        if answer.cut is not None or (answer.length or 0) > len(answer.body):
            return self._break_off(request, response)
        await response.write_eof()
        return response

    @staticmethod
    def _break_off(
        request: web.BaseRequest, response: web.StreamResponse | None = None
    ) -> web.StreamResponse:
        if request.transport is not None:
            # close and not abort: what was written so far shall arrive.
            request.transport.close()
        return response or web.Response()
