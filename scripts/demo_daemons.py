"""Daemons of the demonstration: begun, waited for, asked, ended.

Invariants:
- a process gets a signal only after it was proven to be the one that was recorded: by its pid,
  its start and the machine's boot, through a descriptor that means this process and no later one;
- a daemon is ready when it answers on its socket; nothing waits for a fixed time.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

#: Seconds in which a daemon answers after its start, on a busy machine too.
START_LIMIT = 30.0
#: Seconds between two looks at a daemon that does not answer yet.
LOOK_EVERY = 0.02
#: Seconds in which a daemon that was told to end has ended; then it is killed.
STOP_LIMIT = 10.0
#: Seconds that an answer may take.
ANSWER_LIMIT = 60.0


class DemoFailed(Exception):
    """A step went wrong; ``log`` is the log of the daemon that knows more, where there is one."""

    def __init__(self, line: str, log: Path | None = None) -> None:
        super().__init__(line)
        self.log = log


@dataclass(frozen=True)
class Daemon:
    """A daemon: who it is (``pid``, ``born``), where it answers, where it writes its log."""

    name: str
    pid: int
    born: str
    socket: str
    log: str
    address: str = ""

    @property
    def base(self) -> str:
        """The address as URLs have it."""
        return f"http://{self.address}"


# Its life


def start(
    name: str, command: Sequence[str], environ: Mapping[str, str], sock: Path, log: Path
) -> tuple[Daemon, subprocess.Popen[bytes]]:
    """Begin a daemon that has a session of its own: no key of the terminal reaches it."""
    with open(log, "ab") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=dict(environ),
            start_new_session=True,
        )
    return Daemon(name, process.pid, birth(process.pid), str(sock), str(log)), process


def wait_ready(daemon: Daemon, process: subprocess.Popen[bytes]) -> str:
    """Wait until it answers; the TCP address that it listens on. Raises DemoFailed."""
    deadline = time.monotonic() + START_LIMIT
    while True:
        try:
            status = json.loads(ask_socket(daemon.socket, "/api/v1/status"))
            listeners: list[str] = status["listeners"]
            return next(name for name in listeners if not name.startswith("unix:"))
        except (OSError, http.client.HTTPException):
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(LOOK_EVERY)
                raise DemoFailed(
                    f"the {daemon.name} ended with exit code {code}", Path(daemon.log)
                ) from None
        if time.monotonic() > deadline:
            line = f"the {daemon.name} does not answer after {START_LIMIT:.0f} s"
            raise DemoFailed(line, Path(daemon.log))


def stop(daemon: Daemon) -> bool:
    """End it, and wait until it has ended; False when it runs no more. Raises DemoFailed."""
    try:
        process = os.pidfd_open(daemon.pid)
    except ProcessLookupError:
        return False
    try:
        if birth(daemon.pid) != daemon.born:
            return False  # another process has this number by now
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(process, number)
            if _ended(process, STOP_LIMIT):
                return True
    except ProcessLookupError:
        return True
    except PermissionError:
        raise DemoFailed(f"the {daemon.name} (process {daemon.pid}) is another user's") from None
    finally:
        os.close(process)
    raise DemoFailed(f"the {daemon.name} (process {daemon.pid}) does not end", Path(daemon.log))


def birth(pid: int) -> str:
    """When a process began, as no other of this number ever will have; empty when it is gone."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # The command, second of the fields, is in parentheses and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return f"{boot}/{fields[19]}"


def _ended(process: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


# What it answers


class SocketConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_LIMIT)
        self._path = path

    @override
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask_socket(path: str, target: str) -> bytes:
    """The body of a GET over a unix socket. Raises OSError, HTTPException."""
    with closing(SocketConnection(path)) as connection:
        return answer(connection, target).read()


def connect(daemon: Daemon) -> http.client.HTTPConnection:
    """A connection to the daemon's TCP address; no proxy has a part in it."""
    host, _, port = daemon.address.rpartition(":")
    return http.client.HTTPConnection(host, int(port), timeout=ANSWER_LIMIT)


def answer(
    connection: http.client.HTTPConnection, target: str, headers: Mapping[str, str] | None = None
) -> http.client.HTTPResponse:
    """The good answer to a GET, its body yet to be read. Raises OSError, HTTPException."""
    connection.request("GET", target, headers=dict(headers or {}))
    response = connection.getresponse()
    if response.status != http.client.OK:
        raise http.client.HTTPException(f"GET {target} was answered with {response.status}")
    return response


def counted(daemon: Daemon, metric: str) -> int:
    """What the daemon has counted, whatever the labels. Raises DemoFailed."""
    try:
        with closing(connect(daemon)) as connection:
            text = answer(connection, "/metrics").read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise DemoFailed(f"the {daemon.name} gives no metrics: {error}", Path(daemon.log)) from None
    return sum(
        int(float(line.rpartition(" ")[2]))
        for line in text.splitlines()
        if line.startswith((f"{metric} ", f"{metric}{{"))
    )
