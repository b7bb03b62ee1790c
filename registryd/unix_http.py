"""HTTP over a unix socket, blocking and without asyncio: for commands, which start quickly."""

from __future__ import annotations

import http.client
import socket

from typing_extensions import override


class UnixConnection(http.client.HTTPConnection):
    """A connection to a unix socket; ``host`` is what it says there, ``timeout`` is seconds."""

    def __init__(self, path: str, *, host: str, timeout: float) -> None:
        super().__init__(host, timeout=timeout)
        self._path = path

    @override
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
