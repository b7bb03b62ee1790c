"""The thin client of /api/v1: HTTP/1.1 over a unix socket, without asyncio.

Invariants:
- whatever the daemon or the socket does ends as DaemonUnreachable or DaemonRefused, one line;
- a credential goes into the Authorization header of a unix socket and nowhere else;
- a stream without its last event is a broken one, never a short success.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

from registryd.cli.backend import Event, Raw, Report
from registryd.cli.errors import DaemonRefused, DaemonUnreachable
from registryd.secrets import Login

#: A daemon that listens takes a connection at once; one that does not is stuck.
CONNECT_TIMEOUT = 5.0
#: An answer may wait for a registry and its retries.
ANSWER_TIMEOUT = 600.0
#: These have no limit: events may be rare, and a daemon that dies closes the socket.
STREAMS = frozenset(
    {"pull", "push", "convert", "prefetch", "verify", "gateway_pull", "gateway_import"}
)
#: An error body and an event are small; what is longer is not ours.
ERROR_LIMIT = 64 * 1024
LINE_LIMIT = 1024 * 1024
#: Bytes of a file that are sent at once.
PIECE = 1024 * 1024

#: Operation -> method and path (server/control.py has the other half).
ROUTES = {
    "status": ("GET", "/api/v1/status"),
    "images": ("GET", "/api/v1/images"),
    "overview": ("GET", "/api/v1/overview"),
    "sharing": ("GET", "/api/v1/sharing"),
    "pull": ("POST", "/api/v1/pull"),
    "push": ("POST", "/api/v1/push"),
    "convert": ("POST", "/api/v1/convert"),
    "tag": ("POST", "/api/v1/tag"),
    "rmi": ("POST", "/api/v1/rmi"),
    "digest": ("GET", "/api/v1/digest"),
    "manifest": ("GET", "/api/v1/manifest"),
    "config": ("GET", "/api/v1/config"),
    "ratelimit": ("GET", "/api/v1/ratelimit"),
    "tags": ("GET", "/api/v1/tags"),
    "df": ("GET", "/api/v1/cache/df"),
    "blobs": ("GET", "/api/v1/cache/blobs"),
    "pins": ("GET", "/api/v1/cache/pins"),
    "quota": ("GET", "/api/v1/cache/quota"),
    "pin": ("POST", "/api/v1/cache/pin"),
    "unpin": ("POST", "/api/v1/cache/unpin"),
    "gc": ("POST", "/api/v1/cache/gc"),
    "verify": ("POST", "/api/v1/cache/verify"),
    "contents": ("POST", "/api/v1/cache/contents"),
    "repair": ("POST", "/api/v1/cache/repair"),
    "active": ("GET", "/api/v1/cache/active"),
    "grants": ("GET", "/api/v1/access"),
    "revoke": ("POST", "/api/v1/access/revoke"),
    "nodes": ("GET", "/api/v1/nodes"),
    "whohas": ("GET", "/api/v1/cache/whohas"),
    "prefetch": ("POST", "/api/v1/prefetch"),
    "jobs": ("GET", "/api/v1/jobs"),
    "job": ("GET", "/api/v1/job"),
    "cancel": ("POST", "/api/v1/jobs/cancel"),
    "limits": ("GET", "/api/v1/limits"),
    "limit": ("POST", "/api/v1/limits"),
    "open": ("POST", "/api/v1/open"),
    "gateway_pull": ("POST", "/api/v1/gateway/pull"),
    "gateway_import": ("POST", "/api/v1/gateway/import"),
    "gateway_lookup": ("GET", "/api/v1/gateway/lookup"),
    "gateway_open": ("POST", "/api/v1/gateway/open"),
    "gateway_show": ("GET", "/api/v1/gateway/show"),
    "gateway_images": ("GET", "/api/v1/gateway/images"),
    "gateway_queue": ("GET", "/api/v1/gateway/queue"),
    "gateway_expire": ("POST", "/api/v1/gateway/expire"),
    "gateway_autoexpire": ("POST", "/api/v1/gateway/autoexpire"),
    "gateway_metrics": ("GET", "/api/v1/gateway/metrics"),
}


class SocketBackend:
    """Operations of the daemon that listens on a socket."""

    root: Path | None = None

    def __init__(self, path: Path) -> None:
        self.socket = path
        self._connection = http.client.HTTPConnection("registryd")
        self._connection.auto_open = 0  # it would dial that name by TCP

    def connect(self) -> None:
        """Dial the socket, unless that is done. Raises DaemonUnreachable."""
        if self._connection.sock is not None:
            return
        dialled = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        dialled.settimeout(CONNECT_TIMEOUT)
        try:
            dialled.connect(str(self.socket))
        except OSError as error:
            dialled.close()
            reason = error.strerror or str(error)
            raise DaemonUnreachable(f"no daemon answers on {self.socket}: {reason}") from error
        self._connection.sock = dialled

    def call(
        self, operation: str, arguments: Mapping[str, Any], login: Login | None = None
    ) -> dict[str, Any]:
        """The answer as JSON. Raises DaemonUnreachable, DaemonRefused."""
        content = self.raw(operation, arguments, login).content
        return self._decoded(content)

    def raw(self, operation: str, arguments: Mapping[str, Any], login: Login | None = None) -> Raw:
        """The answer as bytes. Raises DaemonUnreachable, DaemonRefused."""
        with self._answer(operation, arguments, login) as answer:
            with self._unbroken(operation):
                content = answer.read()
            return Raw(
                content,
                answer.getheader("Content-Type", ""),
                answer.getheader("Docker-Content-Digest", ""),
                answer.getheader("X-Registryd-Manifest-Digest", ""),
            )

    def stream(
        self,
        operation: str,
        arguments: Mapping[str, Any],
        report: Report,
        login: Login | None = None,
    ) -> Event:
        """Report each event; the last one. Raises DaemonUnreachable, DaemonRefused."""
        return self._told(operation, arguments, report, login, None)

    def upload(
        self, operation: str, arguments: Mapping[str, Any], report: Report, body: IO[bytes]
    ) -> Event:
        """The same for an operation that takes a file, with its arguments in the query."""
        return self._told(operation, arguments, report, None, body)

    def _told(
        self,
        operation: str,
        arguments: Mapping[str, Any],
        report: Report,
        login: Login | None,
        body: IO[bytes] | None,
    ) -> Event:
        with self._answer(operation, arguments, login, body) as answer:
            for event in self._events(answer, operation):
                if event.get("event") == "failed":
                    raise _refusal(event, f"{operation} failed")
                report(event)
                if event.get("event") == "done":
                    _leave_politely(answer)
                    return event
        raise self._broken(operation, "no last event")

    def opened(self, reference: str, digest: str, login: Login | None = None) -> int:
        """A blob's file, open for reading. Raises DaemonUnreachable, DaemonRefused."""
        return self.file("open", {"reference": reference, "digest": digest}, login)

    def file(self, operation: str, arguments: Mapping[str, Any], login: Login | None = None) -> int:
        """The open file that an operation gives. Raises DaemonUnreachable, DaemonRefused."""
        from registryd.receiving import ReceivingSocket

        self.connect()
        receiving = ReceivingSocket(fileno=self._connection.sock.detach())
        self._connection.sock = receiving
        try:
            with self._answer(operation, arguments, login) as answer, self._unbroken(operation):
                answer.read()
            return receiving.received()
        except LookupError:
            raise self._broken(operation, "no file came with the answer") from None
        finally:
            receiving.discard()

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()

    @contextmanager
    def _answer(
        self,
        operation: str,
        arguments: Mapping[str, Any],
        login: Login | None,
        body: IO[bytes] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """Ask, and give the head of an answer that is no refusal; the connection ends with it."""
        limit = None if operation in STREAMS else ANSWER_TIMEOUT
        self.connect()
        self._connection.sock.settimeout(limit)
        try:
            with self._unbroken(operation):
                self._send(operation, arguments, login, body)
                answer = self._connection.getresponse()
                if answer.status >= http.client.BAD_REQUEST:
                    raise self._refused(answer, operation)
            yield answer
        finally:
            self._connection.close()

    @contextmanager
    def _unbroken(self, operation: str) -> Iterator[None]:
        """What the socket or http.client raises in here becomes DaemonUnreachable."""
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise self._broken(operation, reason) from error

    def _broken(self, operation: str, reason: str) -> DaemonUnreachable:
        return DaemonUnreachable(
            f"the daemon on {self.socket} broke off in the middle of {operation}: {reason}"
        )

    def _send(
        self,
        operation: str,
        arguments: Mapping[str, Any],
        login: Login | None,
        file: IO[bytes] | None,
    ) -> None:
        method, path = ROUTES[operation]
        headers = {"Accept": "*/*"} | _authorization(login)
        if method == "GET" or file is not None:
            query = urlencode({k: v for k, v in arguments.items() if v})
            path = f"{path}?{query}" if query else path
        if method == "GET":
            self._connection.request(method, path, headers=headers)
        elif file is not None:
            headers["Content-Type"] = "application/octet-stream"
            # In chunks: the file may still grow or shrink, and what was said could not be kept.
            self._connection.request(
                method, path, body=_pieces(file), headers=headers, encode_chunked=True
            )
        else:
            body = json.dumps(dict(arguments)).encode()
            headers["Content-Type"] = "application/json"
            self._connection.request(method, path, body=body, headers=headers)

    def _events(self, answer: http.client.HTTPResponse, operation: str) -> Iterator[Event]:
        """The events of a stream; one cut off in its middle is none."""
        while True:
            with self._unbroken(operation):
                line = answer.readline(LINE_LIMIT)
            if not line.endswith(b"\n"):
                return
            yield self._decoded(line)

    def _decoded(self, content: bytes) -> dict[str, Any]:
        try:
            value = json.loads(content)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise DaemonUnreachable(f"what answers on {self.socket} is not registryd")
        return value

    def _refused(self, answer: http.client.HTTPResponse, operation: str) -> DaemonRefused:
        """The error that an answer with an error status carries."""
        nothing = f"the daemon on {self.socket} answered {operation} with status {answer.status}"
        try:
            body = json.loads(answer.read(ERROR_LIMIT))
            first = body["errors"][0]
            return _refusal({**first, "exit_code": body.get("exit_code")}, nothing)
        except (ValueError, LookupError, TypeError):
            return DaemonRefused(nothing)


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(PIECE):
        yield piece


def _leave_politely(answer: http.client.HTTPResponse) -> None:
    """Wait for the end of a stream whose last event is here: the daemon writes it yet."""
    with suppress(OSError, http.client.HTTPException):
        answer.readline(LINE_LIMIT)


def _refusal(entry: Mapping[str, Any], otherwise: str) -> DaemonRefused:
    """The error that an entry of an error body, or a "failed" event, tells of."""
    code = entry.get("exit_code")
    text = str(entry.get("message") or otherwise)
    if isinstance(code, int) and 0 < code < 256:
        return DaemonRefused(text, ends_with=code)
    return DaemonRefused(text)


def _authorization(login: Login | None) -> dict[str, str]:
    """The caller's credential as the daemon takes it; an identity token has the user <token>."""
    if login is None:
        return {}
    token = login.identity_token.reveal()
    pair = f"<token>:{token}" if token else f"{login.username}:{login.password.reveal()}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
