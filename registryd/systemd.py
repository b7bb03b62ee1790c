"""The little of systemd's protocol that the daemon speaks: sd_notify(3), sd_listen_fds(3)."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from contextlib import suppress


def notify(environ: Mapping[str, str], message: str) -> None:
    """Tell the service manager (``READY=1``, ``STOPPING=1`` ...); nothing without one.

    One that is not there any more is no reason for a daemon to end: it is started anew at times.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with (
        suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
    ):
        sock.connect(address)
        sock.send(message.encode())


def reloading() -> str:
    """That a reload has begun; the time is what ``Type=notify-reload`` waits for."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"


def inherited_count(environ: Mapping[str, str], pid: int) -> int:
    """How many listening sockets were handed to this process."""
    if environ.get("LISTEN_PID") != str(pid):
        return 0
    count = environ.get("LISTEN_FDS", "0")
    return int(count) if count.isdecimal() else 0


def watchdog_interval(environ: Mapping[str, str], pid: int) -> float | None:
    """Seconds between two signs of life, half of what the manager waits; None: it does not."""
    micros = environ.get("WATCHDOG_USEC", "")
    if not micros.isdecimal() or environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(micros) / 2_000_000
