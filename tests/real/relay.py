"""A link that a test can stop or cut at a byte, and nginx in front of a registry.

Invariant: what is counted is what clients have sent and the link has taken, headers too.
"""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.real.runtimes import need

PIECE = 64 * 1024


@dataclass
class Relay:
    """The link: ``name`` is what clients call the far end by."""

    target: tuple[str, int]
    listener: socket.socket
    #: Bytes from clients so far; at ``stop_at`` nothing more is passed on until the link is
    #: opened, at ``cut_at`` the connection is cut, once.
    sent: int = 0
    stop_at: int | None = None
    cut_at: int | None = None
    stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _opened: threading.Event = field(default_factory=threading.Event)
    _sockets: list[socket.socket] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    def open(self) -> None:
        """Let everything pass again."""
        self.stop_at = None
        self._opened.set()

    def serve(self) -> None:
        """Take connections until the listener is closed."""
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self.target)
            except OSError:
                client.close()
                continue
            self._sockets += [client, far]
            for source, sink, counted in ((client, far, True), (far, client, False)):
                threading.Thread(target=self._pump, args=(source, sink, counted)).start()

    def close(self) -> None:
        """End everything."""
        self._opened.set()
        for each in (self.listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(PIECE):
                if counted and not self._passes(len(piece)):
                    break
                sink.sendall(piece)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()  # with bytes unread, so that who still sends is told at once

    def _passes(self, count: int) -> bool:
        with self._lock:
            self.sent += count
            if self.cut_at is not None and self.sent >= self.cut_at:
                self.cut_at = None
                return False
            waits = self.stop_at is not None and self.sent >= self.stop_at
        if waits:
            self.stopped.set()
            self._opened.wait()
        return True


@contextmanager
def relay(name: str) -> Iterator[Relay]:
    """A link to HOST:PORT."""
    host, _, port = name.rpartition(":")
    link = Relay((host, int(port)), socket.create_server(("127.0.0.1", 0)))
    thread = threading.Thread(target=link.serve)
    thread.start()
    try:
        yield link
    finally:
        link.close()
        thread.join()


@contextmanager
def nginx(folder: Path, upstream: str, *, body: str) -> Iterator[str]:
    """nginx in front of a registry, by the book: requests are taken whole before they go on.

    ``body`` is the largest that it takes; it answers 413 to more. Gives HOST:PORT.
    """
    folder.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = folder / "nginx.conf"
    config.write_text(f"""
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    client_max_body_size {body};
    location /v2/ {{
      proxy_pass http://{upstream};
      proxy_set_header Host $http_host;
    }}
  }}
}}
""")
    process = subprocess.Popen(
        [need("nginx"), "-c", str(config), "-e", f"{folder}/error.log"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await_port(port)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _await_port(port: int) -> None:
    for _ in range(300):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)  # nothing but listening tells that it listens
    raise AssertionError("nginx did not start")
