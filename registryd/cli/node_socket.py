"""The daemon that runs, if one does, and plain requests over its socket.

Invariant: nothing here falls back to a cache in this process, as ``backend`` does.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registryd.cli.backend import usual_sockets
from registryd.cli.command import Context
from registryd.cli.errors import DaemonRefused, DaemonUnreachable
from registryd.cli.socket_client import SocketBackend
from registryd.unix_http import UnixConnection

#: A daemon on this machine answers small questions at once.
LIMIT = 10.0
BODY_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon that answers: its socket, and what it says of itself."""

    socket: Path
    status: Mapping[str, Any]

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of TCP that it listens on."""
        listeners = self.status.get("listeners") or []
        return tuple(door for door in map(str, listeners) if not door.startswith("unix:"))


def running(context: Context) -> Running | None:
    """The daemon of --socket or REGISTRYD_SOCKET, else the user's or the machine's, or None.

    Raises DaemonUnreachable when one that was named does not answer.
    """
    named = context.options.socket or context.environ.get("REGISTRYD_SOCKET")
    if named:
        return _asked(Path(named).absolute())
    for path in usual_sockets(context):
        try:
            return _asked(path)
        except DaemonUnreachable:
            continue
    return None


def _asked(path: Path) -> Running:
    daemon = SocketBackend(path)
    try:
        return Running(path, daemon.call("status", {}))
    finally:
        daemon.close()


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(
    door: Path | str,
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    media_type: str = "application/octet-stream",
) -> Answer:
    """One request to a socket or to HOST:PORT. Raises DaemonUnreachable."""
    connection = _connection(door)
    headers = {} if body is None else {"Content-Type": media_type}
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, answer.read(BODY_LIMIT))
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DaemonUnreachable(f"nothing answers on {door}: {reason}") from error
    finally:
        connection.close()


def must(answer: Answer, wanted: int, what: str) -> Answer:
    """The answer, if it has this status. Raises DaemonRefused."""
    if answer.status != wanted:
        said = answer.body[:200].decode(errors="replace")
        raise DaemonRefused(f"the daemon answered {what} with status {answer.status}: {said}")
    return answer


def _connection(door: Path | str) -> http.client.HTTPConnection:
    if isinstance(door, Path):
        return UnixConnection(str(door), host="registryd", timeout=LIMIT)
    host, _, port = door.rpartition(":")
    return http.client.HTTPConnection(host.strip("[]"), int(port), timeout=LIMIT)
