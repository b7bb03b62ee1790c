"""A link to a port of loopback that is slow or breaks, at next to no cost of processor.

Bytes go through by splice, in threads of the bench; a rate is the kernel's own pacing of a socket.

    with Link(port, rate=100_000_000) as link:
        ...  # dial link.port
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

#: Linux: asm-generic/socket.h, and fcntl.h.
SO_MAX_PACING_RATE = 47
F_SETPIPE_SZ = 1031
PIPE = 1 << 20
BUFFER = 256 << 10


class Link:
    """Passes connections on; a context manager.

    ``rate``: bytes a second that come down one connection. ``cuts`` and ``stalls``: when so many
    bytes have come down in all, the connection that brings them is reset, or brings no more.
    ``gentle``: what was on its way arrives before a cut.
    """

    def __init__(
        self,
        upstream: int,
        *,
        rate: int = 0,
        cuts: Sequence[int] = (),
        stalls: Sequence[int] = (),
        gentle: bool = False,
    ) -> None:
        self._gentle = gentle
        self.passed = 0
        self.connections = 0
        self._upstream = upstream
        self._rate = rate
        events = [(at, "cut") for at in cuts] + [(at, "stall") for at in stalls]
        self._events = sorted(events, reverse=True)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])

    @property
    def left(self) -> int:
        """Cuts and stalls that have not happened."""
        return len(self._events)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            there = socket.create_connection(("127.0.0.1", self._upstream))
            if self._rate:
                client.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, self._rate)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # What lies in our own buffer when the line is cut has been counted, and never gone.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            with self._lock:
                self.connections += 1
                self._open |= {client, there}
            up = threading.Thread(target=self._up, args=(client, there), daemon=True)
            up.start()
            with there:
                with suppress(OSError):
                    self._down(there, client)
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RD)  # the other thread lets go of it
                up.join()
            with self._lock:
                self._open -= {client, there}

    @staticmethod
    def _up(client: socket.socket, there: socket.socket) -> None:
        with suppress(OSError):
            while piece := client.recv(1 << 16):
                there.sendall(piece)
        with suppress(OSError):
            there.shutdown(socket.SHUT_RDWR)

    def _down(self, there: socket.socket, client: socket.socket) -> None:
        reading, writing = os.pipe()
        fcntl.fcntl(writing, F_SETPIPE_SZ, PIPE)
        try:
            while count := os.splice(there.fileno(), writing, PIPE):
                while count:
                    moved = os.splice(reading, client.fileno(), count)
                    count -= moved
                    event = self._count(moved)
                    if event == "cut":
                        if not self._gentle:
                            _reset_at_close(client)
                        return
                    if event == "stall":
                        while client.recv(1, socket.MSG_PEEK):  # until the other side gives up
                            threading.Event().wait(0.05)
                        return
        finally:
            os.close(reading)
            os.close(writing)

    def _count(self, moved: int) -> str:
        with self._lock:
            self.passed += moved
            if self._events and self.passed >= self._events[-1][0]:
                return self._events.pop()[1]
        return ""


def _reset_at_close(client: socket.socket) -> None:
    """What is on its way is lost, as where a line is cut."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
