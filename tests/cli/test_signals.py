"""Signals that end a command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

DIGEST = "sha256:" + "0" * 64


class Stalling:
    """A registry that begins to send a blob, and never goes on."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.name = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.stalled = threading.Event()
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:  # closed
                return
            self._open.append(connection)
            while request := connection.recv(65536):
                if request.startswith(b"GET /v2/a/b/blobs/"):
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n")
                    connection.sendall(bytes(3_000_000))
                    self.stalled.set()
                    break
                size = 4_000_000 if request.startswith(b"HEAD") else 0
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)

    def close(self) -> None:
        """Let everyone go."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
        for connection in self._open:
            connection.close()


@pytest.fixture
def stalling() -> Iterator[Stalling]:
    """Such a registry."""
    running = Stalling()
    yield running
    running.close()


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)],
)
def test_what_ends_a_command_leaves_nothing(
    tmp_path: Path, stalling: Stalling, number: signal.Signals, code: int
) -> None:
    """Whoever ends it, what was being written goes, and the exit code says which signal it was."""
    with _getting(tmp_path, stalling) as process:
        assert stalling.stalled.wait(30)
        process.send_signal(number)
        said = process.communicate(timeout=30)[1]

    assert (code, "registryctl: interrupted\n") == (process.returncode, said)
    assert [] == os.listdir(tmp_path)


@pytest.mark.parametrize("flags", [(), ("--command-timeout", "500ms")])
def test_a_job_in_the_background_ends_too(
    tmp_path: Path, stalling: Stalling, flags: tuple[str, ...]
) -> None:
    """A shell has such jobs ignore Ctrl-C: they end on SIGTERM and when their time is over."""
    with _getting(tmp_path, stalling, *flags, background=True) as process:
        if not flags:
            assert stalling.stalled.wait(30)
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)

    assert (6 if flags else 143) == process.returncode
    assert [] == os.listdir(tmp_path)


def _getting(
    folder: Path, registry: Stalling, *flags: str, background: bool = False
) -> subprocess.Popen[str]:
    blob = f"{registry.name}/a/b@{DIGEST}"
    words = ("blob", "get", "-q", "--plain-http", blob, "-o", "blob", *flags)
    script = ("trap '' INT; " if background else "") + 'exec "$@"'
    return subprocess.Popen(
        ["bash", "-c", script, "-", sys.executable, "-m", "registryd.cli.main", *words],
        cwd=folder,
        env={**os.environ, "HOME": "/nonexistent", "PYTHONPATH": os.getcwd()},
        stderr=subprocess.PIPE,
        text=True,
    )
