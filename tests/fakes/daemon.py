"""A daemon that says what it was told to: real HTTP/1.1 over a unix socket, in a thread.

It takes any request, writes it down, and gives the answer scripted for its method and path.
"""

from __future__ import annotations

import json
import select
import socketserver
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Answer:
    """One scripted answer; ``cut`` ends the connection before the body is whole.

    ``pause`` is how long a stream waits after its last event for a client that leaves too early.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: bool = False
    cut: bool = False
    pause: float = 0.0

    @classmethod
    def of(cls, value: Any, status: int = 200) -> Answer:
        """A JSON answer."""
        return cls(json.dumps(value).encode(), status, {"Content-Type": "application/json"})

    @classmethod
    def events(cls, *events: Mapping[str, Any], cut: bool = False, pause: float = 0) -> Answer:
        """A stream of JSON lines, each its own chunk."""
        lines = b"".join(json.dumps(event).encode() + b"\n" for event in events)
        return cls(lines, stream=True, cut=cut, pause=pause)

    @classmethod
    def refusal(cls, status: int, message: str, exit_code: Any, code: str = "UNKNOWN") -> Answer:
        """An error body of the API."""
        entry = {"code": code, "message": message, "detail": None}
        return cls.of({"errors": [entry], "exit_code": exit_code}, status)


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class FakeDaemon:
    """The script, and what was asked."""

    socket: Path
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    left_early: int = 0

    def on(self, method: str, path: str, answer: Answer) -> None:
        """Answer this request so from now on."""
        self.answers[method, path] = answer


@contextmanager
def fake_daemon(socket: Path) -> Iterator[FakeDaemon]:
    """A daemon that listens on this path until the block ends."""
    daemon = FakeDaemon(socket)
    server = _Server(str(socket), _handler(daemon))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield daemon
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        socket.unlink()


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = False
    block_on_close = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves early is no news; anything else is a fault of this fake."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _handler(daemon: FakeDaemon) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def address_string(self) -> str:
            return "unix"

        def log_message(self, format: str, *values: Any) -> None:
            """Say nothing."""

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            daemon.requests.append(
                Request(
                    self.command,
                    parts.path,
                    dict(parse_qsl(parts.query)),
                    {name.lower(): value for name, value in self.headers.items()},
                    json.loads(content) if content else None,
                )
            )
            nothing = Answer.refusal(404, f"no answer scripted for {parts.path}", 1)
            self._send(daemon.answers.get((self.command, parts.path), nothing))

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.stream:
                self._send_stream(answer)
                return
            self.send_header("Content-Length", str(len(answer.body) + (10 if answer.cut else 0)))
            self.end_headers()
            self.wfile.write(answer.body)
            self.close_connection = answer.cut or self.close_connection

        def _send_stream(self, answer: Answer) -> None:
            self.send_header("Content-Type", "application/jsonl")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for line in answer.body.splitlines(keepends=True):
                self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                self.wfile.flush()
            if answer.pause and select.select([self.connection], [], [], answer.pause)[0]:
                daemon.left_early += 1
            if answer.cut:
                self.wfile.write(b'20\r\n{"event":')
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")

    return Handler
